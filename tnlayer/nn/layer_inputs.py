"""What a layer is given: networks and dtype when it is made, inputs when it is called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from ..errors import SpecError
from ..graph.argument_checks import listed, shown
from ..graph.as_graph import AnyNetwork, as_graph
from ..graph.graph import Graph, Port
from ..graph.port_differences import check_can_be_added
from ..planning.request import ALSO_CUDA, arithmetic_of, dtype_option
from ..runtime.array_checks import check_storage, is_odd
from ..runtime.autograd import autocast_is_on, is_traced, shape_of
from ..support.dtypes import DTYPES, PORT_DTYPES
from ..support.wording import counted

# dynamo cannot look into dtype.to_real().
_REAL = {kind: kind.to_real() for kind in (torch.complex32, torch.complex64, torch.complex128)}

# Inputs that nn.Linear takes, too; the arithmetic is dense.
SPARSE = frozenset(
    {
        torch.sparse_coo,
        torch.sparse_csr,
        torch.sparse_csc,
        torch.sparse_bsr,
        torch.sparse_bsc,
    }
)


def as_graphs(
    net: AnyNetwork | Sequence[AnyNetwork], others: tuple[object, ...] = (), where: str = "Layer"
) -> tuple[Graph, ...]:
    """One or several networks as frozen graphs with equal ports.

    Arguments:
        net: what the layer was asked for with.
        others: what stood behind it, in order: nothing that a layer takes.
        where: what stands in errors.

    Raises:
        SpecError: these are no networks, or their ports differ.
    """
    if others or (where == "Layer" and isinstance(net, int) and not isinstance(net, bool)):
        raise SpecError(_no_features(net, others))
    several = isinstance(net, Sequence) and not isinstance(net, str | bytes)
    nets: list[Any] = list(cast(Sequence[Any], net)) if several else [net]
    if not nets:
        msg = f"{where}([]) has no network; pass at least one"
        raise SpecError(msg)
    graphs = tuple(as_graph(one, where) for one in nets)
    for graph in graphs[1:]:
        check_can_be_added(graphs[0], graph)
    return graphs


def _no_features(net: object, others: tuple[object, ...], budget: str = "compression=10") -> str:
    """What to do where a layer was asked for as nn.Linear is, by position."""
    call = f"Layer({', '.join(shown(one) for one in (net, *others))})"
    sizes = [one for one in (net, *others[:1]) if isinstance(one, int)]
    if len(sizes) != 1 + len(others[:1]):
        return (
            f"{call}: expected one network, and all options by name; a sum of networks is a list, "
            "Layer([net1, net2])"
        )
    first, last = sizes[0], sizes[-1]
    return (
        f"{call}: a layer is made from a network, not from numbers of features. Take a topology, "
        f"tn.Layer(tn.topologies.low_rank({first}, {last}, rank=8)); or let one be sized for a "
        f"budget, tn.fit_budget(tn.topologies.tensor_train, {first}, {last}, "
        f"{budget}).layer(); tn.suggest({first}, {last}, {budget}) says which are fast."
        " Or describe your own with tn.Network()"
    )


# Options of other calls, that a layer is asked for.
_BUDGETS = ("compression", "params", "flops", "time")
_ELSEWHERE = {
    "minimize": "it is an option of tn.plan and tn.compile; a layer is planned by predicted time",
    "plan": "a layer plans itself, for objective=, batch= and memory_limit=; layer.explain() shows "
    "what it found, and tn.compile(net, minimize=...) runs other orders",
    "path": "a layer plans itself; tn.compile(net, path=...) runs an order of your own",
    **dict.fromkeys(
        ("rank", "bond", "depth", "legs", "in_shape", "out_shape"),
        "it is an argument of topologies, tn.Layer(tn.topologies.low_rank(256, 256, rank=8))",
    ),
}


def meant_of_layer(arguments: Sequence[Any], options: Mapping[str, Any]) -> str:
    """What a call of Layer should have been that does not fit it; "" where that is not known.

    Arguments:
        arguments: in order, the layer itself first.
        options: by name.
    """
    given = {"in_features", "out_features"} & set(options)
    if given:
        features = [options[name] for name in ("in_features", "out_features") if name in options]
        arguments = (*arguments[:1], *features)
    budget = next((name for name in _BUDGETS if name in options), "")
    wanted = f"{budget}={shown(options[budget])}" if budget else "compression=10"
    if len(arguments) > 1 and isinstance(arguments[1], int):
        return _no_features(arguments[1], tuple(arguments[2:]), wanted)
    if budget:
        return (
            f"Layer: {wanted} is a budget, and the network that is given has its sizes already: "
            f"tn.fit_budget(tn.topologies.btt, in_features, out_features, {wanted}).layer() finds "
            f"a network; tn.suggest(in_features, out_features, {wanted}) says which are fast"
        )
    for name, where in _ELSEWHERE.items():
        if name in options:
            return f"Layer: {name}= is no argument of it: {where}"
    return ""


def layer_dtype(graphs: tuple[Graph, ...], dtype: object) -> torch.dtype:
    """The dtype asked for, or torch's default, complex if a network is.

    Raises:
        SpecError: no layer has that dtype, or it is real and a network is complex.
    """
    name = dtype_option(dtype)
    found = arithmetic_of(graphs, name)
    if not name:
        default = torch.get_default_dtype()
        return default.to_complex() if found else default
    return getattr(torch, found)


def device_of(device: object) -> torch.device:
    """The device that an option names, by default torch's.

    Raises:
        SpecError: it names none, or one that torch has not here.
    """
    try:
        return torch.empty(0, device=device).device  # type: ignore[arg-type]
    # Of a wrong kind, beyond 64 bits, no name; a torch without that device asserts, or imports it.
    except (TypeError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        # torch's own text may list all its backends: its first sentence is enough.
        cause = " ".join(str(error).split()).partition(". ")[0]
        meant = "; did you mean 'cuda'?" if isinstance(device, str) and device in ALSO_CUDA else ""
        msg = (
            f"device={shown(device)}: torch has no such device here; expected {_devices_here()}, "
            f"or leave it out{meant}. torch says: {shown(cause)}"
        )
        raise SpecError(msg) from error


def _devices_here() -> str:
    """The devices of this machine, in words."""
    found = ["'cpu'"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        count = torch.accelerator.device_count()
        found += [repr(f"{kind and kind.type}:{number}") for number in range(count)]
    return listed([*found, "'meta'"], ", ")


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype as options have it, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def all_inputs(layer: object, graph: Graph, first: Any, others: Any, named: Any) -> tuple[Any, ...]:
    """The inputs of a call in the order of the ports.

    Arguments:
        layer: its repr stands in errors.
        graph: whose ports take the inputs.
        first: what was given first, or as ``input``; None: nothing was.
        others: what was given behind it.
        named: what was given by the name of its port.

    Raises:
        SpecError: a name is unknown, or two arguments are for one port.
    """
    names = [port.name for port in graph.inputs]
    if not isinstance(others, tuple):
        # torch.fx looks at the layer itself: the others are one object, of unknown length.
        return (first, *(others[number] for number in range(len(names) - 1)))
    given: tuple[Any, ...] = (first, *others) if others or first is not None else ()
    if "input" in names[1:] and len(given) == 1 and names[0] in named:
        given, named = (), {**named, "input": first}  # a later port has that name
    free = names[len(given) :]
    if set(named) - set(free):
        msg = (
            f"expected inputs named {', '.join(names) or 'nothing'}, each once, got "
            f"{len(given)} in order and {', '.join(map(repr, named))} by name; the first may also "
            "be called 'input'"
        )
        raise SpecError(_of_layer(msg, layer))
    return (*given, *(named[name] for name in free if name in named))


def flatten_inputs(
    layer: object,
    graph: Graph,
    inputs: tuple[torch.Tensor, ...],
    dtype: torch.dtype,
    array: torch.Tensor | None,
) -> tuple[tuple[int, ...], tuple[torch.Tensor, ...]]:
    """Leading dimensions of a layer's inputs, and the inputs with those merged into one.

    Arguments:
        layer: its repr stands in errors.
        graph: whose ports take the inputs.
        inputs: of a call.
        dtype: of the layer, to which the inputs are cast.
        array: a parameter, on the device of all; None: there is none.

    Raises:
        SpecError: number, shape, dtype or device of the inputs is wrong.
    """
    ports = graph.inputs
    if len(inputs) != len(ports):
        names = ", ".join(port.name for port in ports)
        wanted = f"{counted(len(ports), 'input')} ({names})" if ports else "no input"
        msg = f"expected {wanted}, got {len(inputs)}"
        raise SpecError(_of_layer(msg, layer))
    leading: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None
    flat: list[torch.Tensor] = []
    for port, x in zip(ports, inputs, strict=True):
        shape = graph.input_shape(port)
        if isinstance(x, torch.Tensor) and x.layout in SPARSE:
            x = x.to_dense()  # as nn.Linear takes it
        lead = _check_shape(layer, port, x, shape, dtype)
        _check_kind(layer, port, x, dtype, array)
        if not is_traced():
            check_storage(layer, f"input {port.name!r}", x)
        if port.batched:
            own = shape_of(x)[: len(lead)]
            if sizes is not None and own != sizes:
                msg = (
                    f"input {port.name!r} has leading dimensions {own}, those before it {sizes}; "
                    "pass equal ones, inputs are not broadcast"
                )
                raise SpecError(_of_layer(msg, layer))
            leading, sizes = lead, own
            if len(lead) != 1:
                x = x.reshape(math.prod(lead), *shape)
        flat.append(x if x.dtype == dtype else x.to(dtype))
    return leading or (), tuple(flat)


def _of_layer(problem: str, layer: object) -> str:
    """A message: what is wrong first, whose call it was at the end."""
    return f"{problem}\n  in a call of {layer!r}"


def _check_shape(
    layer: object, port: Port, x: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype
) -> tuple[int, ...]:
    """Leading dimensions of an input of the right shape."""
    if not isinstance(x, torch.Tensor):
        raise SpecError(_of_layer(_no_tensor(port, x, dtype), layer))
    if is_odd(x):
        msg = (
            f"input {port.name!r} must be dense, got {x.layout}"
            f"{', nested' if x.is_nested else ''}; convert it, for example with x.to_dense()"
        )
        raise SpecError(_of_layer(msg, layer))
    split, found = x.dim() - len(shape), shape_of(x)
    if split < 0 or found[split:] != shape or (split and not port.batched):
        raise SpecError(_of_layer(_wrong_shape(port, shape, found), layer))
    return tuple(x.shape[:split])


def _no_tensor(port: Port, x: object, dtype: torch.dtype) -> str:
    """What to do where an input is no tensor."""
    wanted = port.dtype or dtype_name(dtype)
    if isinstance(x, np.ndarray):
        what = f"a numpy array of shape {x.shape} and dtype {x.dtype}"
    elif isinstance(x, Sequence | Mapping) and not isinstance(x, str | bytes):
        what = f"a {type(x).__name__}, {shown(x)}"
    else:
        return f"input {port.name!r} must be a torch.Tensor, got {shown(x)}"
    return (
        f"input {port.name!r} must be a torch.Tensor, got {what}; pass "
        f"torch.as_tensor({port.name}, dtype=torch.{wanted})"
    )


def _wrong_shape(port: Port, shape: tuple[int, ...], found: tuple[int, ...]) -> str:
    """What is wrong with the shape of an input, and what to do."""
    lead = "..., " if port.batched else ""
    tail = "," if len(shape) == 1 and not lead else ""
    expected = f"({lead}{', '.join(map(str, shape))}{tail})"
    head = f"input {port.name!r} must have shape {expected}, got {found}"
    if port.product:
        legs = counted(shape[0], "leg")
        return f"{head}: one vector of {shape[-1]} entries for each of {legs}"
    if not port.batched and found[-1:] == shape:
        return f"{head}: it has no leading dimensions, for net.port({port.name!r}, batched=False)"
    got = f"{found[-1]} features" if found else "no axis"
    # Which axes hold the features: those at the end, or at the front.
    entries, first = 1, len(found)
    while first and entries < shape[0]:
        first -= 1
        entries *= found[first]
    while first > 1 and found[first - 1] == 1:
        first -= 1  # as the one channel of grey images
    if first < len(found) - 1 and entries == shape[0]:
        how = f"{port.name}.flatten({first or ''})"
        return f"{head}: expected {shape[0]} features, got {got}; call it with {how}"
    if shape[0] in found[:-1]:
        axis = found.index(shape[0])
        return (
            f"{head}: expected {shape[0]} features, got {got}; they are those of axis {axis}: call "
            f"it with {port.name}.movedim({axis}, -1)"
        )
    return (
        f"{head}: expected {shape[0]} features, got {got}; describe a network for {got}, or let "
        "tn.fit_budget find one, which pads"
    )


def _check_kind(
    layer: object, port: Port, x: torch.Tensor, dtype: torch.dtype, array: torch.Tensor | None
) -> None:
    """Dtype and device of an input are right."""
    allowed = _allowed_dtypes(port, dtype)
    cast = x.dtype.is_floating_point and autocast_is_on(x.device.type)
    if x.dtype not in allowed and not cast:
        names = " or ".join(map(str, allowed))
        msg = (
            f"input {port.name!r} must have dtype {names}, got {x.dtype}; convert it with "
            f"{port.name}.to({allowed[0]}), or {_other_way(port, x.dtype)}"
        )
        raise SpecError(_of_layer(msg, layer))
    if array is not None and array.device != x.device:
        msg = (
            f"input {port.name!r} is on {x.device}, the parameters on {array.device}"
            f"{_how_to_meet(x, array)}"
        )
        raise SpecError(_of_layer(msg, layer))


def _how_to_meet(x: torch.Tensor, array: torch.Tensor) -> str:
    """What to do where an input and the parameters are on two devices: nothing can be moved off the
    meta device, where there are no entries."""
    if array.is_meta:
        return (
            f", where they have no entries; write layer.to_empty(device={str(x.device)!r}), and "
            "then layer.reset_parameters(), or load_state_dict with entries that were saved"
        )
    if x.is_meta:
        return f"; it has no entries: pass one on {array.device}"
    return f"; move one, for example layer.to({str(x.device)!r})"


def _other_way(port: Port, dtype: torch.dtype) -> str:
    """What to do where an input shall keep its dtype."""
    name = dtype_name(dtype)
    if port.dtype is None and name in DTYPES:
        return f"make the layer with dtype={dtype}"
    if name in PORT_DTYPES:
        return f"declare it with net.port({port.name!r}, dtype={dtype})"
    return f"pass another dtype: no port takes {dtype}"


def _allowed_dtypes(port: Port, dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Dtypes that an input may have: the port's own, or the layer's or its real part's."""
    if port.dtype is not None:
        return (getattr(torch, port.dtype),)
    return (dtype, _REAL[dtype]) if dtype.is_complex else (dtype,)
