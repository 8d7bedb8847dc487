"""``draw_plan``: a plan as a picture, into a file of matplotlib's formats or for TeX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PlanError
from ..graph.argument_checks import check_flag
from ..graph.drawing.figures import save_axes
from ..graph.drawing.options import Positions, Style
from ..support.option_words import Labels
from ..support.tex import TEX
from .plan_drawing import MAX_DRAWN_STEPS, axes_of, changed, lay_out
from .plan_tikz import plan_tikz
from .plan_values import PlanValues

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_plan(
    plan: PlanValues,
    path: str | Path | None = None,
    ax: Axes | None = None,
    *,
    positions: Positions | None = None,
    labels: Labels = "all",
    style: Style | None = None,
    title: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw the contraction tree of a plan with matplotlib and networkx.

    Each row is a step: what it contracts, the legs that it sums, the sizes of its result's legs (B
    is the batch) and its FLOPs at the batch size of the plan.

    Arguments:
        plan: the plan to draw, forward or backward.
        path: file to write, its ending tells the format (.tikz and .tex for TeX); or None, to write
            nothing.
        ax: axes to draw on, or None for a figure of its own.
        positions, labels, style: see :func:`changed`.
        title, legend: whether these are drawn.

    Raises:
        BuildError: matplotlib is missing.
        PlanError: the plan has too many steps for a readable picture.
        SpecError: a position, a label, a colour, a flag or the format is none.
    """
    check_drawing(plan, "plan.draw()", "print(plan)", title=title, legend=legend)
    layout = changed(lay_out(plan), positions, labels, style)
    axes = axes_of(layout, ax, title=title, legend=legend)
    if path is None:
        return axes
    file = Path(path)
    if file.suffix in TEX:
        file.write_text(TEX[file.suffix](plan_tikz(layout, legend=legend)), encoding="utf-8")
    else:
        save_axes(axes, file)
    return axes


def check_drawing(plan: PlanValues, call: str, instead: str, *, title: bool, legend: bool) -> None:
    """Refuse what makes no picture.

    Arguments:
        plan: to be drawn.
        call: what the user called.
        instead: what lists all steps.
        title, legend: flags, as the user gave them.

    Raises:
        PlanError: the plan has too many steps.
        SpecError: a flag is none.
    """
    if len(plan.steps) > MAX_DRAWN_STEPS:
        msg = (
            f"{call}: the plan has {len(plan.steps)} steps, at most {MAX_DRAWN_STEPS} make a "
            f"readable picture: {instead} lists them all"
        )
        raise PlanError(msg)
    check_flag(title, "draw: title")
    check_flag(legend, "draw: legend")
