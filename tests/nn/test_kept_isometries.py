"""Isometric tensors that stay isometric: isometries="keep", retract_() and parameter_groups()."""

from __future__ import annotations

import copy
import io
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tnlayer as tn
from tests.support import oracle
from tnlayer.errors import SpecError
from tnlayer.graph.cancel_isometries import cancel_isometries
from tnlayer.nn.kept_isometries import matricised, turned

OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=1e-3),
}


def rotations() -> tn.Network:
    """Two isometric tensors of one shape, one of another, and a free one between them."""
    net = tn.Network("rotations")
    a, b = net.input(a=3, b=4)
    c, d = net.tensor("u", [a, b], out=(3, 4), isometry=[a, b])
    e, f = net.tensor("v", [c, d], out=(3, 4), isometry=[c, d])
    g = net.tensor("free", [e, f], out=(6,))
    h = net.tensor("w", g, out=(4,), isometry=g)
    net.output(h)
    return net


def largest_error(layer: tn.Layer) -> float:
    """How far W^H W is from 1, or from its own multiple of 1, over all isometric tensors."""
    found = 0.0
    for parameter in layer.graph.parameters:
        if not parameter.node.isometry or any(pin is not None for pin in parameter.pins):
            continue
        one = matricised(parameter)
        wide = torch.complex128 if layer.dtype.is_complex else torch.float64
        matrix = one.block(getattr(layer, parameter.name).detach().to(wide))
        gram = matrix.mH @ matrix
        scale = gram.diagonal().real.mean() if one.has_scale else 1.0
        identity = torch.eye(len(gram), dtype=wide)
        found = max(found, float((gram / scale - identity).abs().max()))
    return found


def train(layer: tn.Layer, optimiser: torch.optim.Optimizer, steps: int) -> tuple[float, float]:
    """Fit random outputs; the first and the last loss."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, layer.in_features, generator=generator).to(layer.dtype)
    y = torch.randn(32, layer.out_features, generator=generator).to(layer.dtype)
    losses: list[float] = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (layer(x) - y).abs().square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float64])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_isometries_stay_isometric_and_learn(name: str, dtype: torch.dtype) -> None:
    """After 200 steps W^H W is 1 to 1e-6, and the loss has fallen."""
    torch.manual_seed(0)
    layer = tn.Layer(rotations(), isometries="keep", dtype=dtype)
    first, last = train(layer, OPTIMISERS[name](layer.parameters()), 200)
    assert last < first
    assert largest_error(layer) < 1e-6


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_isometries_stay_isometric_for_ten_thousand_steps(name: str, dtype: torch.dtype) -> None:
    """And after 10,000."""
    torch.manual_seed(0)
    layer = tn.Layer(tn.topologies.mera(6, 2, 2), isometries="keep", dtype=dtype)
    train(layer, OPTIMISERS[name](layer.parameters()), 10_000)
    assert largest_error(layer) < 1e-6


def test_free_isometries_do_not_stay() -> None:
    """What the option is for: without it the same steps leave the manifold."""
    torch.manual_seed(0)
    layer = tn.Layer(rotations())
    train(layer, OPTIMISERS["adam"](layer.parameters()), 20)
    assert largest_error(layer) > 1e-2


class CountCalls(TorchDispatchMode):
    """Counts torch's operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def test_tensors_of_one_shape_are_made_by_one_call() -> None:
    """MERA's 19 tensors of bond 2 are 4 x 4 matrices: one system for 18 of them, and one for the
    top, which has a scale."""
    layer = tn.Layer(tn.topologies.mera(12, 2, 2), isometries="keep")
    with CountCalls() as counted, torch.no_grad():
        layer(torch.zeros(2, 4096))
    solves = [count for name, count in counted.calls.items() if "solve" in name]
    assert sum(solves) == 2, counted.calls


@pytest.mark.parametrize("shape", [(2, 4, 4), (3, 5, 2), (1, 3, 1)])
def test_the_gradient_of_a_turn(shape: tuple[int, ...]) -> None:
    """gradcheck, real and complex, far from the starting point."""
    for dtype in (torch.float64, torch.complex128):
        generator = torch.Generator().manual_seed(0)
        start = torch.linalg.qr(torch.randn(shape, dtype=dtype, generator=generator)).Q
        free = torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, start=start: turned(start, x), free)


