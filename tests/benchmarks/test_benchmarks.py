"""The benchmarks run, check what they time and hide nothing; no test looks at a speed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import benchmarks.half_precision as half_precision
import benchmarks.layers as layers
import benchmarks.scaling as scaling
from benchmarks.common.baselines import (
    METHODS,
    OURS,
    CannotRun,
    Runner,
    cotengra_expression,
    dense,
    dense_matrix,
    tensorkrowch_traced,
    torch_einsum,
    train_cores,
)
from benchmarks.common.problem import Problem
from benchmarks.common.report import format_table, headline
from benchmarks.common.search import rank_by_time, trees
from benchmarks.common.timing import Call, Timing, time_alternating
from benchmarks.common.workloads import TINY_WORKLOADS, WORKLOADS
from tnlayer import topologies


def tiny(name: str, batch: int = 3) -> Problem:
    """A tiny workload with numbers in it."""
    return Problem.draw(TINY_WORKLOADS[name].build().freeze(), batch)


def prepared(method: layers.Method, problem: Problem) -> layers.Entry:
    """A method, checked against float64."""
    return layers.prepare(method, problem, layers.Reference(problem).expected(problem))


def test_timing_takes_turns_and_keeps_the_statistics() -> None:
    """Every callable is timed several times, in an order that changes from round to round."""
    log: list[str] = []
    timings = time_alternating(
        {name: lambda name=name: log.append(name) for name in "abc"}, budget=0.001
    )
    assert list(timings) == ["a", "b", "c"]
    for timing in timings.values():
        assert timing.runs >= 3
        assert timing.minimum <= timing.lower_quartile <= timing.median <= timing.upper_quartile
        assert not timing.slow
    firsts = {log[start] for start in range(6, len(log), 21)}
    assert len(firsts) > 1, "the same callable went first in every round"


def test_slow_calls_are_timed_once_and_marked() -> None:
    """A callable known to be far beyond the limit is not called again."""
    calls: list[str] = []
    timings = time_alternating(
        {"slow": lambda: calls.append("slow")}, slow_limit=3.0, known={"slow": 7.5}
    )
    assert timings["slow"] == Timing(1, 7.5, 7.5, 7.5, 7.5, slow=True)
    assert calls == []


def test_workloads_are_the_ones_of_the_paper_and_the_field() -> None:
    """The seven layers map 4096 features to 4096, with the parameters that their formulas give."""
    graphs = {name: workload.build().freeze() for name, workload in WORKLOADS.items()}
    assert all(g.in_features == g.out_features == 4096 for g in graphs.values())
    counts = {name: graph.parameter_count for name, graph in graphs.items()}
    assert counts == {
        "mera-2": 304,
        "mera-3": 963,
        "tt-3": 2 * 2 * (3 + 10 * 9 + 3),
        "tt-7": 2 * 2 * (7 + 10 * 49 + 7),
        "tt16-8": 256 * (8 + 64 + 8),
        "tt16-32": 256 * (32 + 32 * 32 + 32),
        "btt": 2 * 2 * 64**3,
    }


def test_dense_matrix_is_the_product_of_the_cores() -> None:
    """The reference matrix equals numpy's contraction of a tensor train written by hand."""
    problem = tiny("tiny-tt")
    a, b, c = (value.double() for value in problem.parameters.values())
    legs = [problem.graph.nodes[name].legs for name in problem.parameters]
    assert legs == [("i0", "j0", "b0"), ("b0", "i1", "j1", "b1"), ("b1", "i2", "j2")]
    expected = np.einsum("ixa,ajyb,bkz->xyzijk", a.numpy(), b.numpy(), c.numpy()).reshape(8, 8)
    double = {name: value.double() for name, value in problem.parameters.items()}
    assert np.allclose(dense_matrix(problem, double).numpy(), expected, rtol=1e-12)


def test_fixed_legs_are_sliced_for_each_node() -> None:
    """With fixed output legs the baselines still agree with float64, values and gradients."""
    problem = Problem.draw(topologies.mera(4, 2, 2, True).freeze(), 3)
    assert problem.graph.out_features < problem.graph.in_features
    for method in (torch_einsum, cotengra_expression, dense):
        entry = prepared(method, problem)
        assert entry.reason == ""
        assert not entry.wrong, entry.errors


def test_a_wrong_method_is_found_out() -> None:
    """A result or a gradient that is off by one percent is marked as wrong."""

    def off(problem: Problem) -> Runner:
        right = torch_einsum(problem)
        return Runner(lambda x: right.infer(x) * 1.01, right.train, right.leaves)

    def off_in_training(problem: Problem) -> Runner:
        right = torch_einsum(problem)

        def train(x: Tensor) -> Tensor:
            y = right.train(x)
            return y + 0.01 * (right.train(x) - y.detach())

        return Runner(right.infer, train, right.leaves)

    problem = tiny("tiny-mera")
    assert prepared(off, problem).wrong
    assert prepared(off_in_training, problem).wrong
    assert not prepared(torch_einsum, problem).wrong


