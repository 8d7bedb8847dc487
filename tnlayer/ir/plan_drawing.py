"""Drawing of a plan: its contraction tree, one row a step, with legs, sizes and FLOPs beside it.

The column on the right has what an input enters (or the root's longest chain): what joins it stands
to its left. Colours say how often a step runs, as the printed plan does.
matplotlib and networkx are loaded here only, when a plan is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..graph.drawing.figures import new_figure
from ..graph.drawing.options import (
    Positions,
    Style,
    check_labels,
    check_positions,
    check_style,
)
from ..support.option_words import Labels
from ..support.wording import counted
from .plan_text import EACH, ONCE, has_samples, how_good, milliseconds, search_words
from .plan_values import PlanValues
from .steps import BATCH, Step, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DRAWN_STEPS = 300
_TEXT_WIDTH = 50  # characters of leg names that fit in the table
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
COLOURS = {
    "port": "#f4a6a0",
    "parameter": "#a9cbe8",
    "saved": "#d9c3e8",
    "once": "#66a182",
    "each": "#edae49",
    "output": "#dddddd",
}
# What a user calls them where he wants other colours.
STYLE_OF = {
    "input": "port",
    "parameter": "parameter",
    "kept": "saved",
    "once": "once",
    "each": "each",
    "output": "output",
}
_MEANING = {
    "port": "input",
    "parameter": "parameter",
    "saved": "kept by the forward",
    "once": f"{ONCE}, whatever the batch",
    "each": f"{EACH}: work grows with the batch",
    "output": "result",
}
# Coordinates are inches. Each column of the table: its distance from the stem, and its title.
_ROW, _CHARACTER, _MARGIN = 0.34, 0.075, 0.3
_TABLE = ((0.45, "sums over"), (3.95, "result"), (5.2, "FLOPs"), (6.0, "share"))
_TABLE_WIDTH = 6.6


@dataclass
class Layout:
    """Places of the nodes while the tree is walked; a leaf is placed anew at each use."""

    plan: PlanValues
    steps: dict[str, Step]
    heights: dict[str, int]
    column_width: float
    places: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    kinds: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    edges: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reused: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    rows: int = 0
    colours: Mapping[str, str] = field(default_factory=lambda: COLOURS)
    labels: Labels = "all"
    heading: str = "Contraction order"
    # Predicted time of steps by the name of their result, in the place of their share of FLOPs, and
    # what stands above it.
    seconds: Mapping[str, float] | None = None
    time_heading: str = "ms"

    def place(self, node: str, value: Value, column: float, row: float, kind: str) -> None:
        """Fix where a node stands and what it is."""
        self.places[node] = (-column * self.column_width, -row * _ROW)
        self.values[node] = value
        self.kinds[node] = kind

    def join(self, start: str, end: str, *, reused: bool) -> None:
        """An edge; ``reused`` where its start stands in another chain already."""
        (self.reused if reused else self.edges).append((start, end))

    def next_row(self) -> int:
        """The next free row."""
        self.rows += 1
        return self.rows - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the plane that a picture takes, in inches."""

    left: float
    bottom: float
    top: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height with a margin."""
        return _TABLE_WIDTH - self.left + 2 * _MARGIN, self.top - self.bottom + 2 * _MARGIN


def frame_of(layout: Layout, *, title: bool = True, legend: bool = True) -> Frame:
    """What a layout takes; arguments as for :func:`axes_of`."""
    ys = [y for _, y in layout.places.values()]
    left = min((x for x, _ in layout.places.values()), default=0.0) - layout.column_width / 2
    bottom = min(-layout.rows * _ROW, *ys, 0.0)
    return Frame(left, bottom, max(0.0, *ys) + (1.8 + 1.1 * title + 1.1 * legend) * _ROW)


def axes_of(
    layout: Layout, ax: Axes | None = None, *, title: bool = True, legend: bool = True
) -> Axes:
    """The picture of a layout, with matplotlib and networkx.

    Arguments:
        layout: where everything stands.
        ax: axes to draw on, or None for a figure of the picture's own size.
        title: whether what is drawn stands above.
        legend: whether what the colours mean stands there.

    Raises BuildError where matplotlib is missing.
    """
    frame = frame_of(layout, title=title, legend=legend)
    if ax is None:
        figure = new_figure(frame.size)
        figure.set_layout_engine("none")
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(frame.left - _MARGIN, _TABLE_WIDTH + _MARGIN)
    ax.set_ylim(frame.bottom - _MARGIN, frame.top + _MARGIN)
    _draw_table(layout, ax)
    _draw_tree(layout, ax)
    if title:
        _draw_title(layout, ax, frame.left, frame.top)
    if legend:
        _draw_legend(layout, ax, frame.left, frame.top - 1.2 * _ROW * title)
    return ax


def changed(
    layout: Layout, positions: Positions | None, labels: Labels, style: Style | None
) -> Layout:
    """A layout with what a user wants to be otherwise.

    Arguments:
        layout: as it was laid out; is not changed.
        positions: of steps by the name of their result, such as "t0": (x, y) in inches, y upward;
            what is left out stays.
        labels: what stands in boxes: "all" (names and sizes), "names", "sizes" or "none".
        style: colours such as "#a9cbe8", by the words of STYLE_OF.

    Raises:
        SpecError: one of them is none.
    """
    # A gradient is shown by the user's name of its tensor, and is found by it.
    own_names = {user: name for name, user in layout.plan.names if name in layout.steps}
    given = check_positions(positions, (*layout.steps, *own_names), "step")
    places = {own_names.get(name, name): place for name, place in given.items()}
    colours = check_style(style, STYLE_OF)
    own = {STYLE_OF[word]: colour for word, colour in colours.items()}
    return replace(
        layout,
        places={**layout.places, **places},
        colours={**layout.colours, **own},
        labels=check_labels(labels),
    )


# -- layout ------------------------------------------------------------------------------------


def lay_out(plan: PlanValues) -> Layout:
    """Rows by a walk from the outputs up, columns by distance from the main chain."""
    steps = {step.result.name: step for step in plan.steps}
    heights = {value.name: 0 for value in plan.inputs}
    for step in plan.steps:
        heights[step.result.name] = 1 + max(heights[o.value.name] for o in step.operands)
    longest = max((len(label_of(plan, value)) for value in plan.inputs), default=0)
    layout = Layout(plan, steps, heights, column_width=0.35 + _CHARACTER * longest)
    for output in plan.outputs:
        root = output.operand.value
        known = root.name in layout.places
        _walk(layout, root, 0)
        node = f"output {output.name}"
        legs = tuple(leg for axis in output.axes for leg in axis)
        layout.place(node, Value(output.name, legs), 0, layout.next_row(), "output")
        layout.join(root.name, node, reused=known)
    return layout


def _walk(layout: Layout, root: Value, column: int) -> None:
    """Place a chain of steps from its first operand down to ``root``, side chains before each."""
    if root.name in layout.places:
        return
    chain = [root]
    while (step := layout.steps.get(chain[-1].name)) is not None:
        main = _main_operand(layout, step)
        if main.name in layout.places:
            break
        chain.append(main)
    for value in reversed(chain):
        step = layout.steps.get(value.name)
        if step is None:
            layout.place(value.name, value, column, layout.next_row(), _leaf_kind(layout, value))
        else:
            _place_step(layout, step, column, continues=value is not chain[-1])


def _place_step(layout: Layout, step: Step, column: int, *, continues: bool) -> None:
    """Place a step below what it continues, and to its left what joins it there."""
    sides = [operand.value for operand in step.operands]
    main = _main_operand(layout, step)
    sides.remove(main)
    reused = {side.name for side in sides if side.name in layout.places}
    for side in sides:
        if side.name in layout.steps:
            _walk(layout, side, column + 1)
    row = layout.next_row()
    node = step.result.name
    kind = "each" if has_samples(step) else "once"
    layout.place(node, step.result, column, row, kind)
    layout.join(main.name, node, reused=not continues)
    for number, side in enumerate(sides):
        if side.name in layout.steps:
            layout.join(side.name, node, reused=side.name in reused)
            continue
        leaf = f"{side.name}@{node}.{number}"
        leaf_row = layout.next_row() if number else row
        layout.place(leaf, side, column + 1, leaf_row, _leaf_kind(layout, side))
        layout.join(leaf, node, reused=False)


def _main_operand(layout: Layout, step: Step) -> Value:
    """The operand that goes on the chain: of the stem if any is, and of the longest way up."""
    values = [operand.value for operand in step.operands]
    branch = layout.plan.branch
    return max(values, key=lambda value: (value.name not in branch, layout.heights[value.name]))


def _leaf_kind(layout: Layout, value: Value) -> str:
    """What an input of the plan is."""
    if value in layout.plan.parameters:
        return "parameter"
    return "saved" if value in layout.plan.saved else "port"


# -- text --------------------------------------------------------------------------------------


def shape_text(plan: PlanValues, legs: Iterable[str]) -> str:
    """Sizes of legs, equal ones as a power: ``B·2¹⁰·3²``."""
    legs = tuple(legs)
    counted = Counter(plan.sizes[leg] for leg in legs if leg != BATCH)
    factors = ["B"] if BATCH in legs else []
    for size, times in counted.items():
        power = str(times).translate(_SUPERSCRIPTS) if times > 1 else ""
        factors.append(f"{size}{power}")
    return "·".join(factors) or "1"


def names_text(plan: PlanValues, legs: Iterable[str]) -> str:
    """The user's names of legs with their sizes, as many as fit in the table."""
    user_names = dict(plan.names)
    names = [
        "batch" if leg == BATCH else f"{user_names.get(leg, leg)}={plan.sizes[leg]}" for leg in legs
    ]
    text = ", ".join(names)
    shown = len(names)
    while shown > 1 and len(text) > _TEXT_WIDTH:
        shown -= 1
        text = f"{', '.join(names[:shown])}, and {len(names) - shown} more"
    return text


