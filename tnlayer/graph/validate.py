"""Whole-graph checks: everything that needs the finished graph to be judged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..errors import SpecError, shortened
from .argument_checks import (
    check_dtype_name,
    check_init,
    check_leg_name,
    check_name,
    check_size,
    check_tensor_name,
    listed,
    shown,
    suggest,
)
from .graph import (
    MAX_LEGS,
    MAX_NODES,
    MAX_PARAMETER_ENTRIES,
    MAX_PORT_FEATURES,
    SCALED,
    Graph,
    Port,
    TensorNode,
)
from .near_identity import IDENTITY, NearIdentity


def validate(graph: Graph, *, is_state: bool = False) -> None:
    """Refuse a graph that has no meaning, before anything is allocated for it.

    Arguments:
        graph: with sharers already resolved to their roots.
        is_state: whether it may become a state of any number of sites: of its energy no array has
            all features of a port.

    Raises SpecError that names the nodes and legs, what was expected and what was found.
    """
    _check_bounds(graph)
    _check_names(graph)
    _check_known_legs(graph)
    _check_ends(graph)
    _check_sums_and_pins(graph)
    _check_ports(graph)
    _check_shares(graph)
    _check_tensors(graph)
    _check_amounts(graph)
    if not is_state:
        _check_all_features(graph)


def ends_of(graph: Graph) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each node as a phrase ("tensor 'A'", "input 'x'", "the output") with its legs."""
    for port in graph.inputs:
        yield f"input {port.name!r}", port.legs
    yield "the output", graph.output
    for tensor in graph.tensors:
        yield f"tensor {tensor.name!r}", tensor.legs


def resolve_shares(tensors: Iterable[TensorNode]) -> tuple[TensorNode, ...]:
    """The tensors with each sharer pointing at the node that owns the parameter."""
    nodes = {tensor.name: tensor for tensor in tensors}
    roots: dict[str, str] = {}
    for name in nodes:
        _find_root(name, nodes, roots)
    return tuple(
        tensor if tensor.share is None else replace(tensor, share=roots[tensor.name])
        for tensor in nodes.values()
    )


def _find_root(name: str, nodes: dict[str, TensorNode], roots: dict[str, str]) -> None:
    """Note the owner at the end of a chain of sharers, for each node of the chain."""
    chain: dict[str, None] = {}
    while name not in roots:
        if name in chain:
            names = list(chain)
            cycle = listed([*map(shown, names[names.index(name) :]), shown(name)], " -> ")
            msg = f"tensors share in a circle: {cycle}; let one of them own the parameter"
            raise SpecError(msg)
        chain[name] = None
        share = nodes[name].share
        if share is None:
            roots[name] = name
            break
        if share not in nodes:
            msg = (
                f"tensor {shown(name)} shares {shown(share)}, and there is no tensor of that name"
                f"{suggest(share, (known for known in nodes if known != name))}"
            )
            raise SpecError(msg)
        name = share
    roots.update(dict.fromkeys(chain, roots[name]))


# -- one check each ------------------------------------------------------------------------------


def _check_bounds(graph: Graph) -> None:
    nodes = len(graph.tensors) + len(graph.inputs) + 1
    if nodes > MAX_NODES:
        msg = f"the network has {nodes} nodes, at most {MAX_NODES} are allowed"
        raise SpecError(msg)
    if len(graph.leg_sizes) > MAX_LEGS:
        msg = f"the network has {len(graph.leg_sizes)} legs, at most {MAX_LEGS} are allowed"
        raise SpecError(msg)
    axes = sum(len(legs) for _, legs in ends_of(graph))
    if axes > 4 * MAX_LEGS:
        msg = f"the nodes have {axes} axes in all, at most {4 * MAX_LEGS} are allowed"
        raise SpecError(msg)


def _check_names(graph: Graph) -> None:
    for leg, size in graph.leg_sizes:
        check_leg_name(leg, "network")
        check_size(size, f"leg {leg!r}")
    for port in graph.inputs:
        check_name(port.name, "input port")
    for tensor in graph.tensors:
        check_tensor_name(tensor.name)
    for what, names in (
        ("leg", [leg for leg, _ in graph.leg_sizes]),
        ("input port", [port.name for port in graph.inputs]),
        ("tensor", [tensor.name for tensor in graph.tensors]),
        ("fixed leg", [leg for leg, _ in graph.fixed]),
    ):
        name, count = next(iter(Counter(names).most_common(1)), ("", 0))
        if count > 1:
            msg = f"{what} {name!r} is declared {count} times; give each its own name"
            raise SpecError(msg)


