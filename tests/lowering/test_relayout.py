"""Moves between lanes: every pair of lanes, dtype and vector width, interpreted and compiled."""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from tests.support.cpp_units import has_compiler
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cpp.printer import print_kernel
from tnlayer.errors import BuildError
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops import Buffer, Gather, LoopProgram, LoopRegion, Permute, Transpose, statements
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.loops_verify import verified
from tnlayer.ir.shuffles import apply
from tnlayer.lowering.array_layout import Array, Lanes, in_lanes, packed, volume
from tnlayer.lowering.cpu.call_workspace import lay_out_workspace
from tnlayer.lowering.cpu.relayout import lower_move
from tnlayer.lowering.cpu.shuffle_network import find_network, find_shuffles

DTYPES = ("float32", "float64", "complex64", "complex128")
KINDS = list(product(DTYPES, (16, 32, 64)))
# Legs by size: bits, threes and one of each of some others.
SIZES = {
    **{f"a{k}": 2 for k in range(6)},
    "t0": 3,
    "t1": 3,
    "f": 5,
    "s": 7,
    "q": 4,
    "eight": 8,
    "sixteen": 16,
    "long": 24,
}
LEGS = ("a0", "t0", "a1", "q", "a2")
OTHER = ("f", "a0", "s", "t0", "a1")
LANES: tuple[tuple[tuple[str, ...], Lanes, Lanes], ...] = (
    (LEGS, ("a0", "a1"), ("a1", "a2")),
    (LEGS, ("q", "a2"), ("a0", "a1", "a2")),
    (LEGS, ("a0", "t0"), ("q",)),
    (LEGS, ("t0",), ("a0",)),
    (LEGS, ("a2", "q"), ("q", "a2")),
    (LEGS, ("a0", "a1", "a2"), ("t0", "a2")),
    (LEGS, ("q", "t0"), ("t0", "q")),
    (LEGS, ("q", "a0"), ("a1", "a2", "q")),
    (OTHER, ("f", "a0"), ("s", "a1")),
    (OTHER, ("s", "a0"), ("t0", "f")),
    (OTHER, ("f", "t0"), ("t0", "a0")),
)
LONG = (*(f"a{k}" for k in range(6)), "q")
FULL: tuple[tuple[tuple[str, ...], Lanes, Lanes], ...] = (
    (LONG, ("a0", "a1", "a2", "a3"), ("a4", "a5", "q")),
    (LONG, ("a0", "a1", "a2", "a3"), ("a3", "a1", "a4", "a5")),
    (LONG, ("a0", "a1", "q"), ("q", "a2", "a3")),
    (LONG, ("a0", "a1", "a2"), ("a3", "a4", "a5")),
    (LONG, ("a0", "a1"), ("a2", "a3")),
    (LONG, ("a0", "a1", "q"), ("a1", "q", "a0")),
    (LONG, ("a0",), ("q",)),
    (LONG, ("a0",), ("a5",)),
)
# What lies in a row are 2 times a part of a leg of 24.
INSIDE: tuple[tuple[tuple[str, ...], Lanes, Lanes], ...] = tuple(
    (legs, (lane,), (lane,))
    for lane in ("q", "eight", "sixteen")
    for legs in ((lane, "t0", "long", "a0"), ("a0", "long", "t0", lane))
)


