"""tn.fit_budget: never over the budget, nothing left that a larger bond could use, padding told."""

from __future__ import annotations

import inspect
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tnlayer as tn
from tests.support.golden import Golden
from tests.support.profiles import fixed_profile
from tnlayer.budget.useful_bond_sizes import useful_sizes
from tnlayer.hardware.profile.load import op_times, use_profile
from tnlayer.nn.padded import Padded
from tnlayer.planning.planner import Request, plan_graph
from tnlayer.targets.fastest_schedules import fastest_pair
from tnlayer.time_models.torch_calls import pair_seconds

# States have no x, classifiers take vectors; the others take few numbers of features, or their
# parameters mean something else.
NOT_SIZED = {
    *("mps", "peps_state", "mps_classifier", "peps_classifier", "random_circuit", "quanta"),
    *("periodic_mera", "ternary_mera", "mera_2d", "augmented_tree", "blast"),
}
FAMILIES = {
    name: getattr(tn.topologies, name) for name in tn.topologies.__all__ if name not in NOT_SIZED
}
GROWING = sorted(set(FAMILIES) - {"monarch", "butterfly"})
SIZES = [(64, 64), (96, 24), (100, 101)]


def growth_of(fit: tn.Fit) -> str | None:
    """The parameter that makes the network larger."""
    names = inspect.signature(fit.topology).parameters
    return next((name for name in ("rank", "bond", "depth") if name in names), None)


def larger(fit: tn.Fit) -> list[dict[str, Any]]:
    """Arguments of the next larger networks: all bonds up by one, and each of the smallest alone.

    A bond at its useful size stays there. The fit may have one size for all bonds although the
    topology takes several.
    """
    growth = growth_of(fit)
    if growth is None:
        return []
    if growth == "depth":
        # One more layer of an even depth may hold no gate.
        return [{**fit.arguments, "depth": fit.arguments["depth"] + 2}]
    graph = fit.network().freeze()
    useful = useful_sizes(graph, [bond for bond, _ in fit.bonds])
    sizes = fit.arguments[growth]
    if isinstance(sizes, int):
        grows = any(size < useful[bond] for bond, size in fit.bonds)
        return [{**fit.arguments, growth: sizes + 1}] if grows else []
    caps = [useful[bond] for bond, _ in fit.bonds]
    raised = [tuple(min(size + 1, cap) for size, cap in zip(sizes, caps, strict=True))]
    raised += [
        (*sizes[:k], size + 1, *sizes[k + 1 :]) for k, size in enumerate(sizes) if size < caps[k]
    ]
    return [{**fit.arguments, growth: r} for r in raised if r != sizes]


@pytest.mark.crossed
@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
@pytest.mark.parametrize(("in_features", "out_features"), SIZES)
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_parameters(name: str, in_features: int, out_features: int, share: float) -> None:
    """Within the budget, all numbers true, and each next larger network is over the budget."""
    budget = int(share * in_features * out_features)
    try:
        fit = tn.fit_budget(FAMILIES[name], in_features, out_features, params=budget)
    except tn.SpecError as error:
        # Then the message names what is enough, and nothing smaller is.
        least = int(str(error).split("needs params=")[1].split(". ")[0].replace(",", ""))
        assert least > budget
        fit = tn.fit_budget(FAMILIES[name], in_features, out_features, params=least)
        assert fit.parameters == least
        with pytest.raises(tn.SpecError, match=f"needs params={least:,}"):
            tn.fit_budget(FAMILIES[name], in_features, out_features, params=least - 1)
        return
    graph = fit.network().freeze()
    assert graph.parameter_count == fit.parameters <= budget
    assert fit.used == fit.parameters / budget
    assert fit.compression == in_features * out_features / fit.parameters
    assert (graph.in_features, graph.out_features) == (fit.padded_in, fit.padded_out)
    assert fit.padded_in >= in_features
    assert fit.padded_out >= out_features
    assert math.prod(fit.in_shape) == fit.padded_in
    assert math.prod(fit.out_shape) == fit.padded_out
    for arguments in larger(fit):
        assert fit.topology(**arguments).parameter_count > budget


