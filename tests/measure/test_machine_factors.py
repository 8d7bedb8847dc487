"""How fast a machine is beside that of a profile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tests.support.profiles import fixed_profile
from tnlayer.hardware.profile.grid import Grid
from tnlayer.hardware.profile.load import shipped_profiles
from tnlayer.hardware.profile.profile import CALLS, STARTED, VARIANTS, Profile
from tnlayer.hardware.profile.scaling import LEAST, MOST, Factors, is_far, scaled_by
from tnlayer.measure import machine_factors as module
from tnlayer.measure.clock import clock
from tnlayer.measure.machine_factors import machine_factors
from tnlayer.measure.measure_profile import Probe
from tnlayer.support.torch_threads import torch_threads

TRUE = Factors(
    gemm=1.5, far=1.75, batched=2.5, small=0.5, stream=2.0, strided=0.25, transposed=3.0, row=4.0,
    block=0.75, reduce=1.25, fault=0.9, multiply_add=2.25,
)  # fmt: skip
STARTS = 3.0


class Machine(Probe):
    """A machine whose operations take what a profile says, so many times."""

    known: Profile

    def measure_calls(self) -> None:
        """All calls are slower alike."""
        self.calls = {kind: STARTS * self.known.call_seconds[kind] for kind in STARTED}

    def _table(
        self, table: dict[tuple[int, ...], float], name: str, sizes: tuple[int, ...]
    ) -> None:
        grid: Grid = getattr(self.known, name)
        table[sizes] = getattr(TRUE, name) * grid.per_unit(*sizes)

    def measure_gemm(self, m: int, n: int, k: int) -> None:
        """Products of each variant."""
        for variant, grid in zip(VARIANTS, self.known.gemm, strict=True):
            factor = TRUE.far if is_far(m, n, k) else TRUE.gemm
            self.gemm[variant][m, n, k] = factor * grid.per_unit(m, n, k)

    def measure_batched(self, m: int, n: int, k: int) -> None:
        """The same of many."""
        for variant, grid in zip(VARIANTS, self.known.batched, strict=True):
            self.batched[variant][m, n, k] = TRUE.batched * grid.per_unit(m, n, k)

    def measure_small(self, m: int, n: int, k: int) -> None:
        """The smallest."""
        self._table(self.small, "small", (m, n, k))

    def measure_stream(self, size: int) -> None:
        """Copies and sums."""
        self._table(self.stream, "stream", (size,))
        self._table(self.reduce, "reduce", (4, size // 2))

    def measure_strided(self, lines: int, stride: int, entries: int) -> None:
        """Copies with a stride."""
        self._table(self.strided, "strided", (lines, stride, entries))

    def measure_transposed(self, entries: int) -> None:
        """Transpositions."""
        self._table(self.transposed, "transposed", (entries,))

    def measure_rows(self) -> None:
        """Loops."""
        self.row, self.block = TRUE.row * self.known.row, TRUE.block * self.known.block

    def measure_fault(self, size: int = 0, samples: int = 0) -> None:
        """Fresh memory."""
        self.fault = TRUE.fault * self.known.fault

    def measure_vectors(self) -> None:
        """Compiled code."""
        own = self.known.multiply_add
        self.multiply_add = None if own is None else TRUE.multiply_add * own


@pytest.mark.parametrize(
    "profile", shipped_profiles()[:2], ids=lambda one: f"{one.name} {one.dtype}"
)
def test_a_slower_machine_is_found(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The factors of a machine that is known are found: the median of equal ratios is exact."""
    monkeypatch.setattr(Machine, "known", profile, raising=False)
    monkeypatch.setattr(module, "Probe", Machine)
    monkeypatch.setattr(module, "in_programs", lambda *_: (1.25, 1.5))
    found = machine_factors(profile)
    for name in Factors.__dataclass_fields__:
        if name not in ("calls", "starting", "working", "multiply_add"):
            assert getattr(found, name) == pytest.approx(getattr(TRUE, name)), name
    expected = 1.0 if profile.multiply_add is None else TRUE.multiply_add
    assert found.multiply_add == pytest.approx(expected)
    assert dict(found.calls) == pytest.approx(dict.fromkeys(CALLS, STARTS))
    assert (found.starting, found.working) == (1.25, 1.5)


def test_time_in_which_other_programs_have_the_core_does_not_count() -> None:
    """Beside two training runs compiled code looked 4 times as slow as it was. Where one thread
    does all, its own clock tells; threads that share work are timed by the wall."""
    with torch_threads(1):
        assert clock("cpu").__name__ == "thread_time"
        assert clock("cuda").__name__ == "perf_counter"
    with torch_threads(2):
        assert clock("cpu").__name__ == "perf_counter"


@pytest.mark.parametrize(
    "mode",
    [
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        torch.inference_mode,
        torch.no_grad,
        FakeTensorMode,
        lambda: FlopCounterMode(display=False),
        lambda: torch.device("meta"),
    ],
    ids=["autocast", "inference", "no_grad", "fake tensors", "flop counter", "meta device"],
)
def test_what_holds_around_a_plan_is_not_measured(
    mode: Callable[[], AbstractContextManager[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first plan may be made under any mode of torch: what is timed are plain calls, on one
    thread, and the user's threads are as they were."""
    seen: list[tuple[object, ...]] = []

    def state() -> tuple[object, ...]:
        return (
            type(torch.ones(2, device="cpu")),
            torch.ones(2).device.type,
            torch._C._len_torch_dispatch_stack(),
            torch.is_autocast_enabled("cpu"),
            torch.is_inference_mode_enabled(),
            torch.get_num_threads(),
        )

    def operations(_: Profile) -> Factors:
        seen.append(state())
        return Factors()

    def programs(*_: object) -> tuple[float, float]:
        seen.append((*state(), torch.is_grad_enabled()))
        return 1.0, 1.0

    monkeypatch.setattr(module, "_of_operations", operations)
    monkeypatch.setattr(module, "in_programs", programs)
    threads = torch.get_num_threads()
    with mode():
        assert machine_factors(fixed_profile(threads=1)) == Factors()
        assert torch.get_num_threads() == threads
    plain = (torch.Tensor, "cpu", 0, False, False, 1)
    assert seen == [plain, (*plain, True)]


def test_the_users_random_numbers_are_not_drawn() -> None:
    """A layer starts from the same numbers in the first process on a machine as in all others."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    machine_factors(fixed_profile(threads=1, multiply_add=1e-10))
    assert torch.equal(torch.get_rng_state(), before)


def test_this_machine_has_factors() -> None:
    """The real measurement ends with factors that can be believed, and keeps torch's threads."""
    threads = torch.get_num_threads()
    found = machine_factors(fixed_profile(threads=1, multiply_add=1e-10))
    assert torch.get_num_threads() == threads
    for name in Factors.__dataclass_fields__:
        if name != "calls":
            assert LEAST <= getattr(found, name) <= MOST, name
    assert scaled_by(fixed_profile(), found).started > 0
