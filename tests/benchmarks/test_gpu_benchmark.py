"""The GPU benchmark's script, without a GPU: what it checks and records; nothing stops it."""

from __future__ import annotations

import ctypes
import json
import math
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from benchmarks.common.problem import Problem
from benchmarks.common.workloads import TINY_WORKLOADS
from benchmarks.gpu import run as gpu
from benchmarks.gpu.checks import SANITIZED, SMALL, check, guard, poisoned, sanitize
from benchmarks.gpu.clock import Clock, OutOfTime, Sample, at_most
from benchmarks.gpu.methods import CASES, chain, pairwise, stored_trees
from benchmarks.gpu.report import TARGETS, summary, targets
from tests.support.emulated import emulated_gpu
from tests.support.waiting import comes_true
from tnlayer.backends.cuda_program import CudaProgram
from tnlayer.backends.cuda_unit import Loaded
from tnlayer.backends.toolchains import cuda_driver

__all__ = ["emulated_gpu"]  # the fixture


def run_in(folder: Path, budget: float = 60.0) -> gpu.Run:
    """An empty run on the CPU."""
    options = gpu.options_of(["--commit", "none"])
    record = gpu._fresh_record([], options, "torch")
    return gpu.Run(Clock("cpu", repeat=2), folder / "found.json", record, budget, "torch")


def on_disk(run: gpu.Run) -> dict[str, Any]:
    """What the run has written."""
    return json.loads(run.output.read_text())


