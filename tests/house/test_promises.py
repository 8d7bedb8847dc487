"""Promises of README.md and docs/how-it-works.md that no other test holds."""

from __future__ import annotations

import ast
import logging
import re
import tomllib
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from examples import demo
from tests.support.rooms import ROOMS
from tnlayer.planning.check_plan import MAX_VALUE_ENTRIES
from tnlayer.targets.backend import backend_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
T = tn.topologies


def blocks(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def numbered(text: str) -> dict[str, str]:
    """Rows of the table of steps by number."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    return dict(rows)


# -- README ----------------------------------------------------------------------------------------


def test_the_examples_of_the_readme_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run as they stand there, one after the other, and give the numbers of their comments."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(README))
    names: dict[str, object] = {}
    exec(code, names)  # as a reader would
    printed = capsys.readouterr().out
    net, layer = names["net"], names["layer"]
    assert isinstance(net, tn.Network) and isinstance(layer, tn.Layer)
    count, dense = re.search(r"# (\d+), where the dense layer has ([\d,]+)", code).groups()  # type: ignore[union-attr]
    assert f"\n{count}\n" in printed
    assert net.parameter_count == int(count)
    assert net.freeze().dense_parameter_count == int(dense.replace(",", ""))
    assert "peak bytes, training" in printed
    assert layer(torch.zeros(3, 4096)).shape == (3, 4096)
    assert f"in_features = {net.in_features}" in code
    assert (tmp_path / "small.safetensors").exists()


def test_parameters_of_the_table_of_the_readme() -> None:
    """Those of the networks that its rows name, from 4096 features to 4096."""
    cube, bits = (16,) * 3, (2,) * 12
    networks = {
        "`low_rank`, rank 32": T.low_rank(4096, 4096, 32),
        "`btt`, rank 2": T.btt((64, 64), (64, 64), 2),
        "`butterfly`": T.butterfly(4096),
        "`tensor_train` 16^3, rank 8": T.tensor_train(cube, cube, 8),
        "`tensor_train` 2^12, rank 3": T.tensor_train(bits, bits, 3),
        "`tree` 2^12, bond 2": T.tree(12, 2, 2),
        "`mera` 2^12, bond 2": T.mera(12, 2, 2),
        "`mera` 2^12, bond 3": T.mera(12, 2, 3),
        "`tensor_train` 16^3, rank 32": T.tensor_train(cube, cube, 32),
    }
    rows = [line.strip("| ").split(" | ") for line in README.splitlines()]
    found = {row[1]: int(row[2].replace(",", "")) for row in rows if row[1:] and row[1] in networks}
    assert found == {name: net.parameter_count for name, net in networks.items()}


def test_counts_of_the_demo_are_those_of_the_readme() -> None:
    """Parameters, compression and FLOPs of the table at its batch size, 128."""
    names = {"dense": "dense", "TT, rank 3": "TT", "tree, bond 3": "tree", "MERA, bond 2": "MERA"}
    networks = demo.networks(12)
    rows = [line.strip("| ").split(" | ") for line in README.splitlines()]
    found = {row[0]: row for row in rows if row[0] in names}
    assert list(found) == list(names)
    for name, row in found.items():
        counted = tn.cost(networks[names[name]], batch=128, effort="fast", backend="torch")
        cells = [int(cell.rstrip("x").replace(",", "")) for cell in row[1:5]]
        assert cells[0] == counted.parameters
        assert cells[1] == round(counted.compression)
        if name == "dense":
            assert cells[2:] == [counted.dense_forward_flops, counted.dense_backward_flops]
        else:
            least = tn.cost(networks[names[name]], batch=128, minimize="flops", backend="torch")
            assert least.forward_flops <= cells[2]
            assert cells[3] == 2 * cells[2]


def test_the_budget_of_the_readme() -> None:
    """The call that the README shows gives a layer of these features within the budget."""
    call = re.search(r"`(tn\.fit_budget\(.*?\))`", README)
    assert call is not None
    fit = eval(call[1], {"tn": tn})  # a call of one line, checked in
    layer = fit.layer(backend="torch")
    assert layer(torch.zeros(2, 1000)).shape == (2, 4099)
    assert fit.compression >= 50


def test_extras_of_the_readme_are_those_of_the_project() -> None:
    """Each extra that is named there can be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = set(re.findall(r"tnlayer\[(\w+)\]", README))
    assert named <= set(project["optional-dependencies"])
    assert named >= {"fast", "cuda", "viz", "demo", "bench"}


def test_no_einsum_letters_run_out() -> None:
    """A network of more legs than einsum has letters runs, and its source calls no einsum."""
    net = T.tensor_train((2,) * 12, (2,) * 12, rank=2)
    wide = tn.Network("wide")
    (wire,) = wide.input([2])
    for k in range(80):
        (wire,) = wide.tensor(f"A{k}", (wire,), out=(2,), value=torch.eye(2))
    wide.output((wire,))
    layer = tn.Layer(wide, backend="torch", effort="fast")
    assert torch.allclose(layer(torch.tensor([[1.0, 2.0]])), torch.tensor([[1.0, 2.0]]))
    for one in (layer, tn.Layer(net, backend="torch", effort="fast")):
        assert "einsum" not in one.source()


def test_a_layer_is_a_module_on_the_meta_device() -> None:
    """Made without memory, then filled: its state_dict has the names of the tensors."""
    net = T.tensor_train((2, 3), (3, 2), rank=2)
    layer = tn.Layer(net, bias=True, device="meta", backend="torch")
    names = [tensor.name for tensor in net.freeze().tensors]
    assert list(layer.state_dict()) == [*names, "bias"]
    assert layer(torch.zeros(4, 6, device="meta")).shape == (4, 6)
    layer.to_empty(device="cpu").reset_parameters()
    assert torch.isfinite(layer(torch.ones(5, 4, 6))).all()


# -- how it works ----------------------------------------------------------------------------------


def test_steps_of_the_guide_are_numbered_as_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The example runs, and each number in it is that of the row which makes what is printed."""
    code = blocks(GUIDE)[0]
    exec(code, {})
    printed = capsys.readouterr().out
    assert "def forward" in printed
    rows = numbered(GUIDE)
    assert list(rows) == [str(k) for k in range(1, len(rows) + 1)]
    folders = [re.match(r"`(\w+)/`", row) for row in rows.values()]
    rooms = [room for room in ROOMS if (ROOT / "tnlayer" / room).is_dir() and room != "support"]
    assert [found and found[1] for found in folders] == rooms
    said = dict(re.findall(r"print\((.*)\)  # (\d+):", code))
    made_by = {"net": "graph/", "plan": "planning/", "program.source()": "codegen/"}
    assert said.keys() == made_by.keys()
    for what, number in said.items():
        assert made_by[what] in rows[number], (what, number)


@pytest.mark.parametrize("text", [README, GUIDE], ids=["README", "how it works"])
def test_named_files_are_there(text: str) -> None:
    """Each file of the package that a page names, and each link to another page."""
    for name in re.findall(r"`((?:\w+/)*\w+\.py|\w+/)`", text):
        assert (ROOT / "tnlayer" / name).exists() or (ROOT / name).exists(), name
    folder = ROOT if text is README else ROOT / "docs"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (folder / link).exists(), link


def test_other_blocks_of_the_guide_are_python() -> None:
    """What needs CUDA's packages is at least parsed."""
    for code in blocks(GUIDE)[1:]:
        ast.parse(code)


@pytest.mark.parametrize(("level", "said"), [(2, "plan of"), (4, "def forward")])
def test_debug_levels_log(
    level: int, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TNLAYER_DEBUG=2 logs each plan, TNLAYER_DEBUG=4 each source; without it neither."""
    net = T.low_rank(7, 5, rank=2)
    for value, logged in ((str(level), True), ("0", False)):
        monkeypatch.setenv("TNLAYER_DEBUG", value)
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="tnlayer"):
            tn.compile(net, batch=16, backend="torch").source()
        assert (said in caplog.text) is logged


def test_kernels_must_win_by_what_the_guide_says() -> None:
    """By a tenth, a mixture by 15 %."""
    assert "Kernels must win by a tenth" in GUIDE
    assert "a mixture by 15%" in GUIDE
    assert tuple(backend_of(name).handicap for name in ("torch", "cpp", "mixed")) == (
        1.0,
        1.1,
        1.15,
    )


# -- bounds ----------------------------------------------------------------------------------------


def chain(nodes: int) -> tn.Graph:
    """A chain with so many nodes: an input, the output and tensors."""
    net = tn.Network()
    (wire,) = net.input([1])
    for k in range(nodes - 2):
        (wire,) = net.tensor(f"A{k}", (wire,), out=(1,))
    net.output((wire,))
    return net.freeze()


def one_tensor(*sizes: int, legs: int = 0) -> tn.Graph:
    """A tensor without a port, whose legs are summed."""
    net = tn.Network()
    net.output()
    dims = {f"a{k}": size for k, size in enumerate((*sizes, *(1,) * legs))}
    net.bond(**dims)
    net.sum(list(dims))
    net.tensor("A", list(dims))
    return net.freeze()


def port(features: int) -> tn.Graph:
    """An input of so many features, in legs of up to 2^20, that are summed."""
    net = tn.Network()
    legs = net.input([2**20, features >> 20])
    net.sum(legs)
    net.output()
    return net.freeze()


def test_bounds_of_networks_are_those_of_the_guide() -> None:
    """At each bound a network is taken, beyond it refused with the number."""
    said = re.search(
        r"at most ([\d,]+) nodes and ([\d,]+) legs, a port 2\^(\d+) features, all parameters "
        r"together 2\^(\d+)\s+entries, .* more than 2\^(\d+) entries a sample",
        " ".join(GUIDE.split()),
    )
    assert said is not None
    nodes, legs, features, entries, state = (int(n.replace(",", "")) for n in said.groups())
    assert (2**state, nodes) == (MAX_VALUE_ENTRIES, 4096)
    assert len(chain(nodes).tensors) == nodes - 2
    with pytest.raises(tn.SpecError, match=f"{nodes}"):
        chain(nodes + 1)
    assert len(one_tensor(legs=legs).leg_sizes) == legs
    with pytest.raises(tn.SpecError, match=f"{legs}"):
        one_tensor(legs=legs + 1)
    assert one_tensor(2**20, 2 ** (entries - 20)).parameter_count == 2**entries
    with pytest.raises(tn.SpecError, match=f"{2**entries}"):
        one_tensor(2**20, 2 ** (entries - 20), 2)
    assert port(2**features).in_features == 2**features
    with pytest.raises(tn.SpecError, match=f"{2**features}"):
        port(2 ** (features + 1))


def test_states_beyond_the_bound_are_refused() -> None:
    """An intermediate of more than 2^36 entries a sample: a PlanError, before any allocation."""
    for power, is_fine in ((18, True), (19, False)):
        net = tn.Network("outer product")
        net.input("x", a=2**18)
        net.input("z", b=2**power)
        net.output("a b")
        if is_fine:
            assert tn.plan(net, batch=1).steps
            continue
        with pytest.raises(tn.PlanError, match="entries"):
            tn.plan(net, batch=1)
