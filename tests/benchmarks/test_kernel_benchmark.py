"""The kernels' benchmark: opponents, counted work, targets, growth; no test looks at a speed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import benchmarks.builds as builds
import benchmarks.growth as growth
import benchmarks.kernels as kernels
import tnlayer as tn
from benchmarks.common.baselines import CannotRun
from benchmarks.common.problem import Problem
from benchmarks.common.search import Tree
from benchmarks.common.workloads import KERNEL_WORKLOADS, TINY_WORKLOADS
from benchmarks.cpu import opponents, rivals, targets
from benchmarks.cpu.peaks import Peaks, measure_peaks
from benchmarks.cpu.work import Work, bound_of, work_of
from tests.support.cpp_units import has_compiler
from tnlayer.dispatch.compile import compile as compile_network
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops import At, Axis, Buffer, For, LoopProgram, LoopRegion, Tile
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.cpu.pipeline import forward_program

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def tiny(name: str, batch: int = 3) -> Problem:
    """A tiny workload with numbers in it."""
    return Problem.draw(TINY_WORKLOADS[name].build().freeze(), batch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Opponents of the tiny cases, searched and ranked in a moment."""
    opponents.main(
        ["search", "--cases", *TINY_WORKLOADS, "--seconds", "0", "--folder", f"{tmp_path}"]
    )
    arguments = ["--batches", "2", "64", "--folder", str(tmp_path)]
    opponents.main(["rank", "--cases", *TINY_WORKLOADS, *arguments])
    return tmp_path


# -- opponents ---------------------------------------------------------------------------------


def test_each_case_has_stored_opponents() -> None:
    """All layers of the targets have trees that fit them now, ranked at the batch sizes timed."""
    for case, workload in KERNEL_WORKLOADS.items():
        problem = Problem.draw(workload.build().freeze(), 1)
        stored = opponents.load(case, problem)
        assert stored.search["processor_seconds"] >= 60
        measured = {(entry["batch"], entry["mode"]) for entry in stored.fastest}
        wanted = {(b, m) for b in kernels.BATCHES for m in (opponents.INFER, opponents.TRAIN)}
        assert measured >= wanted, case
        for tree in stored.trees:
            assert sum(len(pair) - 1 for pair in tree.path) == len(problem.terms) - 1


def test_opponents_are_stored_and_read_again(folder: Path) -> None:
    """What a search finds comes back as it was, with the fastest tree of each batch size."""
    problem = tiny("tiny-mera")
    stored = opponents.load("tiny-mera", problem, folder)
    assert len({tree.path for tree in stored.trees}) == len(stored.trees) > 0
    assert {entry["batch"] for entry in stored.fastest} == {2, 64}
    assert opponents.save("tiny-mera", stored, folder).exists()
    assert opponents.load("tiny-mera", problem, folder) == stored


def test_opponents_of_another_network_are_refused(folder: Path) -> None:
    """Paths of a network that has changed are no opponents; neither are none."""
    opponents.path_of("tiny-mera", folder).replace(opponents.path_of("tiny-tt", folder))
    with pytest.raises(ValueError, match="for another network than tiny-tt"):
        opponents.load("tiny-tt", tiny("tiny-tt"), folder)
    with pytest.raises(FileNotFoundError, match="no stored opponents for tiny-mera"):
        opponents.load("tiny-mera", folder=folder)


def test_the_opponent_is_that_of_the_nearest_batch_size() -> None:
    """A batch size takes the tree of the largest one measured below it, else of the least."""
    trees = tuple(Tree(name, ((0, 1),), 1.0, 1.0) for name in "abc")
    fastest = tuple(
        {"batch": batch, "mode": "infer", "tree": number}
        for number, batch in enumerate((1, 50, 256))
    )
    stored = opponents.Opponents({}, {}, trees, fastest)
    found = [stored.best(batch, "infer").objective for batch in (0, 1, 49, 50, 200, 1024)]
    assert found == ["a", "a", "a", "b", "b", "c"]
    with pytest.raises(ValueError, match="no tree was timed for train"):
        stored.best(1, "train")


