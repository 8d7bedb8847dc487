"""The command line: each command on a small network, and wrong input as one line."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tnlayer.cli import bench_command, network_commands
from tnlayer.cli.cache_command import PARTS
from tnlayer.cli.commands import command_parser, main
from tnlayer.cli.completion_command import words_of
from tnlayer.cli.networks import load_network
from tnlayer.graph.as_graph import as_sum
from tnlayer.support.json_text import canonical_json

BENCH = ["bench", "--backend", "torch"]


def said(stderr: str) -> str:
    """What a command said, without the lines of a slow machine on what takes long."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if "once on this machine" not in line)


@pytest.fixture
def net_file(tmp_path: Path) -> str:
    """A small network as a file."""
    path = tmp_path / "net.json"
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    path.write_text(net.to_json(), encoding="utf-8")
    return str(path)


def test_show(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed network names its tensors."""
    assert main(["show", net_file]) == 0
    assert "core_0" in capsys.readouterr().out


def test_cost(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of tn.cost, as text and as JSON; --plan adds the steps."""
    expected = tn.cost(tn.topologies.tensor_train((4, 4), (4, 4), rank=2), batch=8)
    assert main(["cost", net_file, "--batch", "8", "--plan"]) == 0
    out = capsys.readouterr().out
    assert expected.steps_text() in out
    assert f"{expected.forward_flops:,}" in out
    assert "each sample" in out
    assert main(["cost", net_file, "--batch", "8", "--json"]) == 0
    assert capsys.readouterr().out == canonical_json(expected.numbers(break_even=True)) + "\n"


def test_code(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The generated source compiles and has a forward and a backward."""
    assert main(["code", net_file, "--backend", "torch"]) == 0
    out = capsys.readouterr().out
    compile(out, "out", "exec")
    assert "def forward(" in out
    assert "def backward(" in out


def test_bench(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All three methods are timed and agree."""
    assert main([*BENCH, net_file, "--batch", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[2:5]} == {"tnlayer", "dense", "einsum"}
    assert "torch.float32" in lines[0]
    assert "threads" in lines[0]
    assert sum("agrees with tnlayer" in line for line in lines) == 2


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_bench_of_several_batches(
    net_file: str, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each batch size has its table, in the dtype asked for."""
    assert main([*BENCH, net_file, "--dtype", dtype, "--batch", "2", "3"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [
        f"batch {b}, torch.{dtype}" in text for b, text in zip((2, 3), tables, strict=True)
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize("spoiled", [1.01, float("nan")])
def test_bench_times_nothing_that_disagrees(
    spoiled: float,
    net_file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dense matrix that is wrong by a percent, or no number, stops the bench before it times."""
    to_dense = tn.Layer.to_dense

    def wrong(layer: tn.Layer) -> torch.Tensor:
        return to_dense(layer) * spoiled

    def timed(calls: object) -> None:
        pytest.fail("timed methods that disagree")

    monkeypatch.setattr(tn.Layer, "to_dense", wrong)
    monkeypatch.setattr(bench_command, "median_seconds", timed)
    assert main([*BENCH, net_file, "--batch", "2"]) == 2
    assert "dense and tnlayer disagree" in capsys.readouterr().err


def test_bench_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A network with fixed legs has no plain einsum; the table says so."""
    assert main([*BENCH, "tests.cli.test_cli:fixed_network", "--batch", "2"]) == 0
    assert "einsum: left out" in capsys.readouterr().out


def test_bench_without_yardsticks(capsys: pytest.CaptureFixture[str]) -> None:
    """Two inputs have no dense layer, 59 legs too few letters; the table says so."""
    assert main([*BENCH, "tests.cli.test_cli:two_inputs", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    assert "dense: left out, it needs one batched input" in out
    assert "einsum: left out, it needs one batched input" in out
    assert main([*BENCH, "tests.cli.test_cli:many_legs", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    assert "dense: left out, it has more than" in out
    assert "no letters for 59 legs" in out


def two_inputs() -> tn.Network:
    """One tensor between two inputs and the output."""
    net = tn.Network()
    net.input("u", None, a=2)
    net.input("v", None, b=3)
    net.output(c=4)
    net.tensor("A", "a b c")
    return net


def many_legs() -> tn.Network:
    """A tensor train of 20 cores: 40 open legs and 19 bonds."""
    return tn.topologies.tensor_train((2,) * 20, (2,) * 20, rank=1)


def turn() -> tn.Network:
    """A network of complex values."""
    return tn.Network.from_einsum("i,ij->j", sizes={"i": 1, "j": 1}, values={"t_1": [[1j]]})


def broken() -> tn.Network:
    """A function with a mistake of its own, over two lines."""
    msg = "a mistake\nof the user"
    raise ValueError(msg)


def fixed_network() -> tn.Network:
    """A MERA whose first level's outputs are fixed."""
    return tn.topologies.mera(6, 2, 2, fix_first_level=True)


def test_module_and_function() -> None:
    """A topology with defaults is a network; run as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "tnlayer", "show", "tnlayer.topologies:mera"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "304 parameters" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "missing.json"], "missing.json"),
        (["show", "no_such_module:f"], "no_such_module"),
        (["show", "tnlayer.topologies:nothing"], "nothing"),
        (["show", "tnlayer.topologies:tensor_train"], "(in_shape, out_shape, rank"),
        (["show", "tensor_train"], '"tensor_train(in_shape, out_shape, rank'),
        (["show", "mera(legs)"], "numbers, texts, and sequences"),
        (["show", "mera(0)"], "mera: got legs=0"),
        (["show", "tests.cli.test_cli:broken"], "raised ValueError: a mistake of the user"),
        (["show", ":function"], "':function'"),
        (["show", "."], "cannot be read"),
        (["bench", "tnlayer.topologies:mera", "--dtype", "int8"], "int8"),
        (["bench", "tnlayer.topologies:mera", "--batch", "2", "0"], "--batch 0"),
        (["show", "os:getcwd"], "expected a tnlayer.Network"),
        (["code", "tnlayer.topologies:mera", "--dtype", "floaty"], "floaty"),
        (["cost", "tnlayer.topologies:mera", "--dtype", "int8"], "int8"),
        (["cost", "tests.cli.test_cli:turn", "--dtype", "float64"], "use dtype='complex128'"),
        (["code", "tnlayer.topologies:mera", "--batch", "0"], "--batch 0"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one line on stderr that quotes what was wrong, no traceback."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["def (", "raise RuntimeError('no')"])
def test_module_in_the_current_folder(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process finds a module beside it; one that does not load is one line too."""
    (tmp_path / "good.py").write_text("from tnlayer.topologies import mera as make\n")
    (tmp_path / "spoiled.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(Path(tn.__file__).parent.parent))
    run = [
        sys.executable,
        "-c",
        "import sys, tnlayer.cli.commands; sys.exit(tnlayer.cli.commands.main())",
        "show",
    ]
    done = [
        subprocess.run([*run, name], capture_output=True, text=True, cwd=tmp_path, check=False)
        for name in ("good:make", "spoiled:make")
    ]
    assert [process.returncode for process in done] == [0, 2]
    assert "304 parameters" in done[0].stdout
    assert said(done[1].stderr).count("\n") == 1


def test_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the file that does not parse."""
    path = tmp_path / "damaged.json"
    path.write_text('{"a":', encoding="utf-8")
    assert main(["show", str(path)]) == 2
    error = capsys.readouterr().err
    assert "damaged.json" in error
    assert error.count("\n") == 1


def test_a_reader_that_stops_is_no_error() -> None:
    """`tnlayer cost ... | head -1` ends quietly, as other commands do."""
    command = f"{sys.executable} -m tnlayer cost tnlayer.topologies:mera | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, said(done.stderr)) == (0, "")
    assert done.stdout.count("\n") == 1


def test_a_pipe_that_nobody_reads_is_no_error() -> None:
    """The text goes nowhere, and nothing is said."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tnlayer", "cost", "tnlayer.topologies:mera"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, said(done.stderr)) == (0, "")


def test_topologies_with_arguments_and_stdin(
    net_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call in Python's words, a bare name where it needs no arguments, and JSON on stdin."""
    assert main(["show", "tensor_train((4, 4), (4, 4), rank=2)"]) == 0
    called = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(net_file).read_bytes())))
    assert main(["show", "-"]) == 0
    assert capsys.readouterr().out == called
    assert main(["show", "mera", "--json"]) == 0
    made = tn.Network.from_json(capsys.readouterr().out)
    assert made.freeze() == tn.topologies.mera().freeze()


@pytest.mark.parametrize("words", [["plan"], ["plan", "--backward"], ["compare"], ["cost"]])
def test_json_of_each(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One document on stdout."""
    command, *options = words
    assert main([command, "low_rank(8, 6, 2)", *options, "--json", "--batch", "4"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """The steps are those of tn.cost with the same options, and their backward."""
    net = tn.topologies.low_rank(8, 6, 2)
    plan = tn.cost(net, batch=4, dtype="float64", backend="torch").plan
    words = ["low_rank(8, 6, 2)", "--batch", "4", "--dtype", "float64", "--backend", "torch"]
    assert main(["plan", *words]) == 0
    assert capsys.readouterr().out == f"{plan}\n"
    assert main(["plan", *words, "--backward"]) == 0
    assert capsys.readouterr().out == f"{tn.backward_plan(plan)}\n"


@pytest.mark.parametrize("backward", [False, True])
def test_plan_as_json_has_names_and_counts(
    backward: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user's name of each canonical one, and what each step counts for a sample and a call."""
    words = ["plan", "peps(2, 2, 2, 2)", "--batch", "64", "--backend", "torch", "--json"]
    assert main([*words, *(["--backward"] if backward else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    plan = tn.cost(tn.topologies.peps(2, 2, 2, 2), batch=64, backend="torch").plan
    plan = tn.backward_plan(plan) if backward else plan
    legs = {leg for step in found["steps"] for leg in step["result"][1]} - {"b"}
    assert found["names"] == dict(plan.names)
    assert legs <= set(found["names"]) and "site_0_0" in found["names"].values()
    assert found["counts"] == plan.numbers() and len(plan.numbers()) == len(plan.steps)
    for row, step, told in zip(plan.numbers(), plan.steps, plan.steps_in_words(), strict=True):
        counts = plan.counts_of(step)
        assert row["flops_per_sample"] == counts.flops.per_sample
        assert row["flops_fixed"] == counts.flops.fixed
        assert row["elementwise_per_sample"] == counts.elementwise.per_sample
        assert row["elementwise_fixed"] == counts.elementwise.fixed
        assert told == f"{row['result']}[{' '.join(row['legs'])}] = {row['operation']}"
    total = sum(row["flops_per_sample"] for row in plan.numbers())
    assert total == plan.counts.flops.per_sample > 0
    assert {row["runs"] for row in plan.numbers()} == {"once a call", "each sample"}


def the_sum() -> tn.SumOfNetworks:
    """Two networks that share no tensor."""
    return tn.topologies.low_rank(16, 16, 2) + tn.topologies.tensor_train((4, 4), (4, 4), rank=2)


def the_list() -> list[tn.Network]:
    """What a sum is made from."""
    return list(map(tn.Network.from_graph, the_sum()))


def the_energy() -> tn.SumOfNetworks:
    """Closed networks of one name each, which share their tensors."""
    bond = np.kron(np.diag([1.0, -1.0]), np.diag([1.0, -1.0]))
    return tn.energy(tn.topologies.mps(4, dim=2, bond=2), {(0, 1): bond, (1, 2): bond})


def made_by(name: str) -> tn.SumOfNetworks:
    """What one of these functions returns, frozen."""
    makers = {"the_sum": the_sum, "the_list": the_list, "the_energy": the_energy}
    return as_sum(makers[name]())


def first_of(name: str) -> tn.Graph:
    """A frozen network."""
    return made_by(name)[0]


HERE = "tests.cli.test_cli"
QUICK = ["--batch", "8", "--effort", "fast", "--backend", "torch"]
QUICK_OPTIONS: dict[str, Any] = {"batch": 8, "effort": "fast", "backend": "torch"}


@pytest.mark.parametrize("name", ["the_sum", "the_list", "the_energy"])
def test_sums_are_taken_as_python_takes_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Costs, plans and comparisons are Python's; what shows them has each network."""
    made = made_by(name)
    word = f"{HERE}:{name}"
    costs = tn.cost(made, **QUICK_OPTIONS)

    def told(*words: str) -> str:
        assert main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out.rstrip("\n")

    steps = [str(costs), *(cost.steps_text() for cost in costs)]
    assert told("cost", word, *QUICK) == str(costs)
    assert told("cost", word, *QUICK, "--plan") == "\n\n".join(steps)
    assert told("cost", word, *QUICK, "--json") == canonical_json(costs.numbers(break_even=True))
    plans = told("plan", word, *QUICK)
    backward = told("plan", word, *QUICK, "--backward")
    for number, cost in enumerate(costs):
        head = f"network {number}, {cost.label}\n"
        assert f"{head}{cost.plan}" in plans
        assert f"{head}{tn.backward_plan(cost.plan)}" in backward
    assert len(json.loads(told("plan", word, *QUICK, "--json"))) == len(made)
    compared = tn.compare(made, made[0], **QUICK_OPTIONS)
    assert told("compare", word, f"{HERE}:first_of({name!r})", *QUICK) == str(compared)
    text = told("show", word)
    assert text.startswith(f"the sum of {len(made)} networks: ")
    assert all(str(graph) in text for graph in made)
    for document, graph in zip(json.loads(told("show", word, "--json")), made, strict=True):
        assert tn.Network.from_json(json.dumps(document)).freeze() == graph
    for options in ([], ["--plan"]):
        told("draw", word, str(tmp_path / "n.svg"), *options, *QUICK)
        assert "<svg" in (tmp_path / "n.svg").read_text()
    assert told("code", word, *QUICK, "--part", "forward").count("def forward(") == len(made)
    told("report", word, str(tmp_path / "page.html"), *QUICK)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h2>Network ") == len(made)


def test_frozen_networks_are_taken_and_one_is_said_to_be_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What takes one network says that of a sum one can be returned, and such a one is taken."""
    assert load_network(f"{HERE}:first_of('the_sum')").freeze() == the_sum()[0]
    assert main([*BENCH, f"{HERE}:the_sum"]) == 2
    error = capsys.readouterr().err
    assert (
        "gives a sum of 2 networks" in error and "return one of them, such as the_sum[0]" in error
    )
    assert error.count("\n") == 1


def test_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fit is that of tn.fit_budget, and its network goes to a file."""
    path = tmp_path / "net.json"
    fit = tn.fit_budget(tn.topologies.low_rank, 60, 40, compression=4)
    words = ["fit", "low_rank", "60", "40", "--compression", "4", "--output", str(path)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{fit}\n"
    assert tn.Network.from_json(path.read_bytes()).freeze() == fit.network().freeze()
    assert main(["fit", "low_rank", "60", "40"]) == 2
    assert "exactly one of --params" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fit", "low_rank", "8", "8", "--params", "20", "--backend", "cpp"], "fastest"),
        (["fit", "low_rank", "8", "8", "--params", "20", "--memory-limit", "1M"], "--memory-limit"),
        (["fit", "low_rank", "8", "8", "--params", "20", "--objective", "infer"], "backward"),
        (["suggest", "8", "8", "--params", "20", "--backend", "cpp"], "its fastest"),
        (["suggest", "8", "8", "--params", "20", "--memory-limit", "1M"], "KiB"),
        (["compress", "torch.nn:Linear(8, 8)", "--compression", "2", "--dtype", "float64"], "cast"),
        (["compress", "torch.nn:Linear(8, 8)", "--compression", "2", "--device", "cpu"], "move it"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a reason, instead of being ignored."""
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    assert told in capsys.readouterr().err


def test_suggest(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is that of tn.suggest, as text and as JSON; wrong budgets are one line."""
    topologies = [tn.topologies.low_rank, tn.topologies.kronecker]
    found = tn.suggest(64, 64, compression=4.0, batch=32, topologies=topologies, objective="infer")
    words = ["suggest", "64", "64", "--batch", "32", "--objective", "infer"]
    words += ["--topology", "low_rank", "--topology", "kronecker"]
    assert main([*words, "--compression", "4"]) == 0
    *lines, python = str(found).splitlines()
    assert "layer(bias=True)" in python
    *printed, _, costs, fits = capsys.readouterr().out.splitlines()
    assert printed == lines
    assert costs.startswith("  tnlayer cost ") and fits.startswith("  tnlayer fit ")
    assert main([*words, "--compression", "4", "--json"]) == 0
    assert capsys.readouterr().out == canonical_json(found.numbers()) + "\n"
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "tnlayer suggest: expected exactly one of --params, --flops, --compression, --time, "
        "got none\n"
    )
    assert main([*words, "--params", "100", "--topology", "tt"]) == 2
    assert "did you mean 'tensor_train'" in capsys.readouterr().err


def two_sides(in_features: int, out_features: int, rank: int = 2) -> tn.Network:
    """A topology of the user's."""
    return tn.topologies.low_rank(in_features, out_features, rank)


@pytest.mark.parametrize("budget", [("--compression", "2.5"), ("--params", "200")])
def test_suggest_says_what_to_do_in_a_shell(
    budget: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands that run as they are printed, of the network that was suggested; no Python, and
    nothing of rows that are not in the table."""
    words = ["suggest", "24", "16", *budget, "--batch", "4", "--topology", f"{HERE}:two_sides"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "layer(" not in out and "low_rank" not in out
    costs, fits = [shlex.split(line)[1:] for line in out.splitlines()[-2:]]
    monkeypatch.chdir(tmp_path)
    assert main(fits) == 0
    fitted = tn.Network.from_json(tmp_path / "net.json").freeze()
    assert load_network(costs[1]).freeze() == fitted
    assert "two_sides" in capsys.readouterr().out
    assert main(costs) == 0
    assert f"{fitted.parameter_count:,}" in capsys.readouterr().out


def small_model(features: int = 16) -> torch.nn.Module:
    """Two matrices, the same each time."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(features, features), torch.nn.Linear(features, 4))
    for array in model.parameters():
        with torch.no_grad():
            array.copy_(torch.randn(array.shape, generator=generator))
    return model


MODEL = small_model()


def test_compress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report is that of tn.compress with the same rule, and the file has the same model."""
    path = tmp_path / "small.safetensors"
    words = ["compress", "tests.cli.test_cli:small_model(24)", "--topology", "low_rank"]
    words += ["--compression", "3", "--batch", "8", "--backend", "torch"]
    expected = tn.compress(
        small_model(24), tn.topologies.low_rank, compression=3, batch=8, backend="torch"
    )
    assert main([*words, "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{expected}\nwrote {path}\n"
    again = tn.load(path, into=small_model(24))
    x = torch.ones(2, 24)
    assert torch.allclose(again(x), expected.model(x), atol=1e-5)
    assert expected.replaced


def test_compress_for_a_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget of the whole model; a dry run leaves a model that is there as it was."""
    before = {name: array.clone() for name, array in MODEL.state_dict().items()}
    words = ["compress", "tests.cli.test_cli:MODEL", "--params", "300", "--dry-run", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_dry"] is True
    assert found["parameters"] <= 300 < found["parameters_before"]
    now = MODEL.state_dict()
    assert now.keys() == before.keys()
    assert all(torch.equal(now[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["torch.nn:Linear(8, 8)"], "exactly one of --compression"),
        (["torch.nn:Linear(8, 8)", "--topology", "low_rank"], "takes --compression"),
        (["torch.nn:Linear(8, 8)", "--topology", "tt", "--compression", "2"], "tensor_train"),
        (["torch.nn:Linear(8)", "--compression", "2"], "out_features"),
        (["torch.nn:nothing", "--compression", "2"], "nothing"),
        (["mera", "--compression", "2"], "expected MODULE:FUNCTION"),
        (["os:getcwd", "--compression", "2"], "expected a torch.nn.Module"),
        (["tests.cli.test_cli:broken", "--compression", "2"], "raised ValueError"),
        (["torch.nn:Tanh", "--compression", "2"], "nothing can be compressed"),
        (["torch.nn:Linear(8, 8)", "--compression", "2", "--dry-run", "--output", "x"], "dry run"),
        (["torch.nn:Linear(8, 8)", "--compression", "2", "--output", "no/x"], "no folder 'no'"),
    ],
)
def test_compress_says_what_is_wrong(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before anything is fitted."""
    assert main(["compress", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An SVG, a PNG and the contraction order as files."""
    for name, options in (("n.svg", []), ("n.png", []), ("p.png", ["--plan"])):
        path = tmp_path / name
        assert main(["draw", "low_rank(8, 6, 2)", str(path), *options]) == 0
        assert capsys.readouterr().out == f"wrote {path}\n"
        assert path.read_bytes()[:4] in (b"<svg", b"\x89PNG")
    assert main(["draw", "mera", str(tmp_path / "none" / "n.svg")]) == 2


def test_draw_for_tex_and_with_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TikZ of the network and of the plan; labels are those that are asked for."""
    for name, options in (("n.tikz", []), ("p.tex", ["--plan"])):
        path = tmp_path / name
        assert main(["draw", "low_rank(8, 6, 2)", str(path), *options]) == 0
        assert "tikzpicture" in path.read_text(encoding="utf-8")
    path = tmp_path / "n.svg"
    assert main(["draw", "low_rank(8, 6, 2)", str(path), "--labels", "names"]) == 0
    assert ">r<" in path.read_text(encoding="utf-8")
    assert "r=2" not in re.sub("<title>.*?</title>", "", path.read_text(encoding="utf-8"))
    capsys.readouterr()


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is that of layer.report with these options."""
    path, twin = tmp_path / "page.html", tmp_path / "twin.html"
    words = ["report", "low_rank(8, 6, 2)", str(path), "--backend", "torch", "--batch", "16"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    net = tn.topologies.low_rank(8, 6, 2)
    tn.Layer(net, backend="torch", batch=16, tiers=False).report(twin)
    assert path.read_text(encoding="utf-8") == twin.read_text(encoding="utf-8")
    assert main(["report", "low_rank(8, 6, 2)", str(tmp_path / "none" / "page.html")]) == 2
    assert "none" in capsys.readouterr().err


def test_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows what is kept and removes that, and nothing else that lies beside it."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    (tmp_path / "plans").mkdir(mode=0o700)
    (tmp_path / "plans" / "one.json").write_text("{}")
    (tmp_path / "letter.txt").write_text("of the user")
    assert main(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"]["plans"] == {"files": 1, "bytes": 2}
    assert main(["cache", "--clear"]) == 0
    assert "removed 2 bytes" in capsys.readouterr().out
    assert [one.name for one in tmp_path.iterdir()] == ["letter.txt"]
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    assert main(["cache"]) == 0
    assert "no cache" in capsys.readouterr().out


def test_the_cache_has_no_other_parts() -> None:
    """Each store of the package is one that the command knows."""
    sources = Path(tn.__file__).parent.rglob("*.py")
    stores = {
        name for path in sources for name in re.findall(r'\bStore\("(\w+)"', path.read_text())
    }
    assert stores == set(PARTS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script has each command, its options and the topologies; bash takes it."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("compare", "suggest", "compress", "memory-limit", "tensor_train", "profile"):
        assert word in script
    options = words_of(command_parser())
    assert "--dry-run" in options["compress"] and "--backend" in options["cost"]
    assert "--backend" not in options["fit"]
    if shell == "bash":
        asked = 'COMP_WORDS=(tnlayer cost --mem) COMP_CWORD=2; _tnlayer; echo "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["--memory-limit"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """As pip knows it."""
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"tnlayer {tn.__version__}\n"


def test_memory_limits_have_units(capsys: pytest.CaptureFixture[str]) -> None:
    """512KiB is a limit; what is no number of bytes is told."""
    words = ["plan", "mera(6)", "--backend", "torch", "--batch", "16"]
    assert main([*words, "--memory-limit", "512KiB"]) == 0
    assert main([*words, "--memory-limit", "1"]) == 2
    assert "memory_limit=1 " in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main([*words, "--memory-limit", "much"])
    assert done.value.code == 2


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends with 130, as other programs do."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(network_commands, "cost", interrupted)
    assert main(["cost", "mera"]) == 130
