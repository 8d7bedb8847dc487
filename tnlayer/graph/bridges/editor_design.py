"""Designs that tensor-network-editor saved as JSON: a tensor a tensor, an edge a leg.

The format, schema versions 1 and 2: ``network`` has ``tensors``, each with an id, a name and
``indices`` (id, name, dimension); ``edges`` of two ends and ``hyperedges`` of three and more, an
end being a tensor_id and an index_id. An index on no edge is open. What is drawn beside (places,
sizes, groups, notes) is not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import SpecError
from ...support.json_text import parse_json
from ..argument_checks import as_array_value, check_size, listed, shown
from ..graph import Graph, Port, TensorNode
from ..graph_values import MAX_NODES
from .fit_names import leg_names, tensor_names

VERSIONS = (1, 2)
_WHO = "from_tensor_network_editor"
_PERIODIC = ("linear_periodic_chain", "grid_periodic_grid", "tree_periodic_tree")
# How entries are written that are another start of ours.
_STARTS = {"zeros": "zeros", "ones": "ones", "identity": "eye", "copy": "eye"}
_DRAWN = ("normal", "uniform")


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of a tensor; user is "TENSOR.INDEX", as it is asked for."""

    id: str
    user: str
    name: str
    size: int


def graph_from_design(
    text: str | bytes,
    inputs: Sequence[str],
    output: Sequence[str] | None,
    *,
    trainable: bool,
    given: Collection[str] = (),
) -> Graph:
    """The network of a design.

    Arguments:
        text: the JSON file.
        inputs: open indices that x enters by, in order: "TENSOR.INDEX", or their ids.
        output: those of y, in order; None: all other open ones, as they come.
        trainable: whether the tensors are parameters.
        given: names of tensors whose entries come from elsewhere.

    Raises:
        SpecError: it is no such design, or an index is not there.
    """
    network = _network(text)
    records = _records(network, "tensors", "network")
    if len(records) > MAX_NODES:
        msg = f"{_WHO}: the design has {len(records)} tensors, at most {MAX_NODES} are allowed"
        raise SpecError(msg)
    tensors = [_indices(record) for record in records]
    known = {index.id: index for indices in tensors for index in indices}
    if len(known) != sum(map(len, tensors)):
        msg = f"{_WHO}: two indices of the design have one id"
        raise SpecError(msg)
    bundles = _bundles(network, known)
    edge_of = {i.id: number for number, (_, indices) in enumerate(bundles) for i in indices}
    opened = [index for index in known.values() if index.id not in edge_of]
    # Of open indices with one name each has that of its tensor before it.
    count = Counter(index.name for index in opened)
    texts = [index.name if count[index.name] == 1 else index.user for index in opened]
    made = leg_names([*(name for name, _ in bundles), *texts])
    legs = {index: made[number] for index, number in edge_of.items()}
    legs |= {i.id: name for i, name in zip(opened, made[len(bundles) :], strict=True)}
    entering = [_asked(one, opened, known) for one in inputs]
    leaving = (
        [index for index in opened if index not in entering]
        if output is None
        else [_asked(one, opened, known) for one in output]
    )
    left = [index for index in opened if index not in entering and index not in leaving]
    names = tensor_names([_text(record, "name", "tensors") for record in records])
    return Graph(
        label=str(network.get("name", "")),
        leg_sizes=tuple({legs[index.id]: index.size for index in known.values()}.items()),
        inputs=(Port("x", tuple(legs[index.id] for index in entering)),) if entering else (),
        output=tuple(legs[index.id] for index in leaving),
        tensors=tuple(
            TensorNode(name, tuple(legs[i.id] for i in indices), trainable=trainable)
            if record.get("tensor_data") is None or name in given
            else _with_entries(name, record["tensor_data"], legs, indices, trainable)
            for name, record, indices in zip(names, records, tensors, strict=True)
        ),
        summed=frozenset(legs[index.id] for index in left),
    )


# -- the text --------------------------------------------------------------------------------------


def _network(text: str | bytes) -> Mapping[str, Any]:
    document = parse_json(text)
    if not isinstance(document, dict) or not isinstance(document.get("network"), dict):
        msg = f"{_WHO}: expected the JSON of a design, with schema_version and network"
        raise SpecError(msg)
    version = document.get("schema_version")
    if version not in VERSIONS:
        versions = " and ".join(map(str, VERSIONS))
        msg = f"{_WHO}: schema_version is {shown(version)}; versions {versions} are known"
        raise SpecError(msg)
    network: Mapping[str, Any] = document["network"]
    for kind in _PERIODIC:
        if network.get(kind) is not None:
            msg = (
                f"{_WHO}: the design is periodic ({kind}): its cells stand for a network of any "
                "length; save the network itself, with all its tensors"
            )
            raise SpecError(msg)
    return network


