"""What a layer is given: networks and dtype when it is made, inputs when it is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.graph import Graph, Port
from ..graph.network import Network, as_graph
from ..runtime.array_checks import check_storage, is_odd
from ..runtime.autograd import autocast_is_on, is_traced, shape_of
from ..support.dtypes import DTYPES, PORT_DTYPES

# dynamo cannot look into dtype.to_real().
_REAL = {kind: kind.to_real() for kind in (torch.complex32, torch.complex64, torch.complex128)}


def as_graphs(
    net: Network | Graph | Sequence[Network | Graph], where: str = "Layer"
) -> tuple[Graph, ...]:
    """One or several networks as frozen graphs with equal ports; ``where`` stands in errors."""
    several = isinstance(net, Sequence) and not isinstance(net, str | bytes)
    nets: list[Any] = list(cast(Sequence[Any], net)) if several else [net]
    if not nets:
        msg = f"{where}([]) has no network; pass at least one"
        raise SpecError(msg)
    graphs = tuple(as_graph(one, where) for one in nets)
    first = _port_shapes(graphs[0])
    for graph in graphs[1:]:
        if _port_shapes(graph) != first:
            msg = (
                f"networks {graphs[0].label!r} and {graph.label!r} cannot be summed: their ports "
                f"are {first} and {_port_shapes(graph)}; make features and flags equal"
            )
            raise SpecError(msg)
    return graphs


def _port_shapes(graph: Graph) -> tuple[object, ...]:
    """What two networks must have in common to be summed."""
    ports = tuple((graph.input_shape(p), p.batched, p.product, p.dtype) for p in graph.inputs)
    return (*ports, graph.out_features)


def layer_dtype(graphs: tuple[Graph, ...], dtype: torch.dtype | None) -> torch.dtype:
    """The dtype asked for, or torch's default, complex if a network is."""
    is_complex = any(graph.is_complex for graph in graphs)
    if dtype is None:
        default = torch.get_default_dtype()
        return default.to_complex() if is_complex else default
    if not isinstance(dtype, torch.dtype) or dtype_name(dtype) not in DTYPES:
        known = ", ".join(f"torch.{name}" for name in DTYPES)
        msg = f"dtype={shown(dtype)} is not supported; expected one of {known}"
        raise SpecError(msg)
    if is_complex and not dtype.is_complex:
        msg = f"dtype={dtype} is real, but the network holds complex values or ports; use complex64"
        raise SpecError(msg)
    return dtype


def device_of(device: object) -> torch.device:
    """The device that an option names, by default torch's.

    Raises:
        SpecError: it names none, or one that torch has not here.
    """
    try:
        return torch.empty(0, device=device).device  # type: ignore[arg-type]
    # Of a wrong kind, beyond 64 bits, no name; a torch without that device asserts, or imports it.
    except (TypeError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        msg = f"device={shown(device)}: {error}; expected a device that torch has, such as 'cpu'"
        raise SpecError(msg) from error


def dtype_name(dtype: torch.dtype) -> str:
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
            f"{layer!r}: expected inputs named {', '.join(names) or 'nothing'}, each once, got "
            f"{len(given)} in order and {', '.join(map(repr, named))} by name; the first may also "
            "be called 'input'"
        )
        raise SpecError(msg)
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
        msg = f"{layer!r}: expected {len(ports)} inputs ({names}), got {len(inputs)}"
        raise SpecError(msg)
    leading: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None
    flat: list[torch.Tensor] = []
    for port, x in zip(ports, inputs, strict=True):
        shape = graph.input_shape(port)
        if isinstance(x, torch.Tensor) and x.layout is torch.sparse_coo:
            x = x.to_dense()  # as nn.Linear takes it
        lead = _check_shape(layer, port, x, shape)
        _check_kind(layer, port, x, dtype, array)
        if not is_traced():
            check_storage(layer, f"input {port.name!r}", x)
        if port.batched:
            own = shape_of(x)[: len(lead)]
            if sizes is not None and own != sizes:
                msg = (
                    f"{layer!r}: input {port.name!r} has leading dimensions {own}, those "
                    f"before it {sizes}; pass equal ones, inputs are not broadcast"
                )
                raise SpecError(msg)
            leading, sizes = lead, own
            if len(lead) != 1:
                x = x.reshape(math.prod(lead), *shape)
        flat.append(x if x.dtype == dtype else x.to(dtype))
    return leading or (), tuple(flat)


def _check_shape(
    layer: object, port: Port, x: torch.Tensor, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Leading dimensions of an input of the right shape."""
    if not isinstance(x, torch.Tensor):
        msg = (
            f"{layer!r}: input {port.name!r} must be a torch.Tensor, got {shown(x)}; convert it, "
            "for example with torch.as_tensor"
        )
        raise SpecError(msg)
    if is_odd(x):
        msg = (
            f"{layer!r}: input {port.name!r} must be dense, got {x.layout}"
            f"{', nested' if x.is_nested else ''}; convert it, for example with x.to_dense()"
        )
        raise SpecError(msg)
    split, found = x.dim() - len(shape), shape_of(x)
    if split < 0 or found[split:] != shape or (split and not port.batched):
        lead = "..., " if port.batched else ""
        expected = f"({lead}{', '.join(map(str, shape))})"
        msg = (
            f"{layer!r}: input {port.name!r} must have shape {expected}, got {found}; "
            f"reshape it, or describe a network with these legs"
        )
        raise SpecError(msg)
    return tuple(x.shape[:split])


def _check_kind(
    layer: object, port: Port, x: torch.Tensor, dtype: torch.dtype, array: torch.Tensor | None
) -> None:
    """Dtype and device of an input are right."""
    allowed = _allowed_dtypes(port, dtype)
    cast = x.dtype.is_floating_point and autocast_is_on(x.device.type)
    if x.dtype not in allowed and not cast:
        names = " or ".join(map(str, allowed))
        msg = (
            f"{layer!r}: input {port.name!r} must have dtype {names}, got {x.dtype}; convert it "
            f"with x.to({allowed[0]}), or {_other_way(port, x.dtype)}"
        )
        raise SpecError(msg)
    if array is not None and array.device != x.device:
        msg = (
            f"{layer!r}: input {port.name!r} is on {x.device}, the parameters on "
            f"{array.device}; move one, for example layer.to({str(x.device)!r})"
        )
        raise SpecError(msg)


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
