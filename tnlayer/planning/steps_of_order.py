"""From an order of contractions to steps, and what an order costs once each product is shared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from ..ir.steps import BATCH, Contract, Operand, Step, Value
from ..passes.lower_graph import Terms
from ..passes.share_products import share_steps
from .contraction_order import objective_of
from .refine_order import SsaPath


def contract_pairs(terms: Terms, pairs: SsaPath) -> tuple[tuple[Step, ...], Operand]:
    """All steps of an order, each product computed once, and what they give."""
    steps, result = pair_steps(terms, pairs)
    inputs = (*terms.ports, *terms.parameters)
    return share_steps(inputs, steps, result), result


def pair_steps(terms: Terms, pairs: SsaPath) -> tuple[tuple[Step, ...], Operand]:
    """All steps of an order as they come, and what they give.

    The larger operand of a contraction, by number of legs, stands left.
    """
    left = Counter(leg for term in terms.terms for leg in term.legs)
    left.update(leg for axis in terms.output for leg in axis)
    values = list(terms.terms)
    steps: list[Step] = []
    for number, (first, second) in enumerate(pairs):
        a, b = values[first], values[second]
        if (BATCH in b.legs, len(b.legs)) > (BATCH in a.legs, len(a.legs)):
            a, b = b, a
        shared = set(a.legs) & set(b.legs)
        left.subtract(shared)
        loop = dict.fromkeys(a.legs + b.legs)
        result = Value(f"t{number}", tuple(leg for leg in loop if left[leg] > 1))
        # A leg that still has another end, or leaves, is kept; the two here count as one now.
        steps.append(Contract(result, a, b))
        values.append(Operand(result))
    return (*terms.steps, *steps), values[-1]


def shared_cost(terms: Terms, pairs: SsaPath, sizes: Mapping[str, int], minimize: str) -> float:
    """The objective of an order, each product counted once.

    Arguments:
        terms: of the network.
        pairs: the order.
        sizes: of all legs, the batch among them.
        minimize: the objective, as for ``search_order``.
    """
    steps, _ = contract_pairs(terms, pairs)
    objective = objective_of(minimize)
    return objective.total(
        [
            objective.of_step(
                math.prod(sizes[leg] for leg in step.loop_legs),
                math.prod(sizes[leg] for leg in step.result.legs),
            )
            for step in steps
            if isinstance(step, Contract)
        ]
    )
