"""The frozen Plan: which pairs of tensors are contracted, in which order. Second of the IRs.

A Plan is a straight-line program over named arrays. The forward of a network is one, its backward
is another: it takes the gradient of y, the forward's inputs and saved values, and gives the
gradients. Names are canonical (n0, e0, x0): user names live in ``names`` and never reach code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import PlanError
from .cuts import wrong_regions
from .plan_drawing import draw_plan
from .plan_text import plan_text
from .plan_values import PlanValues
from .steps import Contract, Diagonal, Expand, Reduce, Select, Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plan(PlanValues):
    """A contraction plan: inputs, steps in order, outputs; its fields are those of PlanValues."""

    # -- display ---------------------------------------------------------------------------

    def with_names(self, names: Mapping[str, str]) -> Plan:
        """The same plan with the user's names, which are shown beside the canonical ones."""
        return replace(self, names=tuple(sorted(names.items())))

    def __str__(self) -> str:
        return plan_text(self)

    def draw(self, path: str | None = None) -> Figure:
        """Draw the contraction tree; see :func:`tnlayer.ir.plan_drawing.draw_plan`."""
        return draw_plan(self, path)

    # -- legality --------------------------------------------------------------------------

    def verify(self) -> Plan:
        """Return the plan itself if each step is legal.

        Raises:
            PlanError: names the step that uses an unknown value, or has illegal legs.
        """
        known = {value.name: value for value in self.inputs}
        for step in self.steps:
            for operand in step.operands:
                if known.get(operand.value.name) != operand.value:
                    msg = f"step {step.result.name} uses {operand.value}, which was not made before"
                    raise PlanError(msg)
            if step.result.name in known:
                msg = f"step {step.result.name} is made twice"
                raise PlanError(msg)
            problem = _illegal_legs(step)
            if problem:
                msg = f"step {step.result.name} ({type(step).__name__}): {problem}"
                raise PlanError(msg)
            known[step.result.name] = step.result
        for output in self.outputs:
            if sorted(output.legs) != sorted(output.operand.legs):
                msg = f"output {output.name}: legs {output.legs} are not {output.operand.legs}"
                raise PlanError(msg)
        if self.regions:
            problem = wrong_regions(self)
            if problem:
                raise PlanError(problem)
        return self


def _illegal_legs(step: Step) -> str:
    """What is wrong with the legs of a step, or an empty text."""
    legs = step.result.legs
    if isinstance(step, Contract | Reduce | Expand) and len(set(legs)) != len(legs):
        return f"a leg stands twice on the result {legs}"
    if isinstance(step, Contract):
        left, right = set(step.left.legs), set(step.right.legs)
        if not set(legs) <= left | right:
            return f"result legs {legs} come from no operand"
        alone = (left ^ right) - set(legs)
        if alone:
            return f"legs {sorted(alone)} are summed but only one operand has them"
    if isinstance(step, Diagonal) and set(legs) != set(step.operand.legs):
        return f"a Diagonal keeps each leg: {step.operand.legs} to {legs}"
    if isinstance(step, Select) and len(legs) + len(step.pins) != len(step.operand.legs):
        return f"{len(step.pins)} pins leave {len(step.operand.legs)} axes for {len(legs)} legs"
    return ""