def label_of(plan: PlanValues, value: Value, labels: Labels = "all") -> str:
    """Text of a box: the user's name of a value, and the sizes of its legs."""
    name, sizes = dict(plan.names).get(value.name, value.name), shape_text(plan, value.legs)
    return {"all": f"{name}  {sizes}", "names": name, "sizes": sizes, "none": ""}[labels]


def _number_text(number: int) -> str:
    """A count with a unit: 12.3 M."""
    for limit, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)


def _flops_text(number: int) -> str:
    """FLOPs with a unit: 12.3 MFLOPs, 384 FLOPs."""
    text = _number_text(number)
    return f"{text}FLOPs" if " " in text else f"{text} FLOPs"


def _step_flops(plan: PlanValues, step: Step) -> int:
    """FLOPs and elementwise operations of a step at the plan's batch size."""
    counts = plan.counts_of(step)
    return (counts.flops + counts.elementwise).at(plan.batch)


def meanings(layout: Layout) -> list[tuple[str, str]]:
    """The kinds of nodes that are in the picture, with what they mean."""
    there = set(layout.kinds.values())
    return [(kind, words) for kind, words in _MEANING.items() if kind in there]


# -- drawing -----------------------------------------------------------------------------------


def _draw_tree(layout: Layout, axes: Axes) -> None:
    """Nodes and edges; leaves are boxes with their names, steps are dots."""
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(layout.places)
    graph.add_edges_from(layout.edges + layout.reused)
    steps = [node for node in layout.places if node in layout.steps]
    networkx.draw_networkx_edges(
        graph, layout.places, layout.edges, ax=axes, arrows=False, edge_color="#555555", width=1.2
    )
    # Bent, so that they do not run through the nodes between; plain trees have none.
    networkx.draw_networkx_edges(
        graph,
        layout.places,
        layout.reused,
        ax=axes,
        arrows=True,
        arrowstyle="-",
        style="dashed",
        connectionstyle="arc3,rad=0.3",
        edge_color="#999999",
    )
    networkx.draw_networkx_nodes(
        graph,
        layout.places,
        nodelist=steps,
        node_size=110,
        node_color=[layout.colours[layout.kinds[node]] for node in steps],
        edgecolors="#333333",
        ax=axes,
    )
    for node, (x, y) in layout.places.items():
        if node not in layout.steps:
            words = label_of(layout.plan, layout.values[node], layout.labels)
            _draw_box(axes, x, y, words, layout.colours[layout.kinds[node]])