def _records(record: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    """The objects of a list; none where it lacks."""
    found = record.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        msg = f"{_WHO}: {where}: {key} must be a list of objects, got {shown(found)}"
        raise SpecError(msg)
    return found


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    found = record.get(key)
    if not isinstance(found, str):
        msg = f"{_WHO}: {where}: {key} must be a text, got {shown(found)}"
        raise SpecError(msg)
    return found


def _indices(tensor: Mapping[str, Any]) -> list[_Index]:
    owner = _text(tensor, "name", "tensors")
    where = f"tensor {shown(owner)}"
    found: list[_Index] = []
    for record in _records(tensor, "indices", where):
        name = _text(record, "name", where)
        size = check_size(record.get("dimension"), f"{_WHO}: {where}, index {shown(name)}")
        found.append(_Index(_text(record, "id", where), f"{owner}.{name}", name, size))
    return found


# -- legs ------------------------------------------------------------------------------------------


def _bundles(
    network: Mapping[str, Any], known: Mapping[str, _Index]
) -> list[tuple[str, list[_Index]]]:
    """The name of each edge and the indices that it joins."""
    bundles: list[tuple[str, list[_Index]]] = []
    for record in _records(network, "edges", "network"):
        where = f"edge {shown(record.get('name'))}"
        ends = [record.get("left"), record.get("right")]
        bundles.append((_text(record, "name", where), [_end(end, known, where) for end in ends]))
    for record in _records(network, "hyperedges", "network"):
        where = f"hyperedge {shown(record.get('name'))}"
        ends = _records(record, "endpoints", where)
        bundles.append((_text(record, "name", where), [_end(end, known, where) for end in ends]))
    users: set[str] = set()
    for name, indices in bundles:
        for index in indices:
            if index.id in users:
                msg = f"{_WHO}: the index {index.user!r} stands on two edges"
                raise SpecError(msg)
            users.add(index.id)
        if len({index.size for index in indices}) > 1:
            sizes = ", ".join(f"{index.user}={index.size}" for index in indices)
            msg = f"{_WHO}: the edge {shown(name)} joins indices of different sizes: {sizes}"
            raise SpecError(msg)
    return bundles


def _end(end: object, known: Mapping[str, _Index], where: str) -> _Index:
    if not isinstance(end, dict) or end.get("index_id") not in known:
        msg = f"{_WHO}: {where} ends at {shown(end)}, which is no index of the design"
        raise SpecError(msg)
    return known[end["index_id"]]


def _asked(one: object, opened: Sequence[_Index], known: Mapping[str, _Index]) -> _Index:
    """The open index that a user means."""
    found = [index for index in opened if one in (index.user, index.id)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(index.id for index in found)
        msg = f"{_WHO}: several open indices are called {shown(one)}; name one by its id: {ids}"
    elif any(one in (index.user, index.id) for index in known.values()):
        msg = f"{_WHO}: the index {shown(one)} is not open: it stands on an edge"
    else:
        names = listed([index.user for index in opened])
        msg = f"{_WHO}: there is no index {shown(one)}; open ones: {names}"
    raise SpecError(msg)


# -- tensors ---------------------------------------------------------------------------------------


def _with_entries(
    name: str, data: Any, legs: Mapping[str, str], indices: Sequence[_Index], trainable: bool
) -> TensorNode:
    """A node with the entries that the design names."""
    mode = data.get("mode") if isinstance(data, dict) else None
    node = TensorNode(name, tuple(legs[index.id] for index in indices), trainable=trainable)
    where, shape = f"tensor {name!r}", tuple(index.size for index in indices)
    if isinstance(mode, str) and mode in _STARTS and trainable:
        return replace(node, init=_STARTS[mode])
    if mode == "random":
        kind = data.get("distribution", "normal")
        if kind in _DRAWN:
            return replace(node, init=kind)
    read: dict[str, Callable[[], Any]] = {
        **{start: partial(_constant, start, shape) for start in _STARTS},
        "fill": lambda: np.full(shape, _number(data.get("fill_value"), where)),
        "literal": lambda: np.array(_numbers(data.get("values"), where)).reshape(shape),
    }
    if not isinstance(mode, str) or mode not in read:
        msg = (
            f"{_WHO}: {where}: entries of {shown(data)} are not read from a design; pass them as "
            f"values={{{name!r}: array}}"
        )
        raise SpecError(msg)
    try:
        array = read[mode]()
    except (ValueError, TypeError) as error:
        msg = f"{_WHO}: {where}: the entries have not the shape {shape}: {error}"
        raise SpecError(msg) from error
    return replace(node, value=as_array_value(array, where))


def _constant(mode: str, shape: tuple[int, ...]) -> Any:
    if mode in ("zeros", "ones"):
        return np.full(shape, float(mode == "ones"))
    array = np.zeros(shape)
    for k in range(min(shape, default=1)):
        array[(k,) * len(shape)] = 1.0
    return array


def _number(value: object, where: str) -> complex | float:
    """A number, which JSON writes as one or as its real and imaginary part."""
    if isinstance(value, dict):
        return complex(_number(value.get("real"), where), _number(value.get("imag"), where))
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{_WHO}: {where}: expected a number, got {shown(value)}"
        raise SpecError(msg)
    return value


def _numbers(value: object, where: str) -> Any:
    if isinstance(value, list):
        return [_numbers(one, where) for one in value]
    return _number(value, where)