def test_a_quicker_measurement_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ranking that something disturbed does not replace a quicker one."""
    case = "tiny-tt"
    stored = opponents.load(case, folder=folder)
    quick = [{**entry, "seconds": 0.0} for entry in stored.fastest]
    before = opponents.Opponents(stored.network, stored.search, stored.trees, tuple(quick))
    assert opponents.rank(case, before, [2]).fastest == tuple(quick)
    slow = [{**entry, "seconds": 1e9} for entry in stored.fastest]
    before = opponents.Opponents(stored.network, stored.search, stored.trees, tuple(slow))
    seconds = {e["batch"]: e["seconds"] for e in opponents.rank(case, before, [2]).fastest}
    assert seconds[2] < 1e9
    assert seconds[64] == 1e9


def test_compiling_a_chain_has_a_time_limit(folder: Path) -> None:
    """torch.compile that takes too long, or is left out, is a reason and not a hang."""
    for fails_cleaning_up in (False, True):
        with pytest.raises(TimeoutError, match=r"longer than 0\.01 s"), rivals.time_limit(0.01):
            try:
                time.sleep(60)
            finally:
                if fails_cleaning_up:
                    raise AttributeError("half built")
    with pytest.raises(KeyError), rivals.time_limit(60):
        raise KeyError("its own")
    problem = tiny("tiny-tt")
    with pytest.raises(CannotRun, match="left out"):
        rivals.compiled_chain(problem, opponents.load("tiny-tt", problem, folder), 0)


# -- work and bounds ---------------------------------------------------------------------------


def test_multiply_adds_are_counted() -> None:
    """A tile counts rows x columns x terms x loops x lanes, in each turn and block; copies none."""
    product = Tile(
        At("y", terms=(("i", 8),)),
        At("x"),
        At("w", form="splat"),
        rows=((0, 0), (4, 4)),
        sums=((0, 0), (0, 1), (0, 2)),
        loops=(Axis(5, 0, 3),),
    )
    copied = Tile(At("y"), At("x"), None)
    single = Tile(At("w2", form="scalar"), At("w", form="scalar"), At("w", form="scalar"))
    program = verified(
        LoopProgram(
            "p",
            "float32",
            4,
            2,
            (
                Buffer("x", 16, "input", batched=True),
                Buffer("w", 15, "input"),
                Buffer("y", 16, "output", batched=True),
                Buffer("w2", 1, "shared"),
            ),
            (single,),
            (LoopRegion("s", "", (For("i", 2, (product, copied)),)),),
            (),
        )
    )
    # Five samples are three blocks of two.
    work = work_of([program], 5)
    assert work.flops == 2 * (1 + 3 * 2 * (2 * 3 * 5 * 4))
    assert work.bytes == 4 * (5 * 16 + 15 + 5 * 16)
    assert work_of([program, program], 5) == work + work


@pytest.mark.parametrize("name", TINY_WORKLOADS)
def test_executed_work_is_no_less_than_the_plan(name: str) -> None:
    """A kernel executes the plan's FLOPs at least, and not many times as many."""
    plan = tn.plan(TINY_WORKLOADS[name].build(), batch=8, minimize="flops")
    work = work_of([forward_program(plan, Cpu(vector_bytes=16, registers=16))], 8)
    needed = plan.counts.flops.at(8)
    assert needed <= work.flops <= 4 * needed


def test_the_bound_is_what_takes_longer() -> None:
    """Time at the peak over time measured, for arithmetic and for traffic."""
    peaks = Peaks(flops=1e9, bandwidth=1e8, copied_bytes=1)
    bound = bound_of(Work(flops=5 * 10**8, bytes=10**7), 1.0, peaks)
    assert (bound.name, bound.share) == ("multiply-adds", 0.5)
    assert bound.share_of_bandwidth == pytest.approx(0.1)
    bound = bound_of(Work(flops=10**8, bytes=4 * 10**7), 1.0, peaks)
    assert (bound.name, bound.share) == ("bandwidth", pytest.approx(0.4))


@needs_compiler
def test_peaks_are_measured() -> None:
    """Both rates are those of a real machine, and not of a loop that was optimised away."""
    peaks = measure_peaks(2**14, 16, runs=1)
    assert 1e8 < peaks.flops < 1e13
    assert 1e8 < peaks.bandwidth < 1e13


