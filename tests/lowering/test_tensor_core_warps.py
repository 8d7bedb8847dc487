"""Products on tensor cores: how the warps of a block divide them, and what each of them does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import pytest

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.cuda_case import CudaCase
from tests.support.emulated import descending, emulated_cubin, run_source
from tests.support.tensor_core_cases import BOUNDS, distance, gpu, mma_program
from tnlayer import topologies
from tnlayer.backends.cuda_source import printed
from tnlayer.ir.loops import (
    At,
    Axis,
    Buffer,
    LoopProgram,
    LoopRegion,
    Mma,
    Precision,
    Threads,
    statements,
)
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.gpu.pipeline import schedule_backward
from tnlayer.lowering.gpu.tensor_cores import choose_lowering
from tnlayer.lowering.gpu.tensor_cores.matrices import PRECISIONS
from tnlayer.lowering.gpu.tensor_cores.warps import Product, choose_split

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "mera_12": lambda: topologies.mera(12, 2),
    "tree_12": lambda: topologies.tree(12, 2, 4),
    "kronecker": lambda: topologies.kronecker((16, 16), (16, 16)),
    "tucker": lambda: topologies.tucker((16, 16), (16, 16), rank=8),
}
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def busiest(program: LoopProgram) -> dict[str, int]:
    """For each gradient of a matrix the instructions of the busiest warp, for a full block."""
    found: dict[str, int] = {}
    for loop in statements(program.samples):
        if isinstance(loop, Threads):
            for mma in loop.body:
                if isinstance(mma, Mma) and mma.adds:
                    depth = 16 if mma.precision == "bf16" else 8
                    turns = prod(-(-axis.count // axis.step) for axis in mma.loops)
                    each = len(mma.columns) // 8 * len(mma.sums) // depth * turns
                    found[mma.target.buffer] = -(-loop.points * 32 // program.threads) * each
    return found


# The busiest warp's instructions for all gradients of a block of samples, without and with shares.
# Each matrix of MERA-2 has eight tiles or more: no warp is idle, and nothing changes.
BUSIEST = {
    "mera_12": (96, 96),
    "tree_12": (256, 96),
    "kronecker": (16, 4),
    "tucker": (24, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_warp_idles_while_another_sums(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instructions of the busiest warp, counted without shares and with them, are as in the table;
    with them no gradient takes more than before."""
    plan = tn.plan(NETWORKS[name](), batch=64, minimize="flops")
    wanted = [value.name for value in plan.inputs]
    shared = busiest(schedule_backward(plan, wanted, gpu("tf32")).program)
    monkeypatch.setattr(choose_lowering, "COPIED", (0,))
    alone = busiest(schedule_backward(plan, wanted, gpu("tf32")).program)
    assert shared.keys() == alone.keys() and all(shared[key] <= alone[key] for key in alone)
    assert (sum(alone.values()), sum(shared.values())) == BUSIEST[name]


def test_shares_go_by_terms_then_by_samples() -> None:
    """A tile of 8 terms a sample is shared by samples, a longer sum by terms first; where copies
    have less room there are fewer; wider tiles save loads of long sums."""
    short = Product(4, 3, 3, 3, 2, (1, 1, 1), adds=True)
    split = choose_split(short, 8, 4096)
    assert (split.terms, split.samples, split.busiest, split.copies) == (0, 2, 1, 4)
    longer = replace(short, sums=5)
    split = choose_split(longer, 8, 4096)
    assert (split.terms, split.samples, split.busiest, split.copies) == (2, 1, 2, 8)
    split = choose_split(longer, 8, 512)
    assert (split.terms, split.samples, split.busiest, split.copies) == (2, 0, 4, 4)
    assert choose_split(longer, 8, 0).copies == 1
    wide = Product(4, 6, 10, 3, 0, (1, 1, 1), adds=True)
    split = choose_split(wide, 8, 4096)
    assert (split.columns, split.terms, split.busiest) == (5, 2, 128)
    split = choose_split(replace(wide, sums=3), 8, 4096)
    assert (split.columns, split.copies, split.busiest) == (3, 1, 1)
    assert choose_split(replace(wide, adds=False), 8, 4096).copies == 1


@needs_compiler
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shared_sums_are_right_and_repeat(precision: Precision) -> None:
    """In the emulator a shared sum is what the interpreter says; in the opposite order of threads
    and warps it is the same bit for bit; infinite weights make no missing sample NaN."""
    shared = 0
    # Tucker's matrices have 8 columns: no 16 terms.
    names = ("kronecker",) if precision == "bf16" else ("kronecker", "tucker")
    for number, name in enumerate(names):
        trial = CudaCase(NETWORKS[name](), "float32", gpu(precision), number, 7)
        source = printed(trial.programs[1])
        sums = [s for s in statements(source.program.samples) if isinstance(s, Mma) and s.adds]
        shared += sum(mma.copies > 1 for mma in sums)
        assert any(axis.first for mma in sums for axis in mma.loops)
        assert trial.batch % source.samples_per_block, "the last block is full"
        found = run_source(source, trial.given, trial.batch, 2)
        meant = interpret(source.program, trial.inputs_of(source.program), trial.batch)
        with descending(emulated_cubin(source.text, "sm_90")):
            again = run_source(source, trial.given, trial.batch, 2)
        for key, entries in found.items():
            assert np.array_equal(entries, again[key]), key
            near = distance(entries, meant[key].reshape(entries.shape))
            assert near < (4e-6 if precision == "3xtf32" else BOUNDS[precision] / 10), key
            assert distance(entries, trial.exact[key]) < BOUNDS[precision], key
        if precision == "tf32":
            found = run_source(source, trial.infinite(), trial.batch, 2)
            assert not any(np.isnan(array).any() for array in found.values())
    assert shared >= (2 if precision == "bf16" else 4)


def shared_program(**changes: object) -> LoopProgram:
    """Two warps that take the samples of one tile in turns."""
    program = mma_program()
    (step,) = program.samples
    assert isinstance(step, LoopRegion) and isinstance(step.body[0], Threads)
    (mma,) = step.body[0].body
    assert isinstance(mma, Mma)
    mma = replace(mma, adds=True, target=At("P", form="scalar"), copies=2, copy=(("share", 1),),
                  loops=(Axis(2, 0, 0, of_samples=True, first="share", step=2),))  # fmt: skip
    mma = replace(mma, **changes)  # type: ignore[arg-type]
    body = (Threads((("share", 2),), (mma,)),)
    partial = Buffer("P", 128, "partial")
    return replace(
        program, block=2, buffers=(*program.buffers, partial), samples=(replace(step, body=body),)
    )


def test_verify_refuses_points_that_would_meet() -> None:
    """Points that share samples need copies of a partial, one for each, and all samples taken."""
    verified(shared_program())
    for changes in (
        {"copies": 1, "copy": ()},
        {"copies": 3},
        {"copy": (("share", 2),)},
        {"target": At("C", form="scalar")},
        {"target": At("P", 0, (("share", 1),), "scalar")},
        {"adds": False},
        {"loops": (Axis(2, 0, 0, of_samples=True, first="share", step=1),)},
        {"loops": (Axis(2, 0, 0, first="share", step=2),)},
    ):
        with pytest.raises(tn.BuildError):
            verified(shared_program(**changes))
