"""How kernels are built: in several units, by compilers side by side."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler, small_code
from tnlayer import topologies
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.toolchains import cpp_build
from tnlayer.backends.toolchains.translation_units import print_units
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.ir.loops import LoopProgram
from tnlayer.support.file_store import Store

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and kernels of tests long enough for several units."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tnlayer.backends.toolchains.translation_units.LEAST_UNIT", 500)


def kernels() -> tuple[LoopProgram, ...]:
    program = tn.compile(topologies.tree(6, 2, 2), backend="cpp")
    assert isinstance(program, CppProgram)
    program.cpu = small_code(program.cpu)
    return program.programs()


def test_units_hold_each_function_once() -> None:
    """Together the units define what the whole text does; one unit is the whole text."""
    for program in kernels():
        assert print_units(program, 1) == (print_cpp(program),)
        units = print_units(program, 3)
        assert len(units) == 3
        heads = [re.findall(r"^STEP (\w+)\(.*\{$", unit, re.MULTILINE) for unit in units]
        whole = re.findall(r"^STEP (\w+)\(.*\{$", print_cpp(program), re.MULTILINE)
        shared = set.intersection(*map(set, heads))  # the prelude's own, static in each
        split = [name for head in heads for name in head if name not in shared]
        assert sorted(split) == sorted(set(whole) - shared)
        lengths = [len(unit) for unit in units]
        assert max(lengths) < 2 * min(lengths)
        assert sum(f'extern "C" int {program.name}(' in unit for unit in units) == 1


@pytest.mark.parametrize("count", [1, 2, 4])
def test_units_compute_the_same(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many compilers there are, y and gradients are the same numbers."""
    monkeypatch.setattr("tnlayer.backends.toolchains.kernel_store.compilers_at_once", lambda: count)
    monkeypatch.setattr(cpp_build, "_loaded", {})
    net = topologies.tree(6, 2, 2)
    torch.manual_seed(0)
    layer = tn.Layer(net, backend="cpp")
    reference = tn.Layer(net, backend="torch")
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(9, 64)
    for one in (layer, reference):
        one(x).square().sum().backward()
    torch.testing.assert_close(layer(x), reference(x))
    for mine, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_unit_that_fails_is_quoted() -> None:
    """The error of any unit's compiler is in the BuildError."""
    with pytest.raises(tn.BuildError, match="nonsense"):
        cpp_build.load_library('extern "C" int answer() { return 1; }\n', "nonsense;")


def test_the_store_forgets_what_was_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over its bound the store drops its oldest entries; a hit makes an entry young again."""
    store = Store("things", bounded=True)
    monkeypatch.setenv("TNLAYER_CACHE_LIMIT", "1")
    for number in range(3):
        store.write(f"k{number}", bytes(300_000))
        os.utime(tmp_path / "things" / f"k{number}", (number, number))
    assert store.read("k0") is not None  # now the youngest
    store.write("k3", bytes(300_000))
    assert store.entries() == ("k0", "k3")
    store.write("k4", bytes(2_000_000))
    assert store.entries() == ("k4",)  # what was just written stays
    monkeypatch.setenv("TNLAYER_CACHE_LIMIT", "many")
    with pytest.raises(tn.SpecError, match="TNLAYER_CACHE_LIMIT='many'"):
        store.write("k5", b"")
    plain = Store("plain")
    plain.write("k", bytes(2_000_000))
    plain.write("l", bytes(2_000_000))
    assert plain.entries() == ("k", "l")


def test_kernels_for_few_and_for_many_samples_are_told_apart() -> None:
    """A note of a kernel names what it was made for: blocks differ between few and many samples."""
    net = topologies.btt((64, 64), (64, 64), 2)
    blocks: list[int] = []
    keys: list[str] = []
    for batch in (1, 256, 300):
        program = tn.compile(net, backend="cpp", batch=batch)
        assert isinstance(program, CppProgram)
        blocks.append(program.forward_kernel.program.block)
        keys.append(program.forward_kernel._key)
    assert blocks[0] != blocks[1] == blocks[2]
    assert keys[0] != keys[1] == keys[2]
