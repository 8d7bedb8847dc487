"""The printed text of a graph: a headline, then a table of ports, tensors, sums and pins."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from ..support.html import block, heading, html_table
from ..support.html import lines as lines_of
from ..support.wording import counted, fewer
from .drawing.placement import place
from .drawing.svg import picture_svg
from .graph_values import GraphValues, Parameter, Port, TensorNode

# Columns of a page, and of them those of legs.
_WIDTH, _LEGS_WIDTH = 100, 44
# A notebook shows a picture of at most so many nodes and port legs, and so many rows.
_HTML_NODES, _HTML_ROWS = 150, 60
# So many networks of a sum are named in a line.
_LABELS = 4


def headline(graph: GraphValues) -> str:
    """One line: label, features in and out, parameters beside those of the dense map."""
    fed = " x ".join(str(math.prod(graph.input_shape(port))) for port in graph.inputs) or "no input"
    flow = "closed" if graph.is_closed else f"{fed} -> {graph.out_features}"
    return (
        f"{graph.label!r}: {flow}, {counted(len(graph.tensors), 'tensor')}, "
        f"{counted(graph.parameter_count, 'parameter')}{_ratio(graph)}"
    )


def _ratio(graph: GraphValues) -> str:
    """Parameters beside the entries of what the network stands for; nothing where that is one
    number, or where there are none."""
    count = graph.parameter_count
    if not count or graph.is_closed:
        return ""
    # A state stands for its entries, no layer does the same.
    than = "dense" if graph.inputs else "its entries"
    return f" ({fewer(graph.dense_parameter_count, count, than)})"


def sum_label(graphs: Sequence[GraphValues], *, is_counted: bool = True) -> str:
    """The labels of networks that are added, in one line; of many the first ones and the last.

    Arguments:
        graphs: the networks.
        is_counted: whether it says of how many.
    """
    labels = [graph.label or "network" for graph in graphs]
    if len(labels) <= _LABELS:
        return " + ".join(labels)
    shown = " + ".join((*labels[: _LABELS - 1], "...", labels[-1]))
    return f"{shown} ({counted(len(labels), 'network')})" if is_counted else shown


def rows_of(graph: GraphValues) -> list[tuple[str, str, str, str]]:
    """A row a port and a tensor: what it is, its name, its legs with their sizes, remarks."""
    parameters = {parameter.name: parameter for parameter in graph.parameters}
    return [
        *(("input", port.name, _legs(graph, port.legs), _port(graph, port))
          for port in graph.inputs),
        ("output", "", _legs(graph, graph.output), counted(graph.out_features, "feature")),
        *(("tensor", tensor.name, _legs(graph, tensor.legs), _tensor(graph, tensor, parameters))
          for tensor in graph.tensors),
    ]  # fmt: skip


def describe(graph: GraphValues) -> str:
    """A readable table of the whole graph, one line a port and a tensor."""
    rows = rows_of(graph)
    name_width = max(len(name) for _, name, _, _ in rows)
    # One long leg list must not push every other line's last column off the screen.
    legs_width = min(_LEGS_WIDTH, max(len(legs) for _, _, legs, _ in rows))
    note_width = max(20, _WIDTH - 14 - name_width - legs_width)
    lines = [f"Network {headline(graph)}"]
    for kind, name, legs, note in rows:
        cells = zip_longest(
            (kind,), (name,), _wrapped(legs, legs_width), _wrapped(note, note_width), fillvalue=""
        )
        lines += [
            f"  {one:<6}  {two:<{name_width}}  {three:<{legs_width}}  {four}".rstrip()
            for one, two, three, four in cells
        ]
    lines += [f"  {remark}" for remark in _remarks(graph)]
    return "\n".join(lines)


def _wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)


def _remarks(graph: GraphValues) -> list[str]:
    """What holds for the whole graph: fixed and summed legs, entries beside the parameters."""
    found: list[str] = []
    if graph.fixed:
        found.append("fixed   " + " ".join(f"{leg}={index}" for leg, index in graph.fixed))
    if graph.summed:
        found.append("summed  " + " ".join(sorted(graph.summed)))
    if graph.stored_count != graph.parameter_count:
        stored = counted(graph.stored_count, "entry", "entries")
        found.append(f"stored  {stored}, trainable or not")
    return found


def graph_html(graph: GraphValues) -> str:
    """The same as HTML, with a picture where the network is small enough for one."""
    rows = rows_of(graph)
    shown = rows[:_HTML_ROWS]
    remarks = _remarks(graph)
    if len(rows) > len(shown):
        remarks.append(f"and {len(rows) - len(shown)} more: print(net) lists them all")
    nodes = len(graph.tensors) + len(graph.output) + sum(len(p.legs) for p in graph.inputs)
    picture = picture_svg(graph, place(graph)) if nodes <= _HTML_NODES else ""
    table = html_table([("", "name", "legs", ""), *shown])
    return block(heading(f"Network {headline(graph)}"), picture, table, lines_of(remarks))


def _legs(graph: GraphValues, legs: tuple[str, ...]) -> str:
    return " ".join(f"{leg}={graph.sizes[leg]}" for leg in legs) or "no legs"


def _port(graph: GraphValues, port: Port) -> str:
    flags = [
        *([] if port.batched else ["not batched"]),
        *(["product state"] if port.product else []),
        *([port.dtype] if port.dtype else []),
    ]
    return ", ".join([counted(math.prod(graph.input_shape(port)), "feature"), *flags])


def _tensor(graph: GraphValues, tensor: TensorNode, parameters: dict[str, Parameter]) -> str:
    conj = ", conjugated" if tensor.conj else ""
    if tensor.share is not None:
        return f"shares {tensor.share}{conj}"
    one, several = "parameter", "parameters"
    if not tensor.trainable:
        kind = "frozen" if tensor.value is None else "constant"
        one, several = f"{kind} entry", f"{kind} entries"
    notes = f"{counted(parameters[tensor.name].size, one, several)}{conj}"
    if tensor.isometry:
        notes += f", {_isometry(graph, tensor)}"
    if tensor.init is not None:
        named = tensor.init if isinstance(tensor.init, str | float) else "a callable"
        notes += f", init {named}"
    return notes


def _isometry(graph: GraphValues, tensor: TensorNode) -> str:
    """The side that was named, and whether it is the larger one, into which the other is mapped."""
    named = [tensor.legs[axis] for axis in tensor.isometry]
    side = math.prod(graph.sizes[leg] for leg in named)
    rest = math.prod(graph.sizes[leg] for leg in tensor.legs) // side
    kind = "unitary" if side == rest else "isometry into" if side > rest else "isometry from"
    return f"{kind} {' '.join(named)}"
