"""Products on tensor cores: merged blocks, rounding, fragments lane by lane, and the build."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.cuda_case import CudaCase
from tests.support.emulated import run_source
from tests.support.nvidia_tools import compiled, needs_nvrtc
from tests.support.tensor_core_cases import (
    BOUNDS,
    NETWORKS,
    distance,
    gpu,
    mma_program,
    place_of_a,
    place_of_b,
    place_of_c,
)
from tnlayer import topologies
from tnlayer.backends.cuda_source import backward_source, forward_source, printed
from tnlayer.ir.loops import At, Mma, Precision, Threads, Tile, statements
from tnlayer.ir.loops_interpret import interpret, rounded
from tnlayer.ir.loops_verify import verified
from tnlayer.ir.steps import BATCH
from tnlayer.lowering.gpu.pipeline import schedule_backward, schedule_forward
from tnlayer.lowering.gpu.tensor_cores.matrices import PRECISIONS, merge_blocks
from tnlayer.lowering.gpu.tensor_cores.mma_lanes import access_cycles, choose_bits

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_interpreted_products_are_off_by_their_rounding(name: str, precision: Precision) -> None:
    """Value and all gradients are those of float64 up to the operands' rounding, and are rounded:
    a tf32 or bf16 product that is as exact as float32's would not be one."""
    trial = CudaCase(NETWORKS[name](), "float32", gpu(precision), 3, 3)
    for scheduled in trial.programs:
        assert any(isinstance(s, Mma) for s in statements(scheduled.program.samples))
        given = {k: v.astype(np.float64) for k, v in trial.inputs_of(scheduled.program).items()}
        for out, entries in interpret(scheduled.program, given, trial.batch).items():
            error = distance(entries, trial.exact[out])
            assert error < BOUNDS[precision], out
            if precision != "3xtf32" and out == "out_y":
                assert error > 1e-5, out


