"""Whether a plan computes its network: what a plan that was stored must pass before it is used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ..errors import PlanError
from ..graph.graph import Graph
from ..ir.counts import elements
from ..ir.plan import Plan
from ..ir.steps import BATCH, Contract, Operand, Reduce, Select, Step
from ..passes.lower_graph import Terms, make_terms, numbered
from ..support.dtypes import DTYPES

# No value of a plan may have more entries a sample (or without the batch) than this.
MAX_VALUE_ENTRIES = 2**36

# Results of contractions are variables of generated source: a letter and a number, nothing else.
_RESULT = re.compile(r"[a-z][0-9]{1,7}")


# So many legs of a value that is too large are named.
_MOST_NAMED = 12


class SizeRefused(PlanError):
    """A tree with a value that no machine holds.

    Arguments:
        entries: of the value, a sample.
        legs: canonical names of its legs.
    """

    def __init__(self, entries: int, legs: tuple[str, ...]) -> None:
        self.entries = entries
        self.legs = legs
        super().__init__(self.with_names({}))

    def __reduce__(self) -> tuple[type[SizeRefused], tuple[int, tuple[str, ...]]]:
        """Exceptions are made again from all of their arguments."""
        return SizeRefused, (self.entries, self.legs)

    def with_names(self, names: Mapping[str, str]) -> str:
        """The message with the user's names of legs."""
        shown = ["batch" if leg == BATCH else names.get(leg, leg) for leg in self.legs]
        more = len(shown) - _MOST_NAMED
        listed = ", ".join(shown[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return (
            f"the best plan found makes an intermediate of {self.entries} entries a sample, legs "
            f"{listed}; expected at most {MAX_VALUE_ENTRIES}. Lower the bonds, or try "
            "effort='high'."
        )


def check_plan(plan: Plan, graph: Graph) -> str:
    """What is wrong with a forward plan of a graph, or an empty text.

    A plan is right if it starts from the network's ports and parameters, makes its terms, uses each
    term exactly once, sums a leg only when no other term and no output has it, and gives y. A new
    name for a product uses terms that are equal to those of the product, legs renamed.

    Arguments:
        plan: a forward plan, from anywhere.
        graph: the canonical graph that it is said to compute.

    >>> import tnlayer as tn
    >>> from tnlayer.graph.canonical import canonicalise
    >>> net = tn.topologies.low_rank(4, 4, rank=2)
    >>> check_plan(tn.plan(net), canonicalise(net.freeze()).graph)
    ''
    """
    if plan.dtype not in DTYPES:
        return f"dtype {plan.dtype!r} is unknown"
    terms = make_terms(graph, is_complex=plan.is_complex)
    return _wrong_ends(plan, terms) or _wrong_tree(plan, terms) or _wrong_memory(plan, terms)


def _wrong_ends(plan: Plan, terms: Terms) -> str:
    """What is wrong with what the plan starts from and with what leaves it."""
    for what, found, expected in (
        ("leg_sizes", plan.leg_sizes, terms.leg_sizes),
        ("ports", plan.ports, terms.ports),
        ("parameters", plan.parameters, terms.parameters),
        ("saved", plan.saved, ()),
        ("port_axes", plan.port_axes, terms.port_axes),
        ("output axes", [output.axes for output in plan.outputs], [terms.output]),
        ("output names", [output.name for output in plan.outputs], ["y"]),
    ):
        if found != expected:
            return f"{what}: the plan has {found}, the network {expected}"
    if plan.batch < 1:
        return f"batch {plan.batch} is no batch size"
    try:
        plan.verify()
    except PlanError as error:
        return str(error)
    return ""


def _wrong_tree(plan: Plan, terms: Terms) -> str:
    """What is wrong with the steps: each in turn takes terms that are left and gives a new one."""
    making = Counter(terms.steps)
    tree = _Tree(terms, plan.outputs[0].legs)
    for step in plan.steps:
        if making[step]:
            making[step] -= 1
            continue
        size = elements(step.result.legs, plan.sizes)
        problem = tree.take(step)
        if not problem and max(size.fixed, size.per_sample) > MAX_VALUE_ENTRIES:
            problem = f"more than {MAX_VALUE_ENTRIES} entries a sample"
        if problem:
            return f"step {step.result.name}: {problem}"
    if +tree.left != Counter([plan.outputs[0].operand]):
        return f"{tree.left.total()} values are left, and the output is {plan.outputs[0].operand}"
    return ""


class _Tree:
    """The values that are left while the steps are walked, and the ends of each leg on them."""

    def __init__(self, terms: Terms, output: tuple[str, ...]) -> None:
        self.left = Counter(terms.terms)
        self.ends = Counter(output)
        for term in terms.terms:
            self.ends.update(term.legs)
        self.terms = {(term.value.name, term.conj): term for term in terms.terms}
        self.numbering = numbered(terms)
        # What each product is made of: its operands, or the terms that it is a new name for.
        self.parts: dict[str, tuple[Operand, ...]] = {}

    def take(self, step: Step) -> str:
        """Take the operands of a step away and put its result there; what is wrong with it."""
        if not isinstance(step, Contract | Reduce | Select):
            return f"{type(step).__name__} is no step of this network"
        if not _RESULT.fullmatch(step.result.name):
            return "its name is not canonical"
        taken, conj = step.operands, False
        if isinstance(step, Select):
            terms = [self.terms.get(term) for term in step.terms]
            taken = tuple(term for term in terms if term is not None)
            found = "" if len(taken) == len(terms) else "it stands for terms that there are not"
            found = found or self.wrong_name(step, taken)
            if found:
                return found
            conj = self.is_conjugate(self.leaves(step.operand)[0], taken[0])
        for operand in taken:
            if not self.left[operand]:
                return f"{operand} is not left: used a second time, or not as the network does"
            self.left[operand] -= 1
            self.ends.subtract(operand.legs)
        legs = {leg for operand in taken for leg in operand.legs}
        kept = set(step.result.legs)
        if not kept <= legs:
            return f"legs {sorted(kept - legs)} come from no operand"
        lost = [leg for leg in sorted(legs - kept) if self.ends[leg]]
        if lost:
            return f"legs {lost} are summed too early"
        if not isinstance(step, Reduce):
            self.parts[step.result.name] = taken
        self.left[Operand(step.result, conj)] += 1
        self.ends.update(step.result.legs)
        return ""

    def leaves(self, operand: Operand) -> list[Operand]:
        """The terms below a product, those of the left operand first."""
        found: list[Operand] = []
        waiting = [operand]
        while waiting:
            one = waiting.pop()
            below = self.parts.get(one.value.name)
            if below is None:
                found.append(one)
            else:
                waiting += reversed(below)
        return found

    def is_conjugate(self, first: Operand, second: Operand) -> bool:
        """Of two terms with equal entries, whether one is the conjugate of the other."""
        flags = (self.numbering.of(one.value.name).conj ^ one.conj for one in (first, second))
        return next(flags) ^ next(flags)

    def wrong_name(self, step: Select, terms: tuple[Operand, ...]) -> str:
        """What is wrong with a new name for a product that is said to stand for some terms.

        Term by term both must have the same entries, either all conjugated or none, and one
        renaming of legs must turn the terms of the product into these.
        """
        if step.pins or step.operand.conj or step.operand.value.name not in self.parts:
            return "Select is no step of this network"
        leaves = self.leaves(step.operand)
        if len(leaves) != len(terms):
            return f"it stands for {len(terms)} terms, its operand is made of {len(leaves)}"
        legs: dict[str, str] = {}
        for leaf, term in zip(leaves, terms, strict=True):
            known, other = (self.numbering.of(one.value.name) for one in (leaf, term))
            if known.first != other.first:
                return f"{term.value.name} has not the entries of {leaf.value.name}"
            if self.is_conjugate(leaf, term) != self.is_conjugate(leaves[0], terms[0]):
                return f"{term.value.name} is conjugated where other terms are not"
            pairs = zip(known.legs(leaf.value), other.legs(term.value), strict=True)
            if any(legs.setdefault(leg, new) != new for leg, new in pairs):
                return f"{term.value.name} has other legs than {leaf.value.name}"
        if len(set(legs.values())) != len(legs):
            return "two legs get one name"
        renamed = tuple(legs.get(leg) for leg in step.operand.legs)
        return "" if renamed == step.result.legs else f"its legs should be {renamed}"


def _wrong_memory(plan: Plan, terms: Terms) -> str:
    """What is wrong with what is recomputed, chunked or sliced."""
    memory = plan.memory
    made = {step.result.name for step in plan.steps}
    for what, names, known in (
        ("recompute", memory.recompute, made),
        ("slices", memory.slices, set(plan.sizes) - set(plan.outputs[0].legs) - {BATCH}),
    ):
        if len(set(names)) != len(names) or not set(names) <= known:
            return f"memory.{what}: {names}, expected distinct names among {sorted(known)}"
    if memory.chunk is not None and (memory.chunk < 1 or not plan.is_batched):
        return f"memory.chunk: {memory.chunk}, expected samples of a batch"
    return ""
