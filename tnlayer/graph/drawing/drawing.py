"""Pictures of graphs with matplotlib, which is imported only when a picture is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BuildError, SpecError
from ...support.option_words import Labels
from ...support.tex import TEX
from ..graph_values import GraphValues
from .colours import COLOURS, narrowing, tensor_kinds
from .labels import Box, label_boxes, outline, rows_of, vertex_box
from .options import Positions, Style, adjusted, colours_of
from .placement import Line, Picture, Vertex, place
from .tikz import picture_tikz

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_DRAWN_NODES = 600
# Of a figure, in width and in height.
MAX_INCHES = 60.0


def draw_graph(
    graph: GraphValues,
    path: str | Path | None = None,
    ax: Axes | None = None,
    *,
    positions: Positions | None = None,
    labels: Labels = "all",
    style: Style | None = None,
) -> Axes:
    """Draw nodes, leg names and sizes; inputs below, each output leg a stub beside its node.

    Arguments:
        graph: what to draw, of at most MAX_DRAWN_NODES nodes.
        path: file to save to, or None. Its suffix says the format: those of matplotlib, .tikz for a
            picture to put into a TeX document, .tex for a document of its own.
        ax: axes to draw on, or None for a figure of its own.
        positions: of tensors by name; see :func:`.options.adjusted`.
        labels: what stands beside legs.
        style: colours by kind or by name; see :func:`.options.colours_of`.

    Raises BuildError where matplotlib is missing, SpecError for a graph too large to read, for a
    file format that matplotlib does not write, and for wrong positions, labels and colours.
    """
    check_matplotlib()
    picture = adjusted(place_checked(graph), positions, labels)
    colours = colours_of(graph, picture, style)
    if ax is None:
        ax = new_figure(figure_size(picture)).add_subplot()
    for line in picture.lines:
        _draw_line(ax, picture, line)
    for number, box in label_boxes(picture).items():
        _label(ax, box, picture.lines[number].label)
    for key, vertex in picture.vertices.items():
        _draw_vertex(ax, vertex, colours[key], narrowing(graph, vertex))
    _draw_traces(ax, graph, picture)
    _finish(ax, graph, picture, style or {}, labels)
    if path is None:
        return ax
    file = Path(path)
    if file.suffix in TEX:
        made = picture_tikz(graph, picture, colours)
        file.write_text(TEX[file.suffix](made), encoding="utf-8")
    else:
        _save(ax, file)
    return ax


def place_checked(graph: GraphValues) -> Picture:
    """The picture of a graph that is small enough to be read."""
    nodes = len(graph.tensors) + sum(len(port.legs) for port in graph.inputs) + len(graph.output)
    if nodes > MAX_DRAWN_NODES:
        msg = (
            f"the network has {nodes} tensors and port legs, a drawing holds at most "
            f"{MAX_DRAWN_NODES}; print(net) lists them, or draw a smaller network"
        )
        raise SpecError(msg)
    return place(graph)


def check_matplotlib() -> None:
    """Refuse to draw without it.

    Raises BuildError.
    """
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        msg = f"drawing needs matplotlib ({error}); install it with `pip install tnlayer[viz]`"
        raise BuildError(msg) from None


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure of our own, not pyplot's: no global state and no window system.

    Arguments:
        size: width and height in inches.

    Raises BuildError where matplotlib is missing.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def figure_size(picture: Picture) -> tuple[float, float]:
    """Width and height in inches of a figure that holds a picture."""
    xs = [vertex.x for vertex in picture.vertices.values()] or [0.0]
    ys = [vertex.y for vertex in picture.vertices.values()] or [0.0]
    width = 0.9 * (max(xs) - min(xs)) + 2.0
    return (
        min(MAX_INCHES, max(5.0, width)),
        min(MAX_INCHES, max(3.0, 0.9 * (max(ys) - min(ys)) + 2.0)),
    )


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


def _draw_traces(ax: Axes, graph: GraphValues, picture: Picture) -> None:
    """A loop beside the tensor for each leg that joins two of its own axes."""
    from matplotlib.patches import Circle

    loops = [line for line in picture.lines if line.first == line.second]
    for position, line in enumerate(loops):
        vertex = picture.vertices[line.first]
        earlier = sum(other.first == line.first for other in loops[:position])
        radius = 0.22 + 0.14 * earlier
        centre = (vertex.x - 0.1 - radius, vertex.y)
        ax.add_patch(Circle(centre, radius, fill=False, color="#555555", zorder=1))


def _finish(ax: Axes, graph: GraphValues, picture: Picture, style: Style, labels: Labels) -> None:
    """Limits, title and legend."""
    from matplotlib.patches import Patch

    ax.set_aspect("equal")
    xs = [vertex.x for vertex in picture.vertices.values()] or [0.0]
    ys = [vertex.y for vertex in picture.vertices.values()] or [0.0]
    ax.set_xlim(min(xs) - 1.0, max(xs) + 1.0)
    ax.set_ylim(min(ys) - 0.8, max(ys) + 0.9)
    ax.set_axis_off()
    fresh = any("." in leg for leg, _ in graph.leg_sizes)
    legend = {"all": "leg=size", "names": "leg", "sizes": "sizes of legs", "none": ""}[labels]
    if fresh and labels in ("all", "names"):
        legend += "; .2 is the leg NODE.2 of the node below it"
    note = f"\n{legend}" if legend else ""
    title = f"{graph.label or 'network'}, {graph.parameter_count} parameters{note}"
    # A label is free text: no mathematics between dollar signs.
    ax.set_title(title, fontsize=9).set_parse_math(False)
    kinds = {vertex.kind for vertex in picture.vertices.values()} - {"tensor"}
    kinds |= set(tensor_kinds(graph).values())
    shown = [kind for kind in COLOURS if kind in kinds]
    patches = [Patch(color=style.get(kind, COLOURS[kind]), label=kind) for kind in shown]
    if patches:
        ax.legend(
            handles=patches,
            fontsize=7,
            loc="upper left",
            frameon=False,
            bbox_to_anchor=(0.0, 0.0),
            ncols=len(patches),
        )


def _save(ax: Axes, path: Path) -> None:
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
