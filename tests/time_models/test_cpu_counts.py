"""Costs on the CPU are counted from the plan, not from the loop program: the two must agree.

To lower a plan to loops takes five to forty times as long as to count it, and planning counts many
plans (docs/decisions/0025). So counting repeats what lowering does; this holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

import tnlayer as tn
from tests.support.replay import subjects
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir import loops
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import Contract
from tnlayer.lowering.calls.training_schedules import wanted_names
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program
from tnlayer.lowering.cpu.supported_plans import can_fuse
from tnlayer.support.dtypes import DTYPES
from tnlayer.time_models.cpu_kernels import Work, count_works

NETWORKS = {
    subject.name: subject
    for subject in subjects()
    if subject.name.startswith(("random", "complex", "tensor", "tree", "train-12-3", "btt"))
}
CPUS = {"AVX512": Cpu(64, 32), "AVX2": Cpu(32, 16)}


def multiply_adds(body: Iterable[loops.Statement]) -> int:
    """Products of vectors in the loops of one block of samples."""
    total = 0
    for statement in body:
        match statement:
            case loops.LoopRegion():
                total += multiply_adds(statement.body)
            case loops.For():
                total += statement.count * multiply_adds(statement.body)
            case loops.Tile() if statement.right is not None:
                turns = math.prod(axis.count for axis in statement.loops)
                tile = len(statement.rows) * len(statement.columns) * len(statement.sums)
                total += turns * tile
            case _:
                assert not hasattr(statement, "body"), statement
    return total


def counted(work: Work, plans: Iterable[Plan], dtype: str) -> float:
    """Products that the time model counts for contractions."""
    names = {
        step.result.name for plan in plans for step in plan.steps if isinstance(step, Contract)
    }
    found = sum(
        counts.get("product", 0.0) for name, counts in work.samples.items() if name in names
    )
    return found / (4 if DTYPES[dtype].is_complex else 1)


def test_at_least_fifty_networks_are_compared() -> None:
    """Those that become kernels."""
    plans = [tn.plan(tn.Network.from_json(s.document), effort="fast") for s in NETWORKS.values()]
    assert sum(not can_fuse(plan, Cpu()) for plan in plans) >= 50


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_the_loops(name: str) -> None:
    """Samples of a block and products of vectors, forward and backward."""
    subject = NETWORKS[name]
    net, dtype = tn.Network.from_json(subject.document), subject.dtypes[0]
    plan = tn.plan(net, batch=64, dtype=dtype, effort="fast")
    if can_fuse(plan, Cpu()):
        pytest.skip("no compiled kernels for it")
    wanted = wanted_names(plan, (True,) * len(plan.inputs))
    for cpu in CPUS.values():
        programs = [forward_program(plan, cpu)]
        if wanted:
            programs.append(backward_program(plan, wanted, cpu))
        works = count_works(plan, (True,) * len(plan.inputs), cpu)
        for work, program in zip(works, programs, strict=True):
            assert work.block == program.block
            both = (plan, tn.backward_plan(plan)) if wanted else (plan,)
            assert counted(work, both, dtype) == multiply_adds(program.samples)
