"""Fitting a Profile to whole programs.

A table times one operation in a loop, where code and data are warm. In a program the operations
before have taken the caches. Two factors, one for what starts a call and one for what moves data,
are fitted to a few reference programs; products that are bound by arithmetic keep their rates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from .. import topologies
from ..graph.canonical import canonicalise
from ..graph.network import Network
from ..hardware.profile.load import use_profile
from ..hardware.profile.op_times import OpTimes
from ..hardware.profile.profile import Profile
from ..hardware.profile.scaling import as_in_programs
from ..ir.steps import BATCH, Value
from ..lowering.calls.training_schedules import TrainingSchedules, schedule_pair
from ..planning.plan_of_order import make_plan
from ..runtime.autograd import run
from ..runtime.program import Program, build_kernels
from ..time_models.torch_calls import schedule_seconds
from .clock import clock

# Programs, each with its samples a call.
Programs = tuple[tuple[Callable[[], Network], int], ...]
_SMALL: Programs = (
    (lambda: topologies.mera(6, 2, 2), 1),
    (lambda: topologies.tensor_train((4, 4, 4), (4, 4, 4), 2), 1),
    (lambda: topologies.tucker((4, 4, 4), (4, 4, 4), 2), 2),
    (lambda: topologies.mera(10, 2, 2), 1),
)
_LARGE: Programs = (
    (lambda: topologies.mera(12, 2, 2), 64),
    (lambda: topologies.mera(10, 2, 3), 256),
    (lambda: topologies.tensor_train((2,) * 12, (2,) * 12, 3), 128),
    (lambda: topologies.tensor_train((16,) * 3, (16,) * 3, 8), 64),
    (lambda: topologies.tucker((16,) * 3, (16,) * 3, 8), 256),
    (lambda: topologies.btt((64, 64), (64, 64), 2), 128),
    (lambda: topologies.cp((16,) * 3, (16,) * 3, 32), 256),
)
_SAMPLES = 7
_SHORT_SAMPLES = 200
_TURNS = 2
_FASTEST_CALL = 1e-12


@dataclass(frozen=True, slots=True)
class _Fit:
    """A program's measured seconds beside what the tables say: starting calls, and the rest."""

    measured: float
    starting: float
    working: float


def calibrate(
    profile: Profile, progress: Callable[[float], object] = lambda share: None
) -> Profile:
    """The profile with its overheads and its rates scaled to what reference programs take."""
    for turn in range(_TURNS):
        starting, working = in_programs(
            profile, _SMALL, _LARGE, lambda share, t=turn: progress((t + share) / _TURNS)
        )
        profile = as_in_programs(profile, starting, working)
    with use_profile(profile):
        added = [_autograd_seconds(make(), batch, profile) for make, batch in _SMALL]
    calls = profile.call_seconds | _fit_autograd(added)
    return replace(profile, calls=tuple(sorted(calls.items())))


def in_programs(
    profile: Profile,
    small: Programs,
    large: Programs,
    progress: Callable[[float], object] = lambda share: None,
) -> tuple[float, float]:
    """How many times as long calls take to start, and data to move, in programs as in tables.

    Arguments:
        profile: the tables.
        small: programs that mostly start calls.
        large: programs that mostly move data.
        progress: called with the share done, from 0 to 1.
    """
    jobs = [(make, batch, True) for make, batch in small]
    jobs += [(make, batch, False) for make, batch in large]
    starts: list[_Fit] = []
    works: list[_Fit] = []
    # The storage orders of the programs follow the profile, so its errors do too.
    with use_profile(profile):
        for number, (make, batch, is_small) in enumerate(jobs):
            (starts if is_small else works).extend(_fits(make(), batch, profile))
            progress((number + 1) / len(jobs))
    starting = statistics.median((f.measured - f.working) / f.starting for f in starts)
    starting = min(4.0, max(0.5, starting))
    working = statistics.median((f.measured - starting * f.starting) / f.working for f in works)
    return starting, min(4.0, max(0.7, working))


def _fits(net: Network, batch: int, profile: Profile) -> Iterator[_Fit]:
    """Forward and backward of one program."""
    form = canonicalise(net.freeze())
    plan = make_plan(
        form.graph, batch=batch, dtype=profile.dtype, minimize="combo-64", effort="fast"
    )
    pair = schedule_pair(plan, (True,) * len(plan.inputs), OpTimes(profile, plan.dtype))
    assert pair.backward is not None
    free = replace(profile, calls=tuple((name, _FASTEST_CALL) for name, _ in profile.calls))
    full_times, free_times = OpTimes(profile, plan.dtype), OpTimes(free, plan.dtype)
    measured = _measure(pair, batch, profile)
    for seconds, schedule in zip(measured, (pair.forward, pair.backward), strict=True):
        whole = schedule_seconds(schedule, batch, full_times)
        working = schedule_seconds(schedule, batch, free_times)
        yield _Fit(seconds, whole - working, working)


