"""The frozen Plan: which pairs of tensors are contracted, in which order. Second of the IRs.

A Plan is a straight-line program over named arrays. The forward of a network is one, its backward
is another: it takes the gradient of y, the forward's inputs and saved values, and gives the
gradients. Names are canonical (n0, e0, x0): user names live in ``names`` and never reach code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PlanError
from ..graph.drawing.options import Positions, Style
from ..support.html import block, heading, html_table, lines
from ..support.option_words import Labels
from ..support.wording import counted
from .cuts import wrong_regions
from .plan_picture import draw_plan
from .plan_svg import plan_svg
from .plan_text import (
    plan_headline,
    plan_numbers,
    plan_rows,
    plan_text,
    plan_totals,
    steps_text,
)
from .plan_values import PlanValues
from .steps import Contract, Diagonal, Expand, Reduce, Select, Step
from .written_table import WrittenTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Plan(PlanValues, WrittenTable):
    """A contraction plan: inputs, steps in order, outputs; its fields are those of PlanValues.

    >>> import tnlayer as tn
    >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), batch=16, minimize="flops")
    >>> print(plan)
    plan for batch 16, float32, the order of fewest FLOPs (proven optimal)
    runs         result  legs  operation      FLOPs      bytes
    each sample  t0      b r   x x V, sum i    32*B  40*B + 64
    each sample  t1      b j   t0 x U, sum r   24*B  32*B + 48
    B samples a call: FLOPs 56*B, elementwise 0, bytes read 40*B + 112, written 32*B
    >>> [step.result.name for step in plan.stem_steps], plan.branch_steps, sorted(plan.branch)
    (['t0', 't1'], (), ['n0', 'n1'])
    >>> plan.counts.flops.at(16), plan.counts_of(plan.steps[0]).flops.per_sample
    (896, 32)
    >>> plan.backend, plan.is_batched, plan.is_complex, plan.itemsize
    ('torch', True, False, 4)
    >>> x = plan.ports[0]
    >>> len(plan.inputs), plan.bytes_of(x).at(16), plan.axes_of(x), plan.axis_size(x.legs[1:])
    (3, 512, (('b',), ('e0',)), 8)
    >>> plan.sizes["e0"], plan.saved_bytes.at(16), plan.recomputed
    (8, 0, frozenset())
    >>> plan.largest_intermediate(), plan.largest_intermediate(batch=1)  # y, 6 entries a sample
    (96, 6)
    """

    # -- display ---------------------------------------------------------------------------

    def steps_in_words(self) -> tuple[str, ...]:
        """Each of ``steps`` in a line, with the user's names of tensors and legs, and of gradients
        (``d_U``); the steps themselves have canonical names: n1, e5, d_n1.

        >>> import tnlayer as tn
        >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), batch=16, minimize="flops")
        >>> plan.steps_in_words()
        ('t0[b r] = x x V, sum i', 't1[b j] = t0 x U, sum r')
        """
        return steps_text(self)

    def numbers(self) -> list[dict[str, Any]]:
        """The steps as plain values, for a file or a data frame: with the user's names, and the
        FLOPs, elementwise operations and bytes of each, for one sample and once a call (fixed).

        ``counts_of(step)`` has them of one step.

        >>> import tnlayer as tn
        >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), batch=16, minimize="flops")
        >>> for row in plan.numbers():
        ...     print(row["result"], row["runs"], row["flops_per_sample"], row["flops_fixed"])
        t0 each sample 32 0
        t1 each sample 24 0
        """
        return plan_numbers(self)

    def with_names(self, names: Mapping[str, str] | None = None) -> Plan:
        """The same plan with the user's names, which are shown in the place of canonical ones.

        Arguments:
            names: the user's by canonical name, of inputs, tensors and legs; None: those that the
                plan has. ``steps_in_words()`` and ``print(plan)`` show them.

        >>> import tnlayer as tn
        >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2))
        >>> plan.with_names(dict(plan.names)) == plan
        True
        """
        return self if names is None else replace(self, names=tuple(sorted(names.items())))

    def __repr__(self) -> str:
        return f"<Plan of {counted(len(self.steps), 'step')}: {plan_headline(self)}>"

    def __str__(self) -> str:
        return plan_text(self)

    def _repr_html_(self) -> str:
        table = html_table(self._table())
        return block(heading(plan_headline(self)), plan_svg(self), table, lines(plan_totals(self)))

    def _table(self) -> list[tuple[str, ...]]:
        """A header and a row a step."""
        return plan_rows(self)

    def draw(
        self,
        path: str | Path | None = None,
        ax: Axes | None = None,
        *,
        positions: Positions | None = None,
        labels: Labels = "all",
        style: Style | None = None,
        title: bool = True,
        legend: bool = True,
    ) -> Axes:
        """Draw the contraction order with matplotlib (``pip install tnlayer[viz]``): a row a step.

        Arguments:
            path: file to save the picture to; the suffix says its format: .svg, .png, .pdf, ...;
                .tikz for a picture to put into a TeX document, .tex for a document of its own.
            ax: axes to draw on, or None for a figure of the picture's own size.
            positions: of steps by the name of their result, such as "t0": (x, y) in inches, y
                upward and 0 the first row; what is left out stays.
            labels: what stands in boxes: "all" (names and sizes), "names", "sizes" or "none".
            style: colours such as "#a9cbe8", by what they mean: input, parameter, kept (by the
                forward), once (a call), each (sample), output.
            title: whether steps, FLOPs and the search stand above. A picture for TeX has no title.
            legend: whether what the colours mean stands above.

        Raises:
            BuildError: matplotlib is missing.
            PlanError: the plan has too many steps for a picture.
            SpecError: a position, a label, a colour, a flag or the format is none.

        >>> import tnlayer as tn
        >>> axes = tn.plan(tn.topologies.low_rank(8, 6, rank=2)).draw()
        >>> axes.figure.get_size_inches().round().tolist()
        [9.0, 4.0]
        """
        return draw_plan(
            self,
            path,
            ax,
            positions=positions,
            labels=labels,
            style=style,
            title=title,
            legend=legend,
        )

    # -- legality --------------------------------------------------------------------------

    def verify(self) -> Plan:
        """Return the plan itself if each step is legal.

        Raises:
            PlanError: names the step that uses an unknown value, or has illegal legs.

        >>> import tnlayer as tn
        >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2))
        >>> plan.verify() is plan
        True
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