@pytest.mark.parametrize("legs", [2, 3, 4])
@pytest.mark.parametrize("name", ["tensor_train", "tucker", "cp", "kronecker", "tensor_ring"])
def test_a_given_number_of_legs(name: str, legs: int) -> None:
    """legs= is the number of legs of each port, and most of the budget is used."""
    fit = tn.fit_budget(FAMILIES[name], 4096, 4096, params=1_000_000, legs=legs)
    assert len(fit.in_shape) == len(fit.out_shape) == legs
    assert fit.used > 0.9
    for arguments in larger(fit):
        assert fit.topology(**arguments).parameter_count > 1_000_000


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_budget_beyond_dense(name: str) -> None:
    """With more than enough the bonds stop at their useful sizes, and the fit says what it is."""
    fit = tn.fit_budget(FAMILIES[name], 16, 16, params=10**7)
    graph = fit.network().freeze()
    useful = useful_sizes(graph, [bond for bond, _ in fit.bonds])
    # One size for all bonds stops where the last bond does.
    if growth_of(fit) in ("bond", "rank") and fit.bonds:
        assert max(size for _, size in fit.bonds) == max(useful.values())
        assert any("largest useful size" in remark for remark in fit.remarks)
    assert (fit.compression < 1) == any("compression is below 1" in r for r in fit.remarks)
    assert fit.used < 0.01


def test_each_bond_has_its_own_cap() -> None:
    """Where a topology takes a size a bond, the outer bonds stop early and the inner ones go on."""
    fit = tn.fit_budget(tn.topologies.tensor_train, 256, 256, legs=8, params=20_000)
    sizes = dict(fit.bonds)
    assert sizes["b0"] == sizes["b6"] == 4
    assert sizes["b1"] == sizes["b5"] == 16
    assert sizes["b3"] > 16
    assert fit.arguments["rank"] == tuple(sizes.values())
    one_size = tn.topologies.tensor_train((2,) * 8, (2,) * 8, rank=min(sizes["b2"], sizes["b3"]))
    assert one_size.parameter_count > 20_000


def test_one_size_for_bonds_of_which_some_are_too_large() -> None:
    """The remark counts the bonds that are beyond their useful size."""
    fit = tn.fit_budget(tn.topologies.tree, 2**8, 2**8, legs=8, params=8_000)
    assert fit.arguments["bond"] > 8
    assert any(
        remark.startswith("4 of 6 bonds are larger than is useful") for remark in fit.remarks
    )


@pytest.mark.parametrize("name", ["tensor_train", "low_rank", "tucker", "tree"])
def test_compression(name: str) -> None:
    """At least this many dense parameters, without padding, for one of the network."""
    fit = tn.fit_budget(FAMILIES[name], 1000, 1009, compression=37.5)
    assert fit.compression >= 37.5
    assert fit.used > 0.8
    for arguments in larger(fit):
        assert 1000 * 1009 / fit.topology(**arguments).parameter_count < 37.5


def test_the_compression_that_an_error_names_can_be_had() -> None:
    """Too much compression: the message names the most, rounded down."""
    with pytest.raises(tn.SpecError, match=r"is too large .* needs compression=") as caught:
        tn.fit_budget(tn.topologies.low_rank, 100, 30, compression=24)
    most = float(str(caught.value).split("needs compression=")[1].split(". ")[0])
    assert most == 23.076
    assert tn.fit_budget(tn.topologies.low_rank, 100, 30, compression=most).parameters == 130


@pytest.mark.parametrize("name", ["tensor_train", "low_rank", "cp", "monarch", "mera", "brickwall"])
def test_flops(name: str) -> None:
    """FLOPs are those of tn.cost at this batch, within the budget; the next rank is beyond it."""
    budget = 30_000
    fit = tn.fit_budget(FAMILIES[name], 256, 256, flops=budget, batch=32)
    counted = tn.cost(fit.network(), batch=32)
    assert fit.flops == counted.forward_flops / 32 <= budget
    assert fit.used == fit.flops / budget
    growth = growth_of(fit)
    if growth in ("rank", "bond") and fit.bonds:
        size = max(size for _, size in fit.bonds) + 1
        more = fit.topology(**{**fit.arguments, growth: size})
        assert tn.cost(more, batch=32).forward_flops / 32 > budget