def test_kernels_of_a_program_are_found() -> None:
    """A program of torch calls has no loop program; its work is not taken for all there is."""
    net = TINY_WORKLOADS["tiny-tt"].build()
    assert rivals.loop_programs(compile_network(net, backend="torch"), train=True) == ((), False)
    if has_compiler():
        program = compile_network(net, backend="cpp")
        for train, count in ((False, 1), (True, 2)):
            found, whole = rivals.loop_programs(program, train=train)
            assert (len(found), whole) == (count, True)


# -- targets -----------------------------------------------------------------------------------


def test_targets_are_those_of_the_table() -> None:
    """Full at batch 256, 0.8 of the ratios at 50, single calls forward only, none elsewhere."""
    both = targets.BOTH
    found = targets.targets_of("mera-2", 256, both)
    assert found == {targets.CHAIN: 7, targets.DENSE: 30, targets.BOUND: 0.5}
    assert targets.targets_of("mera-2", 50, both) == {
        targets.CHAIN: pytest.approx(5.6),
        targets.DENSE: pytest.approx(24),
    }
    assert targets.targets_of("tree-2", 1, targets.FORWARD) == {targets.CHAIN: 8}
    assert targets.targets_of("btt", 1, targets.FORWARD) == {targets.CHAIN: 4}
    assert targets.targets_of("btt", 1, both) == {}
    assert targets.targets_of("btt", 1024, both) == targets.targets_of("none", 256, both) == {}


def test_a_target_that_was_not_measured_is_missed() -> None:
    """Each target of a cell is met or missed; there is no third."""
    reached = {targets.CHAIN: 8.0, targets.BOUND: None}
    met, missing = targets.judge("mera-2", 256, targets.FORWARD, reached)
    assert (met.what, met.met) == (targets.CHAIN, True)
    assert (missing.what, missing.met, missing.reached) == (targets.BOUND, False, None)


def test_a_missed_target_is_marked() -> None:
    """The table says MISSED, names the best chain, and counts what is met."""

    def ran(median: float) -> dict[str, object]:
        return {"status": "ok", "median": median, "slow": False, "notes": {}}

    methods = {"dense": ran(9.0), "cotengra": ran(2.0), "cpp": ran(0.5)}
    methods["compiled chain"] = {"status": "cannot", "reason": "no time"}
    cell = {"case": "tree-2", "batch": 1, "mode": targets.FORWARD, "judged": "cpp"}
    cell |= {"methods": methods}
    cell |= kernels.judged(cell, None)
    assert cell["best_chain"] == "cotengra"
    text = kernels.tables([cell])
    assert "4.00 (8 MISSED)" in text
    assert "[1] cannot: no time" in text
    assert "0 of 1 targets are met" in text


# -- runs --------------------------------------------------------------------------------------


@needs_compiler
def test_kernels_prints_tables_and_writes_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run lists each method in each cell, checked, with its best chain and the bound that holds;
    the cells of a second run join those of the first."""
    arguments = ["--budget", "0.001", "--compile-limit", "0", "--opponents", str(folder)]
    arguments += ["--parts", "cells", "--backend", "cpp", "--results", str(tmp_path)]
    for batch in ("3", "1"):
        assert kernels.main(["--cases", "tiny-tt", "--batches", batch, *arguments]) == 0
    record = json.loads((tmp_path / "cpu-kernels.json").read_text())
    cells = {(c["case"], c["batch"], c["mode"]): c for c in record["cells"]}
    assert set(cells) == {("tiny-tt", b, mode) for b in (1, 3) for mode in kernels.MODES}
    for cell in cells.values():
        for name in ("dense", "torch.einsum", "cotengra", "torch", "cpp", "auto"):
            method = cell["methods"][name]
            assert method["status"] == "ok", (cell["case"], name, method)
            assert method["max_relative_error"] < 1e-4
        assert cell["methods"]["compiled chain"]["status"] == "cannot"
        assert cell["best_chain"] in ("torch.einsum", "cotengra")
        assert cell["backend"] == "cpp"
        bound = cell["bound"]
        assert bound["whole"]
        assert 0 < bound["needed_flops"] <= bound["work"]["flops"]
        assert bound["share"] == max(bound["share_of_peak"], bound["share_of_bandwidth"])
    forward, both = (cells["tiny-tt", 3, mode]["bound"]["work"] for mode in kernels.MODES)
    assert both["flops"] > forward["flops"]
    printed = capsys.readouterr().out
    for word in ("forward, median ms", "forward+backward, against targets", "left out by"):
        assert word in printed


def test_a_run_that_is_cut_short_keeps_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written after each cell: what was measured before a crash is in it."""

    def grow(legs: int, batch: int) -> dict[str, Any]:
        if legs == 6:
            raise KeyboardInterrupt
        return {"legs": legs, "batch": batch, "failure": ""}

    monkeypatch.setattr(growth, "grow", grow)
    arguments = ["--parts", "growth", "--results", str(tmp_path), "--legs", "2", "4", "6"]
    with pytest.raises(KeyboardInterrupt):
        kernels.main(arguments)
    cells = json.loads((tmp_path / "cpu-growth.json").read_text())["cells"]
    assert [cell["legs"] for cell in cells] == [2, 4]
    assert all(cell["commit"] and cell["date"] for cell in cells)