def test_long_matrices_take_smaller_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to turn a matrix of many rows give one result."""
    start = torch.linalg.qr(torch.randn(2, 40, 3, dtype=torch.float64)).Q
    free = torch.randn(2, 40, 3, dtype=torch.float64)
    dense = turned(start, free)
    monkeypatch.setattr("tnlayer.nn.kept_isometries._DENSE_ROWS", 8)
    torch.testing.assert_close(turned(start, free), dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_layer_is_that_of_its_tensors(fixed: bool, dtype: torch.dtype) -> None:
    """A plain layer with the same tensors gives the same y, with fixed legs, too."""
    torch.manual_seed(0)
    net = tn.topologies.mera(5, 2, 3, fix_first_level=fixed)
    kept = tn.Layer(net, isometries="keep", dtype=dtype)
    plain = tn.Layer(net, dtype=dtype)
    with torch.no_grad():
        for name, array in plain.named_parameters():
            array.copy_(getattr(kept, name))
    x = torch.randn(7, 32).to(dtype)
    torch.testing.assert_close(kept(x), plain(x))


@pytest.mark.parametrize("fixed", [False, True])
def test_tensors_of_a_plain_layer_can_be_loaded(fixed: bool) -> None:
    """A state_dict without the option fits: isometries are as they were, and train from there."""
    torch.manual_seed(0)
    net = tn.topologies.mera(5, 2, 2, fix_first_level=fixed)
    plain = tn.Layer(net, dtype=torch.float64)
    kept = tn.Layer(net, isometries="keep", dtype=torch.float64)
    kept.load_state_dict(plain.state_dict())
    x = torch.randn(3, 32, dtype=torch.float64)
    torch.testing.assert_close(kept(x), plain(x))


def test_copies_and_states() -> None:
    """deepcopy, pickle, torch.save and state_dict give a layer with the same y."""
    layer = tn.Layer(rotations(), isometries="keep")
    train(layer, OPTIMISERS["adam"](layer.parameters()), 3)
    x = torch.randn(5, 12)
    y = layer(x)
    stored = io.BytesIO()
    torch.save(layer, stored)
    stored.seek(0)
    again = tn.Layer(rotations(), isometries="keep")
    again.load_state_dict(layer.state_dict())
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(stored, weights_only=False),
        again,
    ):
        torch.testing.assert_close(other(x), y)


def test_a_tensor_can_be_set_and_is_refused_if_it_is_not_one() -> None:
    """An assignment gives the nearest isometry; another shape is an error."""
    layer = tn.Layer(rotations(), isometries="keep")
    layer.u = 3 * torch.eye(12).reshape(3, 4, 3, 4)
    torch.testing.assert_close(layer.u.detach(), torch.eye(12).reshape(3, 4, 3, 4))
    with pytest.raises(tn.SpecError, match=r"tensor 'u': expected shape \(3, 4, 3, 4\)"):
        layer.u = torch.eye(12)


def test_reset_draws_other_isometries() -> None:
    """reset_parameters() draws anew, and the result is isometric."""
    torch.manual_seed(0)
    layer = tn.Layer(rotations(), isometries="keep")
    before = layer.u.detach().clone()
    layer.reset_parameters()
    assert not torch.allclose(layer.u, before)
    assert largest_error(layer) < 1e-6


def test_it_moves_and_is_born_on_the_meta_device() -> None:
    """.double(), and meta with to_empty() and reset_parameters()."""
    layer = tn.Layer(rotations(), isometries="keep").double()
    assert layer(torch.zeros(2, 12, dtype=torch.float64)).dtype == torch.float64
    empty = tn.Layer(rotations(), isometries="keep", device="meta").to_empty(device="cpu")
    with torch.no_grad():  # as memory may be that nobody has written to
        for array in (*empty.parameters(), *empty.buffers()):
            array.fill_(float("nan"))
    empty.reset_parameters()
    assert largest_error(empty) < 1e-6


def test_the_short_way_makes_them_once_a_call() -> None:
    """The second call of a kind takes the short way, with the same y and one system a form."""
    layer = tn.Layer(rotations(), isometries="keep")
    x = torch.randn(4, 12)
    y = layer(x)
    assert layer._fast is not None
    with CountCalls() as counted:
        torch.testing.assert_close(layer(x), y)
    assert sum(n for name, n in counted.calls.items() if "solve" in name) == 2


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_without_a_break(backend: str) -> None:
    """torch.compile(fullgraph=True), y and gradients."""
    layer = tn.Layer(rotations(), isometries="keep", tiers=False)
    x = torch.randn(4, 12)
    layer(x).square().sum().backward()
    wanted = {name: p.grad for name, p in layer.named_parameters()}
    layer.zero_grad()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    y = compiled(x)
    torch.testing.assert_close(y, layer(x))
    y.square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name])


# -- what cancels ------------------------------------------------------------------------------


def energy(legs: int, *, conj: bool = True) -> tn.Network:
    """<psi| h |psi> of a MERA over ``legs`` sites, h on the two in the middle."""
    net = tn.Network("energy")
    state = tn.topologies.mera(legs, 2, 2).freeze()
    tensors = list(state.tensors)
    ket = {leg: f"k{number}" for number, (leg, _) in enumerate(state.leg_sizes)}
    bra = {leg: f"b{number}" for number, (leg, _) in enumerate(state.leg_sizes)}
    sites = state.inputs[0].legs
    middle = sites[legs // 2 - 1 : legs // 2 + 1]
    # The outputs of the layer are set to index 0: what remains is a state.
    for leg in sites:
        if leg not in middle:
            bra[leg] = ket[leg]
    net.output()
    net.bond(**{ket[leg]: size for leg, size in state.leg_sizes})
    net.bond(**{bra[leg]: size for leg, size in state.leg_sizes if bra[leg] != ket[leg]})
    for tensor in tensors:
        rows = [ket[tensor.legs[axis]] for axis in tensor.isometry]
        net.tensor(tensor.name, [ket[leg] for leg in tensor.legs], isometry=rows)
    for tensor in tensors:
        net.tensor(
            f"{tensor.name}_conj", [bra[leg] for leg in tensor.legs], share=tensor.name, conj=conj
        )
    value = np.random.default_rng(0).standard_normal((2, 2, 2, 2))
    legs_of_h = [bra[leg] for leg in middle] + [ket[leg] for leg in middle]
    net.tensor("h", legs_of_h, value=value, trainable=False)
    for leg in state.output:
        net.tensor(f"up_{ket[leg]}", ket[leg], value=np.array([1.0, 0.0]), trainable=False)
        net.tensor(f"down_{bra[leg]}", bra[leg], value=np.array([1.0, 0.0]), trainable=False)
    return net


def value_of(graph: tn.Graph, layer: tn.Layer) -> complex:
    """The number that a network without inputs is, by the oracle."""
    arrays = {p.name: getattr(layer, p.name).detach().numpy() for p in graph.parameters}
    return complex(oracle.evaluate(graph, [], arrays).reshape(()))


@pytest.mark.parametrize("legs", [5, 8, 9])
def test_what_cancels_leaves_the_value(legs: int) -> None:
    """The energy of the smaller network is that of the whole one."""
    torch.manual_seed(0)
    net = energy(legs)
    layer = tn.Layer(net, isometries="keep", dtype=torch.complex128)
    whole = net.freeze()
    small = cancel_isometries(whole)
    assert len(small.tensors) < len(whole.tensors)
    wanted = value_of(whole, layer)
    assert abs(value_of(small, layer) - wanted) < 1e-10
    assert abs(complex(layer().detach()) - wanted) < 1e-10


def test_only_certain_pairs_cancel() -> None:
    """Without conj= W^T W is not 1 for complex tensors: nothing goes."""
    graph = energy(4, conj=False).freeze()
    assert cancel_isometries(graph) == graph


def test_an_energy_costs_its_light_cone() -> None:
    """FLOPs grow with the depth of a MERA and not with its width."""

    def flops(graph: tn.Graph) -> float:
        return tn.plan(graph, batch=1, effort="fast").counts.flops.at(1)

    whole = [energy(legs).freeze() for legs in (8, 16)]
    counts = [flops(cancel_isometries(graph)) for graph in whole]
    assert counts[1] < flops(whole[1]) / 2
    assert counts[1] < 2.5 * counts[0]


def with_value(value: object) -> tn.Network:
    """One tensor from legs i, j to k with a value of the user's."""
    net = tn.Network("one")
    net.input(i=2, j=3)
    net.output(k=4)
    net.tensor("U", "i j k", isometry="k", value=value)
    return net


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_a_value_is_where_an_isometry_starts(later: bool, is_complex: bool) -> None:
    """Training keeps it isometric, however the value came; it was trained as any tensor."""
    drawn = np.random.default_rng(0).normal(size=(2, 6, 4))
    entries = drawn[0] + 1j * drawn[1] if is_complex else drawn[0]
    value = np.linalg.qr(entries)[0].reshape(2, 3, 4)
    net = with_value(None if later else value)
    if later:
        net.set_values({"U": value})
    layer = tn.Layer(net, isometries="keep", dtype="complex128" if is_complex else "float64")
    np.testing.assert_allclose(layer.U.detach().numpy(), value, atol=1e-12)
    assert [name for name, _ in layer.named_parameters()] == ["isometries.free.U"]
    first, last = train(layer, torch.optim.SGD(layer.parameters(), lr=0.5), 20)
    assert last < first and largest_error(layer) < 1e-12