def test_flops_too_few() -> None:
    """The message names the FLOPs of the smallest network of all numbers of legs; those do."""
    train = tn.topologies.tensor_train
    with pytest.raises(tn.SpecError, match="needs flops=") as caught:
        tn.fit_budget(train, 1024, 1024, flops=10)
    least = int(str(caught.value).split("needs flops=")[1].split(" a ")[0].replace(",", ""))
    assert tn.fit_budget(train, 1024, 1024, flops=least).flops <= least
    with pytest.raises(tn.SpecError, match=f"needs flops={least:,} a sample"):
        tn.fit_budget(train, 1024, 1024, flops=least - 1)
    for legs in (2, 5, 10):
        net = train(*[(round(1024 ** (1 / legs)),) * legs] * 2, rank=1)
        assert tn.cost(net).forward_flops / 256 >= least - 1


def predicted_seconds(net: tn.Network, batch: int) -> float:
    """Forward and backward on torch, by the model itself."""
    planned = plan_graph(net, Request(batch=batch))
    times = op_times("float32")
    pair = fastest_pair(planned.plan, planned.training_mask, times)
    return pair_seconds(pair, batch, times).total


@pytest.mark.parametrize("milliseconds", [0.3, 0.6, 2.0])
def test_time(milliseconds: float) -> None:
    """The network is predicted within the time, and the one with the next rank over it."""
    with use_profile(fixed_profile()):
        train = tn.topologies.tensor_train
        fit = tn.fit_budget(train, 1024, 1024, time=1e-3 * milliseconds, batch=64, legs=2)
        assert fit.seconds == pytest.approx(predicted_seconds(fit.network(), 64))
        assert fit.seconds is not None and fit.seconds <= 1e-3 * milliseconds
        more = fit.arguments | {"rank": fit.arguments["rank"] + 1}
        assert predicted_seconds(train(**more), 64) > 1e-3 * milliseconds
        assert fit.used == pytest.approx(fit.seconds / (1e-3 * milliseconds))
    assert "ms a call" in str(fit)


def test_time_too_short() -> None:
    """The message says how long the smallest network is predicted to take."""
    with use_profile(fixed_profile()):
        least = predicted_seconds(tn.topologies.low_rank(64, 64, 1), 100)
        with pytest.raises(tn.SpecError, match=re.escape(f"needs time={least:.3g} seconds")):
            tn.fit_budget(tn.topologies.low_rank, 64, 64, time=0.9 * least, batch=100)


# -- padding -----------------------------------------------------------------------------------


def test_padding_is_said_and_least() -> None:
    """4099 is prime: one entry more is 82 x 50. 1000 needs none."""
    fit = tn.fit_budget(tn.topologies.tensor_train, 1000, 4099, params=200_000, legs=2)
    assert (fit.in_shape, fit.out_shape) == ((40, 25), (50, 82))
    assert fit.padding == (0, 1)
    assert "0 appended to x, 1 cut from y" in str(fit)