def test_a_dry_run_checks_and_times_emulated_kernels(
    emulated_gpu: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts run with our kernels in the emulator; each cell is there, none failed."""
    # However long they take on a busy machine.
    monkeypatch.setattr(gpu, "at_most", lambda seconds: nullcontext())
    monkeypatch.setattr(gpu, "HANGS", 1e6)
    output = tmp_path / "found.json"
    words = ["--dry", "--batches", "3", "--cases", "tiny-tt", "--parts", "check", "memory", "time"]
    assert gpu.main([*words, "--output", str(output), "--commit", "abc"]) == 0
    record = json.loads(output.read_text())
    assert record["commit"] == "abc" and record["backend"] == "cuda"
    assert {"torch", "python", "cuda-core"} <= set(record["versions"])
    assert [entry["net"] for entry in record["checks"]] == ["kronecker", "low_rank", "tiny-tt"]
    assert all(entry["result"]["error"] < 1e-5 for entry in record["checks"])
    guards, *tools = record["memory"]
    assert guards["result"]["clean"] and guards["result"]["launches"] >= 8
    assert [entry["tool"] for entry in tools] == ["memcheck", "racecheck"]
    made = {entry["method"]: entry["result"] for entry in record["built"]}
    assert made["tnlayer cuda"]["runs"] and made["tnlayer cuda"]["predicted_forward"] > 0
    names = {
        "tnlayer cuda", "tnlayer cuda bf16", "dense fp32", "dense tf32", "dense bf16",
        "tnlayer torch", "chain, best forward", "chain, best forward+backward",
    }  # fmt: skip
    timed = {(entry["method"], entry["mode"]) for entry in record["times"]}
    assert timed == {(name, mode) for name in names for mode in gpu.MODES}
    assert not [e for p in ("checks", "built", "times") for e in record[p] if "failed" in e]
    assert all(entry["result"]["median"] > 0 for entry in record["times"])


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script says so, and writes no file."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    assert gpu.main(["--output", str(tmp_path / "found.json")]) == 2
    assert "nothing was measured" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_failures_are_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    """An error and a slow cell leave their reasons; the file is whole after each cell."""
    run = run_in(tmp_path)
    run.cell("checks", {"net": "wrong"}, lambda: 1 / 0, 5)
    assert on_disk(run)["checks"][0]["failed"].startswith("ZeroDivisionError")
    run.cell("checks", {"net": "slow"}, lambda: [time.sleep(0.01) for _ in range(1000)], 0.05)
    run.cell("checks", {"net": "right"}, lambda: {"error": 0.0}, 5)
    found = on_disk(run)["checks"]
    assert [entry.get("failed", "")[:12] for entry in found] == ["ZeroDivision", "took longer ", ""]
    assert found[2]["result"] == {"error": 0.0}


def test_a_spent_budget_is_said_in_each_cell(tmp_path: Path) -> None:
    """No work begins after the end of the run, and no cell is silently missing."""
    run = run_in(tmp_path, budget=0.0)
    run.cell("checks", {"net": "late"}, lambda: pytest.fail("ran"), 5)
    gpu.time_method(run, "tiny-tt", 2, "ours", lambda: pytest.fail("ran"))
    record = on_disk(run)
    assert [entry["failed"] for p in ("checks", "built") for entry in record[p]] == [
        "no time left in this run"
    ] * 2


def test_a_faulting_kernel_costs_one_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that the device refuses is replaced; the next one skips that cell."""
    started: list[str] = []
    run = run_in(tmp_path)
    run.restart = lambda: started.append("again")
    monkeypatch.setattr(Clock, "is_healthy", lambda clock: False)
    run.cell("checks", {"net": "faults"}, lambda: 1 / 0, 5)
    assert started == ["again"] and on_disk(run)["restarts"] == 1
    again = gpu.Run(run.clock, run.output, on_disk(run), 60.0, "torch")
    again.cell("checks", {"net": "faults"}, lambda: pytest.fail("ran"), 5)
    again.cell("checks", {"net": "next"}, lambda: 1.0, 5)
    assert [entry["net"] for entry in on_disk(again)["checks"]] == ["faults", "next"]


def test_a_hanging_cell_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that no signal ends is recorded by the watch, which starts a fresh process."""
    started: list[str] = []
    run = run_in(tmp_path)
    run.restart = lambda: started.append("again")
    monkeypatch.setattr(gpu, "HANGS", 0.05)
    monkeypatch.setattr(gpu, "at_most", lambda seconds: torch.no_grad())  # no signal
    run.cell("checks", {"net": "hangs"}, lambda: comes_true(lambda: started != []), 0.05)
    assert started == ["again"]
    assert on_disk(run)["checks"][0]["failed"] == "hangs: given up"


def test_at_most_leaves_no_alarm() -> None:
    """A quick body is not disturbed later; a slow one is ended."""
    with at_most(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.raises(OutOfTime, match="longer than"), at_most(0.02):
        time.sleep(60)


def test_checks_find_wrong_results(
    emulated_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that is off, and one that is not written, fail the check."""
    net = SMALL["low_rank"]
    assert check(net(), "cpu", "cuda", (3,))["error"] < 1e-6
    right = CudaProgram.build

    def wrong(program: CudaProgram, mask: Any) -> Any:
        kernels = right(program, mask)

        def forward(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            (y,) = kernels.forward(*arrays)
            y[0, 0] *= 1.01
            return (y,)

        return type(kernels)(forward, kernels.backward, kernels.needed, "")

    monkeypatch.setattr(CudaProgram, "build", wrong)
    with pytest.raises(ArithmeticError, match="result 0 at batch 3"):
        check(net(), "cpu", "cuda", (3,))

    def unwritten(program: CudaProgram, mask: Any) -> Any:
        kernels = right(program, mask)
        return type(kernels)(
            lambda *arrays: (torch.empty_like(kernels.forward(*arrays)[0]),),
            kernels.backward, kernels.needed, "",
        )  # fmt: skip

    monkeypatch.setattr(CudaProgram, "build", unwritten)
    with pytest.raises(ArithmeticError, match="off by nan"):
        check(net(), "cpu", "cuda", (3,))


def test_guards_find_writes_outside(
    emulated_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte behind, before, or in an input: the memory check fails and says where; the guards
    are gone afterwards."""
    right, launch = cuda_driver.launch, Loaded.launch
    assert guard("cpu", "cuda", ("low_rank",))["launches"] > 0
    low_rank = SMALL["low_rank"]().freeze()
    behind = 4 * 5 * low_rank.in_features  # x is the first argument
    for offset, words in ((behind, "writes behind x0"), (-1, "writes before x0"), (8, "its input")):

        def wrong(function: Any, *arguments: Any, at: int = offset) -> None:
            right(function, *arguments)
            (given,) = [a for a in arguments if isinstance(a, cuda_driver.Arguments)]
            ctypes.memset(given._values[0] + at, 1, 1)

        monkeypatch.setattr(cuda_driver, "launch", wrong)
        with pytest.raises(ArithmeticError, match=words):
            guard("cpu", "cuda", ("low_rank",))
    assert Loaded.launch is launch


def test_every_checked_network_runs_in_kernels() -> None:
    """What the run checks is kernels, never torch in their place."""
    for name, net in SMALL.items():
        assert tn.cost(net(), batch=256, backend="cuda", effort="fast").backend == "cuda", name


def test_poisoned_memory_is_nan() -> None:
    """Inside, fresh arrays hold NaN; outside, torch is as it was."""
    with poisoned():
        assert torch.empty(100).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_missing_sanitizer_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tool is not installed the record says so."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert sanitize("memcheck") == {"absent": "compute-sanitizer is not on PATH"}
    assert set(SANITIZED) <= set(SMALL)


@pytest.mark.parametrize("case", CASES)
def test_stored_trees_fit_their_networks(case: str) -> None:
    """Every stored tree contracts all tensors of its network, one after the other."""
    graph = CASES[case].build().freeze()
    problem = Problem.draw(graph, 2)
    paths = stored_trees()[case]
    assert len(paths) > 1 or len(graph.tensors) < 4
    for path in paths:
        assert len(pairwise(list(problem.terms), problem.output_term, path)) == len(graph.tensors)


def test_chains_compute_what_the_network_means() -> None:
    """Chains of all stored trees give y and gradients as the layer does."""
    graph = CASES["btt"].build().freeze()
    problem = Problem.draw(graph, 2)
    layer = tn.Layer(graph, backend="torch", effort="fast")
    with torch.no_grad():
        for name, value in problem.parameters.items():
            layer.get_parameter(name).copy_(value)
    expected = layer(problem.x)
    right = torch.autograd.grad(expected, list(layer.parameters()), problem.grad)
    for path in stored_trees()["btt"]:
        method = chain(problem, path, "cpu")
        y = method.call(problem.x)
        torch.testing.assert_close(y, expected, rtol=1e-3, atol=1e-4)
        found = torch.autograd.grad(y, method.leaves, problem.grad)
        for one, other in zip(found, right, strict=True):
            assert float((one - other).norm() / other.norm()) < 1e-4


def test_pairwise_keeps_a_hyperedge_until_its_last_use() -> None:
    """A leg on three tensors stays through the first contraction and is summed in the last."""
    steps = pairwise([(0, 1), (1, 2), (1, 3)], (0, 2, 3), ((0, 1), (0, 1)))
    arrays = [np.random.default_rng(k).normal(size=(2, 2)) for k in range(3)]
    expected = np.einsum("ab,bc,bd->acd", *arrays)
    for low, high, equation in steps:
        right, left = arrays.pop(high), arrays.pop(low)
        arrays.append(np.einsum(equation, left, right))
    np.testing.assert_allclose(arrays[0], expected)
    with pytest.raises(ValueError, match="two operands"):
        pairwise([(0,), (0,), (0,)], (), ((0, 1, 2),))


def test_inputs_rotate_through_more_than_the_cache() -> None:
    """On a GPU small batches get many sets, large ones two; on a CPU two do."""
    problem = Problem.draw(TINY_WORKLOADS["tiny-tt"].build().freeze(), 3)
    assert len(gpu.Inputs.draw(problem, torch.float32, "cpu").x) == 2


def test_the_clock_counts_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input set is read equally often, and a time is that of one call."""
    seen: list[int] = []
    monkeypatch.setattr("time.perf_counter", lambda: 0.002 * len(seen))
    found = Clock("cpu", repeat=2).eager(seen.append, 3)
    assert found.runs == 2 and math.isclose(found.median, 0.002)
    assert seen[-6:] == [0, 1, 2, 0, 1, 2]


def test_targets_and_table_come_from_the_record() -> None:
    """Ratios are baseline over ours; the best of several chains counts; what failed is listed."""
    sample = {"median": 1e-5, "lower": 1e-5, "upper": 1e-5, "runs": 3}
    labels = {"case": "mera-2", "batch": 4096, "mode": "forward", "way": "graph"}
    times = [
        {**labels, "method": "tnlayer cuda", "result": sample},
        {**labels, "method": "dense tf32", "result": {**sample, "median": 4e-5}},
        {**labels, "method": "chain, best forward", "result": {**sample, "median": 9e-5}},
        {**labels, "method": "chain, torch.compile", "result": {**sample, "median": 5e-5}},
        {**labels, "method": "dense fp32", "failed": "out of memory"},
    ]
    record = {"times": times, "backend": "cuda", "checks": [], "memory": [], "built": []}
    found = {(t["mode"], t["baseline"]): t["reached"] for t in targets(record)}
    assert found["forward", "dense tf32"] == pytest.approx(4.0)
    assert found["forward", "chain"] == pytest.approx(5.0)
    assert found["forward", "dense fp32"] is None
    assert set(found) == {(mode, name) for mode, names in TARGETS.items() for name in names}
    text = summary(record)
    assert "4.00" in text and "1 cells failed" in text and "out of memory" in text
    assert Sample(1.0, 1.0, 1.0, 1).runs == 1
