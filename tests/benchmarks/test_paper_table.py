"""docs/paper.md's tables come out of the committed results, and answers follow from numbers."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from benchmarks.paper.__main__ import DOCS, OUT, PLOT
from benchmarks.paper.costs import flops, measure
from benchmarks.paper.document import BEGIN, Evidence, read_evidence, rebuilt, results_part
from benchmarks.paper.plot import digest_of, draw, drawn_from
from benchmarks.paper.results import Results, read_runs, results_of
from benchmarks.paper.rows import ROWS
from benchmarks.paper.statements import (
    DOES_NOT,
    HOLDS,
    OPEN,
    STATEMENTS,
    answer,
    joint_verdict,
    time_answer,
)
from tests.support.small_paper import SMALL


def write_run(
    folder: Path, row: str, seed: int, accuracy: float, data: str = "some", *, bfloat16: bool = True
) -> None:
    """A result file with what the table reads."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "row": row,
        "seed": seed,
        "protocol": folder.name,
        "data": data,
        "final_accuracy": accuracy,
        "best_accuracy": accuracy + 0.01,
        "bfloat16_convolutions": bfloat16,
    }
    (folder / f"{row}.seed{seed}.json").write_text(json.dumps(record))


def evidence_of(**accuracies: tuple[float, ...]) -> Evidence:
    """Evidence with runs by the short protocol alone; "_" stands for "-" in names of rows."""
    named = {name.replace("_", "-"): values for name, values in accuracies.items()}
    results = {"short": Results("short", named, "some"), "paper": Results("paper", {})}
    return Evidence(results, {}, {})


def test_the_document_names_runs_with_convolutions_in_float32(tmp_path: Path) -> None:
    """A table of both kinds says which run was which."""
    write_run(tmp_path / "short", "MERA-2", 0, 0.7)
    write_run(tmp_path / "short", "TT-5", 1, 0.7, bfloat16=False)
    text = rebuilt((DOCS / "paper.md").read_text(), read_evidence(tmp_path))
    assert "2 runs on some; convolutions in float32 in 1 of them (TT-5 seed 1)" in text


def test_the_document_is_what_the_committed_results_give() -> None:
    """Rebuilding docs/paper.md changes nothing; `--table` does it where this fails."""
    text = (DOCS / "paper.md").read_text()
    evidence = read_evidence(OUT)
    assert rebuilt(text, evidence) == text
    assert drawn_from(DOCS / PLOT) == digest_of(evidence)


def test_committed_runs_are_whole() -> None:
    """Each committed run has its seed, protocol, versions, commit, machine, curve and time."""
    for file in OUT.glob("*/*.seed*.json"):
        record = json.loads(file.read_text())
        assert file.name == f"{record['row']}.seed{record['seed']}.json"
        assert file.parent.name == record["protocol"] in ("short", "paper")
        assert record["curve"][-1]["step"] == record["steps"]
        assert record["final_accuracy"] == record["curve"][-1]["accuracy"]
        assert record["best_accuracy"] == max(entry["accuracy"] for entry in record["curve"])
        assert record["seconds_per_step"]["median"] > 0
        graphs = ROWS[record["row"]].graphs()
        assert record["hidden_parameters"] == [graph.parameter_count for graph in graphs]
        for session in record["sessions"]:
            assert session["versions"]["torch"] and session["commit"]
            assert session["machine"]["cpu"]
            assert not any("/" in word for word in session["command"])


def test_tables_show_mean_and_spread(tmp_path: Path) -> None:
    """Short takes the last accuracy, paper the best; smoke runs count for nothing."""
    for seed, accuracy in ((0, 0.85), (1, 0.86)):
        write_run(tmp_path / "short", "MERA-3", seed, accuracy)
    write_run(tmp_path / "paper", "FC-1", 0, 0.87)
    write_run(tmp_path / "smoke", "TT-3", 0, 0.1)
    (tmp_path / "flops.json").write_text('{"flops_a_sample": {"MERA-3": 5000000}}')
    text = results_part(read_evidence(tmp_path))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:1] == "|"}
    cells = [cell.strip() for cell in lines["MERA-3"].split("|")[1:-1]]
    assert cells[1:6] == ["4,342", "4,342", "3,925", "57.61", "86.20%"]
    assert cells[6:9] == ["85.50% (85.00% to 86.00%, 2 seeds)", "-", "5.00"]
    assert "88.00% (1 seed)" in lines["FC-1"]
    assert "2 runs on some" in text
    assert "10.00%" not in text


def test_runs_on_different_data_are_not_mixed(tmp_path: Path) -> None:
    """Accuracies on original pixels do not belong beside those on JPEGs."""
    write_run(tmp_path / "short", "MERA-3", 0, 0.85)
    write_run(tmp_path / "short", "TT-3", 0, 0.85, data="others")
    with pytest.raises(ValueError, match="different data: others, some"):
        read_evidence(tmp_path)


def test_a_file_in_the_wrong_place_is_told(tmp_path: Path) -> None:
    """A result of another protocol than its folder's, or of no row, is an error."""
    write_run(tmp_path / "short", "TT-4", 0, 0.85)
    with pytest.raises(ValueError, match="no row 'TT-4'"):
        read_runs(tmp_path)