def test_a_method_that_cannot_run_keeps_its_reason() -> None:
    """Refusals and errors become reasons in the table; no method disappears."""

    def refuse(problem: Problem) -> Runner:
        raise CannotRun("no such topology")

    def fail(problem: Problem) -> Runner:
        raise RuntimeError("out of letters\nand more")

    problem = tiny("tiny-tt")
    assert prepared(refuse, problem).reason == "no such topology"
    assert prepared(fail, problem).reason == "RuntimeError: out of letters"
    record = layers.method_record(prepared(refuse, problem), None)
    assert record == {"status": "cannot", "reason": "no such topology"}


def test_losing_cells_are_marked() -> None:
    """A cell where tnlayer is slower than a rival says so in the table."""

    def ran(median: float) -> dict[str, object]:
        return {"status": "ok", "median": median, "slow": False}

    methods = {name: {"status": "cannot", "reason": "absent"} for name in METHODS}
    methods |= {OURS: ran(2e-3), "dense": ran(4e-3), "cotengra": ran(1e-3)}
    cell = {"case": "made up", "batch": 1, "mode": layers.MODES[0], "methods": methods}
    cell |= layers.ratios(methods)
    assert cell["best_baseline"] == "cotengra"
    row = layers.tables([cell]).splitlines()[3]
    assert row.split()[-4:] == ["0.50", "2.00", "(!)", "cotengra"]
    assert "cannot[1]" in row


def test_tensor_trains_are_recognised() -> None:
    """A tensor train yields its cores left to right; other topologies are none."""
    cores = train_cores(tiny("tiny-tt").graph)
    assert cores is not None
    assert [core.node.name for core in cores] == ["core_0", "core_1", "core_2"]
    assert [core.left for core in cores] == [None, "b0", "b1"]
    for core in cores:
        gradient = torch.arange(float(np.prod(core.shape))).reshape(core.shape)
        assert torch.equal(core.restore(gradient.permute(core.axes)), gradient)
    assert train_cores(tiny("tiny-mera").graph) is None
    assert train_cores(tiny("tiny-btt").graph) is None


def test_hyperedges_are_no_case_for_tensorkrowch() -> None:
    """A leg with three ends is refused by name before TensorKrowch is even imported."""
    with pytest.raises(CannotRun, match="leg i0 has 3 ends"):
        tensorkrowch_traced(tiny("tiny-btt"))


def test_trees_are_ranked_and_failures_come_last() -> None:
    """The candidates of each objective are distinct; one that raises keeps its error."""
    problem = tiny("tiny-mera")
    found = trees(problem.terms, problem.output_term, problem.sizes)
    assert len({tree.path for tree in found}) == len(found)

    def make_call(tree: object) -> Call:
        if tree is found[0]:
            raise MemoryError("too large")
        return lambda: None

    ranked = rank_by_time(found, make_call)
    assert [c.error for c in ranked if c.seconds is None] == ["MemoryError: too large"]
    assert ranked[-1].tree is found[0]


def test_stored_trees_join_unless_they_do_not_fit() -> None:
    """A path of an earlier run is a candidate; one with another number of operands is not."""
    problem = tiny("tiny-tt")
    found = {tree.path for tree in trees(problem.terms, problem.output_term, problem.sizes)}
    other = ((2, 3), (1, 2), (0, 1))
    assert other not in found, "rebuilding the whole matrix is best for no objective"
    joined = trees(problem.terms, problem.output_term, problem.sizes, [other, ((0, 1), (0, 1))])
    assert {tree.path for tree in joined} == {*found, other}
    assert [tree.path for tree in joined if tree.objective == "stored"] == [other]