def move_program(
    name: str, dtype: str, legs: tuple[str, ...], old: Lanes, new: Lanes, cpu: Cpu
) -> LoopProgram | None:
    """x to lanes, to other lanes, and out to y; None where lanes do not fit a vector."""
    width = cpu.width(dtype)
    if max(volume(old, SIZES), volume(new, SIZES)) > width:
        return None
    size = volume(legs, SIZES)
    x = Array("x", tuple(packed(legs, SIZES).items()))
    y = Array("y", tuple(packed(tuple(reversed(legs)), SIZES).items()))
    first, first_size = in_lanes("first", legs, old, SIZES, width)
    second, second_size = in_lanes("second", legs, new, SIZES, width)
    starts = (0, -(-first_size // width) * width)
    buffers = (
        Buffer("x", size, "input"),
        Buffer("y", size, "output"),
        Buffer("first", first_size, "shared", starts[0]),
        Buffer("second", second_size, "shared", starts[1]),
    )
    pairs = ((first, x), (second, first), (y, second))
    steps = tuple(
        LoopRegion(
            f"m{n}", "move", lower_move(target, source, SIZES, width, cpu.tile_limits(dtype))
        )
        for n, (target, source) in enumerate(pairs)
    )
    program = LoopProgram(name, dtype, width, 1, buffers, steps, (), ())
    return verified(lay_out_workspace(find_shuffles(program)))


def all_programs(dtype: str, vector_bytes: int) -> list[tuple[tuple[str, ...], LoopProgram]]:
    cpu = Cpu(vector_bytes, 32 if vector_bytes == 64 else 16)
    made = [
        (legs, move_program(f"k{n}", dtype, legs, old, new, cpu))
        for n, (legs, old, new) in enumerate((*LANES, *FULL, *INSIDE))
    ]
    return [(legs, program) for legs, program in made if program is not None]


def check(legs: tuple[str, ...], program: LoopProgram, compiled: ctypes.CDLL | None) -> None:
    """y is x with its legs reversed."""
    random = np.random.default_rng(1)
    sizes = [SIZES[leg] for leg in legs]
    x = random.standard_normal(sizes)
    if program.scalar.startswith("complex"):
        x = x + 1j * random.standard_normal(sizes)
    x = x.astype(program.scalar)
    wanted = np.ascontiguousarray(x.T).reshape(-1)
    if compiled is None:
        found = interpret(program, {"x": x.reshape(-1)}, 0)["y"]
    else:
        found = np.full_like(wanted, np.nan)
        arguments = (ctypes.c_void_p * 2)(x.ctypes.data, found.ctypes.data)
        assert getattr(compiled, program.name)(arguments, ctypes.c_long(0), 1) == 0
    np.testing.assert_array_equal(found, wanted, err_msg=f"{legs} {program.name}")


@pytest.mark.parametrize(("dtype", "vector_bytes"), KINDS)
def test_moves_interpreted(dtype: str, vector_bytes: int) -> None:
    """A value moved into lanes, to other lanes and out is the value itself."""
    for legs, program in all_programs(dtype, vector_bytes):
        check(legs, program, None)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize(("dtype", "vector_bytes"), KINDS)
def test_moves_compiled(dtype: str, vector_bytes: int) -> None:
    """The same in C++, at widths of AVX-512, AVX2, and SSE or NEON."""
    torch.get_num_threads()  # loads OpenMP
    programs = all_programs(dtype, vector_bytes)
    width = programs[0][1].width
    source = prelude(dtype, width) + "".join(print_kernel(program) for _, program in programs)
    library = load_library(source, optimise="-O1")
    for legs, program in programs:
        check(legs, program, library)


def test_lanes_move_in_registers() -> None:
    """Full vectors are never gathered entry by entry, whatever their lanes have in common."""
    for dtype, vector_bytes in product(DTYPES, (32, 64)):
        cpu = Cpu(vector_bytes, 16)
        for n, (legs, old, new) in enumerate(FULL):
            program = move_program(f"k{n}", dtype, legs, old, new, cpu)
            if program is None or volume(old, SIZES) * volume(new, SIZES) < program.width**2:
                continue
            kinds = Counter(type(s) for s in statements(program.before[1:2]))
            assert not kinds[Gather], f"{dtype} {old} to {new}"
            assert kinds[Transpose] + kinds[Permute] == 1


def test_a_run_may_end_inside_a_leg() -> None:
    """Vectors are filled from a part of a leg where the whole leg is too long for them."""
    for dtype, vector_bytes in product(DTYPES, (32, 64)):
        cpu = Cpu(vector_bytes, 16)
        programs = [move_program("k", dtype, *case, cpu) for case in INSIDE]
        whole = [p for p, (_, old, _) in zip(programs, INSIDE, strict=True)
                 if p is not None and volume(old, SIZES) == p.width]  # fmt: skip
        assert whole or cpu.width(dtype) < 4
        for program in whole:
            kinds = Counter(type(s) for s in statements((program.before[0], program.before[2])))
            assert kinds[Transpose] == 1 and not kinds[Gather], f"{dtype} {program.width}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_that_gives_other_entries_is_refused(dtype: str) -> None:
    """The verifier runs the network; a printer only writes it down."""
    program = move_program("k", dtype, *LANES[0], Cpu(64))
    assert program is not None
    permute = next(s for s in statements(program.before) if isinstance(s, Permute))
    assert permute.network is not None
    at, since = replace(permute.target, terms=()), replace(permute.source, terms=())
    first, *rest = permute.network.shuffles
    swapped = replace(first, picks=(*first.picks[1:], first.picks[0]))
    for shuffles in ((swapped, *rest), (replace(first, left=99), *rest), ()):
        network = replace(permute.network, shuffles=shuffles)
        wrong = replace(permute, target=at, source=since, network=network)
        with pytest.raises(BuildError, match="the shuffles of a Permute give other entries"):
            verified(replace(program, before=(LoopRegion("m", "move", (wrong,)),)))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_transpositions_take_rounds(bits: int) -> None:
    """A square of k registers takes k log2(k) shuffles, and gives the transpose."""
    count = 2**bits
    wanted = [tuple((s, t) for s in range(count)) for t in range(count)]
    network = find_network(count, wanted)
    assert len(network.shuffles) == count * bits
    values = [[(s, lane) for lane in range(count)] for s in range(count)]
    assert apply(network, values) == [list(row) for row in wanted]


def test_networks_of_other_sizes() -> None:
    """Nine registers that exchange threes take rounds of threes; a constant order takes one."""
    wanted = [tuple((s, t) for s in range(9)) for t in range(9)]
    network = find_network(9, wanted)
    assert len(network.shuffles) <= 9 * 4
    values = [[(s, lane) for lane in range(9)] for s in range(9)]
    assert apply(network, values) == [list(row) for row in wanted]
    assert len(find_network(1, [((0, 1), (0, 0))]).shuffles) == 1
    assert not find_network(1, [((0, 0), (0, 1))]).shuffles
