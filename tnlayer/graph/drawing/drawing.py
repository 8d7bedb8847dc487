"""Pictures of graphs with matplotlib, which is imported only when a picture is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SpecError
from ...support.option_words import Labels
from ...support.tex import TEX
from ..argument_checks import check_flag, listed
from ..graph_values import GraphValues
from .colours import COLOURS, narrowing, tensor_kinds
from .figures import new_figure, no_matplotlib, save_axes
from .labels import Box, Reach, extent, label_boxes, loops_of, outline, rows_of, vertex_box
from .options import Positions, Style, adjusted, colours_of
from .picture import Line, Picture, Vertex
from .placement import place
from .tikz import picture_tikz

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DRAWN_NODES = 600
# Of a figure, in width and in height.
MAX_INCHES = 60.0


@dataclass(frozen=True, slots=True)
class Missing:
    """What a network lacks that is drawn before it is finished.

    Arguments:
        ends: legs that have one end, and are not said to be summed; they are among its sums.
        unused: legs that were declared and that no tensor and no input has.
    """

    ends: frozenset[str]
    unused: tuple[str, ...]


def draw_graph(
    graph: GraphValues,
    path: str | Path | None = None,
    ax: Axes | None = None,
    *,
    positions: Positions | None = None,
    labels: Labels = "all",
    style: Style | None = None,
    title: bool = True,
    legend: bool = True,
    missing: Missing | None = None,
) -> Axes:
    """Draw nodes, leg names and sizes; inputs below, each output leg a stub beside its node.

    Arguments:
        graph: what to draw, of at most MAX_DRAWN_NODES nodes.
        path: file to save to, or None. Its suffix says the format: those of matplotlib, .tikz for a
            picture to put into a TeX document, .tex for a document of its own.
        ax: axes to draw on, or None for a figure of its own.
        positions: of tensors and legs by name; see :func:`.options.adjusted`.
        labels: what stands beside legs.
        style: colours by kind or by name; see :func:`.options.colours_of`.
        title: whether the network's label, its parameters and what labels mean stand above.
        legend: whether what the colours mean stands below.
        missing: what it lacks, or None: it is finished.

    Raises BuildError where matplotlib is missing, SpecError for a graph too large to read, for a
    file format that matplotlib does not write, and for wrong positions, labels and colours.
    """
    try:
        from matplotlib.patches import Circle
    except ImportError as error:
        raise no_matplotlib(error) from None
    check_flag(title, "draw: title")
    check_flag(legend, "draw: legend")
    dangling = frozenset[str]() if missing is None else missing.ends
    picture = adjusted(place_checked(graph, dangling), positions, labels)
    colours = colours_of(graph, picture, style)
    boxes = label_boxes(picture)
    reach = extent(picture, boxes.values())
    if ax is None:
        ax = new_figure(figure_size(reach)).add_subplot()
    for line in picture.lines:
        _draw_line(ax, picture, line)
    for x, y, radius in loops_of(picture):
        ax.add_patch(Circle((x, y), radius, fill=False, color="#555555", zorder=1))
    for number, box in boxes.items():
        _label(ax, box, picture.lines[number].label)
    for key, vertex in picture.vertices.items():
        _draw_vertex(ax, vertex, colours[key], narrowing(graph, vertex))
    _frame(ax, reach)
    if title:
        _title(ax, graph, picture, labels, missing)
    if legend:
        _legend(ax, graph, picture, style or {})
    if path is None:
        return ax
    file = Path(path)
    if file.suffix in TEX:
        made = picture_tikz(graph, picture, colours)
        file.write_text(TEX[file.suffix](made), encoding="utf-8")
    else:
        save_axes(ax, file)
    return ax


def place_checked(graph: GraphValues, dangling: frozenset[str] = frozenset()) -> Picture:
    """The picture of a graph that is small enough to be read; see :func:`.placement.place`."""
    nodes = len(graph.tensors) + sum(len(port.legs) for port in graph.inputs) + len(graph.output)
    if nodes > MAX_DRAWN_NODES:
        msg = (
            f"the network has {nodes} tensors and port legs, a drawing holds at most "
            f"{MAX_DRAWN_NODES}; print(net) lists them, or draw a smaller network"
        )
        raise SpecError(msg)
    return place(graph, dangling)


def figure_size(reach: Reach) -> tuple[float, float]:
    """Width and height in inches of a figure that holds a picture, which reaches so far."""
    left, right, low, high = reach
    width, height = 0.9 * (right - left) + 2.0, 0.9 * (high - low) + 2.0
    return min(MAX_INCHES, max(5.0, width)), min(MAX_INCHES, max(3.0, height))


def _draw_vertex(ax: Axes, vertex: Vertex, colour: str, narrow: int) -> None:
    from matplotlib.patches import Polygon

    if vertex.kind == "copy":
        ax.plot([vertex.x], [vertex.y], "o", color=colour, markersize=7, zorder=3)
        return
    corners = outline(vertex_box(vertex), narrow)
    edge = {"edgecolor": "#444444", "linewidth": 0.8, "zorder": 4}
    ax.add_patch(Polygon(corners, closed=True, facecolor=colour, **edge))
    ax.text(
        vertex.x,
        vertex.y,
        "\n".join(rows_of(vertex)),
        ha="center",
        va="center",
        fontsize=8.5,
        zorder=5,
        linespacing=1.0,
    )


def _draw_line(ax: Axes, picture: Picture, line: Line) -> None:
    from matplotlib.patches import FancyArrowPatch

    a, b = picture.vertices[line.first], picture.vertices[line.second]
    if line.first == line.second:
        return
    ax.add_patch(
        FancyArrowPatch(
            (a.x, a.y),
            (b.x, b.y),
            arrowstyle="-",
            shrinkA=0,
            shrinkB=0,
            zorder=1,
            connectionstyle=f"arc3,rad={line.bend}",
            color="#555555",
            linewidth=1.2,
        )
    )


def _label(ax: Axes, box: Box, text: str) -> None:
    ground = {"boxstyle": "round,pad=0.08", "facecolor": "white", "edgecolor": "none"}
    ax.text(
        box.x, box.y, text, ha="center", va="center", fontsize=8, color="#203060", bbox=ground,
        zorder=2,
    )  # fmt: skip


def _frame(ax: Axes, reach: Reach) -> None:
    """Limits, without axes."""
    left, right, low, high = reach
    ax.set_aspect("equal")
    ax.set_xlim(left - 1.0, right + 1.0)
    ax.set_ylim(low - 0.8, high + 0.9)
    ax.set_axis_off()


def _title(
    ax: Axes, graph: GraphValues, picture: Picture, labels: Labels, missing: Missing | None
) -> None:
    """What is drawn, and how its labels are to be read."""
    fresh = any("." in leg for leg, _ in graph.leg_sizes)
    legend = {"all": "leg=size", "names": "leg", "sizes": "sizes of legs", "none": ""}[labels]
    if fresh and labels in ("all", "names"):
        is_upright = not any(vertex.flipped for vertex in picture.vertices.values())
        where = "the node below it" if is_upright else "a node at its end"
        legend += f"; .2 is the leg NODE.2 of {where}"
    note = f"\n{legend}" if legend else ""
    words = f"{graph.label or 'network'}, {graph.parameter_count} parameters"
    if missing is not None:
        words += " so far, not finished"
    if missing is not None and missing.unused:
        words += f"\nno tensor has {listed(missing.unused)}"
    # A label is free text: no mathematics between dollar signs.
    ax.set_title(f"{words}{note}", fontsize=9).set_parse_math(False)


def _legend(ax: Axes, graph: GraphValues, picture: Picture, style: Style) -> None:
    """What the colours mean that are there."""
    from matplotlib.patches import Patch

    kinds = {vertex.kind for vertex in picture.vertices.values()} - {"tensor"}
    kinds |= set(tensor_kinds(graph).values())
    shown = [kind for kind in COLOURS if kind in kinds]
    fills = {kind: style.get(kind, COLOURS[kind]) for kind in shown}
    patches = [
        Patch(facecolor=fill, edgecolor="#444444", linewidth=0.5, label=kind)
        for kind, fill in fills.items()
    ]
    if patches:
        ax.legend(
            handles=patches,
            fontsize=7,
            loc="upper left",
            frameon=False,
            bbox_to_anchor=(0.0, 0.0),
            ncols=len(patches),
        )
