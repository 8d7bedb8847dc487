"""Measuring a device profile: every dtype, and what is left out without a compiler."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tnlayer.errors import BuildError
from tnlayer.hardware.half_precision import wide_products
from tnlayer.hardware.profile.load import keep_profile, load_profile
from tnlayer.hardware.profile.profile import Profile
from tnlayer.hardware.profile.text import profile_text
from tnlayer.measure import calibrate, measure_profile, vector_rate

pytestmark = pytest.mark.usefixtures("own_profiles", "tiny")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids of a few points, and two reference programs."""
    small = {
        "_GEMM_AXIS": (1, 16),
        "_BATCHED_AXIS": (2, 16),
        "_SMALL_AXIS": (1, 4),
        "_BATCHED_TOTAL": 2**10,
        "_STREAM_BYTES": (2**12, 2**16),
        "_LINES": (2, 8),
        "_STRIDES": (16, 128),
        "_STRIDED_ENTRIES": (2**12, 2**13),
        "_ROW_ENTRIES": 2**12,
        "_FAULT_PROBE": 2**16,
    }
    for name, value in small.items():
        monkeypatch.setattr(measure_profile, name, value)
    monkeypatch.setattr(calibrate, "_SMALL", calibrate._SMALL[1:2])
    monkeypatch.setattr(calibrate, "_LARGE", ((lambda: tn.topologies.mera(6, 2, 2), 8),))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64", "complex128"])
def test_measuring(dtype: str) -> None:
    """Every dtype can be measured; the profile says what it is, reads back, and predicts plans."""
    shares: list[float] = []
    profile = measure_profile.measure_profile("cpu", getattr(torch, dtype), progress=shares.append)
    assert (profile.device, profile.dtype) == ("cpu", dtype)
    assert profile.threads == torch.get_num_threads()
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert Profile.from_document(profile.document()).digest == profile.digest
    keep_profile(profile)
    if wide_products(dtype, "cpu"):  # products of 16 bits are made in float32, in its times
        assert load_profile(dtype) == load_profile("float32")
    else:
        assert load_profile(dtype).measured is not None
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    layer = tn.Layer(net, dtype=getattr(torch, dtype))
    assert layer._programs_for(layer.dtype)[0].planned.choice.seconds.total > 0


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_multiply_adds_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel builds and runs; the best run's time is shared by all of its multiply-adds."""
    found = measure_profile.measure_profile("cpu", torch.float32).multiply_add
    assert found is not None and found > 0
    times = iter((3e-9, 1e-9, 2e-9))
    runs = vector_rate.TURNS * vector_rate.STEPS * vector_rate.SUMS
    library = SimpleNamespace(multiply_adds=Mock(side_effect=lambda *_: runs * next(times)))
    monkeypatch.setattr(vector_rate, "load_library", lambda source: library)
    assert vector_rate.multiply_add_seconds(64, 2, runs=3) == pytest.approx(1e-9)


def test_without_a_compiler_there_are_no_multiply_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is measured all the same, and the text says what is missing."""

    def missing() -> None:
        raise BuildError("none")

    monkeypatch.setattr(measure_profile, "find_compiler", missing)
    found = measure_profile.measure_profile("cpu", torch.float32)
    assert found.multiply_add is None
    assert "multiply-add of vectors: not measured" in profile_text(found)