def _draw_box(
    axes: Axes, x: float, y: float, text: str, colour: str, align: str = "center"
) -> None:
    """A text in a box."""
    box = {"boxstyle": "round,pad=0.25", "fc": colour, "ec": "#333333"}
    axes.text(x, y, text, ha=align, va="center", fontsize=8, bbox=box)


def _draw_table(layout: Layout, axes: Axes) -> None:
    """Beside each step: the legs that it sums, its result's sizes, its FLOPs and their share, or
    its predicted time where that is known."""
    plan, seconds = layout.plan, layout.seconds
    whole = sum(_step_flops(plan, step) for step in plan.steps)
    blank = {"fc": "white", "ec": "none", "pad": 1}
    titles = dict(_TABLE)
    if seconds is not None:
        titles[_TABLE[-1][0]] = layout.time_heading
    for x, title in titles.items():
        axes.text(x, 1.2 * _ROW, title, fontsize=9, va="center", weight="bold")
    for node, (start, y) in layout.places.items():
        step = layout.steps.get(node)
        if step is None:
            continue
        axes.plot([start, _TABLE_WIDTH], [y, y], color="#e4e4e4", linewidth=0.8, zorder=0)
        summed = [leg for leg in step.loop_legs if leg not in step.result.legs]
        flops = _step_flops(plan, step)
        share = f"{flops / whole:.0%}" if whole else ""
        cells = (
            names_text(plan, summed) or "nothing",
            shape_text(plan, step.result.legs),
            _number_text(flops),
            share if seconds is None else milliseconds(seconds.get(node, 0.0)),
        )
        for (x, _), cell in zip(_TABLE, cells, strict=True):
            axes.text(x, y, cell, fontsize=8, va="center", bbox=blank)


def _draw_title(layout: Layout, axes: Axes, left: float, top: float) -> None:
    """What is drawn."""
    plan = layout.plan
    whole = sum(_step_flops(plan, step) for step in plan.steps)
    where = f" at batch B = {plan.batch:,}" if plan.is_batched else ""
    words = (
        f"{layout.heading}: {counted(len(plan.steps), 'step')}, {_flops_text(whole)}{where}\n"
        f"{search_words(plan.minimize)} ({how_good(plan)})"
    )
    axes.text(left, top, words, fontsize=10, va="center", weight="bold")


def _draw_legend(layout: Layout, axes: Axes, left: float, top: float) -> None:
    """What the colours mean."""
    x = left + 0.05
    for kind, words in meanings(layout):
        _draw_box(axes, x, top, words, layout.colours[kind], align="left")
        x += 0.3 + 0.062 * len(words)
