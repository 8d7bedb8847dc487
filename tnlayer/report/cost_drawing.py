"""The plans of a cost as one picture: forward and backward side by side, with predicted times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..graph.drawing.figures import new_figure, save_figure
from ..graph.drawing.options import Style
from ..ir.plan import Plan
from ..ir.plan_drawing import axes_of, changed, frame_of, lay_out
from ..ir.plan_picture import check_drawing
from ..support.option_words import Labels
from ..support.tex import TEX

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def has_times(plan: Plan, seconds: Mapping[str, float]) -> bool:
    """Whether each step of a plan has a time of its own; of kernels those of the backward have not:
    theirs stands with the forward."""
    return all(step.result.name in seconds for step in plan.steps)


def draw_plans(
    plans: tuple[Plan, ...],
    seconds: Mapping[str, float],
    path: str | Path | None = None,
    *,
    labels: Labels = "all",
    style: Style | None = None,
    title: bool = True,
    legend: bool = True,
) -> Figure:
    """Draw plans side by side; steps have a predicted time where the plan's all have one.

    Arguments:
        plans: the forward, and the backward where there is one.
        seconds: predicted time of steps by the name of their result.
        path: file to write, in a format of matplotlib; or None, to write nothing.
        labels, style, title, legend: as for :meth:`tnlayer.Plan.draw`.

    Raises:
        BuildError: matplotlib is missing.
        PlanError: a plan has too many steps for a picture.
        SpecError: a label, a colour, a flag or the format is none.
    """
    for plan in plans:
        check_drawing(plan, "cost.draw()", "print(cost.steps_text())", title=title, legend=legend)
    file = None if path is None else Path(path)
    if file is not None and file.suffix in TEX:
        msg = (
            f"cost.draw({str(path)!r}): a file for TeX holds one plan; draw them one by one, "
            "cost.plan.draw(...) and cost.backward_plan.draw(...), or save an .svg"
        )
        raise SpecError(msg)
    layouts = [changed(lay_out(plan), None, labels, style) for plan in plans]
    timed = [has_times(plan, seconds) for plan in plans]
    for number, heading in enumerate(("Forward", "Backward")[: len(plans)]):
        own = replace(layouts[number], heading=heading)
        if timed[number]:
            # Of kernels a step has one time for forward and backward.
            name = "ms" if all(timed) else "ms, both"
            own = replace(own, seconds=seconds, time_heading=name)
        layouts[number] = own
    sizes = [frame_of(one, title=title, legend=legend).size for one in layouts]
    width, height = sum(w for w, _ in sizes), max(h for _, h in sizes)
    figure = new_figure((width, height))
    figure.set_layout_engine("none")
    # Each keeps its own size in inches, both begin at the top.
    left = 0.0
    for layout, (own_width, own_height) in zip(layouts, sizes, strict=True):
        place = left / width, 1 - own_height / height, own_width / width, own_height / height
        axes_of(layout, figure.add_axes(place), title=title, legend=legend)
        left += own_width
    if file is not None:
        save_figure(figure, file)
    return figure