def test_differences_have_students_interval() -> None:
    """One deviation for all rows, by its degrees of freedom: here against the formulas by hand."""
    found = {"MERA-3": (0.85, 0.86), "TT-5": (0.84, 0.85, 0.83), "FC-1": (0.9,)}
    results = Results("short", found)
    squares = statistics.variance(found["MERA-3"]) + 2 * statistics.variance(found["TT-5"])
    deviation = math.sqrt(squares / 3)
    assert results.deviation == (pytest.approx(deviation), 3)
    difference = results.difference("MERA-3", "TT-5")
    assert difference is not None
    assert difference.mean == pytest.approx(0.015)
    assert difference.margin == pytest.approx(3.182 * deviation * math.sqrt(1 / 2 + 1 / 3))
    alone = results.difference("MERA-3", "FC-1")
    assert alone is not None and alone.margin is None
    assert results.difference("MERA-3", "TT-7") is None


NEAR = (0.8500, 0.8502, 0.8498)


@pytest.mark.parametrize(
    ("other", "expected"), [(0.80, HOLDS), (0.90, DOES_NOT), (0.8499, OPEN), (None, OPEN)]
)
def test_statements_are_answered_by_the_interval(other: float | None, expected: str) -> None:
    """A tree far below MERA-3, far above, as good, and not run."""
    tree = () if other is None else tuple(other + noise for noise in (0.0, 2e-4, -2e-4))
    evidence = evidence_of(MERA_3=NEAR, tree_3=tree)
    assert answer(STATEMENTS[1], evidence.results["short"]).startswith(f"**{expected}**")


@pytest.mark.parametrize(("dense", "expected"), [(0.855, HOLDS), (0.87, DOES_NOT), (0.86, OPEN)])
def test_less_than_a_point_below_the_dense_layers(dense: float, expected: str) -> None:
    """Half a point below holds, two points do not, one point is not decided."""
    evidence = evidence_of(MERA_3=NEAR, FC_1=tuple(dense + n for n in (0.0, 2e-4, -2e-4)))
    text = answer(STATEMENTS[2], evidence.results["short"])
    assert text.startswith(f"**{expected}**")
    assert f"MERA-3 - FC-1: {100 * (0.85 - dense):+.2f}" in text


def test_several_pairs_are_answered_together() -> None:
    """All must hold; one that does not is enough."""
    assert joint_verdict([HOLDS, HOLDS]) == HOLDS
    assert joint_verdict([HOLDS, OPEN]) == OPEN
    assert joint_verdict([HOLDS, DOES_NOT, OPEN]) == DOES_NOT


def test_time_is_answered_by_the_ratio() -> None:
    """Longer than FC-1: holds; shorter: does not; one of each, or unknown: not decided."""
    assert time_answer({"MERA-2": 1.1, "MERA-3": 1.3}.get).startswith(f"**{HOLDS}**")
    assert time_answer({"MERA-2": 0.5, "MERA-3": 0.6}.get).startswith(f"**{DOES_NOT}**")
    assert time_answer({"MERA-2": 0.5, "MERA-3": 1.2}.get).startswith(f"**{OPEN}**")
    assert time_answer({"MERA-2": 0.5}.get).startswith(f"**{OPEN}**")


def test_a_plot_names_its_numbers(tmp_path: Path) -> None:
    """It tells which numbers it was drawn from; other numbers are another name."""
    first = evidence_of(MERA_3=(0.85, 0.86))
    draw(first, tmp_path / "plot.svg")
    assert drawn_from(tmp_path / "plot.svg") == digest_of(first)
    assert digest_of(first) != digest_of(evidence_of(MERA_3=(0.85, 0.87)))
    text = (tmp_path / "plot.svg").read_text()
    assert "here, short protocol" in text and "in the paper" in text


def test_a_document_without_marks_is_told() -> None:
    """The part is written between two marks only."""
    with pytest.raises(ValueError, match="lacks the lines"):
        rebuilt("no marks", evidence_of())
    assert BEGIN in (DOCS / "paper.md").read_text()


def test_results_of_one_protocol() -> None:
    """No run is no data."""
    assert results_of("short", ()).data == ""
    assert results_of("short", ()).mean("FC-1") is None


def test_costs_are_counted_and_timed() -> None:
    """A dense layer's FLOPs are 2 x weights; both kinds of step are timed beside FC-1."""
    assert flops(ROWS["FC-2"], SMALL) == 2 * (64 * 10 + 10 * 8)
    graphs = ROWS["MERA-2"].graphs(6)
    per_sample = sum(tn.cost(graph, batch=16).forward_flops for graph in graphs) // 16
    assert flops(ROWS["MERA-2"], SMALL) == per_sample
    found = measure([ROWS["FC-1"], ROWS["FC-2"]], SMALL, torch.device("cpu"), budget=0.01)
    assert list(found) == ["FC-2"]
    for kind in ("hidden", "network"):
        cell = found["FC-2"][kind]
        assert cell["ratio"] == cell["row"]["median"] / cell["base"]["median"]
