"""The order of contraction of a plan as others write it: opt_einsum's path of pairs.

A path names operands by their places in a list: those of a pair are taken out, and what they give
is appended. numpy, opt_einsum, cotengra and quimb take such paths.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.canonical import CanonicalForm
from ..graph.graph import Graph
from ..ir.plan import Plan
from ..ir.steps import Contract, Operand, Select
from ..passes.lower_graph import Terms, make_terms
from .refine_order import SsaPath

LinearPath = tuple[tuple[int, ...], ...]
# A product in postfix: terms by name and whether they are conjugated, and None where the last two
# are contracted.
_Postfix = list[tuple[str, bool] | None]


def path_of(plan: Plan, graph: Graph, form: CanonicalForm) -> LinearPath:
    """The path of a forward plan.

    Operands are the inputs in their order, of a product input one vector a leg, and behind them the
    tensors in the order of ``graph.tensors``, a shared one at each of its places. Where the plan
    computes equal products once, the path has each of them.

    Arguments:
        plan: of the canonical graph.
        graph: the network as the user declared it.
        form: its canonical form.
    """
    terms = make_terms(form.graph, is_complex=plan.is_complex)
    if len(terms.terms) == 1:
        return ((0,),)
    return _linear(_pairs(_postfix(plan), terms), places_of_terms(graph, form, len(terms.terms)))


def _postfix(plan: Plan) -> _Postfix:
    """What the plan gives, from its terms."""
    known: dict[str, _Postfix] = {}

    def of(operand: Operand) -> _Postfix:
        return known.get(operand.value.name, [(operand.value.name, operand.conj)])

    for step in plan.steps:
        if isinstance(step, Contract):
            known[step.result.name] = [*of(step.left), *of(step.right), None]
        elif isinstance(step, Select) and step.terms:
            # A product that was computed before, made of other terms.
            other = iter(step.terms)
            known[step.result.name] = [part and next(other) for part in of(step.operand)]
    return of(plan.outputs[0].operand)


def _pairs(postfix: _Postfix, terms: Terms) -> SsaPath:
    """The order as SSA pairs of terms; those with equal arrays may stand for each other."""
    left: dict[tuple[str, bool], list[int]] = {}
    for number, term in enumerate(terms.terms):
        left.setdefault((term.value.name, term.conj), []).append(number)
    waiting: list[int] = []
    pairs: list[tuple[int, int]] = []
    for part in postfix:
        if part is not None:
            waiting.append(left[part].pop())
            continue
        second, first = waiting.pop(), waiting.pop()
        waiting.append(len(terms.terms) + len(pairs))
        pairs.append((first, second))
    return tuple(pairs)


def places_of_terms(graph: Graph, form: CanonicalForm, count: int) -> list[int]:
    """The place of each term among the user's operands.

    Arguments:
        graph: the network as the user declared it.
        form: its canonical form.
        count: of terms.
    """
    names = {canonical: user for user, canonical in form.tensor_names.items()}
    declared = {tensor.name: number for number, tensor in enumerate(graph.tensors)}
    inputs = count - len(graph.tensors)
    tensors = (declared[names[tensor.name]] for tensor in form.graph.tensors)
    return [*range(inputs), *(inputs + number for number in tensors)]


def _linear(pairs: SsaPath, places: Sequence[int]) -> LinearPath:
    """SSA pairs as places in a list that shrinks."""
    listed = sorted(range(len(places)), key=places.__getitem__)
    found: list[tuple[int, ...]] = []
    for number, pair in enumerate(pairs):
        low, high = sorted(map(listed.index, pair))
        del listed[high], listed[low]
        listed.append(len(places) + number)
        found.append((low, high))
    return tuple(found)
