"""tn.fit: entries for any network, so that it comes near a dense tensor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, cast

import torch

from ..errors import SpecError
from ..graph.argument_checks import as_number, check_flag, check_whole, shown, suggest
from ..graph.as_graph import as_graph
from ..graph.graph import Graph, Parameter
from ..graph.network import Network
from ..graph.told_calls import told
from ..support.progress import progress as progress_bar
from ..support.told import told as told_work
from .closed_network import ClosedNetwork, close
from .covariance import Covariance
from .doubles import MOST_ENTRIES, as_double
from .fitted import Fitted, TensorFit
from .problem import Problem, Stored
from .search import TOLERANCE, Best, Effort, effort_for, search
from .target import Target, as_target

P = ParamSpec("P")

# Seconds until a fit says what goes on.
_PATIENCE = 5.0


def _plain(function: Callable[P, Fitted]) -> Callable[P, Fitted]:
    """Without gradients, but not in inference mode, in which L-BFGS could not ask for its own."""

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> Fitted:
        with torch.inference_mode(False), torch.no_grad():
            return function(*arguments, **options)

    return call


@told("tn.fit(net, weight), and all else by name, such as data=x or steps=50")
@_plain
def fit(
    net: Network | Graph | Sequence[Network | Graph],
    target: Any,
    *,
    data: Any = None,
    steps: int | None = None,
    starts: int | None = None,
    seed: int = 0,
    tol: float = TOLERANCE,
    progress: bool = False,
    start: Fitted | Mapping[str, Any] | None = None,
    shared: bool = False,
    seconds: float | None = None,
) -> Fitted:
    """Find entries for a network's tensors, so that its dense tensor comes near a target.

    Networks that come apart by singular values are fitted so: low rank, tensor trains, trees,
    Tucker, Kronecker, Monarch, BTT, butterflies, and all others that are joined in such a way
    (fitting/peeling.py); what is not the best then is improved. All others, and sums of networks,
    are fitted by alternating least squares from several starts, then by Gauss-Newton steps for all
    tensors at once where these are small, else by L-BFGS. The best that was seen is kept. All
    arithmetic is in float64 or complex128, on the CPU; the same seed gives the same result.

    Tensors with ``isometry=`` stay isometric (with init="scaled": a multiple of an isometry).
    Frozen ones keep their ``value``, or what ``start`` gives; shared ones are one array.

    Arguments:
        net: a network, or several whose results are summed.
        target: the dense tensor, an array or tensor: (out_features, in_features), as the weight of
            nn.Linear, with one axis more for each further input; or one axis a leg of the ports.
        data: inputs, by whose covariance errors are weighted: (n, in_features), an iterable of such
            batches (of pairs, as a DataLoader gives, the first), or ``tn.Covariance(matrix)``. Only
            for networks with one input that is no product port. Directions that the data do not
            have count 1e-8 of the mean: where data are few, more is better, by
            ``tn.Covariance(c + 0.01 * c.diagonal().mean() * torch.eye(len(c)))``.
        steps: sweeps over all tensors of each start, at most; by default up to 200, for large
            targets as many as take about a minute.
        starts: random starts, at most; by default up to 8, for large targets fewer.
        seed: of random starts.
        tol: a start's sweeps end where one lowers the error by less than this share of it; after a
            closed form with data 1e-4 is enough, unless less than the default is asked for.
        progress: whether to show a bar on a terminal.
        start: go on from these entries, of an earlier fit or by tensor name; no other start is
            tried. Those of frozen tensors without a value have to be there.
        shared: whether tensors of one name in several networks are one array.
        seconds: at most about so many; the best until then is kept, and ``ended`` is "time limit".
            By default there is no such limit, and the same seed gives the same result.

    Returns:
        the entries by name and the residuals. Ctrl-C returns the best until then, marked as
        ``is_interrupted``.

    Raises:
        SpecError: shapes do not fit, entries are not finite (the message counts them), or a frozen
            tensor has no entries.

    >>> import torch, tnlayer as tn
    >>> weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    >>> fit = tn.fit(tn.topologies.tensor_train((4, 4), (4, 4), rank=16), weight)
    >>> fit.method, fit.residual < 1e-12, sorted(fit.parameters)
    ('SVD', True, ['core_0', 'core_1'])
    >>> tn.fit(tn.topologies.low_rank(16, 16, rank=4), weight, data=torch.eye(16)).is_whitened
    True
    """
    check_flag(progress, "fit: progress")
    check_flag(shared, "fit: shared")
    nets = _closed(net)
    covariance = None if data is None else Covariance.of(data, _features(nets[0]))
    dense = as_target(target, nets)
    wanted = Target(dense, covariance)
    return fit_target(
        nets, wanted, steps=steps, starts=starts, seed=seed, tol=tol, progress=progress,
        start=start, shared=shared, seconds=seconds,
    )  # fmt: skip


@_plain
def fit_part(
    net: Network | Graph | Sequence[Network | Graph],
    target: torch.Tensor,
    *,
    data: Any = None,
    **options: Any,
) -> Fitted:
    """As :func:`fit`, for a matrix that is the first rows and columns of the networks' own: what
    these have beyond it does not count.

    Arguments:
        net: networks with one batched input that is no product port.
        target: (out_features, in_features), as large as the networks' matrix or smaller.
        data: of in_features, as for a fit.
        options: as for a fit.
    """
    nets = _closed(net)
    rows, columns = target.shape
    full_rows, full_columns = nets[0].dense_shape
    if (rows, columns) == (full_rows, full_columns) and not options.get("quick"):
        return fit(net, target, data=data, **{k: v for k, v in options.items() if k != "quick"})
    covariance = None if data is None else Covariance.of(data, columns).pad(full_columns)
    dense = as_double(target, "the target")
    padded = torch.nn.functional.pad(dense, (0, full_columns - columns, 0, full_rows - rows))
    return fit_target(nets, Target(padded, covariance, (rows, columns)), **options)


@_plain
def fit_target(
    nets: Sequence[ClosedNetwork],
    target: Target,
    *,
    steps: int | None = None,
    starts: int | None = None,
    seed: int = 0,
    tol: float = TOLERANCE,
    progress: bool = False,
    start: Fitted | Mapping[str, Any] | None = None,
    shared: bool = False,
    seconds: float | None = None,
    quick: bool = False,
) -> Fitted:
    """As :func:`fit`, for networks and a target that were checked.

    Arguments:
        quick: a closed form is taken as it is, and compared with nothing.
    """
    began = time.perf_counter()
    _check_numbers(steps, starts, seed, tol, seconds)
    parameters = _parameters(nets, shared=shared)
    covariance = target.covariance
    is_complex = target.dense.is_complex() or any(one.graph.is_complex for one in nets)
    is_complex = is_complex or (covariance is not None and covariance.matrix.is_complex())
    given, begun = _given(parameters, start)
    is_complex = is_complex or any(a.is_complex() for a in (*given.values(), *begun.values()))
    dtype = torch.complex128 if is_complex else torch.float64
    free = tuple(name for name, parameter in parameters.items() if parameter.node.trainable)
    target = replace(target, dense=target.dense.to(dtype))
    problem = Problem(tuple(nets), target, parameters, free, dtype)
    label = problem.nets[0].graph.label or "network"
    with torch.device("cpu"), told_work(f"fitting {label!r}", after=_PATIENCE, bar=not progress):
        effort = effort_for(problem, steps, starts, tol, seed, seconds)
        effort = replace(effort, refining=0) if quick else effort
        best = _found(problem, effort, given, begun, progress=progress)
        found = _report(problem, best, began)
    if quick:
        return found
    return replace(found, low_rank=target.low_rank_residual(_entries(parameters)))


def _entries(parameters: Mapping[str, Parameter]) -> int:
    return sum(parameter.size for parameter in parameters.values())


def _report(problem: Problem, best: Best, began: float) -> Fitted:
    """What was found, as it is measured at the end."""
    parameters = problem.parameters
    stored = problem.balanced(best.stored)
    made = problem.dense(stored)
    return Fitted(
        parameters={name: stored[name].clone().contiguous() for name in parameters},
        residual=problem.target.residual(made),
        whitened_residual=problem.target.whitened_residual(made),
        method=best.method,
        seconds=time.perf_counter() - began,
        per_tensor=tuple(_tensor_fit(problem, name, stored[name], best.cut) for name in parameters),
        steps=best.steps,
        tried=tuple(best.tried),
        is_interrupted=best.is_interrupted,
        ended=best.ended,
    )


def _found(
    problem: Problem,
    effort: Effort,
    given: Stored,
    begun: Stored,
    *,
    progress: bool,
) -> Best:
    """The arrays; of a target that is zero those that are zero."""
    if not problem.target.norm:
        random = torch.Generator().manual_seed(effort.seed)
        stored = problem.random_start(random, given)
        for name in problem.free:
            if problem.can_scale(name):
                stored[name] = torch.zeros_like(stored[name])
        return Best(stored, problem.loss(stored), "the target is zero")
    # Squares of entries have to stay in range.
    size = float(problem.target.dense.abs().max())
    if not 1e-100 < size < 1e100:
        msg = (
            f"the target's largest entry is {size:.3g}; expected 1e-100 to 1e100, whose squares "
            "are in range: scale it, and what was found afterwards"
        )
        raise SpecError(msg)
    total = effort.steps * (effort.starts if not begun else 1)
    label = problem.nets[0].graph.label or "network"
    with progress_bar(f"fitting {label!r}", total, shown=progress) as advance:
        return search(problem, effort, given, begun or None, advance)


def _check_numbers(
    steps: int | None, starts: int | None, seed: int, tol: float, seconds: float | None
) -> None:
    for name, number in (("steps", steps), ("starts", starts)):
        if number is not None and check_whole(number, f"fit: {name}") < 1:
            msg = f"fit: {name}={shown(number)}, expected at least 1"
            raise SpecError(msg)
    if not 0 <= check_whole(seed, "fit: seed") < 2**63:
        msg = f"fit: seed={shown(seed)}, expected 0 or more"
        raise SpecError(msg)
    check_seconds(seconds, "fit")
    number = as_number(tol)
    if number is None or not 0 <= number < 1:
        msg = f"fit: tol={shown(tol)}, expected a number from 0 to 1"
        raise SpecError(msg)


def check_seconds(seconds: Any, where: str) -> None:
    """Refuse a limit of time that is none.

    Raises:
        SpecError: it is no positive number.
    """
    number = 1.0 if seconds is None else as_number(seconds)
    if number is None or not number > 0:
        msg = f"{where}: seconds={shown(seconds)}, expected a positive number, or None"
        raise SpecError(msg)


def _closed(net: Any) -> tuple[ClosedNetwork, ...]:
    several = isinstance(net, Sequence) and not isinstance(net, str | bytes)
    given: list[Any] = list(cast(Sequence[Any], net)) if several else [net]
    if not given:
        msg = "fit: there is no network; pass at least one"
        raise SpecError(msg)
    nets: list[ClosedNetwork] = []
    for one in given:
        graph = as_graph(one, "fit")
        ports = [graph.output, *(port.legs for port in graph.inputs)]
        entries = math.prod(
            graph.shape_of(graph.open_legs(tuple(leg for legs in ports for leg in legs)))
        )
        if entries > MOST_ENTRIES:
            msg = (
                f"fit: the dense tensor of {graph.label!r} has {entries} entries; at most "
                f"{MOST_ENTRIES} can be fitted"
            )
            raise SpecError(msg)
        nets.append(close(graph))
    for other in nets[1:]:
        if other.dense_shape != nets[0].dense_shape:
            msg = (
                f"fit: networks {nets[0].graph.label!r} and {other.graph.label!r} cannot be summed"
                f": their features (out, in) are {nets[0].dense_shape} and {other.dense_shape}"
            )
            raise SpecError(msg)
    return tuple(nets)


def _parameters(nets: Sequence[ClosedNetwork], *, shared: bool) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for net in nets:
        for parameter in net.graph.parameters:
            other = found.setdefault(parameter.name, parameter)
            if other is parameter:
                continue
            if not shared:
                msg = (
                    f"fit: tensor {parameter.name!r} is in two of the networks; pass shared=True "
                    "if it is one array, else give each its own names"
                )
                raise SpecError(msg)
            if other.shape != parameter.shape or other.node.trainable != parameter.node.trainable:
                msg = (
                    f"fit: tensor {parameter.name!r} is shared, but differs: {other.shape} and "
                    f"{parameter.shape}; make shapes and trainable equal"
                )
                raise SpecError(msg)
    return found


def _features(net: ClosedNetwork) -> int:
    """Features of the one input, whose covariance can be given."""
    inputs = net.graph.inputs
    if len(inputs) != 1 or inputs[0].product:
        msg = (
            f"fit: data= is for a network with one input that is no product port; "
            f"{net.graph.label!r} has {len(inputs)} inputs"
        )
        raise SpecError(msg)
    return net.dense_shape[1]


def _given(
    parameters: Mapping[str, Parameter], start: Fitted | Mapping[str, Any] | None
) -> tuple[Stored, Stored]:
    """Entries that the networks or the user give: of single arrays, and of all free ones."""
    values = start.parameters if isinstance(start, Fitted) else start
    if values is not None and not isinstance(values, Mapping):
        msg = f"fit: start={shown(start)}; expected a Fitted, or arrays by tensor name"
        raise SpecError(msg)
    begun: Stored = {}
    for name, value in (values or {}).items():
        if name == "bias":
            continue
        if name not in parameters:
            known = suggest(name, parameters) if isinstance(name, str) else ""
            msg = f"fit: start has {shown(name)}, and no network has a tensor of that name{known}"
            raise SpecError(msg)
        array = as_double(value, f"start of {name!r}")
        if tuple(array.shape) != parameters[name].shape:
            msg = (
                f"fit: start of {name!r} has shape {tuple(array.shape)}; expected "
                f"{parameters[name].shape}"
            )
            raise SpecError(msg)
        begun[name] = array
    given: Stored = {}
    for name, parameter in parameters.items():
        node = parameter.node
        if node.value is not None:
            whole = torch.from_numpy(node.value.array.copy())
            cut = whole[tuple(slice(None) if pin is None else pin for pin in parameter.pins)]
            given[name] = as_double(cut, f"the value of {name!r}")
        if not node.trainable:
            if name in begun:
                given[name] = begun.pop(name)
            elif name not in given:
                msg = (
                    f"fit: tensor {name!r} is frozen (trainable=False) and has no value: pass its "
                    f"entries, start={{{name!r}: ...}}"
                )
                raise SpecError(msg)
    return given, begun


def _tensor_fit(
    problem: Problem, name: str, array: torch.Tensor, cut: Mapping[str, float]
) -> TensorFit:
    isometry = problem.isometries.get(name)
    if name not in problem.free:
        role = "kept"
    elif isometry is not None:
        role = "scaled isometric" if isometry.scaled else "isometric"
    else:
        role = "shared" if problem.uses[name] > 1 else "fitted"
    norm = float(torch.linalg.vector_norm(array))
    return TensorFit(name, tuple(array.shape), role, norm, cut.get(name))
