"""Random networks through the loop IR and compiled C++, against the oracle."""

from __future__ import annotations

import pytest
import torch

from tests.support.against_oracle import (
    KINDS,
)
from tests.support.compiled_cases import CompiledCase, check_interpreted
from tests.support.cpp_units import build_together, has_compiler, programs_of
from tests.support.series import short_and_full
from tests.support.strategies import collect
from tnlayer.hardware.cpu import Cpu

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
CASES, FULL_CASES, FULL_SHARDS = 20, 250, 8
# What is compiled: in single precision a vector has twice the lanes.
COMPILED = {"float32": torch.float32, **KINDS, "complex64": torch.complex64}
ALWAYS = ("float32", *KINDS)


def check_compiled(kind: str, seed: int, count: int) -> None:
    """Build a series of cases together, then check each."""
    dtype = COMPILED[kind]
    trials = [CompiledCase(case, dtype) for case in collect(dtype.is_complex, seed, count)]
    build_together([(programs_of(trial.layer)[0], trial.mask) for trial in trials])
    for trial in trials:
        trial.check()


@needs_compiler
@pytest.mark.parametrize("kind", ALWAYS)
def test_random_networks_compiled_equal_the_oracle(kind: str) -> None:
    """Value and all gradients of a compiled random network must be the oracle's: 60 in all."""
    check_compiled(kind, 4000, CASES)


@needs_compiler
@pytest.mark.full
@pytest.mark.parametrize("shard", range(FULL_SHARDS))
@pytest.mark.parametrize("kind", COMPILED)
def test_many_random_networks_compiled_equal_the_oracle(kind: str, shard: int) -> None:
    """The same for 8,000 other cases."""
    check_compiled(kind, 5000 + shard, FULL_CASES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vector_bytes", [16, 64])
@pytest.mark.parametrize("count", short_and_full(30, 100))
def test_random_networks_interpreted_equal_torch(kind: str, vector_bytes: int, count: int) -> None:
    """The loop program of a random network, run by the interpreter, gives what torch gives."""
    cpu = Cpu(vector_bytes, 32 if vector_bytes == 64 else 16)
    for case in collect(KINDS[kind].is_complex, 6000 + vector_bytes, count):
        check_interpreted(case, kind, cpu)
