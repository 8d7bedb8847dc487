"""A layer as a record of plain values, and a layer of the same kind from a record.

A record names one of four kinds, the networks as documents of canonical JSON, and options; nothing
in it is code, and whatever does not fit the constructor of its kind is one SpecError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import PlanError, SpecError
from ..graph.argument_checks import shown
from ..graph.bridges.document import document_from_graph, graph_from_document
from ..graph.graph import Graph
from ..nn.conv2d import Conv2d
from ..nn.embedding import Embedding
from ..nn.layer import Layer
from ..nn.padded import Padded
from ..support.codec import Codec, CodecError, Form
from ..support.dtypes import DTYPES
from ..support.json_text import check_document

# The names are the format's: they outlive those of the classes.
KINDS: Mapping[str, type[Layer]] = {
    "Layer": Layer,
    "Padded": Padded,
    "Conv2d": Conv2d,
    "Embedding": Embedding,
}
_NAMES = {kind: name for name, kind in KINDS.items()}
_OPTION = (str, int, float, bool, type(None))

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """A layer without its arrays.

    Arguments:
        kind: "Layer", "Padded", "Conv2d" or "Embedding".
        dtype: of its arrays.
        networks: that it sums.
        options: of its constructor, beside dtype and device.
    """

    kind: str
    dtype: str
    networks: tuple[Graph, ...]
    options: Options

    def build(self, **changes: Any) -> Layer:
        """The layer on the meta device, where nothing is allocated.

        Arguments:
            changes: options that are not as recorded.

        Raises:
            SpecError: what the record says makes no layer.
        """
        options: Options = {"dtype": getattr(torch, self.dtype), **self.options, **changes}
        make: Callable[..., Layer] = KINDS[self.kind]
        try:
            return make(self.networks, device="meta", **options)
        except SpecError:
            raise
        # Options come from a file: a wrong type may surface as any error of Python's.
        except (TypeError, ValueError, AttributeError, OverflowError, PlanError) as error:
            msg = f"the record of a {self.kind} makes no layer: {type(error).__name__}: {error}"
            raise SpecError(msg) from error


def is_recorded(module: object) -> bool:
    """Whether a module is a layer that a record can stand for: of a kind itself, not of a class
    that somebody derived from one."""
    return type(module) in _NAMES


def record_of(layer: Layer) -> ModuleRecord:
    """The record of a layer; how its entries were drawn is left out where JSON cannot say it."""
    graphs = tuple(_without_callables(graph) for graph in layer.graphs)
    dtype = str(layer.dtype).removeprefix("torch.")
    return ModuleRecord(_NAMES[type(layer)], dtype, graphs, layer.options)


def write_record(record: ModuleRecord) -> dict[str, Any]:
    """A record as plain values.

    Raises:
        SpecError: values of a network are not finite.
    """
    return _CODEC.write(ModuleRecord, record)


def read_record(item: object, where: str) -> ModuleRecord:
    """The record that plain values give.

    Raises:
        SpecError: they give none; names the place.
    """
    try:
        return _CODEC.read(ModuleRecord, item, where)
    except CodecError as error:
        raise SpecError(str(error)) from None


def _without_callables(graph: Graph) -> Graph:
    """A graph whose tensors start in ways that a document can name: entries are saved anyway."""
    if not any(callable(node.init) for node in graph.tensors):
        return graph
    tensors = tuple(
        replace(node, init=None) if callable(node.init) else node for node in graph.tensors
    )
    return replace(graph, tensors=tensors)


# -- forms -----------------------------------------------------------------------------------------


def _read_kind(item: object, where: str) -> str:
    if not isinstance(item, str) or item not in KINDS:
        raise CodecError(where, f"one of {', '.join(KINDS)}, got {shown(item)}")
    return item


def _read_dtype(item: object, where: str) -> str:
    if not isinstance(item, str) or item not in DTYPES:
        raise CodecError(where, f"one of {', '.join(DTYPES)}, got {shown(item)}")
    return item


def _read_networks(item: object, where: str) -> tuple[Graph, ...]:
    if not isinstance(item, list) or not item:
        raise CodecError(where, "a list of networks")
    return tuple(graph_from_document(check_document(one)) for one in item)


def _write_options(options: Options) -> Options:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }


def _read_options(item: object, where: str) -> Options:
    """Names and plain values; which ones there are, the constructor knows."""
    if not isinstance(item, dict):
        raise CodecError(where, "an object of options")
    found: Options = {}
    for name, value in item.items():
        items = value if isinstance(value, list) else [value]
        if name in ("device", "dtype", "net") or not all(isinstance(one, _OPTION) for one in items):
            raise CodecError(f"{where}.{shown(name)}", "an option of a layer")
        found[name] = tuple(items) if isinstance(value, list) else value
    return found


_CODEC = Codec(
    own={
        (ModuleRecord, "kind"): Form(str, _read_kind),
        (ModuleRecord, "dtype"): Form(str, _read_dtype),
        (ModuleRecord, "networks"): Form(
            lambda graphs: [document_from_graph(graph) for graph in graphs], _read_networks
        ),
        (ModuleRecord, "options"): Form(_write_options, _read_options),
    }
)
