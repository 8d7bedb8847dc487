"""The public face: each name exists, with the parameters that the design promises."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn

# Signatures without self and without annotations, as a reader would write them.
FUNCTIONS = {
    "plan": "net, batch, objective, device, memory_limit, effort",
    "cost": "net, batch",
    "compile": "net, batch, backend='auto', arch=None",
}
SEVERAL_NETWORKS = {
    "compare": "*nets, batch=256, device='cpu'",
    "fit_budget": (
        "topology, in_features, out_features, *, params=None, flops=None, compression=None, "
        "time=None, batch=256"
    ),
    "fit": (
        "net, target, *, data=None, steps=None, starts=None, seed=0, tol=1e-05, progress=False, "
        "start=None, shared=False"
    ),
    "from_linear": "linear, net_or_topology, *, data=None, progress=True, seed=0",
}
MODELS = {
    "compress": "model, rule, data=None, filter_fn=None, dry_run=False",
    "suggest": "in_features, out_features",
    "summary": "model, *, batch=256",
    "save": "module, path",
    "load": "path, *, into=None",
}
LAYER = (
    "net, *others, bias=False, batch=None, backend='auto', objective='train', memory_limit=None, "
    "effort='default', tune='calls', device=None, dtype=None, log_scale=False, "
    "shared=False, tiers=True, autocast=True, isometries='free'"
)
# Builder methods that are promised parameter by parameter.
EXACT_METHODS = {
    "input": "name_or_dims='x', dims=None, /, **legs",
    "output": "legs=None, /, **dims",
    "bond": "sizes=None, /, **dims",
    "tensor": (
        "name, legs, *, out=None, share=None, conj=False, trainable=True, value=None, init=None, "
        "isometry=None"
    ),
}
# And those of which only calls are promised.
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "port": (("x",), {"batched": True, "product": False, "dtype": None}),
    "reorder": ((), {"input": ("i",), "output": ("j",)}),
    "fix": ((), {"j3": 0}),
    "sum": (("j3",), {}),
    "copy_leg": (("j3",), {}),
    "freeze": ((), {}),
    "draw": ((), {}),
    "to_networkx": ((), {}),
    "from_networkx": (("graph",), {}),
    "from_einsum": (("ij,jk->ik",), {"sizes": {}, "inputs": (0,), "names": ("x", "A")}),
    "to_json": ((), {}),
    "from_json": (("{}",), {}),
}
TOPOLOGIES = {
    "tensor_train": "in_shape, out_shape, rank",
    "tensor_ring": "in_shape, out_shape, rank",
    "tree": "legs, dim, bond, fix_first_level=False",
    "mera": "legs=12, dim=2, bond=2, fix_first_level=False",
    "tucker": "in_shape, out_shape, rank",
    "cp": "in_shape, out_shape, rank",
    "block_term": "",
    "kronecker": "in_shape, out_shape, rank=1",
    "low_rank": "in_features, out_features, rank",
    "monarch": "",
    "btt": "in_shape, out_shape, rank",
    "butterfly": "features",
    "peps": "rows, columns, dim, bond",
    "brickwall": "legs, dim, depth",
    "augmented_tree": "legs, dim, bond",
    "blast": "in_features, out_features, blocks, rank",
    "mera_2d": "rows, columns, dim, bond",
    "mps": "sites, dim, bond",
    "mps_classifier": "sites, dim, bond, classes",
    "peps_classifier": "rows, columns, dim, bond, classes",
    "peps_state": "rows, columns, dim, bond",
    "periodic_mera": "legs, dim, bond, share=False",
    "quanta": "shape, layers=1",
    "random_circuit": "legs, dim, depth, gates=None, seed=0",
    "ternary_mera": "legs, dim, bond",
}


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Parameters of a function without self and cls."""
    found = list(inspect.signature(function).parameters.values())
    return [p for p in found if p.name not in ("self", "cls")]


def promised(text: str) -> list[inspect.Parameter]:
    """Parameters of a signature given as text."""
    scope: dict[str, Any] = {}
    exec(f"def function({text}): pass", scope)
    return parameters(scope["function"])


def bare(function: Callable[..., Any]) -> str:
    """A signature as text, without annotations."""
    stripped = [p.replace(annotation=inspect.Parameter.empty) for p in parameters(function)]
    return str(inspect.Signature(stripped))


def test_all_is_what_is_there() -> None:
    """Each name of __all__ exists, and the promised names are among them."""
    wanted = {"Network", "Graph", "Layer", "plan", "cost", "compile", "topologies"}
    wanted |= {"compare", "Comparison", "fit_budget", "Fit"}
    wanted |= {"compress", "Budget", "suggest", "summary", "save", "load", "Conv2d", "Embedding"}
    wanted |= {"fit", "Fitted", "Covariance", "from_linear"}
    wanted |= {"TnlayerError", "SpecError", "PlanError", "BuildError", "Plan", "Cost", "Program"}
    assert wanted <= set(tn.__all__)
    assert [name for name in tn.__all__ if not hasattr(tn, name)] == []
    assert dir(tn) == sorted([*tn.__all__, "__version__"])
    assert dir(tn.topologies) == sorted(tn.topologies.__all__)


