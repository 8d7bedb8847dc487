"""Memory safety: no array of the wrong shape, dtype, device or size of storage reaches a kernel.

Every route by which an address gets there is listed below, and tests/support/wrong_arrays.py tries
each with wrong arrays, all of which end before a page that may not be touched.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.cpp_units import has_compiler
from tests.support.emulated import why_not

ROOT = Path(__file__).parents[2]

# Where the package takes an array's address. A new place belongs here, and its route into
# tests/support/wrong_arrays.py.
ADDRESSES = {
    # Compiled C++: _Forward.__call__ (checked or known), _Forward._direct (the short way, twice: of
    # inputs and of y), _Backward.__call__, _Backward.quick (behind a guard; twice), LoadedEntry.
    "backends/cpp_program.py": {"_address": 5},
    # The backward of torch's calls: whether what it reads has an address.
    "runtime/program.py": {"_address": 1},
    # CUDA: forward (dense, or from the short way), _Backward; and workspace, which is our own.
    "backends/cuda_unit.py": {"_address": 2, "data_ptr": 2},
    # Whether an array has one at all.
    "runtime/kernel_arrays.py": {"_address": 1},
    "dispatch/fast_call.py": {"_address": 1, "data_ptr": 1},
    # Whether two arrays are one: nothing is read there.
    "nn/initialisation/log_scale_run.py": {"data_ptr": 2},
}
# Programs of several regions call the kernels of each; torch's own operations compare shapes, but
# read as many entries in another order without a word.
NEEDED = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
BACKENDS = (
    "torch",
    pytest.param("cpp", marks=NEEDED),
    pytest.param("auto", marks=NEEDED),
    pytest.param("mixed", marks=NEEDED),
    pytest.param(
        "streamed", marks=pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
    ),
    pytest.param("cuda", marks=pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")),
)
LEAST_TRIALS = 350


def test_all_routes_are_listed() -> None:
    """No other file takes the address of an array."""
    found: dict[str, Counter[str]] = {}
    for path in sorted((ROOT / "tnlayer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
            taken = not isinstance(getattr(node, "ctx", ast.Load()), ast.Store)
            defining = isinstance(node, ast.Attribute) and "torch.Tensor" in ast.unparse(node)
            if name in ("_address", "data_ptr", "const_data_ptr") and taken and not defining:
                place = path.relative_to(ROOT / "tnlayer").as_posix()
                found.setdefault(place, Counter())[name] += 1
    assert {place: dict(names) for place, names in found.items()} == ADDRESSES


def is_right(expected: str, outcome: str) -> bool:
    """Whether what came of a trial is what had to come."""
    if expected == "right":
        return outcome == "right"
    if expected == "refused":
        return outcome.startswith("refused SpecError: ") and ";" in outcome
    # What torch itself computes or refuses: no crash.
    assert expected in ("torch", "rounded"), expected
    return not outcome.startswith("signal")


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_arrays_are_refused(backend: str) -> None:
    """On every route wrong arrays are a typed error, unusual ones are read as they are meant, and
    nothing is read or written behind an array."""
    environment = {**os.environ, "TNLAYER_BACKEND": ""}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.wrong_arrays", backend],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.partition("\t") for line in done.stdout.splitlines()]
    assert len(lines) >= LEAST_TRIALS
    bad = [
        f"{name} -> {outcome[:200]}"
        for name, _, outcome in lines
        if not is_right(name.partition(":")[0], outcome)
    ]
    assert not bad, "\n".join(bad)