def _check_known_legs(graph: Graph) -> None:
    for node, legs in ends_of(graph):
        for leg in legs:
            if leg not in graph.sizes:
                msg = (
                    f"{node} has the leg {shown(leg)}, which is not declared"
                    f"{suggest(leg, graph.sizes)}; {_how_to_declare(leg)}"
                )
                raise SpecError(msg)
    for what, legs in (("sum", graph.summed), ("fix", graph.pinned)):
        for leg in sorted(legs):
            if leg not in graph.sizes:
                msg = (
                    f"{what} of the leg {shown(leg)}, which is not declared"
                    f"{suggest(leg, graph.sizes)}"
                )
                raise SpecError(msg)


def _how_to_declare(leg: str) -> str:
    """Python that gives a leg a size: a wire, whose name is none of Python's, comes from a call."""
    if "." in leg:
        return (
            "a name with a dot is that of a wire: take it from what input() or tensor(out=...) "
            "returned"
        )
    return f"declare it with net.bond({shortened(leg)}=SIZE), or as a leg of input() or output()"


def _check_ends(graph: Graph) -> None:
    """Each leg has two ends or more, or one and is summed."""
    ends: dict[str, list[str]] = {leg: [] for leg in graph.sizes}
    for node, legs in ends_of(graph):
        for leg in legs:
            ends[leg].append(node)
    for leg, nodes in ends.items():
        if not nodes:
            msg = f"leg {leg!r} is declared but no node has it; give it to two nodes or remove it"
            raise SpecError(msg)
        if len(nodes) == 1 and nodes[0] == "the output":
            msg = f"leg {leg!r} has one end, on the output; join it to an input or a tensor"
            raise SpecError(msg)
        if len(nodes) == 1 and leg not in graph.summed:
            msg = (
                f"leg {leg!r} has one end, on {nodes[0]}; join it to another node, "
                f"or net.sum({leg!r}) if it is to be summed"
            )
            raise SpecError(msg)


def _check_sums_and_pins(graph: Graph) -> None:
    output = set(graph.output)
    port_legs = {leg for port in graph.inputs for leg in port.legs} | output
    for leg in sorted(graph.summed):
        if leg in output:
            msg = (
                f"leg {leg!r} is a leg of the output, so it cannot be summed; "
                "leave it out of output() or out of sum()"
            )
            raise SpecError(msg)
    for leg, index in graph.fixed:
        if leg in graph.summed or leg not in port_legs:
            msg = (
                f"leg {leg!r} is fixed at {index}, but it is a summed leg and a summed leg cannot "
                "be fixed; only legs of an input or of the output can"
            )
            raise SpecError(msg)
        if not 0 <= index < graph.sizes[leg]:
            msg = (
                f"leg {leg!r} is fixed at index {shown(index)}, expected 0 to "
                f"{graph.sizes[leg] - 1}, because its size is {graph.sizes[leg]}"
            )
            raise SpecError(msg)


def _check_ports(graph: Graph) -> None:
    leg, count = next(iter(Counter(graph.output).most_common(1)), ("", 0))
    if count > 1:
        msg = f"leg {leg!r} stands {count} times in the output; an output leg stands once"
        raise SpecError(msg)
    for port in graph.inputs:
        check_dtype_name(port.dtype, f"input {port.name!r}")
        sizes = graph.shape_of(graph.open_legs(port.legs))
        if port.product and not sizes:
            msg = (
                f"input {port.name!r} is a product port with no open leg, expected at least one; "
                "give it legs, fix fewer of them, or set product=False"
            )
            raise SpecError(msg)
        if port.product and len(set(sizes)) > 1:
            listed = ", ".join(
                f"{leg}={graph.sizes[leg]}" for leg in graph.open_legs(port.legs)[:12]
            )
            msg = (
                f"input {port.name!r} is a product port of shape (..., n, d), so its legs must "
                f"have one size, got {listed}; set product=False or use equal sizes"
            )
            raise SpecError(msg)


