"""The model of compiled kernels against kernels that were measured."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import tnlayer
import tnlayer as tn
from tests.support.profiles import fixed_profile
from tnlayer.graph.canonical import canonicalise
from tnlayer.hardware.cpu import Cpu
from tnlayer.hardware.profile.grid import Grid
from tnlayer.hardware.profile.load import shipped_profiles, use_profile
from tnlayer.hardware.profile.profile import AUTOGRAD, Profile
from tnlayer.ir.plan import Plan
from tnlayer.lowering.calls.training_schedules import Mask
from tnlayer.planning.batch_ranges import choose
from tnlayer.planning.plan_of_order import make_plan
from tnlayer.planning.rank import Request
from tnlayer.time_models.cpu_kernels import (
    fused_seconds,
    fused_step_seconds,
    kernel_seconds,
    vector_seconds,
)
from tnlayer.time_models.torch_calls import Seconds

T = tn.topologies
LEGS = ((2,) * 12, (2,) * 12)
NETWORKS = {
    "MERA-2": T.mera(12, 2, 2),
    "tree-2": T.tree(12, 2, 2),
    "MERA-3": T.mera(12, 2, 3),
    "TT-3": T.tensor_train(*LEGS, rank=3),
    "TT-7": T.tensor_train(*LEGS, rank=7),
    "btt": T.btt((64, 64), (64, 64), 2),
}
# Milliseconds of backend="cpp" through Python, two AVX-512 cores, float32: forward without grad,
# and forward and backward, at batch 16 and 256.
MEASURED = {
    "MERA-2": (0.065, 0.417, 0.84, 4.9),
    "tree-2": (0.044, 0.256, 0.53, 3.0),
    "MERA-3": (0.295, 1.57, 4.5, 21.8),
    "TT-3": (0.087, 0.455, 1.15, 5.4),
    "TT-7": (0.268, 1.32, 4.1, 17.4),
}
PROFILE, CPU = fixed_profile(), Cpu()


def planned(name: str, dtype: str = "float32") -> tuple[Plan, Mask]:
    """The plan that kernels follow, and all gradients wanted."""
    graph = canonicalise(NETWORKS[name].freeze()).graph
    with use_profile(PROFILE):
        plan = make_plan(graph, batch=256, minimize="combo-4", dtype=dtype)
    return plan, (True,) * len(plan.inputs)


def predicted(plan: Plan, mask: Mask, batch: int) -> Seconds:
    """With the fixed profile, for 512-bit vectors."""
    return fused_seconds(plan, mask, batch, PROFILE, CPU)


@pytest.mark.parametrize("name", MEASURED)
def test_measured_kernels_are_predicted(name: str) -> None:
    """Each of the 20 times is met within 45 percent."""
    plan, mask = planned(name)
    nothing = (False,) * len(mask)
    for batch, times in ((16, MEASURED[name][:2]), (256, MEASURED[name][2:])):
        found = (predicted(plan, nothing, batch).forward, predicted(plan, mask, batch).total)
        for seconds, measured in zip(found, times, strict=True):
            assert seconds == pytest.approx(1e-3 * measured, rel=0.45)


def test_work_is_counted_by_what_is_wanted() -> None:
    """No gradient: no backward. That of x alone costs less than all."""
    plan, mask = planned("TT-3")
    assert predicted(plan, (False,) * len(mask), 64).backward == 0
    x_only = predicted(plan, (True, *(False,) * (len(mask) - 1)), 64)
    assert 0 < x_only.backward < predicted(plan, mask, 64).backward


def test_threads_share_blocks() -> None:
    """One sample takes as long as two on two threads, but for what starts the threads."""
    plan, mask = planned("MERA-2")
    nothing = (False,) * len(mask)
    times = [kernel_seconds(plan, nothing, b, PROFILE, CPU).forward for b in (2, 3, 4, 256)]
    assert times[1] == pytest.approx(times[2], rel=0.02)
    assert times[0] < times[1] < times[3]


def test_large_weights_are_dear() -> None:
    """The weights' gradients of btt take longer than all its other work at batch 1."""
    plan, mask = planned("btt")
    x_only = (True, *(False,) * (len(mask) - 1))
    assert predicted(plan, mask, 1).total > 2 * predicted(plan, x_only, 1).total