def test_one_command_measures_all_parts() -> None:
    """Without options each case is timed at each batch size, built anew, and MERA-2 grown."""
    options = kernels.parse([])
    assert options.parts == list(kernels.PARTS)
    assert options.cases == list(KERNEL_WORKLOADS)
    assert options.batches == [1, 50, 256]
    assert options.legs == [10, 12, 14, 16, 18, 20]


@needs_compiler
def test_build_times_are_of_an_empty_store_and_of_a_filled_one() -> None:
    """Both processes report all stages; the second one compiles nothing."""
    cell = builds.build_times("tiny-tt")
    assert cell["failure"] == ""
    for which in (builds.COLD, builds.STORED):
        assert set(cell[which]) == set(builds.STAGES)
    rows = builds.table([cell]).splitlines()
    assert "-" not in rows[3].split()


def test_a_build_that_fails_is_recorded() -> None:
    """A process that runs out of time leaves its reason, and its targets are missed."""
    cell = builds.build_times("tiny-tt", seconds=0.01)
    assert cell["failure"] == "cold: stopped after 0.01 s"
    text = builds.table([cell])
    assert "tiny-tt failed: cold: stopped" in text
    assert len(builds.misses(cell)) == text.count("MISSED") == 4


@needs_compiler
def test_growth_records_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build times, times a sample and memory of a small MERA are all in the cell and the table."""
    monkeypatch.setattr(growth, "BUDGET", 0.001)
    cell: dict[str, Any] = {"legs": 4, "features": 16, "batch": 2, "failure": ""}
    for stage in growth.stages(4, 2):
        cell |= stage
    rows = growth.table([cell]).splitlines()
    assert "-" not in rows[-1].split()
    assert cell["forward+backward_peak_memory_bytes"] > 2**20


def test_a_size_that_fails_is_recorded() -> None:
    """A child that runs out of time, or that raises, leaves a row with its reason."""
    cell = growth.grow(4, 2, seconds=0.01)
    assert cell["failure"] == "stopped after 0.01 s"
    assert "4 legs failed: stopped after" in growth.table([cell])
    row = growth.table([{**cell, "legs": growth.TARGET_LEGS}]).splitlines()
    assert row[-1].endswith("MISSED")


def test_cells_of_another_schema_are_dropped(tmp_path: Path) -> None:
    """Cells of the same schema join; those that an older version wrote do not."""
    path = tmp_path / "cells.json"
    fresh = [{"case": "a", "batch": 1, "mode": "m", "x": 1}]
    old = [{**fresh[0], "x": 0}, {**fresh[0], "case": "b"}]
    path.write_text(json.dumps({"schema": kernels.SCHEMA, "cells": old}))
    assert kernels.merged(path, fresh, kernels.KEYS[kernels.CELLS]) == [old[1], *fresh]
    path.write_text(json.dumps({"schema": 1, "cells": old}))
    assert kernels.merged(path, fresh, kernels.KEYS[kernels.CELLS]) == fresh