def test_values_that_are_no_isometries_are_refused() -> None:
    """By a layer that keeps them, and by an energy that counts on them."""
    value = np.arange(24.0).reshape(2, 3, 4)
    with pytest.raises(SpecError, match=r"'U'.*no isometry with 'k'.*differs .* by .*svd"):
        tn.Layer(with_value(value), isometries="keep")
    with pytest.raises(SpecError, match=r"'U'.*no isometry"):
        tn.energy(with_value(value), {(): 1.0}, isometric=True)
    tn.energy(with_value(value), {(): 1.0})
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 4)))[0].reshape(2, 3, 4)
    with pytest.raises(SpecError, match="no isometry"):
        tn.Layer(with_value(2 * q), isometries="keep")


def test_keep_without_isometries_is_told() -> None:
    """It kept nothing, and said so nowhere."""
    with pytest.raises(SpecError, match=r"isometries='keep'.*isometry=.*net.tensor"):
        tn.Layer(tn.topologies.low_rank(4, 4, rank=2), isometries="keep")


def test_energies_of_values_are_cut_to_light_cones() -> None:
    """A MERA of the user's arrays costs what one without costs."""
    drawn = tn.topologies.mera(8, 2, 2)
    drawn.fix(dict.fromkeys(drawn.freeze().output, 0))
    start = tn.Layer(drawn, isometries="keep", dtype=torch.float64)
    given = tn.topologies.mera(8, 2, 2)
    given.set_values({name: array.detach().numpy() for name, array in whole(start).items()})
    given.fix(dict.fromkeys(given.freeze().output, 0))
    term = {(3, 4): np.diag([1.0, -1.0, -1.0, 1.0])}
    cut, cone = (tn.energy(net, term, isometric=True)[0] for net in (given, drawn))
    assert len(cut.tensors) == len(cone.tensors) < len(tn.energy(given, term)[0].tensors)