@dataclass(frozen=True, slots=True)
class _Added:
    """What autograd added to one program that passes on so many arrays."""

    arrays: int
    forward: float
    backward: float


def _autograd_seconds(net: Network, batch: int, profile: Profile) -> _Added:
    """A program behind autograd, less its own forward and backward."""
    graph = net.freeze()
    form = canonicalise(graph)
    plan = make_plan(
        form.graph, batch=batch, dtype=profile.dtype, minimize="combo-64", effort="fast"
    )
    program = Program(graph, plan, form.tensor_names)
    pair = program.schedules()
    inputs = [a.requires_grad_() for a in _draw_inputs(pair, batch, profile)]
    kernels = program.kernels((True,) * len(inputs))
    needed = [inputs[index] for index in kernels.needed]
    y = run(program, tuple(inputs))
    gradient = torch.ones_like(y)
    with torch.no_grad():
        _, *saved = kernels.forward(*inputs)
        own_forward = _median(lambda: kernels.forward(*inputs), profile)
        own_backward = _median(lambda: kernels.backward(gradient, *needed, *saved), profile)
    forward = _median(lambda: run(program, tuple(inputs)), profile)
    both = _median(
        lambda: torch.autograd.grad(run(program, tuple(inputs)), inputs, gradient), profile
    )
    return _Added(
        len(inputs) + len(pair.forward.saved), forward - own_forward, both - forward - own_backward
    )


def _fit_autograd(added: list[_Added]) -> dict[str, float]:
    """A straight line through what autograd added, by the number of arrays; never negative."""
    counts = [float(one.arrays) for one in added]
    mean = statistics.fmean(counts)
    spread = sum((count - mean) ** 2 for count in counts)
    found: dict[str, float] = {}
    for half in ("forward", "backward"):
        seconds = [float(getattr(one, half)) for one in added]
        level = statistics.fmean(seconds)
        moment = sum((c - mean) * (s - level) for c, s in zip(counts, seconds, strict=True))
        slope = moment / spread if spread else level / mean
        slope = min(max(slope, _FASTEST_CALL), max(level / mean, _FASTEST_CALL))
        found[f"{half}_array"] = slope
        found[half] = max(_FASTEST_CALL, level - slope * mean)
    return found


def _median(call: Callable[[], object], profile: Profile) -> float:
    """Median seconds of a short call."""
    times: list[float] = []
    for _ in range(_SHORT_SAMPLES):
        start = _now(profile)
        call()
        times.append(_now(profile) - start)
    return statistics.median(times[len(times) // 10 :])


def _now(profile: Profile) -> float:
    """The time, once the device has done all that was asked."""
    if profile.device == "cuda":
        torch.cuda.synchronize()
    return clock(profile.device)()


def _draw_inputs(pair: TrainingSchedules, batch: int, profile: Profile) -> list[torch.Tensor]:
    """Numbers for all inputs of a forward, none of them drawn from the user's generator."""
    plan = pair.forward.plan
    dtype, device = getattr(torch, plan.dtype), torch.device(profile.device)
    random = torch.Generator(device).manual_seed(0)
    sizes = {**plan.sizes, BATCH: batch}

    def draw(value: Value) -> torch.Tensor:
        shape = [math.prod(sizes[leg] for leg in axis) for axis in plan.axes_of(value)]
        return torch.rand(shape, dtype=dtype, device=device, generator=random) - 0.5

    return [draw(value) for value in plan.inputs]


def _measure(pair: TrainingSchedules, batch: int, profile: Profile) -> tuple[float, float]:
    """Median seconds of the generated forward and backward."""
    kernels = build_kernels(pair)
    inputs = _draw_inputs(pair, batch, profile)
    needed = [inputs[index] for index in kernels.needed]
    times: list[tuple[float, float]] = []
    with torch.no_grad():
        for _ in range(_SAMPLES + 2):
            start = _now(profile)
            y, *saved = kernels.forward(*inputs)
            middle = _now(profile)
            kernels.backward(y, *needed, *saved)
            times.append((middle - start, _now(profile) - middle))
            del y, saved
    forward, backward = zip(*times[2:], strict=True)
    return statistics.median(forward), statistics.median(backward)