@needs_compiler
@pytest.mark.parametrize("precision", PRECISIONS)
def test_printed_text_equals_the_interpreter(precision: Precision) -> None:
    """The text, lane by lane in the emulator, gives what the statements mean; 3xtf32 is within four
    times the error of float32 arithmetic."""
    trials = [
        CudaCase(make(), "float32", gpu(precision), n, 3)
        for n, make in enumerate(NETWORKS.values())
    ]
    compared = NETWORKS.values() if precision == "3xtf32" else ()
    plain = [CudaCase(make(), "float32", gpu(None), 50 + n, 3) for n, make in enumerate(compared)]
    sources = [[printed(s) for s in trial.programs] for trial in (*trials, *plain)]
    errors: dict[bool, float] = {True: 0.0, False: 0.0}
    for number, (trial, pair) in enumerate(zip((*trials, *plain), sources, strict=True)):
        for source in pair:
            blocks = min(2, -(-trial.batch // source.samples_per_block))
            found = run_source(source, trial.given, trial.batch, blocks)
            for name, entries in found.items():
                error = distance(entries, trial.exact[name])
                assert error < BOUNDS[precision], (trial.net.label, name)
                errors[number < len(trials)] = max(errors[number < len(trials)], error)
            if number < len(trials):
                meant = interpret(source.program, trial.inputs_of(source.program), trial.batch)
                for name, entries in found.items():
                    near = distance(entries, meant[name].reshape(entries.shape))
                    assert near < (4e-6 if precision == "3xtf32" else BOUNDS[precision] / 10), name
    if precision == "3xtf32":
        assert errors[True] <= 4 * errors[False]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_fragments_lie_as_documented(precision: Precision) -> None:
    """Lane by lane and register by register the printed offsets are those of the tables."""
    from tnlayer.codegen.cuda.fragments import mma_lines

    packs = precision == "bf16"
    depth = 16 if packs else 8
    a, b, c = (At(name, form="scalar") for name in "ABC")
    mma = Mma(c, a, b, tuple((r * 100, r * 100) for r in range(16)),
              tuple((n, n) for n in range(8)), tuple((k, k * 100) for k in range(depth)),
              precision)  # fmt: skip
    seen: dict[str, list[str]] = {"A": [], "B": [], "C": []}

    def value(at: At, more: int, moved: list[str]) -> str:
        seen[at.buffer].append(f"{more} + {moved[0]}")
        return "0"

    def stored(at: At, more: int, moved: list[str], text: str, sign: str) -> str:
        seen["C"].append(f"{more} + {moved[0]}")
        return text

    lines = mma_lines(mma, 0, value, stored)  # type: ignore[arg-type]
    own = dict(re.findall(r"const int (from_a|from_b|to_c) = (?:anew)?(.*);", "\n".join(lines)))
    for lane in range(32):
        index = {"group": lane // 4, "member": lane % 4}
        moved = {name: eval(text, {}, index) for name, text in own.items()}
        for i, text in enumerate(seen["A"]):
            row, k = place_of_a(lane, i, packs)
            assert eval(text, {}, moved) == row * 100 + k
        for i, text in enumerate(seen["B"]):
            k, column = place_of_b(lane, i, packs)
            assert eval(text, {}, moved) == k * 100 + column
        for i, text in enumerate(seen["C"]):
            row, column = place_of_c(lane, i)
            assert eval(text, {}, moved) == row * 100 + column


def test_lanes_that_would_meet_are_chosen_otherwise() -> None:
    """Strides a power of two apart meet in one bank eight times; other bits of the legs do not."""
    bits = tuple((0, 1 << k, 1 << k) for k in range(6))
    far = tuple((0, 64 << k, 64 << k) for k in range(3))
    assert access_cycles((32, 64, 128), False) == 8
    chosen = choose_bits(bits, bits, far, packs=False, in_global=(False, False, False))
    assert chosen.cycles[:2] == (4, 4)
    spread = tuple((0, 66 << k, 66 << k) for k in range(3))
    chosen = choose_bits(bits, bits, spread, packs=False, in_global=(False, False, False))
    assert chosen.cycles == (1, 1, 1)
    assert sorted(chosen.rows) == sorted(bits) and sorted(chosen.sums) == sorted(spread)
    assert access_cycles((1, 2, 4, 64, 128), True) == 1
    assert access_cycles((8, 16, 32, 64, 128), True) == 8


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_of_matrices_are_summed_on_tensor_cores(precision: Precision) -> None:
    """Of MERA-2 on 12 legs every batched step is, backward too; where a sample has fewer terms than
    the instruction the gradient is summed in float32."""
    plan = tn.plan(topologies.mera(12, 2), batch=64, minimize="flops")
    program = schedule_backward(plan, [v.name for v in plan.inputs], gpu(precision)).program
    loops = [s for s in statements(program.samples) if isinstance(s, Threads)]
    assert all(isinstance(s, Mma) for loop in loops for s in loop.body)
    assert sum(isinstance(s, Mma) and s.adds for s in statements(program.samples)) >= 3
    small = tn.plan(NETWORKS["mera"](), batch=64, minimize="flops")
    wanted = [value.name for value in small.inputs]
    program = schedule_backward(small, wanted, gpu(precision)).program
    found = list(statements(program.samples))
    assert any(isinstance(s, Mma) for s in found)
    assert any(isinstance(s, Tile) and s.adds for s in found)
    assert not any(isinstance(s, Mma) and s.adds for s in found)


@pytest.mark.parametrize("name", ["kronecker", "mera"])
def test_missing_samples_are_in_no_sum(name: str) -> None:
    """A block of which samples are missing, infinite weights: no 0 x inf makes a gradient NaN."""
    trial = CudaCase(NETWORKS[name](), "float32", gpu("tf32"), 1, 3)
    given, program = trial.infinite(), trial.programs[1].program
    assert trial.batch % program.block, "a block is full"
    with np.errstate(invalid="ignore"):
        found = interpret(program, {b.name: given[b.name] for b in program.of("input")}, 3)
    assert not any(np.isnan(array).any() for array in found.values())


def test_rounding() -> None:
    """tf32 keeps 10 bits and goes away from zero at ties, bf16 keeps 7 and goes to even; infinities
    stay."""
    values = np.array([1 + 2**-11, -1 - 2**-11, 1 + 2**-12, np.inf, 3.0], np.float32)
    assert rounded(values, "tf32").tolist() == [1 + 2**-10, -1 - 2**-10, 1.0, np.inf, 3.0]
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    assert rounded(ties, "bf16").tolist() == [1.0, 1 + 2**-6]


def test_merged_blocks_have_few_steps() -> None:
    """MERA-2's 17 steps on the state become 4 or fewer, each with a matrix of 64 rows at most."""
    plan = tn.plan(topologies.mera(12, 2), batch=64, minimize="flops")
    merged = merge_blocks(plan)
    chain = [s for s in merged.steps if any(BATCH in o.legs for o in s.operands)]
    assert 0 < len(chain) <= 4
    for step in chain:
        (weight,) = (o for o in step.operands if BATCH not in o.legs)
        made = [leg for leg in weight.legs if leg in step.result.legs]
        assert max(2 ** len(made), 2 ** (len(weight.legs) - len(made))) <= 64


def test_verify_refuses_what_does_not_fill_the_instruction() -> None:
    """8 rows, 4 terms, offsets that are no sums of bits, and places outside are refused."""
    verified(mma_program())
    for changes in (
        {"rows": tuple((r, r) for r in range(8))},
        {"sums": tuple((k, k) for k in range(4))},
        {"columns": ((0, 0), (1, 1), (2, 2), (4, 4), (3, 3), (5, 5), (6, 6), (7, 7))},
        {"precision": "bf16"},
        {"rows": tuple((r * 64, r * 8) for r in range(16))},
    ):
        with pytest.raises(tn.BuildError):
            verified(mma_program(**changes))


def test_what_cannot_use_tensor_cores_is_refused() -> None:
    """Legs of three, float64, and networks that are no chain: an error, no silent fallback."""
    for net, kind in (
        (topologies.brickwall(4, dim=3, depth=2), "float32"),
        (topologies.cp((2, 3), (3, 2), rank=2), "float32"),
        (NETWORKS["mera"](), "float64"),
    ):
        plan = tn.plan(net, batch=64, minimize="flops", dtype=kind)
        with pytest.raises(tn.PlanError, match="tensor_cores"):
            schedule_forward(plan, gpu("tf32"))


def test_the_option_is_for_cuda_and_known() -> None:
    """Other backends and unknown words are refused; one that no step can use fails at once."""
    net = NETWORKS["mera"]()
    with pytest.raises(tn.SpecError, match="3xtf32"):
        tn.compile(net, backend="cuda", arch="sm_90", tensor_cores="fp8")  # pyright: ignore[reportArgumentType]
    with pytest.raises(tn.SpecError, match="backend='cuda'"):
        tn.compile(net, backend="cpp", tensor_cores="tf32")


@needs_nvrtc
def test_the_option_reaches_the_source() -> None:
    """A program has mma only if asked for, also after it was pickled; else it is refused."""
    net = NETWORKS["kronecker"]()
    plain = tn.compile(net, backend="cuda", arch="sm_90")
    asked = tn.compile(net, backend="cuda", arch="sm_90", tensor_cores="3xtf32")
    assert "mma" not in plain.source()
    again = pickle.loads(pickle.dumps(asked))
    assert asked.source() == again.source() and "mma_3xtf32(sum0" in again.source()
    with pytest.raises(tn.PlanError, match="tensor_cores"):
        tn.compile(topologies.cp((2, 3), (3, 2), rank=2), backend="cuda", arch="sm_90",
                   tensor_cores="tf32")  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "arch"),
    [("3xtf32", "sm_90")]
    + [
        pytest.param(precision, arch, marks=pytest.mark.full)
        for precision in PRECISIONS
        for arch in ("sm_80", "sm_90")
        if (precision, arch) != ("3xtf32", "sm_90")
    ],
)
def test_nvrtc_builds_mma_without_spills(precision: Precision, arch: str) -> None:
    """0 spills, forward and backward of MERA-2 on 12 legs; the code has the instruction."""
    plan = tn.plan(topologies.mera(12, 2), batch=64, minimize="flops")
    device = gpu(precision, arch)
    wanted = [value.name for value in plan.inputs]
    for source in (forward_source(plan, device), backward_source(plan, wanted, device)):
        assert f"mma_{precision}(sum0" in source.text
        _, log = compiled(source, arch)
        spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
        assert spills and {int(n) for pair in spills for n in pair} == {0}, log