def whole(layer: tn.Layer) -> dict[str, torch.Tensor]:
    """The isometries of a layer at full shape, where legs are fixed as well."""
    maker = layer.isometries
    found: dict[str, torch.Tensor] = {}
    for parameter in layer.graph.parameters:
        one = replace(matricised(parameter), pins=(None,) * len(parameter.full_shape))
        found[parameter.name] = one.tensors(maker.start.get(parameter.name)[None])[0]
    return found


def test_energies_of_states_with_fixed_legs() -> None:
    """tn.energy of a MERA whose outputs are fixed: a layer that keeps isometries contracts the
    light cones alone, and gives what the whole networks give."""
    torch.manual_seed(0)
    state = tn.topologies.mera(8, 2, 2)
    state.fix(dict.fromkeys(state.freeze().output, 0))
    z = np.diag([1.0, -1.0])
    terms = tn.energy(state, {(k, k + 1): np.kron(z, z) for k in (0, 3, 6)})
    kept = tn.Layer(terms, shared=True, isometries="keep", dtype=torch.float64, tiers=False)
    plain = tn.Layer(terms, shared=True, dtype=torch.float64, tiers=False)
    with torch.no_grad():
        for name, array in plain.named_parameters():
            array.copy_(getattr(kept, name))
    torch.testing.assert_close(kept(), plain())
    kept().backward()
    assert all(array.grad is not None for array in kept.parameters())
    own, whole = (sum(cost.forward_flops for cost in layer.costs(1)) for layer in (kept, plain))
    assert own < whole