def _check_shares(graph: Graph) -> None:
    for tensor in graph.tensors:
        if tensor.share is None:
            continue
        owner = graph.nodes.get(tensor.share)
        if owner is None or owner.share is not None:
            msg = f"tensor {tensor.name!r} shares {tensor.share!r}, which owns no parameter"
            raise SpecError(msg)
        own, other = graph.shape_of(tensor.legs), graph.shape_of(owner.legs)
        if own != other:
            msg = (
                f"tensor {tensor.name!r} shares {owner.name!r}, but their shapes differ: expected "
                f"{shown(other)} ({listed(owner.legs)}), got {shown(own)} ({listed(tensor.legs)}); "
                "sharers need equal sizes axis by axis (before any leg is fixed)"
            )
            raise SpecError(msg)
        given = {
            "value": tensor.value is not None,
            "init": tensor.init is not None,
            "isometry": tensor.isometry != (),
            "trainable": not tensor.trainable,
        }
        for option in (name for name, is_given in given.items() if is_given):
            msg = (
                f"tensor {tensor.name!r} shares {owner.name!r}, so it takes no {option} of its "
                f"own; give {option}= to {owner.name!r}"
            )
            raise SpecError(msg)


def _check_tensors(graph: Graph) -> None:
    for tensor in graph.tensors:
        where = f"tensor {tensor.name!r}"
        shape = graph.shape_of(tensor.legs)
        check_init(tensor.init, where)
        if tensor.value is not None and tensor.value.array.shape != shape:
            msg = (
                f"{where}: value has the wrong shape: expected {shown(shape)} "
                f"({listed(tensor.legs)}), got {shown(tensor.value.array.shape)}; values are given "
                "at full shape, also for fixed legs"
            )
            raise SpecError(msg)
        if tensor.init == SCALED and not tensor.isometry:
            msg = f"{where}: init={SCALED!r} scales an isometry; name its legs with isometry="
            raise SpecError(msg)
        has_value = tensor.value is not None
        near = tensor.init == IDENTITY or isinstance(tensor.init, NearIdentity)
        clashes = has_value or (tensor.isometry and tensor.init != SCALED and not near)
        if tensor.init is not None and clashes:
            msg = (
                f"{where} has both init and value, which say different things; give one"
                if has_value
                else f"{where} has isometry=, with which init may be {SCALED!r}, {IDENTITY!r} or "
                f"tn.near_identity(noise); got {shown(tensor.init)}"
            )
            raise SpecError(msg)
        axes = tensor.isometry
        if list(axes) != sorted(set(axes)) or not set(axes) <= set(range(len(shape))):
            msg = (
                f"{where}: isometry axes must be ascending axes below {len(shape)}, "
                f"got {shown(axes)}"
            )
            raise SpecError(msg)


def _check_amounts(graph: Graph) -> None:
    """Entries within the documented bounds."""
    total = 0
    for tensor in graph.tensors:
        if tensor.share is not None:
            continue
        total += math.prod(graph.shape_of(tensor.legs))
        if total > MAX_PARAMETER_ENTRIES:
            msg = (
                f"the tensors up to {tensor.name!r}, of shape {shown(graph.shape_of(tensor.legs))},"
                " have "
                f"{shown(total)} entries, at most {MAX_PARAMETER_ENTRIES} are allowed; "
                "use smaller bonds or more tensors"
            )
            raise SpecError(msg)


def _check_all_features(graph: Graph) -> None:
    """Those of x and y within the documented bounds."""
    for port in graph.inputs:
        _check_features(f"input {port.name!r}", math.prod(graph.input_shape(port)), port)
    _check_features("the output", graph.out_features, None)


def _check_features(node: str, features: int, port: Port | None) -> None:
    if features > MAX_PORT_FEATURES:
        hint = (
            "a product port (product=True) takes one vector a leg"
            if port
            else "fix some of its legs, or pass the network to tn.energy, which takes states of "
            "any number of sites"
        )
        msg = (
            f"{node} has {shown(features)} features, at most {MAX_PORT_FEATURES} are allowed; "
            f"{hint}"
        )
        raise SpecError(msg)
