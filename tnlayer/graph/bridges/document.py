"""Graph <-> the plain dict that support/json_text.py writes and reads."""

from __future__ import annotations

from typing import Any

from ...errors import SpecError
from ...support.json_text import FORMAT, VERSION, Document, decode_array, encode_array
from ..argument_checks import as_array_value, check_init, shown
from ..graph import Graph, Port, TensorNode
from ..near_identity import NearIdentity, near_identity
from ..validate import resolve_shares, validate


def document_from_graph(graph: Graph) -> Document:
    """The plain dict of a graph; what has its default value is left out.

    Raises SpecError for a callable init, which text cannot hold.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "label": graph.label,
        "legs": [_leg_record(graph, leg, size) for leg, size in graph.leg_sizes],
        "inputs": [_port_record(port) for port in graph.inputs],
        "output": list(graph.output),
        "tensors": [_tensor_record(tensor) for tensor in graph.tensors],
    }


def _leg_record(graph: Graph, leg: str, size: int) -> Document:
    record: Document = {"name": leg, "size": size}
    if leg in graph.pinned:
        record["fixed"] = graph.pinned[leg]
    if leg in graph.summed:
        record["summed"] = True
    return record


def _port_record(port: Port) -> Document:
    record: Document = {"name": port.name, "legs": list(port.legs)}
    if not port.batched:
        record["batched"] = False
    if port.product:
        record["product"] = True
    if port.dtype is not None:
        record["dtype"] = port.dtype
    return record


def _init_record(init: object) -> object:
    """How a document writes an init that is no callable."""
    return {"near_identity": init.noise} if isinstance(init, NearIdentity) else init


def _read_init(record: object) -> object:
    """The init that a checked document names."""
    return near_identity(record["near_identity"]) if isinstance(record, dict) else record


def _tensor_record(tensor: TensorNode) -> Document:
    if callable(tensor.init):
        msg = (
            f"tensor {tensor.name!r} has a callable init {shown(tensor.init)}, which JSON cannot "
            "hold; use the name of a registered init or a standard deviation"
        )
        raise SpecError(msg)
    record: Document = {"name": tensor.name, "legs": list(tensor.legs)}
    given: dict[str, tuple[bool, Any]] = {
        "share": (tensor.share is not None, tensor.share),
        "conj": (tensor.conj, True),
        "trainable": (not tensor.trainable, False),
        "init": (tensor.init is not None, _init_record(tensor.init)),
        "isometry": (tensor.isometry != (), list(tensor.isometry)),
    }
    record.update({key: value for key, (is_given, value) in given.items() if is_given})
    if tensor.value is not None:
        record["value"] = encode_array(tensor.value.array, f"tensor {tensor.name!r}")
    return record


def graph_from_document(document: Document) -> Graph:
    """The graph of a plain dict that spec.check_document has let through.

    Raises SpecError where the graph has no meaning.
    """
    legs = document["legs"]
    graph = Graph(
        label=document["label"],
        leg_sizes=tuple((leg["name"], leg["size"]) for leg in legs),
        inputs=tuple(
            Port(
                port["name"],
                tuple(port["legs"]),
                port.get("batched", True),
                port.get("product", False),
                port.get("dtype"),
            )
            for port in document["inputs"]
        ),
        output=tuple(document["output"]),
        tensors=_tensors(document["tensors"]),
        summed=frozenset(leg["name"] for leg in legs if leg.get("summed", False)),
        fixed=tuple(sorted((leg["name"], leg["fixed"]) for leg in legs if "fixed" in leg)),
    )
    validate(graph)
    return graph


def _tensors(records: list[Document]) -> tuple[TensorNode, ...]:
    nodes: dict[str, TensorNode] = {}
    for record in records:
        name = record["name"]
        where = f"tensor {shown(name)}"
        if name in nodes:
            msg = f"{where} stands twice in the document; give each tensor its own name"
            raise SpecError(msg)
        value = record.get("value")
        nodes[name] = TensorNode(
            name=name,
            legs=tuple(record["legs"]),
            share=record.get("share"),
            conj=record.get("conj", False),
            trainable=record.get("trainable", True),
            value=None if value is None else as_array_value(decode_array(value, where), where),
            init=check_init(_read_init(record.get("init")), where),
            isometry=tuple(record.get("isometry", ())),
        )
    return resolve_shares(nodes.values())
