"""Figures of matplotlib: made without pyplot, written to files, and told where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BuildError, SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def no_matplotlib(error: ImportError) -> BuildError:
    """The error that says how to get it."""
    return BuildError(
        f"drawing needs matplotlib ({error}); install it with `pip install tnlayer[viz]`"
    )


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure of our own, not pyplot's: no global state and no window system.

    Arguments:
        size: width and height in inches.

    Raises BuildError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise no_matplotlib(error) from None
    return Figure(figsize=size, layout="constrained")


def save_axes(ax: Axes, path: Path) -> None:
    """Write the figure that axes are of to a file.

    Raises SpecError for axes without a figure, and for a format that matplotlib does not write.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        msg = "the axes belong to no figure, so they cannot be saved; pass axes of a figure"
        raise SpecError(msg)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file.

    Raises SpecError for a format that matplotlib does not write.
    """
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        msg = f"the picture cannot be saved to {str(path)!r}: {error}"
        raise SpecError(msg) from None
