"""The plans of costs as one picture: forward and backward side by side, with predicted times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..graph.drawing.figures import new_figure, save_figure
from ..graph.drawing.options import Style
from ..ir.plan import Plan
from ..ir.plan_drawing import Layout, axes_of, changed, frame_of, lay_out
from ..ir.plan_picture import check_drawing
from ..support.option_words import Labels
from ..support.tex import TEX

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def has_times(plan: Plan, seconds: Mapping[str, float]) -> bool:
    """Whether each step of a plan has a time of its own; of kernels those of the backward have not:
    theirs stands with the forward."""
    return all(step.result.name in seconds for step in plan.steps)


@dataclass(frozen=True, slots=True)
class DrawnPlans:
    """The plans of one network.

    Arguments:
        plans: the forward, and the backward where there is one.
        seconds: predicted time of steps by the name of their result.
        label: what stands before "forward" and "backward"; "" for nothing.
        name: what the user calls the cost that they are of.
    """

    plans: tuple[Plan, ...]
    seconds: Mapping[str, float]
    label: str = ""
    name: str = "cost"


def draw_plans(
    networks: Sequence[DrawnPlans],
    path: str | Path | None = None,
    *,
    labels: Labels = "all",
    style: Style | None = None,
    title: bool = True,
    legend: bool = True,
) -> Figure:
    """Draw forward and backward side by side, a row a network; steps have a predicted time where
    the plan's all have one.

    Arguments:
        networks: at least one.
        path: file to write, in a format of matplotlib; or None, to write nothing.
        labels, style, title, legend: as for :meth:`tnlayer.Plan.draw`.

    Raises:
        BuildError: matplotlib is missing.
        PlanError: a plan has too many steps for a picture.
        SpecError: a label, a colour, a flag or the format is none.
    """
    for one in networks:
        for plan in one.plans:
            instead = f"print({one.name}.steps_text())"
            check_drawing(plan, f"{one.name}.draw()", instead, title=title, legend=legend)
    file = None if path is None else Path(path)
    if file is not None and file.suffix in TEX:
        name = networks[0].name
        msg = (
            f"draw({str(path)!r}): a file for TeX holds one plan; draw them one by one, "
            f"{name}.plan.draw(...) and {name}.backward_plan.draw(...), or save an .svg"
        )
        raise SpecError(msg)
    rows = [_layouts(one, labels, style) for one in networks]
    sizes = [[frame_of(one, title=title, legend=legend).size for one in row] for row in rows]
    width = max(sum(w for w, _ in row) for row in sizes)
    heights = [max(h for _, h in row) for row in sizes]
    figure = new_figure((width, sum(heights)))
    figure.set_layout_engine("none")
    # Each keeps its own size in inches, those of a row begin at its top.
    whole, top = sum(heights), sum(heights)
    for row, row_sizes, height in zip(rows, sizes, heights, strict=True):
        left = 0.0
        for layout, (own_width, own_height) in zip(row, row_sizes, strict=True):
            bottom = (top - own_height) / whole
            place = left / width, bottom, own_width / width, own_height / whole
            axes_of(layout, figure.add_axes(place), title=title, legend=legend)
            left += own_width
        top -= height
    if file is not None:
        save_figure(figure, file)
    return figure


def _layouts(one: DrawnPlans, labels: Labels, style: Style | None) -> list[Layout]:
    """The plans of a network with what stands above them."""
    layouts = [changed(lay_out(plan), None, labels, style) for plan in one.plans]
    timed = [has_times(plan, one.seconds) for plan in one.plans]
    found: list[Layout] = []
    for layout, has_own, word in zip(layouts, timed, ("Forward", "Backward"), strict=False):
        heading = f"{one.label}, {word.lower()}" if one.label else word
        own = replace(layout, heading=heading)
        if has_own:
            # Of kernels a step has one time for forward and backward.
            name = "ms" if all(timed) else "ms, both"
            own = replace(own, seconds=one.seconds, time_heading=name)
        found.append(own)
    return found