@pytest.mark.parametrize("bias", [False, True])
def test_layer_of_padded_sizes(bias: bool) -> None:
    """fit.layer() maps in_features to out_features with the network's matrix cut to them."""
    fit = tn.fit_budget(tn.topologies.tucker, 13, 11, params=100)
    assert fit.padding == (1, 1)
    layer = fit.layer(bias=bias, dtype=torch.float64)
    assert isinstance(layer, Padded)
    x = torch.randn(3, 13, dtype=torch.float64)
    padded = torch.cat([x, torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    inner = tn.Layer(fit.network(), dtype=torch.float64)
    state = layer.state_dict()
    state.pop("bias", None)
    inner.load_state_dict(state)
    np.testing.assert_allclose(
        layer(x).detach().numpy(), inner(padded)[:, :11].detach().numpy(), rtol=1e-12
    )
    assert (layer.bias is not None) == bias


def test_layer_without_padding() -> None:
    """Sizes that factor give a plain Layer, for the batch of the fit."""
    fit = tn.fit_budget(tn.topologies.tensor_train, 64, 64, params=1000, batch=7)
    layer = fit.layer(bias=True)
    assert isinstance(layer, tn.Layer)
    assert layer.costs()[0].batch == 7
    assert layer(torch.zeros(2, 64)).shape == (2, 64)


def test_much_padding_is_remarked() -> None:
    """Legs of one size for ports of different size fill x with zeros; the remark says so."""
    fit = tn.fit_budget(tn.topologies.tree, 20, 1000, params=20_000)
    assert fit.padded_in >= 1000
    assert any(remark.startswith("padding makes the map") for remark in fit.remarks)


SIZE = st.one_of(st.integers(1, 300), st.sampled_from([2, 13, 127, 251, 1009, 4099]))


@settings(max_examples=60)
@given(
    name=st.sampled_from(
        ["tensor_train", "tensor_ring", "tucker", "cp", "low_rank", "tree", "mera"]
    ),
    in_features=SIZE,
    out_features=SIZE,
    kind=st.sampled_from(["params", "compression"]),
    share=st.floats(0.001, 2.0),
)
def test_any_size_and_budget(
    name: str, in_features: int, out_features: int, kind: str, share: float
) -> None:
    """Whatever is asked for: within the budget, or an error that names a budget that works."""
    dense = in_features * out_features
    amount = share * dense if kind == "params" else 1 / share
    budget: dict[str, Any] = {kind: amount}
    try:
        fit = tn.fit_budget(FAMILIES[name], in_features, out_features, **budget)
    except tn.SpecError as error:
        text = str(error).split(f"needs {kind}=")[1].split(". ")[0].replace(",", "")
        amount = float(text)
        budget = {kind: amount}
        fit = tn.fit_budget(FAMILIES[name], in_features, out_features, **budget)
    assert 0 < fit.used <= 1
    most = amount if kind == "params" else dense / amount
    assert fit.network().parameter_count == fit.parameters <= most
    assert fit.padded_in >= in_features
    assert fit.padded_out >= out_features
    again = tn.fit_budget(FAMILIES[name], in_features, out_features, **budget)
    assert again == fit


def test_the_same_in_every_process() -> None:
    """The order of sets, which differs between processes, decides nothing."""
    program = (
        "import tnlayer as tn\n"
        "for f in (tn.topologies.tensor_ring, tn.topologies.mera, tn.topologies.tucker):\n"
        "    print(tn.fit_budget(f, 1000, 1009, params=30000).numbers())\n"
        "print(tn.fit_budget(tn.topologies.cp, 256, 256, flops=9000).numbers())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(tn.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "77")
    }
    assert len(outputs) == 1


# -- topologies of users -----------------------------------------------------------------------


def backward_train(in_shape: tuple[int, ...], out_shape: tuple[int, ...], rank: Any) -> tn.Network:
    """A train whose ranks are given from the last bond to the first, and squared on the first."""
    sizes = list(rank)[::-1] if isinstance(rank, tuple) else [rank] * (len(in_shape) - 1)
    return tn.topologies.tensor_train(in_shape, out_shape, sizes)


def squared(in_features: int, out_features: int, rank: int) -> tn.Network:
    """A bond of rank squared; it fails on a tuple in its own way."""
    return tn.topologies.low_rank(in_features, out_features, rank**2)


def chain(legs: int, dim: int, bond: int, *, gain: float = 1.0) -> tn.Network:
    """A user's own chain with the names of tree and mera."""
    del gain
    return tn.topologies.tensor_train((dim,) * legs, (dim,) * legs, bond)


def test_ranks_in_any_order() -> None:
    """Which entry of a sequence sizes which bond is asked, not assumed."""
    shapes: dict[str, Any] = {"in_shape": (2, 2, 8, 8), "out_shape": (2, 2, 8, 8)}
    ours = tn.fit_budget(tn.topologies.tensor_train, 256, 256, params=9000, **shapes)
    theirs = tn.fit_budget(backward_train, 256, 256, params=9000, **shapes)
    assert ours.bonds[0] == ("b0", 4)
    assert theirs.arguments["rank"][-1] == 4
    useful = useful_sizes(theirs.network().freeze(), ["b0", "b1", "b2"])
    assert all(size <= useful[bond] for bond, size in theirs.bonds)


def test_a_rank_that_is_no_size() -> None:
    """Bonds may be any function of the rank: 9 is the last square within 10 useful ones."""
    fit = tn.fit_budget(squared, 10, 20, params=10_000)
    assert fit.arguments == {"in_features": 10, "out_features": 20, "rank": 3}
    fit = tn.fit_budget(squared, 100, 200, params=4_000)
    assert fit.arguments["rank"] == 3


def test_a_users_chain() -> None:
    """legs, dim and bond are chosen; other parameters keep their defaults or what is given."""
    fit = tn.fit_budget(chain, 4096, 4096, params=30_000, gain=2.0)
    assert fit.arguments["gain"] == 2.0
    assert fit.arguments["dim"] ** fit.arguments["legs"] == 4096
    assert 0.9 < fit.used <= 1


def test_given_arguments_are_kept() -> None:
    """What the caller passes is not chosen: shapes, terms, dims, grids, ranks."""
    fit = tn.fit_budget(
        tn.topologies.tensor_train, 24, 30, params=500, in_shape=(4, 6), out_shape=(5, 6)
    )
    assert (fit.in_shape, fit.out_shape) == ((4, 6), (5, 6))
    fit = tn.fit_budget(tn.topologies.block_term, 64, 64, params=3000, terms=5)
    assert fit.arguments["terms"] == 5
    assert not any("default" in remark for remark in fit.remarks)
    fit = tn.fit_budget(tn.topologies.mera, 256, 256, params=5000, dim=2, fix_first_level=False)
    assert (fit.arguments["legs"], fit.arguments["dim"]) == (8, 2)
    fit = tn.fit_budget(tn.topologies.peps, 256, 256, params=5000, rows=2)
    assert fit.arguments["rows"] == 2
    fit = tn.fit_budget(tn.topologies.tensor_train, 256, 256, params=9000, rank=3)
    assert fit.arguments["rank"] == 3
    fit = tn.fit_budget(tn.topologies.tree, 16, 16, params=10**6, fix_first_level=True)
    assert fit.padded_out >= 16


def test_defaults_are_remarked() -> None:
    """block_term without terms takes 2 and says so."""
    fit = tn.fit_budget(tn.topologies.block_term, 64, 64, params=3000)
    assert fit.arguments["terms"] == 2
    assert "terms=2 is a default" in fit.remarks[0]


def unknown(in_shape: Any, out_shape: Any, rank: int, colour: str, taste: str) -> tn.Network:
    """Two parameters that nobody knows."""
    raise AssertionError(f"{in_shape}{out_shape}{rank}{colour}{taste}")


def shapeless(width: int, rank: int) -> tn.Network:
    """No known parameter for the ports."""
    raise AssertionError(f"{width}{rank}")


def two_ranks(in_features: int, out_features: int, rank: int, bond: int) -> tn.Network:
    """Both names of a bond."""
    return tn.topologies.low_rank(in_features, out_features, rank * bond)


def no_network(in_features: int, out_features: int, rank: int) -> int:
    """Returns something else."""
    return in_features * out_features * rank


@pytest.mark.parametrize(
    ("topology", "options", "message"),
    [
        (tn.topologies.low_rank, {}, "exactly one of params, flops, compression, time, got none"),
        (tn.topologies.low_rank, {"params": 9, "flops": 9}, "got params, flops"),
        (tn.topologies.low_rank, {"params": 0}, "params=0, expected a positive"),
        (tn.topologies.low_rank, {"params": True}, "params=True, expected"),
        (tn.topologies.low_rank, {"compression": math.inf}, "expected a positive finite"),
        (tn.topologies.low_rank, {"params": 999, "legs": 2}, "no legs to choose"),
        (tn.topologies.low_rank, {"params": 999, "rang": 2}, "no parameter 'rang' .*'rank'"),
        (tn.topologies.tensor_train, {"params": 999, "legs": 7}, "expected 1 to 6"),
        (tn.topologies.tensor_train, {"params": 999, "in_shape": 64}, "sequence of leg sizes"),
        (tn.topologies.tensor_train, {"params": 999, "in_shape": (2, 2)}, "fewer than 64"),
        (tn.topologies.mera, {"params": 999, "dim": 0}, "from 1 up"),
        (tn.topologies.mera, {"params": 999, "dim": 1}, "fewer than 64"),
        (tn.topologies.low_rank(4, 4, 1), {"params": 999}, "a network has no free sizes"),
        (unknown, {"params": 999}, "not known: colour, taste"),
        (unknown, {"params": 999, "taste": "x"}, "not known: colour. "),
        (shapeless, {"params": 999}, "none of which say the shape"),
        (two_ranks, {"params": 999}, "both rank and bond"),
        (no_network, {"params": 999}, "returned int"),
    ],
)
def test_wrong_use(topology: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    """Each error names what is wrong."""
    with pytest.raises(tn.SpecError, match=message):
        tn.fit_budget(topology, 64, 64, **options)


@pytest.mark.parametrize("features", [0, -1, 2**41, 2.0])
def test_wrong_features(features: Any) -> None:
    """Features are whole numbers that a port may have."""
    with pytest.raises(tn.SpecError, match="in_features"):
        tn.fit_budget(tn.topologies.low_rank, features, 4, params=999)


# -- the value ---------------------------------------------------------------------------------


def test_printed(golden: Golden) -> None:
    """The table of a fit with padding and a remark."""
    fit = tn.fit_budget(tn.topologies.block_term, 1000, 4099, compression=40, legs=2, batch=64)
    golden.check(str(fit))


def test_numbers_are_json() -> None:
    """numbers() can be written to a file and holds the arguments."""
    fit = tn.fit_budget(tn.topologies.tensor_train, 100, 101, params=700)
    numbers = json.loads(json.dumps(fit.numbers()))
    assert numbers["topology"] == "tensor_train"
    assert numbers["parameters"] == fit.parameters
    assert tuple(numbers["arguments"]["in_shape"]) == fit.in_shape
    assert fit.topology(**numbers["arguments"]).parameter_count == fit.parameters


def test_a_fit_is_a_value() -> None:
    """Frozen and hashable; its network is a builder to go on editing, a new one each time."""
    fit = tn.fit_budget(tn.topologies.tensor_train, 64, 64, params=700)
    assert len({fit, fit}) == 1
    with pytest.raises(AttributeError):
        fit.parameters = 1  # type: ignore[misc]
    first, second = fit.network(), fit.network()
    first.fix(j0=0)
    assert second.freeze() != first.freeze()


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_numbers_of_numpy_are_numbers(kind: Callable[[int], Any]) -> None:
    """Budgets from np.arange and np.linspace are taken as those of Python, truth values are not."""
    of_python = tn.fit_budget(tn.topologies.low_rank, 64, 64, compression=4)
    of_numpy = tn.fit_budget(tn.topologies.low_rank, 64, 64, compression=kind(4))
    assert of_numpy == of_python
    assert tn.Budget(compression=kind(4)).amount == 4
    for wrong in (np.bool_(True), True, "4", kind(-4)):
        with pytest.raises(tn.SpecError):
            tn.fit_budget(tn.topologies.low_rank, 64, 64, compression=wrong)  # type: ignore[arg-type]


def ends_only(in_shape: tuple[int, ...], out_shape: tuple[int, ...], rank: int) -> tn.Network:
    """A user's own: a matrix of two tensors, for three legs only, said in the user's ways."""
    assert len(in_shape) == 3, "three legs"
    if rank > 5:
        raise ValueError("too large")
    return tn.topologies.low_rank(math.prod(in_shape), math.prod(out_shape), rank=rank)


def star(h: int, a: int) -> tn.Network:
    """A user's own, in the user's words."""
    return tn.topologies.low_rank(8, h, rank=a)


def never(in_features: int, out_features: int) -> tn.Network:
    """Raises whatever is asked for."""
    raise ZeroDivisionError


def test_shapes_that_a_topology_refuses_are_left_out() -> None:
    """Whatever it raises; only where none is left an error says the last reason."""
    fit = tn.fit_budget(ends_only, 64, 64, compression=2)
    assert len(fit.in_shape) == 1 and fit.bonds[0][1] == 5
    assert fit.call == f"{__name__}:ends_only({(4, 4, 4)}, {(4, 4, 4)}, rank=5)"
    with pytest.raises(tn.SpecError) as caught:
        tn.fit_budget(never, 8, 8, compression=2)
    said = str(caught.value)
    assert "never(in_features=8, out_features=8) raised ZeroDivisionError" in said
    assert "A topology takes for the ports in_shape and out_shape" in said
    assert "raises tn.SpecError for what it cannot do" in said
    found = tn.suggest(8, 8, compression=2, topologies=[never, tn.topologies.low_rank])
    assert [name for name, _ in found.left_out] == ["never"]


def test_a_topology_with_all_sizes_given_is_called_with_them() -> None:
    """Its arguments may have any names."""
    fit = tn.fit_budget(star, 8, 6, params=100, h=6, a=4)
    assert fit.arguments == {"h": 6, "a": 4} and fit.parameters == 56
    layer = tn.from_linear(torch.nn.Linear(8, 6), star, h=6, a=3, backend="torch")
    assert layer.parameter_count == 42
    with pytest.raises(tn.SpecError, match=r"Or pass a value for each, fit_budget\(..., h=...\)"):
        tn.fit_budget(star, 8, 6, params=100)
    with pytest.raises(tn.SpecError, match="fewer than"):
        tn.fit_budget(star, 9, 6, params=100, h=6, a=4)
