"""The pass that computes each product once: common subexpressions of a contraction tree.

Nodes that share a tensor make subtrees that are equal up to the names of their legs. All but one of
them become a new name for what that one computes (a Select without pins), transposed or conjugated
where they use it so. The plan is then no tree any more but a directed acyclic graph; its adjoint
adds the gradients of all uses before they go further down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..ir.steps import Contract, Operand, Select, Step, Value, with_uses
from ..ir.value_numbering import Numbering, Same


def share_steps(
    inputs: Iterable[Value], steps: Sequence[Step], result: Operand
) -> tuple[Step, ...]:
    """The steps with each product computed once, and without those that nothing needs then.

    Arguments:
        inputs: what the steps start from.
        steps: those that make the terms of a network, then contractions, each of which takes what
            no other one takes.
        result: what they are for.
    """
    numbering = Numbering(inputs)
    same: dict[str, Same] = {}
    repeated = False
    for step in steps:
        found = numbering.add(step)
        if isinstance(step, Contract):
            same[step.result.name] = found or numbering.of(step.result.name)
            repeated |= found is not None
    if not repeated:
        return tuple(steps)
    tree = {step.result.name: step for step in steps if isinstance(step, Contract)}
    products = _Sharing(tree, same).products(result)
    used = {operand.value.name for step in products for operand in step.operands}
    terms: list[Step] = []
    for step in reversed(steps):
        if step.result.name in used and step.result.name not in tree:
            terms.insert(0, step)
            used.update(operand.value.name for operand in step.operands)
    return (*terms, *products)


@dataclass(slots=True)
class _Sharing:
    """A walk down the tree: of equal products the first that is met is computed, where it stands.

    Arguments:
        tree: the contraction that makes each product.
        same: what each product is equal to.
        computed: for each first value the equal one that is computed.
        uses: how a product that is not computed is written.
    """

    tree: dict[str, Contract]
    same: dict[str, Same]
    computed: dict[str, str] = field(default_factory=dict[str, str])
    uses: dict[str, Operand] = field(default_factory=dict[str, Operand])

    def products(self, result: Operand) -> list[Step]:
        """The contractions that are left, and the new names, each behind what it needs."""
        order = {name: number for number, name in enumerate(self.tree)}
        found: list[Step] = []
        waiting = [(result.value.name, False)]
        while waiting:
            name, is_ready = waiting.pop()
            step = self.tree.get(name)
            if step is None:
                continue
            if is_ready:
                found.append(with_uses(step, self.use))
                continue
            first = self.same[name].first.name
            if first in self.computed:
                found.append(self.renamed(step, self.computed[first]))
                continue
            self.computed[first] = name
            waiting.append((name, True))
            # What came first in the order that was searched for still does.
            names = [operand.value.name for operand in step.operands]
            names.sort(key=lambda name: order.get(name, -1), reverse=True)
            waiting += ((name, False) for name in names)
        return found

    def use(self, operand: Operand) -> Operand:
        """An operand, or the new name that stands for it."""
        found = self.uses.get(operand.value.name)
        return operand if found is None else Operand(found.value, found.conj ^ operand.conj)

    def renamed(self, step: Contract, computed: str) -> Select:
        """The new name for what another contraction computes, in place of a contraction."""
        name, source = step.result.name, self.tree[computed].result
        own, other = self.same[name], self.same[computed]
        legs = own.legs(step.result)
        value = Value(name, tuple(legs[axis] for axis in other.axes))
        self.uses[name] = Operand(value, own.conj ^ other.conj)
        return Select(value, Operand(source), (), self.terms(name, computed))

    def terms(self, name: str, computed: str) -> tuple[tuple[str, bool], ...]:
        """The terms below a product, in the order of those below the equal one."""
        found: list[tuple[str, bool]] = []
        waiting = [(Operand(self.tree[name].result), computed)]
        while waiting:
            operand, other = waiting.pop()
            step = self.tree.get(operand.value.name)
            if step is None:
                found.append((operand.value.name, operand.conj))
                continue
            # Below a new name stands what it is a new name for.
            other = self.computed[self.same[other].first.name]
            own, theirs = list(step.operands), list(self.tree[other].operands)
            if self.same[step.result.name].swapped != self.same[other].swapped:
                own.reverse()
            pairs = zip(own, theirs, strict=True)
            waiting += reversed([(o, t.value.name) for o, t in pairs])
        return tuple(found)