@pytest.mark.parametrize("name", ["MERA-2", "btt"])
def test_steps_add_up(name: str) -> None:
    """The shares of steps and of the rest sum to the prediction; each step has one."""
    plan, mask = planned(name)
    found = fused_step_seconds(plan, mask, 64, PROFILE, CPU)
    assert sum(found.values()) == pytest.approx(predicted(plan, mask, 64).total)
    assert set(found) == {step.result.name for step in plan.steps} | {""}
    assert min(found.values()) > 0


def test_wider_entries_take_longer() -> None:
    """float64 has half the entries a vector, complex64 four products of two."""
    times = [
        predicted(*planned("TT-7", dtype), 256).total
        for dtype in ("float32", "float64", "complex64")
    ]
    assert 1.5 * times[0] < times[1]
    assert times[1] < times[2]


# -- the machine ---------------------------------------------------------------------------------


def slower(factor: float, *, far: float = 1.0, started: float = 1.0) -> Profile:
    """The fixed machine with other multiply-adds, other memory, and other starts of calls."""
    stream = PROFILE.stream
    calls = tuple((n, s * (1 if n in AUTOGRAD else started)) for n, s in PROFILE.calls)
    return fixed_profile(
        multiply_add=factor * vector_seconds(planned("btt")[0], PROFILE, CPU),
        stream=Grid(stream.axes, tuple(far * one for one in stream.seconds)),
        calls=calls,
    )


@pytest.mark.parametrize("name", ["MERA-2", "btt"])
@pytest.mark.parametrize("batch", [1, 256])
def test_times_follow_the_profile(name: str, batch: int) -> None:
    """They scale with its units: all three twice as slow are twice the time; one alone, less."""
    plan, mask = planned(name)

    def seconds(profile: Profile) -> float:
        return kernel_seconds(plan, mask, batch, profile, CPU).total

    plain = seconds(PROFILE)
    assert seconds(slower(1.0)) == pytest.approx(plain)
    assert seconds(slower(2.0, far=2.0, started=2.0)) == pytest.approx(2 * plain)
    for one in (slower(2.0), slower(1.0, far=2.0), slower(1.0, started=2.0)):
        assert plain < seconds(one) < 2 * plain


def test_far_memory_is_what_large_weights_wait_for() -> None:
    """At batch 256 more than a third of btt's forward, and nothing of MERA-2's, hangs on it."""
    shares: list[float] = []
    for name in ("btt", "MERA-2"):
        plan, mask = planned(name)
        none = (False,) * len(mask)
        near, far = (
            kernel_seconds(plan, none, 256, slower(1.0, far=far), CPU).forward for far in (1, 2)
        )
        shares.append((far - near) / near)
    assert shares[0] > 1 / 3
    assert shares[1] == 0


def test_far_memory_decides_between_kernels_and_torch() -> None:
    """btt at batch 256 goes to kernels on the shipped machine with the fastest memory beyond its
    caches, and to torch if the same machine copies three times as slowly there."""
    shipped = (p for p in shipped_profiles() if (p.dtype, p.threads) == ("float32", 2))
    machine = min(shipped, key=lambda profile: profile.far_line)
    (sizes,) = machine.stream.axes
    form = canonicalise(NETWORKS["btt"].freeze())
    taken: list[str] = []
    for far in (1, 3):
        rates = zip(sizes, machine.stream.seconds, strict=True)
        stream = Grid((sizes,), tuple(s * (far if size > 2**20 else 1) for size, s in rates))
        with use_profile(replace(machine, stream=stream)):
            request = Request(dtype="float32", backend="auto", cpu=Cpu(threads=2))
            taken.append(choose(form, 256, request).plan.backend)
    assert taken == ["cpp", "torch"]


def test_no_processor_is_named_in_the_code() -> None:
    """A machine counts by its profile alone: names of processors stand in the profiles only."""
    package = Path(tnlayer.__file__).parent
    named = re.compile(r"\b(xeon|epyc|zen ?\d|ryzen|amd|intel)\b", re.IGNORECASE)
    for room in ("hardware", "time_models", "planning", "lowering", "codegen"):
        for path in (package / room).rglob("*.py"):
            strings = [
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            assert not [text for text in strings if named.search(text)], path
