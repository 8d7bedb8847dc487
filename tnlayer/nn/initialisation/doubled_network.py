"""The exact mean of |y|^2: a network beside its conjugate, joined where the mean joins them.

Features of a product port are independent vectors with E[x x^dagger] = 1/d a leg, entries of
other ports independent numbers of variance 1. So the mean over all x joins each open leg of a port
with itself in the conjugate, as |y|^2 does the output's legs: no port and no batch are left.
Samples cannot tell it: |y|^2 of random product states is heavy-tailed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement

import torch

from ...graph.graph import Graph, TensorNode
from ...ir.counts import elements
from ...ir.plan import Plan
from ...ir.plan_parts import Output
from ...ir.steps import Contract
from ...passes.lower_graph import make_terms
from ...planning.contraction_order import greedy_order
from ...planning.steps_of_order import pair_steps
from .log_scale_run import LogScaled, log_scaled, run_scaled, total

# Beyond so many real operations, or entries of a value, the doubled network is not contracted: a
# second of one core, and 128 MiB in float64.
_MOST_OPERATIONS = 2**33
_MOST_ENTRIES = 2**24
# Models have many equal layers: so many doubled networks are kept.
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class Doubled:
    """A network beside the conjugate of a second one, which may be itself.

    Arguments:
        plan: gives the mean of the sum of y conj(y'), up to the factor; it has no port. None where
            there is no tensor: then the factor is all.
        names: the user's name of each parameter of the plan, in the plan's order.
        log_factor: logarithm of what features and legs without a tensor bring.
    """

    plan: Plan | None
    names: tuple[str, ...]
    log_factor: float


def double(left: Graph, right: Graph, *, is_complex: bool) -> Doubled | None:
    """Double a network; None where there are open legs of the two that do not fit one another.

    Arguments:
        left, right: networks with equal ports. Ports that have legs of other sizes fit as wholes
            alone, which no leg can be joined for.
        is_complex: whether the arithmetic is.
    """
    joined = _join(left, right)
    if joined is None:
        return None
    sizes: dict[str, int] = {}
    fixed: dict[str, int] = {}
    for side, graph in enumerate((left, right)):
        sizes |= {joined[side, leg]: size for leg, size in graph.leg_sizes}
        fixed |= {joined[side, leg]: index for leg, index in graph.fixed}
    tensors: list[TensorNode] = []
    names: list[str] = []
    for side, graph in enumerate((left, right)):
        number = {tensor.name: f"n{side}_{k}" for k, tensor in enumerate(graph.tensors)}
        for tensor in graph.tensors:
            tensors.append(
                replace(
                    tensor,
                    name=number[tensor.name],
                    legs=tuple(joined[side, leg] for leg in tensor.legs),
                    share=None if tensor.share is None else number[tensor.share],
                    conj=tensor.conj != bool(side),
                )
            )
        names += [parameter.name for parameter in graph.parameters]
    doubled = Graph(
        left.label, tuple(sizes.items()), (), (), tuple(tensors), fixed=(*fixed.items(),)
    )
    held = {leg for tensor in tensors for leg in tensor.legs}
    log = sum(math.log(sizes[leg]) for leg in sizes.keys() - held - fixed.keys())
    for port in left.inputs:
        if port.product:
            log -= math.log(math.prod(left.shape_of(left.open_legs(port.legs))))
    plan = _planned(doubled, is_complex=is_complex) if tensors else None
    return Doubled(plan, tuple(names), log)


_kept_double = lru_cache(maxsize=_MOST_KEPT)(double)


def _join(left: Graph, right: Graph) -> Mapping[tuple[int, str], str] | None:
    """A name for each leg of the left (0) and the right (1) network; joined legs have one."""
    graphs = (left, right)
    root = {(side, leg): (side, leg) for side in (0, 1) for leg, _ in graphs[side].leg_sizes}

    def find(end: tuple[int, str]) -> tuple[int, str]:
        while root[end] != end:
            end = root[end]
        return end

    ports = [[port.legs for port in graph.inputs] + [graph.output] for graph in graphs]
    for mine, other in zip(*ports, strict=True):
        legs = left.open_legs(mine), right.open_legs(other)
        if left.shape_of(legs[0]) != right.shape_of(legs[1]):
            return None
        for a, b in zip(*legs, strict=True):
            root[find((1, b))] = find((0, a))
    number = {end: f"e{k}" for k, end in enumerate(root)}
    return {end: number[find(end)] for end in root}


def _planned(graph: Graph, *, is_complex: bool) -> Plan:
    """A plan by the greedy order, which takes milliseconds: such networks are contracted once."""
    terms = make_terms(graph, is_complex=is_complex)
    sizes = dict(terms.leg_sizes)
    pairs = greedy_order([term.legs for term in terms.terms], (), sizes)
    steps, result = pair_steps(terms, pairs)
    dtype = "complex128" if is_complex else "float64"
    return Plan(
        terms.leg_sizes, (), terms.parameters, (), steps, (Output("y", result, ()),), dtype=dtype
    )


def _is_small(plan: Plan | None) -> bool:
    if plan is None:
        return True
    sizes, steps = plan.sizes, plan.steps
    loops = sum(elements(s.loop_legs, sizes).fixed for s in steps if isinstance(s, Contract))
    largest = max((elements(s.result.legs, sizes).fixed for s in steps), default=0)
    per_loop = 8 if plan.is_complex else 2
    return loops * per_loop <= _MOST_OPERATIONS and largest <= _MOST_ENTRIES


def exact_log_gain(graphs: Sequence[Graph], stored: Mapping[str, LogScaled]) -> float | None:
    """Logarithm of mean |y|^2 of a sum for mean |x|^2 = 1; None where it is too large to contract.

    Arguments:
        graphs: networks with equal ports, at least one of which is an input.
        stored: the arrays by the user's names.
    """
    is_complex = any(array.mantissa.is_complex() for array in stored.values())
    found: list[tuple[Doubled, float]] = []
    for a, b in combinations_with_replacement(range(len(graphs)), 2):
        # A graph that holds entries would keep them alive.
        pair = graphs[a], graphs[b]
        holds = any(tensor.value is not None for graph in pair for tensor in graph.tensors)
        doubled = (double if holds else _kept_double)(*pair, is_complex=is_complex)
        if doubled is None or not _is_small(doubled.plan):
            return None
        # A term that stands for two: with left and right exchanged it is the conjugate.
        found.append((doubled, doubled.log_factor + (math.log(2) if a != b else 0.0)))
    y = total([_run(doubled, stored).times(log) for doubled, log in found])
    return y.size.peak - math.log(graphs[0].out_features)


def _run(doubled: Doubled, stored: Mapping[str, LogScaled]) -> LogScaled:
    """The real part of what a doubled network gives, without the factor."""
    if doubled.plan is None:
        return log_scaled(torch.ones((), dtype=torch.float64, device="cpu"))
    pairs = zip(doubled.plan.parameters, doubled.names, strict=True)
    arrays = {value.name: stored[name] for value, name in pairs}
    y = run_scaled(doubled.plan, (), arrays, has_means=False).y
    return log_scaled(y.mantissa.real, y.log)
