"""Networks made of networks: other names, one after the other, sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ..errors import SpecError
from .argument_checks import LEG_NAME, check_leg_name, check_tensor_name, shown, suggest
from .graph import Graph, TensorNode


def renamed(
    graph: Graph,
    tensors: Mapping[str, str],
    legs: Mapping[str, str],
    ports: Mapping[str, str],
) -> Graph:
    """The same graph with other names.

    Arguments:
        graph: what is renamed.
        tensors, legs, ports: new names by old ones; those that are left out stay.

    Raises:
        SpecError: there is no such name, or a new one is taken or no name.
    """
    of_tensor = _names(tensors, graph.nodes, "tensor", check_tensor_name)
    of_leg = _names(legs, graph.sizes, "leg", lambda name: check_leg_name(name, "renamed()"))
    of_port = _names(ports, [p.name for p in graph.inputs], "input", check_tensor_name)

    def moved(several: Iterable[str]) -> tuple[str, ...]:
        return tuple(of_leg[leg] for leg in several)

    def node(tensor: TensorNode) -> TensorNode:
        share = None if tensor.share is None else of_tensor[tensor.share]
        name = of_tensor[tensor.name]
        return replace(tensor, name=name, legs=moved(tensor.legs), share=share)

    return replace(
        graph,
        leg_sizes=tuple((of_leg[leg], size) for leg, size in graph.leg_sizes),
        inputs=tuple(
            replace(port, name=of_port[port.name], legs=moved(port.legs)) for port in graph.inputs
        ),
        output=moved(graph.output),
        tensors=tuple(map(node, graph.tensors)),
        summed=frozenset(moved(graph.summed)),
        fixed=tuple(sorted((of_leg[leg], index) for leg, index in graph.fixed)),
    )


def _names(
    given: Mapping[str, str], known: Iterable[str], what: str, check: Callable[[object], str]
) -> dict[str, str]:
    """The new name of each old one."""
    names = {name: name for name in known}
    for old, new in given.items():
        if old not in names:
            msg = f"renamed(): there is no {what} {shown(old)}{suggest(str(old), names)}"
            raise SpecError(msg)
        names[old] = check(new)
    taken: dict[str, str] = {}
    for old, new in names.items():
        if new in taken:
            msg = f"renamed(): {what}s {taken[new]!r} and {old!r} would both be called {new!r}"
            raise SpecError(msg)
        taken[new] = old
    return names


def composed(first: Graph, second: Graph) -> Graph:
    """One graph after the other: y of the first is x of the second.

    Arguments:
        first: whose output is passed on.
        second: with one input, whose open legs have the sizes of the first's output, in order.

    Raises:
        SpecError: the legs between do not fit, or names of tensors or inputs stand in both.
    """
    inner = first.open_legs(first.output)
    _check_between(first, second, inner)
    (port,) = second.inputs
    joined = dict(zip(port.legs, first.output, strict=True))
    legs = {**_apart(second, first.sizes, joined), **joined}
    own = _with_legs(second, legs)
    return Graph(
        label=" then ".join(one.label or "network" for one in (first, second)),
        leg_sizes=tuple(dict((*first.leg_sizes, *own.leg_sizes)).items()),
        inputs=first.inputs,
        output=own.output,
        tensors=(*first.tensors, *own.tensors),
        summed=first.summed | own.summed | _closed(first, own, inner),
        fixed=tuple(sorted({*first.fixed, *own.fixed})),
    )


def _closed(first: Graph, second: Graph, inner: tuple[str, ...]) -> frozenset[str]:
    """Legs between that have one end left: what the second one's input had summed."""
    ends = [leg for t in (*first.tensors, *second.tensors) for leg in t.legs]
    ends += [leg for port in first.inputs for leg in port.legs]
    ends += second.output
    return frozenset(leg for leg in inner if ends.count(leg) == 1)


def _check_between(first: Graph, second: Graph, inner: tuple[str, ...]) -> None:
    if len(second.inputs) != 1 or second.inputs[0].product:
        ports = ", ".join(
            f"{port.name!r}, a product port" if port.product else repr(port.name)
            for port in second.inputs
        )
        msg = (
            f"compose: {second.label!r} must have one input that is no product port, to take y of "
            f"{first.label!r}; its inputs are: {ports or 'none'}"
        )
        raise SpecError(msg)
    port = second.inputs[0]
    if (first.fixed and set(first.pinned) & set(first.output)) or set(second.pinned) & set(
        port.legs
    ):
        msg = (
            f"compose: legs between {first.label!r} and {second.label!r} are fixed, which only "
            "legs of ports can be; fix none of the output's and of the input's"
        )
        raise SpecError(msg)
    sizes = first.shape_of(inner), second.shape_of(port.legs)
    if sizes[0] != sizes[1]:
        msg = (
            f"compose: y of {first.label!r} has legs of sizes {shown(sizes[0])}, x of "
            f"{second.label!r} {shown(sizes[1])}; make them equal, leg by leg (net.reorder "
            "permutes them)"
        )
        raise SpecError(msg)
    both = sorted(set(first.nodes) & set(second.nodes))
    if both:
        msg = (
            f"compose: both networks have a tensor {both[0]!r}; give one of them other names: "
            'other.renamed(prefix="second_")'
        )
        raise SpecError(msg)


def _apart(graph: Graph, taken: Mapping[str, int], joined: Mapping[str, str]) -> dict[str, str]:
    """New names for the legs of a graph that another one has too."""
    found: dict[str, str] = {}
    used = {*taken, *graph.sizes}
    for leg in graph.sizes:
        if leg in joined or leg not in taken:
            found[leg] = leg
            continue
        mark = ".0" if "." in leg else "_"
        name = leg
        while name in used:
            name += mark
        assert LEG_NAME.fullmatch(name)
        used.add(name)
        found[leg] = name
    return found


def _with_legs(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with other legs, of which two may become one."""

    def moved(several: Iterable[str]) -> tuple[str, ...]:
        return tuple(names[leg] for leg in several)

    return replace(
        graph,
        leg_sizes=tuple((names[leg], size) for leg, size in graph.leg_sizes),
        inputs=tuple(replace(port, legs=moved(port.legs)) for port in graph.inputs),
        output=moved(graph.output),
        tensors=tuple(replace(t, legs=moved(t.legs)) for t in graph.tensors),
        summed=frozenset(moved(graph.summed)),
        fixed=tuple((names[leg], index) for leg, index in graph.fixed),
    )