def test_a_pair_between_two_legs_of_a_port_stays() -> None:
    """Its wire would join the legs, which no port can be without being another port."""
    net = tn.Network("projector")
    a, b = net.input(a=2, b=2)
    net.bond(c=4)
    net.tensor("w", ["c", a], isometry=["c"])
    net.tensor("w_conj", ["c", b], share="w", conj=True)
    net.output()
    assert cancel_isometries(net.freeze()) == net.freeze()


# -- by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bfloat16])
def test_retract_makes_isometries_again(dtype: torch.dtype) -> None:
    """After a step that left the manifold; the factor of a scaled one stays."""
    torch.manual_seed(0)
    layer = tn.Layer(tn.topologies.mera(5, 2, 2), dtype=dtype)
    size = layer.top.detach().abs().float().square().sum()
    with torch.no_grad():
        for array in layer.parameters():
            array.add_(0.05 * torch.randn_like(array))
    assert tn.retract_(layer) is layer
    assert largest_error(layer) < (2e-2 if dtype == torch.bfloat16 else 1e-6)
    torch.testing.assert_close(
        layer.top.detach().abs().float().square().sum(), size, rtol=0.2, atol=0
    )


def test_retract_starts_kept_isometries_anew() -> None:
    """The tensors stay as they are, the free parameters are zero."""
    layer = tn.Layer(rotations(), isometries="keep")
    train(layer, OPTIMISERS["adam"](layer.parameters()), 5)
    before = layer.u.detach().clone()
    tn.retract_(layer)
    torch.testing.assert_close(layer.u.detach(), before)
    assert not dict(layer.named_parameters())["isometries.free.u"].any()


def test_retract_refuses_other_modules() -> None:
    """A dense layer has no isometries."""
    with pytest.raises(tn.SpecError, match=r"expected a tn\.Layer, got 'Linear'"):
        tn.retract_(torch.nn.Linear(2, 2))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("isometries", ["free", "keep"])
def test_groups_have_rates_by_the_tensors_names(isometries: Any) -> None:
    """One group a parameter; the rate that was named, else the optimiser's."""
    layer = tn.Layer(rotations(), bias=True, isometries=isometries)
    groups = layer.parameter_groups({"u": 0.5})
    assert {group["name"] for group in groups} == {"u", "v", "w", "free", "bias"}
    optimiser = torch.optim.SGD(groups, lr=0.1)
    rates = {group["name"]: group["lr"] for group in optimiser.param_groups}
    assert rates == {"u": 0.5, "v": 0.1, "w": 0.1, "free": 0.1, "bias": 0.1}
    matrices = {group["name"] for group in groups if group["is_matrix"]}
    assert "w" in matrices and "bias" not in matrices


def test_groups_refuse_unknown_names() -> None:
    """A name that is no tensor's, and a rate that is no number."""
    layer = tn.Layer(rotations())
    with pytest.raises(tn.SpecError, match="no parameter is called 'uu'"):
        layer.parameter_groups({"uu": 0.5})
    with pytest.raises(tn.SpecError, match="the rate of 'u' must be a number from 0"):
        layer.parameter_groups({"u": -1.0})


def test_the_option_is_one_of_two() -> None:
    """Another word is refused with both."""
    with pytest.raises(tn.SpecError, match="isometries"):
        tn.Layer(rotations(), isometries="kept")  # pyright: ignore[reportArgumentType]