def test_layers_prints_tables_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run on tiny cases lists each method in each cell, checked, with machine and versions."""
    output = tmp_path / "layers.json"
    arguments = ["--device", "cpu", "--cases", *TINY_WORKLOADS, "--batches", "1", "3"]
    arguments += ["--budget", "0.001", "--trees", str(tmp_path / "none"), "--output", str(output)]
    assert layers.main(arguments) == 0
    printed = capsys.readouterr().out
    record = json.loads(output.read_text())
    assert len(record["cells"]) == len(TINY_WORKLOADS) * 2 * len(layers.MODES)
    for cell in record["cells"]:
        assert list(cell["methods"]) == list(METHODS)
        for name in (OURS, "dense", "torch.einsum", "cotengra"):
            method = cell["methods"][name]
            assert method["status"] == "ok", (cell["case"], name, method)
            assert method["max_relative_error"] < 1e-4
            assert 0 < method["minimum"] <= method["median"]
        assert cell["ours_over_best"] >= cell["ours_over_dense"] or cell["best_baseline"] == "dense"
        assert cell["methods"]["cotengra"]["notes"]["infer"][0]["tree"]["path"]
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["torch_threads"] == torch.get_num_threads()
    for word in ("forward, median ms", "forward+backward, median ms", *METHODS, *TINY_WORKLOADS):
        assert word in printed
    assert "cannot: leg i0 has 3 ends" in printed
    stored = layers.stored_trees(output)
    assert set(stored) == {(case, batch) for case in TINY_WORKLOADS for batch in (1, 3)}
    assert all(len(path) >= 2 for paths in stored.values() for path in paths)


@pytest.mark.parametrize("method", ["tltorch fact.", "tltorch recon.", "tensorkrowch"])
def test_optional_rivals_run_or_say_what_to_install(method: str) -> None:
    """Where the package is there, its layer agrees with float64; else the reason names it."""
    module = "tensorkrowch" if method == "tensorkrowch" else "tltorch"
    entry = prepared(METHODS[method], tiny("tiny-tt"))
    if importlib.util.find_spec(module) is None:
        assert "is not installed (pip install 'tnlayer[bench]')" in entry.reason
    else:
        assert entry.reason == ""
        assert not entry.wrong, entry.errors


def test_exponents_are_fitted() -> None:
    """A power law gives its exponent back, and the verdict compares it with the claim."""
    points = [(2.0**n, 5 * 2.0 ** (1.5 * n)) for n in range(4, 10)]
    found = scaling.fit("made up", "N", 1.5, points)
    assert found.exponent == pytest.approx(1.5)
    assert found.last_exponent == pytest.approx(1.5)
    assert found.standard_error < 1e-9
    assert found.verdict == "holds"
    assert scaling.fit("made up", "N", 1.2, points).verdict == "grows faster"
    assert scaling.fit("made up", "N", 2.0, points).verdict == "grows slower"


def test_multiplications_in_layer_order_are_counted() -> None:
    """Core by core, a train of two cores costs what counting by hand gives; planned is no more."""
    graph = scaling.tensor_train(2, 3)
    # Core 0: i0 i1 j0 b0; core 1: i1 j0 b0 j1.
    assert scaling.layer_order_multiplications(graph) == 2 * 2 * 2 * 3 + 2 * 2 * 3 * 2
    for legs, bond in ((4, 2), (5, 3), (6, 4)):
        graph = scaling.mera(legs, bond)
        planned, proven = scaling.planned_multiplications(graph)
        assert proven
        assert 2**legs <= planned <= scaling.layer_order_multiplications(graph)


def test_scaling_prints_claims_beside_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaling run prints claim, fit and verdict for counts and times, and writes them."""
    monkeypatch.setattr(scaling, "LEGS", (4, 5, 6))
    monkeypatch.setattr(scaling, "TIMED_LEGS", (4, 5))
    output = tmp_path / "scaling.json"
    assert scaling.main(["--quick", "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    titles = [fit["quantity"] for fit in record["fits"]]
    assert "MERA-3, layer order" in titles
    assert "dense, seconds at batch 64" in titles
    assert {fit["verdict"] for fit in record["fits"]} <= {"holds", "grows faster", "grows slower"}
    assert {point["layer"] for point in record["times"]} == {"MERA-2", "MERA-3", "TT-4", "dense"}
    printed = capsys.readouterr().out
    assert all(title in printed for title in titles)
    assert "N = number of input features" in printed


def test_half_precision_stands_beside_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each cell has all three dtypes and their dense layers at batch 1, and what ran them."""
    monkeypatch.setattr(half_precision, "FEATURES", 16)
    monkeypatch.setattr(
        half_precision, "LAYERS", {"low-rank": lambda: topologies.low_rank(16, 16, 2)}
    )
    output = tmp_path / "half.json"
    call = ["--layers", "low-rank", "--batches", "1", "--budget", "0.05", "--output", str(output)]
    assert half_precision.main(call) == 0
    assert "bf16/f32" in capsys.readouterr().out
    cells = json.loads(output.read_text())["cells"]
    assert [cell["mode"] for cell in cells] == ["forward", "training"]
    for cell in cells:
        assert {*cell["backends"]} == {*half_precision.DTYPES}
        dense = {f"dense {kind}" for kind in half_precision.DTYPES}
        assert {*cell["ms"]} == {*half_precision.DTYPES, *dense}


def test_a_busy_machine_is_named() -> None:
    """The headline warns of times that were taken while something else was running."""
    machine = {"cpu": "c", "cores": 2, "torch_threads": 2, "load_average_at_start": 0.1}
    record = {"machine": machine, "versions": {"torch": "2", "tensorkrowch": None}}
    assert headline(record) == "c, 2 cores, 2 torch threads, fp32; torch 2"
    machine["load_average_at_start"] = 2.5
    assert "BUSY: load average 2.5" in headline(record)


def test_tables_are_aligned() -> None:
    """The first column stands left, the others right, all lines at the same columns."""
    lines = format_table(["case", "ms"], [["a", "1"], ["longer", "100"]]).splitlines()
    assert lines == ["case     ms", "------  ---", "a         1", "longer  100"]
