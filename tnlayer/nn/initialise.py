"""Initialisation that preserves variance, for any network.

With independent zero-mean entries and no shared tensors, the variance of an entry of the dense map
W is (product of the summed legs' sizes) x (product of the tensors' variances). For
Var(y) = Var(x) the product over all tensors must be 1 / (input legs not in the output x summed
legs), which gives one standard deviation for all. Products of many tensors are heavy-tailed, so
the result is rescaled once by the squared norm of W: exact if x is small, else from a seeded probe.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

import torch

from tnlayer.errors import SpecError
from tnlayer.graph import Graph, Parameter

Initialiser = Callable[[torch.Tensor], object]

# Up to so many features W's norm is exact (one basis state a sample); the probe is bounded too.
_EXACT_FEATURES = 1024
_PROBE_ENTRIES = 2**22
_PROBE_SAMPLES = 256
_PROBE_SEED = 20210


def orthogonal_(tensor: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
    """Fill with a Haar-random isometry of the matricised tensor.

    Arguments:
        tensor: any shape.
        rows: axes of one side of the matrix; the smaller side becomes orthonormal.

    Source: F. Mezzadri, How to generate random matrices from the classical compact groups (2007):
    the QR decomposition of a Gaussian matrix, with the phases of R's diagonal taken out.
    """
    columns = tuple(axis for axis in range(tensor.dim()) if axis not in rows)
    row_size = math.prod(tensor.shape[axis] for axis in rows)
    column_size = math.prod(tensor.shape[axis] for axis in columns)
    tall, short = max(row_size, column_size), min(row_size, column_size)
    work = torch.complex128 if tensor.is_complex() else torch.float64
    q, r = torch.linalg.qr(torch.randn(tall, short, dtype=work))
    diagonal = r.diagonal()
    q = q * (diagonal / diagonal.abs())
    matrix = q if row_size >= column_size else q.mT
    shape = [tensor.shape[axis] for axis in (*rows, *columns)]
    back = torch.argsort(torch.tensor((*rows, *columns))).tolist()
    return tensor.copy_(matrix.reshape(shape).permute(back))


def _eye_(tensor: torch.Tensor) -> torch.Tensor:
    """Ones where all indices are equal, zeros elsewhere."""
    tensor.zero_()
    if tensor.dim() == 0:
        return tensor.fill_(1)
    index = torch.arange(min(tensor.shape), device=tensor.device)
    tensor[(index,) * tensor.dim()] = 1
    return tensor


def _unit_uniform_(tensor: torch.Tensor) -> torch.Tensor:
    """Uniform with variance 1; half of it in each part of a complex entry."""
    if tensor.is_complex():
        bound = math.sqrt(1.5)
        torch.view_as_real(tensor).uniform_(-bound, bound)
        return tensor
    return tensor.uniform_(-math.sqrt(3), math.sqrt(3))


def _orthogonal_halves_(tensor: torch.Tensor) -> torch.Tensor:
    """A Haar isometry between the first half of the axes and the second."""
    return orthogonal_(tensor, tuple(range(tensor.dim() // 2)))


# "normal" and "uniform" have unit variance here and are scaled by the rule above.
_SCALED: dict[str, Initialiser] = {"normal": lambda t: t.normal_(), "uniform": _unit_uniform_}
_REGISTERED: dict[str, Initialiser] = {
    "zeros": lambda t: t.zero_(),
    "ones": lambda t: t.fill_(1),
    "eye": _eye_,
    "orthogonal": _orthogonal_halves_,
}


def register_initialiser(name: str, initialiser: Initialiser) -> None:
    """Make ``init=name`` fill tensors with a function that works in place, at full shape.

    Raises:
        SpecError: the name is taken.

    >>> import tnlayer as tn
    >>> tn.register_initialiser("halves", lambda tensor: tensor.fill_(0.5))
    """
    if name in _REGISTERED or name in _SCALED:
        msg = f"an initialiser {name!r} is registered already; choose another name"
        raise SpecError(msg)
    _REGISTERED[name] = initialiser


def check_initialisers(graph: Graph) -> None:
    """Refuse a graph that names an initialiser nobody registered."""
    known = {**_SCALED, **_REGISTERED}
    for tensor in graph.tensors:
        if isinstance(tensor.init, str) and tensor.init not in known:
            msg = (
                f"tensor {tensor.name!r}: init={tensor.init!r} is not registered; expected one of "
                f"{', '.join(sorted(known))}, or call tnlayer.register_initialiser first"
            )
            raise SpecError(msg)


@torch.no_grad()
def initialise(
    graph: Graph,
    arrays: Mapping[str, torch.Tensor],
    apply: Callable[[tuple[torch.Tensor, ...]], torch.Tensor],
) -> None:
    """Fill the stored arrays of a network in place.

    Arguments:
        graph: the network.
        arrays: stored arrays by tensor name, all of one dtype.
        apply: the network as a function of its inputs, with these arrays.
    """
    parameters = {parameter.name: parameter for parameter in graph.parameters}
    uses = Counter(tensor.share or tensor.name for tensor in graph.tensors)
    scaled = [p for p in parameters.values() if _is_scaled(p)]
    known = 0.0
    for parameter in parameters.values():
        if parameter not in scaled:
            full = _fixed_entries(parameter, arrays[parameter.name])
            stored = _cut(full, parameter)
            arrays[parameter.name].copy_(stored)
            mean_square = float(stored.abs().square().mean()) if stored.numel() else 0.0
            known += math.log(mean_square or 1.0) * uses[parameter.name]
    count = sum(uses[parameter.name] for parameter in scaled)
    if not count:
        return
    deviation = math.exp(-(_log_fan(graph) + known) / (2 * count))
    for parameter in scaled:
        array = arrays[parameter.name]
        kind = parameter.node.init if isinstance(parameter.node.init, str) else "normal"
        full = torch.empty(parameter.full_shape, dtype=array.dtype)
        _SCALED[kind](full)
        array.copy_(_cut(full * deviation, parameter))
    gain = _mean_gain(graph, arrays, apply)
    if gain is not None:
        factor = gain ** (-1 / (2 * count))
        for parameter in scaled:
            arrays[parameter.name].mul_(factor)


def _is_scaled(parameter: Parameter) -> bool:
    """Whether the variance rule sets the scale of this array."""
    node = parameter.node
    free = node.value is None and not node.isometry
    return free and (node.init is None or (isinstance(node.init, str) and node.init in _SCALED))


def _fixed_entries(parameter: Parameter, like: torch.Tensor) -> torch.Tensor:
    """Entries at full shape that do not depend on the variance rule."""
    node = parameter.node
    full = torch.empty(parameter.full_shape, dtype=like.dtype)
    if node.value is not None:
        return full.copy_(torch.from_numpy(node.value.array.copy()))
    if node.isometry:
        return orthogonal_(full, node.isometry)
    if isinstance(node.init, str):
        _REGISTERED[node.init](full)
    elif callable(node.init):
        node.init(full)
    else:
        full.normal_().mul_(float(node.init or 0.0))
    return full


def _cut(full: torch.Tensor, parameter: Parameter) -> torch.Tensor:
    """The stored slices of an array at full shape."""
    for axis, pin in reversed(list(enumerate(parameter.pins))):
        if pin is not None:
            full = full.select(axis, pin)
    return full


def _log_fan(graph: Graph) -> float:
    """Logarithm of (input legs that are not in the output) x (all other summed legs)."""
    kept = {*graph.output, *graph.pinned}
    return sum(math.log(size) for leg, size in graph.leg_sizes if leg not in kept)


def _mean_gain(
    graph: Graph,
    arrays: Mapping[str, torch.Tensor],
    apply: Callable[[tuple[torch.Tensor, ...]], torch.Tensor],
) -> float | None:
    """Mean of y^2 over that of x: the squared norm of W over its rows; None where unknown."""
    if any(port.product for port in graph.inputs):
        return None
    like = next(iter(arrays.values()))
    if like.is_meta:
        return None
    total = sum(graph.input_shape(port)[0] for port in graph.inputs)
    if len(graph.inputs) == 1 and graph.inputs[0].batched and total <= _EXACT_FEATURES:
        y = apply((torch.eye(total, dtype=like.dtype, device=like.device),))
        gain = float(y.abs().square().sum()) / graph.out_features
    else:
        generator = torch.Generator().manual_seed(_PROBE_SEED)
        samples = max(1, min(_PROBE_SAMPLES, _PROBE_ENTRIES // max(total, graph.out_features)))
        x = tuple(
            torch.randn(
                (*((samples,) if port.batched else ()), *graph.input_shape(port)),
                generator=generator,
                dtype=like.dtype,
            ).to(like.device)
            for port in graph.inputs
        )
        gain = float(apply(x).abs().square().mean())
    return gain if math.isfinite(gain) and gain > 0 else None
