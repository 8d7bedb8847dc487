"""Whether two networks have the ports that a sum needs, in words."""

from __future__ import annotations

from ..errors import SpecError
from .graph_values import GraphValues, Port


def check_can_be_added(first: GraphValues, other: GraphValues) -> None:
    """Refuse two networks whose results are no sum.

    Raises:
        SpecError: says in words in which of their ports they differ.
    """
    differences = _differences(first, other)
    if differences:
        names = [first.label or "the first network", other.label or "the other one"]
        if names[0] == names[1]:
            names = [f"{names[0]} (the first)", f"{names[1]} (the other)"]
        told = "; ".join(
            f"{what}: {one} in {names[0]}, {two} in {names[1]}" for what, one, two in differences
        )
        msg = (
            f"these networks cannot be summed, for their ports differ: {told}. Give them the same "
            "inputs, in one order, and as many features"
        )
        raise SpecError(msg)


def _differences(first: GraphValues, other: GraphValues) -> list[tuple[str, str, str]]:
    """Each thing that two networks must have in common to be summed, and have not, in words."""
    if len(first.inputs) != len(other.inputs):
        counts = [len(first.inputs), len(other.inputs)]
        return [("number of inputs", str(counts[0]), str(counts[1]))]
    pairs: list[tuple[str, str, str]] = []
    for port, twin in zip(first.inputs, other.inputs, strict=True):
        one, two = _port_words(first, port), _port_words(other, twin)
        pairs += [(f"input {port.name!r}", *both) for both in zip(one, two, strict=True)]
    pairs.append(("y", f"{first.out_features} features", f"{other.out_features} features"))
    return [found for found in pairs if found[1] != found[2]]


def _port_words(graph: GraphValues, port: Port) -> tuple[str, ...]:
    """What a port takes, in words."""
    shape = graph.input_shape(port)
    features = f"{shape[0]} features"
    if port.product:
        features = f"one vector a leg, {shape[0]} x {shape[1]}"
    return (
        features,
        "with leading dimensions" if port.batched else "without leading dimensions",
        port.dtype or "the layer's dtype",
    )
