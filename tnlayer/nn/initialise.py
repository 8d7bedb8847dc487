"""Initialisation that preserves variance, for any network.

With independent zero-mean entries and no shared tensors, the variance of an entry of the dense map
W is (product of the summed legs' sizes) x (product of the tensors' variances). Products of many
tensors are heavy-tailed, and tensors may be shared, given or constant. So all free tensors are
drawn with variance 1, the mean of |y|^2 over that of |x|^2 is measured (nn/variance.py), and free
tensors are scaled once so that it becomes 1, all by the same factor. What the user gave is not
touched: a value, an isometry, an init, a deviation.

Everything is counted in logarithms and float64. Where equal factors would bring a value of the
plan near the ends of the dtype's range, they are balanced (nn/scales.py): same product, values
near 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from tnlayer.errors import SpecError
from tnlayer.graph import SCALED, Graph, Parameter
from tnlayer.near_identity import IDENTITY, NearIdentity
from tnlayer.nn.identity import near_identity_entries
from tnlayer.nn.scaled import Scaled, scaled
from tnlayer.nn.scales import Range, Sized, Wanted, balance, narrowed, solve
from tnlayer.nn.variance import WHOLE, Measured, Part, Planned, measure

Initialiser = Callable[[torch.Tensor], object]

# Networks that share free tensors are measured together, and those in half precision once more, in
# a few rounds, until the logarithm of their gain is so close.
_ROUNDS, _CLOSE, _CLOSE_IN_HALF = 3, 1e-6, 0.1

_HALF = (torch.float16, torch.bfloat16)


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
    q, r = torch.linalg.qr(torch.randn(tall, short, dtype=work, device="cpu"))
    diagonal = r.diagonal()
    q = q * (diagonal / diagonal.abs())
    matrix = q if row_size >= column_size else q.mT
    shape = [tensor.shape[axis] for axis in (*rows, *columns)]
    back = torch.argsort(torch.tensor((*rows, *columns), device="cpu")).tolist()
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
    if name in _REGISTERED or name in _SCALED or name in (SCALED, IDENTITY):
        msg = f"an initialiser {name!r} is registered already; choose another name"
        raise SpecError(msg)
    _REGISTERED[name] = initialiser


def check_initialisers(graph: Graph) -> None:
    """Refuse a graph that names an initialiser nobody registered."""
    known = {**_SCALED, **_REGISTERED, SCALED: None, IDENTITY: None}
    for tensor in graph.tensors:
        if isinstance(tensor.init, str) and tensor.init not in known:
            msg = (
                f"tensor {tensor.name!r}: init={tensor.init!r} is not registered; expected one of "
                f"{', '.join(sorted(known))}, or call tnlayer.register_initialiser first"
            )
            raise SpecError(msg)


@torch.no_grad()
def initialise(
    networks: Sequence[Planned], arrays: Mapping[str, torch.Tensor], part: Part = WHOLE
) -> None:
    """Fill the stored arrays of networks with equal ports, whose results are summed, in place.

    Arguments:
        networks: with their plans.
        arrays: stored arrays by tensor name, all of one dtype; networks may share some.
        part: the features for which Var(y) = Var(x).

    Raises:
        SpecError: an array's dtype cannot hold what the user gave, or no scale of the free tensors
            keeps the network's values in its range.
    """
    owners = {p.name: (one.graph, p) for one in networks for p in one.graph.parameters}
    parameters = {name: parameter for name, (_, parameter) in owners.items()}
    free = [p.name for p in parameters.values() if _is_free(p)]
    drawn: dict[str, torch.Tensor] = {}
    for name, parameter in parameters.items():
        array = arrays[name]
        if name not in free:
            array.copy_(_cut(_given_entries(owners[name][0], parameter, array.dtype), parameter))
            continue
        # Half precision is rounded once, at the end: what lies on its grid cannot be scaled a bit.
        half = array.dtype in _HALF
        drawn[name] = torch.empty_like(array, dtype=_wide(array.dtype)) if half else array
        drawn[name].copy_(_cut(_unit_entries(parameter, array.dtype), parameter))
    if not free:
        return
    stored = {name: scaled(drawn.get(name, array)) for name, array in arrays.items()}
    dtype = arrays[free[0]].dtype
    solved = _solve(networks, free, stored, part, dtype)
    for name, log in solved.scales.items():
        scaled_entries = drawn[name].mul_(math.exp(log))
        if dtype in _HALF:
            arrays[name].copy_(scaled_entries)
    if dtype in _HALF:
        _correct_rounding(networks, solved.gains, drawn, arrays, part)


def _correct_rounding(
    networks: Sequence[Planned],
    gains: Mapping[int, float],
    drawn: Mapping[str, torch.Tensor],
    arrays: Mapping[str, torch.Tensor],
    part: Part,
) -> None:
    """Make up for the rounding of entries and values in half precision.

    A map that is a product of hundreds of tensors changes by far more than an entry's rounding. One
    tensor of each network is scaled once more and rounded anew; the others stay.

    Arguments:
        networks: with their plans.
        gains: the logarithm of the gain that a network shall have, by its place.
        drawn: entries of the free tensors before they were rounded.
        arrays: those that are stored.
        part: the features for which Var(y) = Var(x).
    """
    uses = sum((_powers(network.graph, [*drawn]) for network in networks), Counter[str]())
    for place, gain in gains.items():
        once = [name for name in _powers(networks[place].graph, [*drawn]) if uses[name] == 1]
        for _ in range(_ROUNDS if once else 0):
            stored = {name: scaled(array) for name, array in arrays.items()}
            found = measure([networks[place]], stored, part, arrays[once[0]].dtype).log_gain
            if found is None or not math.isfinite(found) or abs(gain - found) < _CLOSE_IN_HALF:
                break
            largest = max(once, key=lambda name: drawn[name].numel())
            array = drawn[largest].mul_(math.exp((gain - found) / 2))
            arrays[largest].copy_(array)


# -- entries ---------------------------------------------------------------------------------------


def _is_free(parameter: Parameter) -> bool:
    """Whether the variance rule sets the scale of this array."""
    node = parameter.node
    if node.value is not None:
        return False
    if node.isometry:
        return node.init == SCALED
    return node.init is None or (isinstance(node.init, str) and node.init in _SCALED)


def _unit_entries(parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """Entries at full shape of a free tensor, with variance 1."""
    node = parameter.node
    full = torch.empty(parameter.full_shape, dtype=_wide(dtype), device="cpu")
    if node.isometry:
        orthogonal_(full, node.isometry)
        rows = math.prod(parameter.full_shape[axis] for axis in node.isometry)
        return full.mul_(math.sqrt(max(rows, full.numel() // max(1, rows))))
    _SCALED[node.init if isinstance(node.init, str) else "normal"](full)
    return full


def _given_entries(graph: Graph, parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """Entries at full shape that do not depend on the variance rule."""
    node = parameter.node
    if node.value is not None:
        return _in_range(torch.from_numpy(node.value.array.copy()), parameter, dtype)
    if node.init == IDENTITY or isinstance(node.init, NearIdentity):
        near = node.init if isinstance(node.init, NearIdentity) else NearIdentity()
        return near_identity_entries(graph, node, near.noise, _wide(dtype))
    if isinstance(node.init, str) or callable(node.init):
        full = torch.empty(parameter.full_shape, dtype=dtype, device="cpu")
        (_REGISTERED[node.init] if isinstance(node.init, str) else node.init)(full)
        return full
    full = torch.empty(parameter.full_shape, dtype=_wide(dtype), device="cpu")
    if node.isometry:
        return orthogonal_(full, node.isometry)
    full = full.double() if not full.is_complex() else full.to(torch.complex128)
    return _in_range(full.normal_().mul_(float(node.init or 0.0)), parameter, dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which entries are drawn: half precision is rounded once, at the end."""
    return torch.float32 if dtype in _HALF else dtype


