"""The printed text of a graph: a headline, then a table of ports, tensors, sums and pins."""

from __future__ import annotations

import math

from .graph import Graph, Parameter, Port, TensorNode


def headline(graph: Graph) -> str:
    """One line: label, features in and out, parameters, compression against the dense map."""
    fed = " x ".join(str(math.prod(graph.input_shape(port))) for port in graph.inputs) or "no input"
    count = graph.parameter_count
    # A closed network, or one without parameters, compresses nothing.
    ratio = f", compression {graph.dense_parameter_count / count:.4g}" if count else ""
    return (
        f"{graph.label!r}: {fed} -> {graph.out_features}, {len(graph.tensors)} tensors, "
        f"{count} parameters{ratio}"
    )


def describe(graph: Graph) -> str:
    """A readable table of the whole graph, one line a port and a tensor."""
    parameters = {parameter.name: parameter for parameter in graph.parameters}
    rows = [
        *(("input", port.name, _legs(graph, port.legs), _port(graph, port))
          for port in graph.inputs),
        ("output", "", _legs(graph, graph.output), f"{graph.out_features} features"),
        *(("tensor", tensor.name, _legs(graph, tensor.legs), _tensor(tensor, parameters))
          for tensor in graph.tensors),
    ]  # fmt: skip
    name_width = max(len(name) for _, name, _, _ in rows)
    # One long leg list must not push every other line's last column off the screen.
    legs_width = min(48, max(len(legs) for _, _, legs, _ in rows))
    lines = [f"Network {headline(graph)}"]
    lines += [
        f"  {kind:<6}  {name:<{name_width}}  {legs:<{legs_width}}  {note}".rstrip()
        for kind, name, legs, note in rows
    ]
    if graph.fixed:
        lines.append("  fixed   " + " ".join(f"{leg}={index}" for leg, index in graph.fixed))
    if graph.summed:
        lines.append("  summed  " + " ".join(sorted(graph.summed)))
    if graph.stored_count != graph.parameter_count:
        lines.append(f"  stored  {graph.stored_count} entries, trainable or not")
    return "\n".join(lines)


def _legs(graph: Graph, legs: tuple[str, ...]) -> str:
    return " ".join(f"{leg}={graph.sizes[leg]}" for leg in legs) or "no legs"


def _port(graph: Graph, port: Port) -> str:
    flags = [
        *([] if port.batched else ["not batched"]),
        *(["product state"] if port.product else []),
        *([port.dtype] if port.dtype else []),
    ]
    return ", ".join([f"{math.prod(graph.input_shape(port))} features", *flags])


def _tensor(tensor: TensorNode, parameters: dict[str, Parameter]) -> str:
    conj = ", conjugated" if tensor.conj else ""
    if tensor.share is not None:
        return f"shares {tensor.share}{conj}"
    kind = "parameters"
    if not tensor.trainable:
        kind = "frozen entries" if tensor.value is None else "constant entries"
    notes = f"{parameters[tensor.name].size} {kind}{conj}"
    if tensor.isometry:
        notes += ", isometry " + " ".join(tensor.legs[axis] for axis in tensor.isometry)
    if tensor.init is not None:
        named = tensor.init if isinstance(tensor.init, str | float) else "a callable"
        notes += f", init {named}"
    return notes