def test_version_is_that_of_the_project() -> None:
    """tn.__version__ is the version in pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert tn.__version__ == project["project"]["version"]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_take_the_promised_parameters(name: str) -> None:
    """tn.plan, cost and compile: functions (not the folders), net first, options by keyword."""
    function = getattr(tn, name)
    assert inspect.isfunction(function)
    given = {p.name: p for p in parameters(function)}
    assert next(iter(given)) == "net"
    for wanted in promised(FUNCTIONS[name]):
        assert wanted.name in given
        if wanted.default is not inspect.Parameter.empty:
            assert given[wanted.name].default == wanted.default
    optional = [p for p in given.values() if p.name != "net"]
    assert all(p.default is not inspect.Parameter.empty for p in optional)


@pytest.mark.parametrize("name", sorted(SEVERAL_NETWORKS))
def test_comparisons_take_the_promised_parameters(name: str) -> None:
    """tn.compare and tn.fit_budget start with the promised parameters, with these defaults."""
    given, wanted = parameters(getattr(tn, name)), promised(SEVERAL_NETWORKS[name])
    assert inspect.getdoc(getattr(tn, name))
    for there, promise in zip(given, wanted, strict=False):
        assert (there.name, there.kind, there.default) == (
            promise.name,
            promise.kind,
            promise.default,
        )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_functions_for_models_take_the_promised_parameters(name: str) -> None:
    """tn.compress and those beside it start with the promised parameters."""
    given, wanted = parameters(getattr(tn, name)), promised(MODELS[name])
    assert inspect.getdoc(getattr(tn, name))
    for there, promise in zip(given, wanted, strict=False):
        assert (there.name, there.kind, there.default) == (
            promise.name,
            promise.kind,
            promise.default,
        )


def test_layer_signature() -> None:
    """tn.Layer takes exactly the promised parameters, with their kinds and defaults."""
    assert issubclass(tn.Layer, torch.nn.Module)
    assert bare(tn.Layer.__init__) == f"({LAYER})"


@pytest.mark.parametrize(
    "name",
    [
        "source",
        "explain",
        "report",
        "to_dense",
        "prepare",
        "invalidate",
        "reset_parameters",
        "fit",
        "truncate",
        "round",
        "grow",
    ],
)
def test_layer_methods(name: str) -> None:
    """The layer's own methods exist and are documented."""
    assert inspect.getdoc(getattr(tn.Layer, name))


@pytest.mark.parametrize("name", sorted(EXACT_METHODS))
def test_builder_signatures(name: str) -> None:
    """The methods that describe a network take exactly the promised parameters."""
    assert bare(getattr(tn.Network, name)) == f"({EXACT_METHODS[name]})"


@pytest.mark.parametrize("name", sorted(CALLS))
def test_builder_calls(name: str) -> None:
    """The other methods of the builder can be called as promised."""
    positional, keywords = CALLS[name]
    net = tn.Network("net")
    assert inspect.getdoc(getattr(tn.Network, name))
    inspect.signature(getattr(net, name)).bind(*positional, **keywords)


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_topologies(name: str) -> None:
    """Each topology is there, documented, and takes the promised parameters in their order."""
    function = getattr(tn.topologies, name)
    assert inspect.getdoc(function)
    given, wanted = parameters(function), promised(TOPOLOGIES[name])
    assert [p.name for p in given[: len(wanted)]] == [p.name for p in wanted]
    for there, promise in zip(given, wanted, strict=False):
        assert promise.default in (promise.empty, there.default)


def test_the_example_of_the_design() -> None:
    """The first example of the documentation runs as it is written."""
    net = tn.Network("three cores")
    net.input(i1=16, i2=16, i3=16)
    net.output(j1=16, j2=16, j3=16)
    net.bond(a=8, b=8)
    net.tensor("A", "i1 j1 a")
    net.tensor("B", "a i2 j2 b")
    net.tensor("C", "b i3 j3")
    assert net.parameter_count == net.stored_count == 20480
    assert str(tn.cost(net, batch=256))
    layer = tn.Layer(net, bias=True)
    assert (layer.in_features, layer.out_features) == (4096, 4096)
    assert layer(torch.randn(2, 3, 4096)).shape == (2, 3, 4096)
    assert "def " in layer.source()
    assert {name for name, _ in layer.named_parameters()} == {"A", "B", "C", "bias"}


def test_wires_build_the_same_graph() -> None:
    """Named legs and wires are two ways to write one graph."""
    named = tn.Network("named")
    named.input(a=2, b=2)
    named.output(c=3, d=3)
    named.tensor("gate", "a b c d")
    wires = tn.Network("wires")
    wires.output(wires.tensor("gate", wires.input([2, 2]), out=(3, 3)))
    assert wires.freeze() == named.freeze()
    assert hash(wires.freeze()) == hash(named.freeze())
    with pytest.raises(TypeError):
        hash(named)


def test_program_is_differentiable() -> None:
    """tn.compile gives a function of inputs and a mapping of parameters, with gradients."""
    net = tn.topologies.low_rank(8, 4, 2)
    program = tn.compile(net, batch=3)
    weights = {p.name: torch.randn(p.shape, requires_grad=True) for p in net.freeze().parameters}
    y = program(torch.randn(3, 8), parameters=weights)
    assert y.shape == (3, 4)
    y.sum().backward()
    assert all(w.grad is not None for w in weights.values())
    assert 3 in program.batch_range
    assert "def " in program.source()