def _in_range(full: torch.Tensor, parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """The same entries, if a dtype can hold the largest of them."""
    peak = float(full.abs().amax()) if full.numel() else 0.0
    info = torch.finfo(dtype)
    if 0 < peak < info.smallest_normal * info.eps or info.max < peak < math.inf:
        what = "value" if parameter.node.value is not None else f"init={parameter.node.init}"
        msg = (
            f"tensor {parameter.name!r}: {what} has entries of up to {peak:.3g}, but {dtype} holds "
            f"{info.smallest_normal:.3g} to {info.max:.3g}; scale it, or make the layer with a "
            "dtype of a wider range"
        )
        raise SpecError(msg)
    return full


def _cut(full: torch.Tensor, parameter: Parameter) -> torch.Tensor:
    """The stored slices of an array at full shape."""
    for axis, pin in reversed(list(enumerate(parameter.pins))):
        if pin is not None:
            full = full.select(axis, pin)
    return full


# -- the variance rule -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Solved:
    """How free tensors are scaled.

    Arguments:
        scales: the logarithm of each one's scale, by name.
        gains: the logarithm of the gain that a network has then, by its place; of those only whose
            gain was measured and can be set.
    """

    scales: Mapping[str, float]
    gains: Mapping[int, float]


def _solve(
    networks: Sequence[Planned],
    free: Sequence[str],
    stored: Mapping[str, Scaled],
    part: Part,
    dtype: torch.dtype,
) -> _Solved:
    """The scales of the free tensors, all of which have variance 1 so far."""
    powers = [_powers(network.graph, free) for network in networks]
    measured = [
        measure([network], stored, part) if len(networks) > 1 or power else Measured(None, ())
        for network, power in zip(networks, powers, strict=True)
    ]
    growing = [place for place, power in enumerate(powers) if power]
    live = [place for place in growing if measured[place].log_gain != -math.inf]
    others = [one.log_gain for one, power in zip(measured, powers, strict=True) if not power]
    share = math.log(_share(others, len(live)))
    wanted: dict[int, Wanted] = {}
    for place in growing:
        gain = measured[place].log_gain
        if gain is None or not math.isfinite(gain):
            gain = _expected_log_gain(networks[place].graph, stored)
        target = share if place in live else 0.0
        wanted[place] = Wanted(powers[place], (target - gain) / 2)
    scales = solve([*wanted.values()])
    for _ in range(_ROUNDS if _have_common(powers, live) else 0):
        now = {name: array.times(scales.get(name, 0.0)) for name, array in stored.items()}
        gain = measure([networks[place] for place in live], now, part).log_gain
        if gain is None or not math.isfinite(gain):
            break
        missing = share + math.log(len(live)) - gain
        if abs(missing) < _CLOSE:
            break
        for place in live:
            more = wanted[place].log_factor + missing / 2
            wanted[place] = replace(wanted[place], log_factor=more)
        scales = solve([*wanted.values()])
    sized = [
        (networks[place].graph, Sized(networks[place].plan, networks[place].names, sizes))
        for place in growing
        for sizes in measured[place].sizes
    ]
    scales = _kept_in_range(sized, [*wanted.values()], scales, dtype)
    gains: dict[int, float] = {}
    for place in live:
        gain = measured[place].log_gain
        if gain is not None and math.isfinite(gain):
            gains[place] = gain + 2 * sum(n * scales[name] for name, n in powers[place].items())
    return _Solved(scales, gains)


def _powers(graph: Graph, free: Sequence[str]) -> Counter[str]:
    """How often a network uses each free tensor."""
    wanted = set(free)
    uses = Counter(tensor.share or tensor.name for tensor in graph.tensors)
    return Counter({name: count for name, count in uses.items() if name in wanted})


def _share(others: Sequence[float | None], live: int) -> float:
    """The variance of y that each network with free tensors shall give.

    Arguments:
        others: log gains of the networks without any, which stay as they are.
        live: number of the networks with some.
    """
    if not live:
        return 1.0
    gains = [math.exp(min(g, 1.0)) for g in others if g is not None and not math.isnan(g)]
    moving = sum(gain > 0 for gain in gains)
    return max(1 - sum(gains), live / (live + moving)) / live


def _have_common(powers: Sequence[Mapping[str, int]], live: Sequence[int]) -> bool:
    """Whether two of the networks use one free tensor."""
    counts = Counter(name for one in live for name in powers[one])
    return any(count > 1 for count in counts.values())


def _expected_log_gain(graph: Graph, stored: Mapping[str, Scaled]) -> float:
    """The variance of an entry of W by the rule for independent entries, in logarithms.

    It stands where nothing can be measured; a tensor of zeros counts as one of variance 1.
    """
    uses = Counter(tensor.share or tensor.name for tensor in graph.tensors)
    logs = ((count, stored[name].size.mean_square) for name, count in uses.items())
    return _log_fan(graph) + sum(count * log for count, log in logs if math.isfinite(log))


def _log_fan(graph: Graph) -> float:
    """Logarithm of (input legs that are not in the output) x (all other summed legs).

    A vector of norm 1 on a leg of a product port brings 1 over its size: such legs count as 1.
    """
    product = (leg for port in graph.inputs if port.product for leg in port.legs)
    kept = {*graph.output, *graph.pinned, *product}
    return sum(math.log(size) for leg, size in graph.leg_sizes if leg not in kept)


def _kept_in_range(
    sized: Sequence[tuple[Graph, Sized]],
    wanted: Sequence[Wanted],
    scales: dict[str, float],
    dtype: torch.dtype,
) -> dict[str, float]:
    """The scales, balanced if a value of a plan would come near the ends of the dtype's range."""
    info = torch.finfo(dtype)
    within = Range(math.log(info.smallest_normal), math.log(info.max))
    room = narrowed(within)
    if any(one.out_of(room, scales) for _, one in sized):
        scales = balance(wanted, [one for _, one in sized], scales, room)
    for graph, one in sized:
        for name, log in one.out_of(within, scales).items():
            raise SpecError(_out_of_range(graph, one, name, log, scales, dtype))
    return scales


def _out_of_range(
    graph: Graph,
    sized: Sized,
    value: str,
    log: float,
    scales: Mapping[str, float],
    dtype: torch.dtype,
) -> str:
    """The message for a value that no scales keep in range."""
    pairs = zip(sized.plan.parameters, sized.names, strict=True)
    known: dict[str, tuple[str, ...]] = {value.name: (name,) for value, name in pairs}
    known |= {port.name: (port.name,) for port in sized.plan.ports}
    for step in sized.plan.steps:
        parts = (name for o in step.operands for name in known[o.value.name])
        known[step.result.name] = tuple(dict.fromkeys(parts))
    users = dict(sized.plan.names)
    of = [users.get(name, name) for name in known[value]]
    shown = ", ".join(of[:6]) + (f" and {len(of) - 6} more" if len(of) > 6 else "")
    free = ", ".join([*scales][:6]) + (", ..." if len(scales) > 6 else "")
    return (
        f"network {graph.label!r} cannot start in {dtype}: the product of {shown} would have "
        f"entries of about 1e{log / math.log(10):.0f}, and no scale of the free tensors ({free}) "
        "keeps y and all products in range; scale the tensors with a value or an init of their "
        "own, or make the layer with a dtype of a wider range"
    )
