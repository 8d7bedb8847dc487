"""Several networks in one picture, each beside the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SpecError
from ...support.option_words import Labels
from ...support.tex import TEX
from ...support.wording import counted
from ..graph_values import GraphValues
from .colours import COLOURS
from .drawing import MAX_INCHES, draw_graph, figure_size, place_checked
from .figures import new_figure, save_figure
from .labels import extent, label_boxes
from .options import Style
from .picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# So many are drawn; more are told of below them.
MAX_DRAWN_NETWORKS = 12
_COLUMNS = 3


def draw_graphs(
    graphs: Sequence[GraphValues],
    path: str | Path | None = None,
    *,
    labels: Labels = "all",
    style: Style | None = None,
) -> Figure:
    """Draw each network of a sum; of more than MAX_DRAWN_NETWORKS the first ones.

    Arguments:
        graphs: what to draw.
        path: file to save to, in a format of matplotlib, or None.
        labels, style: as for :func:`.drawing.draw_graph`; names of tensors may be those of some of
            the networks only.

    Raises BuildError where matplotlib is missing, SpecError for .tex and .tikz, which hold one
    network, and as draw_graph does.
    """
    file = None if path is None else Path(path)
    if file is not None and file.suffix in TEX:
        msg = (
            f"draw: {file.suffix} holds the picture of one network, and this is a sum of "
            f"{len(graphs)}; draw them one by one, net[0].draw({str(path)!r}), or save an .svg"
        )
        raise SpecError(msg)
    shown = graphs[:MAX_DRAWN_NETWORKS]
    columns = min(_COLUMNS, math.ceil(math.sqrt(len(shown))))
    rows = math.ceil(len(shown) / columns)
    sizes = [_size(place_checked(graph)) for graph in shown]
    width, height = (max(lengths) for lengths in zip(*sizes, strict=True))
    # As large as one network alone may be drawn, at most.
    figure = new_figure((min(MAX_INCHES, columns * width), min(MAX_INCHES, rows * height)))
    for number, graph in enumerate(shown):
        ax = figure.add_subplot(rows, columns, number + 1)
        draw_graph(graph, ax=ax, labels=labels, style=_style_of(graph, graphs, style))
    if len(graphs) > len(shown):
        figure.supxlabel(f"and {counted(len(graphs) - len(shown), 'network')} more", fontsize=9)
    if file is not None:
        save_figure(figure, file)
    return figure


def _size(picture: Picture) -> tuple[float, float]:
    return figure_size(extent(picture, label_boxes(picture).values()))


def _style_of(
    graph: GraphValues, graphs: Sequence[GraphValues], style: Style | None
) -> Style | None:
    """The colours for what one of the networks has; what none has is told by it."""
    if not isinstance(style, dict):
        return style
    others = {name for one in graphs for name in one.nodes} - set(graph.nodes) - set(COLOURS)
    return {key: colour for key, colour in style.items() if key not in others}
