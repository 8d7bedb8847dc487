"""Sums, compositions, other names and expectation values, against the oracle and numpy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import networkx
import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support import oracle

T = tn.topologies
X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])


def arrays_of(graph: tn.Graph, seed: int = 1) -> dict[str, np.ndarray]:
    """One array a stored tensor that is no constant."""
    generator = np.random.default_rng(seed)
    values = oracle.stored_values(graph)
    return {
        p.name: values.get(p.name, generator.standard_normal(p.shape)) for p in graph.parameters
    }


def matrix(graph: tn.Graph, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The dense map, (out, in)."""
    return np.asarray(oracle.evaluate(graph, [np.eye(graph.in_features)], arrays)).T


# -- one after the other ---------------------------------------------------------------------------


def test_composition_is_a_product_of_matrices() -> None:
    """y of the first is x of the second, though both have legs of the same names."""
    first = T.tensor_train((2, 3), (4, 5), rank=2)
    second = T.tensor_train((4, 5), (2, 2), rank=3).renamed(prefix="second_")
    both = first.compose(second).freeze()
    arrays = arrays_of(both)
    maps = [
        matrix(one.freeze(), {t.name: arrays[t.name] for t in one.freeze().tensors})
        for one in (first, second)
    ]
    np.testing.assert_allclose(matrix(both, arrays), maps[1] @ maps[0])
    assert both.label == "tensor train then tensor train"


def test_composition_of_wires_hyperedges_and_passing_legs() -> None:
    """MERAs have wires, monarchs hyperedges, brick walls legs that no gate touches."""
    first, second = T.brickwall(3, 2, 1), T.mera(3).renamed(prefix="m_")
    third = tn.Network("diagonal")
    third.input(a=2, b=2, c=2)
    third.output("a b c")
    third.tensor("D", "a b c")
    both = first.compose(second).compose(third).freeze()
    arrays = arrays_of(both)
    maps = [
        matrix(one.freeze(), {t.name: arrays[t.name] for t in one.freeze().tensors})
        for one in (first, second, third)
    ]
    np.testing.assert_allclose(matrix(both, arrays), maps[2] @ maps[1] @ maps[0], atol=1e-12)


def test_composition_with_a_summed_input() -> None:
    """A leg that the second one only sums is summed in the first one's output."""
    second = tn.Network("sum")
    second.input(i=4, k=5)
    second.sum("k")
    second.output("i")
    both = T.low_rank(3, 20, rank=2)
    split = tn.Network("split")
    split.input(x=3)
    split.output(i=4, k=5)
    split.tensor("A", "x i k")
    found = split.compose(second).freeze()
    arrays = arrays_of(found)
    np.testing.assert_allclose(matrix(found, arrays), arrays["A"].sum(2).T)
    with pytest.raises(tn.SpecError, match=r"legs of sizes \(20,\), x of 'sum' \(4, 5\)"):
        both.compose(second)


WRONG: dict[str, tuple[Any, str]] = {
    "names": (lambda: T.low_rank(4, 4, 1).compose(T.low_rank(4, 4, 1)), r"both .* a tensor 'U'; "),
    "product": (lambda: T.mps(3, 2, 2).compose(T.mps_classifier(3, 2, 2, 2)), "no product port"),
    "no input": (lambda: T.low_rank(4, 4, 1).compose(T.mps(3, 2, 2)), "must have one input"),
    "nothing": (lambda: T.low_rank(4, 4, 1).compose(3), "expected a network, got 3"),  # type: ignore[arg-type]
    "no such tensor": (lambda: T.low_rank(4, 4, 1).renamed({"W": "X"}), "there is no tensor 'W'"),
    "a name twice": (lambda: T.low_rank(4, 4, 1).renamed({"U": "V"}), "both be called 'V'"),
    "no name": (lambda: T.low_rank(4, 4, 1).renamed({"U": "a b"}), "'a b' is not valid"),
    "reserved": (lambda: T.low_rank(4, 4, 1).renamed({"U": "bias"}), "reserved"),
    "a number": (lambda: T.low_rank(4, 4, 1) + 3, "cannot be added to 3"),  # type: ignore[operator]
    "other ports": (lambda: T.low_rank(4, 4, 1) + T.low_rank(4, 5, 1), "cannot be summed"),
    "no site": (lambda: tn.energy(T.mps(3, 2, 2), {3: X}), "no site 3; the state has 3"),
    "a site twice": (lambda: tn.energy(T.mps(3, 2, 2), {(1, 1): np.eye(4)}), "names a site twice"),
    "another size": (lambda: tn.energy(T.mps(3, 2, 2), {(0, 1): X}), r"\(2, 2\), .* 4 x 4"),
    "no term": (lambda: tn.energy(T.mps(3, 2, 2), {}), "has no term"),
    "fixed between": (
        lambda: fixed(T.low_rank(4, 4, 1)).compose(T.tensor_train((4,), (4,), 1)),
        "are fixed",
    ),
}


def fixed(net: tn.Network) -> tn.Network:
    """With its output leg pinned."""
    net.fix(j=0)
    return net


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_made(case: str) -> None:
    """A SpecError in the user's words."""
    make, message = WRONG[case]
    with pytest.raises(tn.SpecError, match=message):
        make()


# -- names and sums --------------------------------------------------------------------------------


def test_other_names_are_the_same_network() -> None:
    """Tensors, legs and inputs have new names; sharers follow, and the map is the same."""
    net = T.random_circuit(4, 2, depth=2, gates=2)
    graph = net.freeze()
    other = net.renamed({"gate_0": "u"}, ports={"x": "state"}, prefix="c_").freeze()
    assert other.inputs[0].name == "state"
    assert {t.name for t in other.tensors if t.share is None} == {"u", "c_gate_1"}
    arrays = arrays_of(graph)
    named = {"u": arrays["gate_0"], "c_gate_1": arrays["gate_1"]}
    np.testing.assert_allclose(matrix(other, named), matrix(graph, arrays))
    legs = T.low_rank(4, 3, 2).renamed(legs={"r": "rank"}).freeze()
    assert legs.sizes["rank"] == 2 and legs == T.low_rank(4, 3, 2).freeze()


def test_sums_are_what_layers_take() -> None:
    """a + b, sum([a, b]) and Layer([a, b]) are one."""
    a, b = T.low_rank(4, 4, rank=1), T.tensor_train((4,), (4,), rank=1)
    c = T.kronecker((2, 2), (2, 2))
    both = a + b + c
    assert len(both) == 3
    every: Any = sum([a, b, c])
    assert tuple(every) == tuple(both) == tuple(a + (b + c))
    layer = tn.Layer(both, backend="torch", effort="fast")
    assert layer.graphs == tuple(both)
    assert layer.parameter_count == both.parameter_count


# -- energies --------------------------------------------------------------------------------------


def hamiltonian(sites: int) -> dict[Any, Any]:
    """A transverse-field Ising chain with a field that differs from site to site, and a number."""
    terms: dict[Any, Any] = {(k, k + 1): np.kron(-Z, Z) for k in range(sites - 1)}
    terms |= {k: -(1.0 + k) * X for k in range(sites)}
    return terms | {(0, sites - 1): np.kron(X, Z).reshape(2, 2, 2, 2), (): 0.5}


def embedded(terms: dict[Any, Any], sites: int) -> np.ndarray:
    """The whole operator as a matrix."""
    total = np.zeros((2**sites, 2**sites))
    for where, value in terms.items():
        places = where if isinstance(where, tuple) else (where,)
        n = len(places)
        array = np.asarray(value).reshape((2,) * 2 * n)
        state = np.eye(2**sites).reshape(*[2] * sites, -1)
        moved = np.tensordot(array, state, (range(n, 2 * n), places))
        moved = np.moveaxis(moved, range(n), places)
        total += moved.reshape(2**sites, -1)
    return total


def states() -> dict[str, tn.Network]:
    """States over four sites: of an output, of an input, with fixed and with shared tensors."""
    mera = T.periodic_mera(4, 2, 4, share=True)
    mera.fix(dict.fromkeys(mera.freeze().output, 0))
    circuit = T.random_circuit(4, 2, depth=3, gates=2)
    circuit.fix(dict.fromkeys(circuit.freeze().inputs[0].legs, 1))
    return {"MPS": T.mps(4, 2, 3), "MERA": mera, "circuit": circuit}


@pytest.mark.parametrize("name", sorted(states()))
@pytest.mark.parametrize("isometric", [False, True])
def test_energy_is_the_expectation_value(name: str, isometric: bool) -> None:
    """The sum of the closed networks is psi^T H psi of the vector that the oracle makes; also where
    isometries outside the causal cone are left out."""
    net = states()[name]
    terms = hamiltonian(4)
    torch.manual_seed(3)
    layer = tn.Layer(
        tn.energy(net, terms, isometric=isometric),
        shared=True,
        backend="torch",
        effort="fast",
        dtype="float64",
    )
    if name == "MERA":  # the top starts scaled: an isometry it is without its scale
        top = layer.get_parameter("top")
        top.data /= top.data.norm()
    arrays = {n: a.detach().numpy() for n, a in layer.named_parameters()}
    graph = net.freeze()
    if name == "MERA":
        psi = oracle.evaluate(graph, [np.eye(16)], arrays).reshape(-1)
    else:
        x = [np.ones(1)] if graph.inputs else []
        psi = np.asarray(oracle.evaluate(graph, x, arrays)).reshape(-1)
    expected = psi @ embedded(terms, 4) @ psi
    np.testing.assert_allclose(layer().detach().numpy().reshape(()), expected, rtol=1e-9)


def test_the_causal_cone_is_small() -> None:
    """Of a MERA of 16 sites a term sees a few tensors, and of what it does not see nothing is
    left."""
    mera = T.periodic_mera(16, 2, 4)
    mera.fix(dict.fromkeys(mera.freeze().output, 0))
    (whole,) = tn.energy(mera, {(6, 7): np.kron(Z, Z)})
    (cone,) = tn.energy(mera, {(6, 7): np.kron(Z, Z)}, isometric=True)
    counts = [sum(t.value is None for t in graph.tensors) for graph in (whole, cone)]
    assert counts[0] == 2 * 29 and counts[1] <= 2 * 16
    (norm,) = tn.energy(mera, {(): 1.0}, isometric=True)
    assert [tensor.name for tensor in norm.tensors] == ["operator_0"]


def test_a_complex_state_is_conjugated() -> None:
    """<psi|Y|psi> of a complex state, with psi's conjugate on the left."""
    y = np.array([[0, -1j], [1j, 0]])
    terms = tn.energy(T.mps(2, 2, 2), {0: y})
    layer = tn.Layer(terms, backend="torch", dtype="complex128", effort="fast")
    arrays = {n: a.detach().numpy() for n, a in layer.named_parameters()}
    psi = np.einsum("ia,aj->ij", arrays["site_0"], arrays["site_1"]).reshape(-1)
    expected = psi.conj() @ np.kron(y, np.eye(2)) @ psi
    np.testing.assert_allclose(layer().detach().numpy().reshape(()), expected, atol=1e-10)
    assert abs(expected.imag) < 1e-12


OPTIONS: dict[str, Any] = {
    "shared": True, "backend": "torch", "effort": "fast", "dtype": "float64"
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_state_starts_as_a_state(seed: int) -> None:
    """The operator has no part in the start: the same seed gives the same tensors for each, near
    norm 1, and what is exactly zero for a unitary is no reason to scale."""
    found: dict[str, torch.Tensor] = {}
    doubled = {sites: 2 * term for sites, term in hamiltonian(4).items()}
    for name, terms in {"H": hamiltonian(4), "2 H": doubled, "1": {(): 1.0}}.items():
        torch.manual_seed(seed)
        layer = tn.Layer(tn.energy(T.mps(4, dim=2, bond=4), terms), **OPTIONS)
        found[name] = layer.get_parameter("site_1").detach()
        if name == "1":
            assert 0.05 < layer().item() < 20
    assert torch.equal(found["H"], found["1"]) and torch.equal(found["H"], found["2 H"])


def test_the_norm_of_a_fresh_state_is_1_in_the_mean() -> None:
    """Over draws; with a leg of three tensors, a summed leg and a fixed one as well."""
    net = tn.Network("state")
    net.output(a=2, b=3, c=2, f=5)
    net.fix(f=1)
    net.bond(h=3, s=2, k=4)
    net.sum("s")
    net.tensor("A", "a h s")
    net.tensor("B", "b h k")
    net.tensor("C", "c h k f")
    torch.manual_seed(0)
    layer = tn.Layer(tn.energy(net, {(): 1.0}), **OPTIONS)
    norms: list[float] = []
    for _ in range(400):
        layer.reset_parameters()
        norms.append(layer().item())
    assert np.mean(norms) == pytest.approx(1, abs=4 * float(np.std(norms)) / 20)
    assert np.std(norms) < 3


def test_a_unitary_state_keeps_its_isometries() -> None:
    """<H> of a traceless term is zero there: a start that divided by it would be noise."""
    for kind in ("float64", "complex128"):
        options: dict[str, Any] = {**OPTIONS, "dtype": kind}
        terms = tn.energy(T.mera(6, 2, 2), {(0, 1): np.kron(-Z, Z)})
        layer = tn.Layer(terms, isometries="keep", **options)
        assert abs(layer().item()) < 1e-9
        assert layer.top.norm().item() == pytest.approx(2)
        norm = tn.Layer(tn.energy(T.mera(6, 2, 2), {(): 1.0}), isometries="keep", **options)
        assert norm().item().real == pytest.approx(64)


@pytest.mark.parametrize(
    ("net", "is_state"),
    [(T.mera(8, 2, 2), True), (T.periodic_mera(8, 2, 4), True), (T.mera(8, 2, 4), False)],
)
@pytest.mark.parametrize("isometries", ["free", "keep"])
def test_isometries_that_grow_from_the_sites_up_make_no_norm(
    net: tn.Network, is_state: bool, isometries: Literal["free", "keep"]
) -> None:
    """The norm is 1 where the larger side of each faces the sites, and far below where not; kept
    ones stay there."""
    net = net.copy()
    net.fix(dict.fromkeys(net.freeze().output, 0))
    torch.manual_seed(0)
    layer = tn.Layer(tn.energy(net, {(): 1.0}), isometries=isometries, **OPTIONS)
    if is_state:
        assert layer().item() == pytest.approx(1)
    else:
        assert layer().item() < 0.1


# -- states of many sites --------------------------------------------------------------------------


def entered(sites: int) -> tn.Network:
    """A chain whose sites are legs of x."""
    net = tn.Network("entered")
    net.input({f"j{k}": 2 for k in range(sites)})
    net.output()
    net.bond({f"b{k}": 3 for k in range(sites - 1)})
    for k in range(sites):
        net.tensor(f"site_{k}", [f"b{n}" for n in (k - 1, k) if 0 <= n < sites - 1] + [f"j{k}"])
    return net


def as_quimb(sites: int) -> Any:
    """What from_quimb reads of a chain."""
    generator = np.random.default_rng(0)
    tensors: list[Any] = []
    for k in range(sites):
        bonds = [f"b{n}" for n in (k - 1, k) if 0 <= n < sites - 1]
        data = generator.standard_normal([3] * len(bonds) + [2]) / 2
        tensors.append(SimpleNamespace(inds=(*bonds, f"j{k}"), tags=[f"site_{k}"], data=data))
    return SimpleNamespace(tensors=tensors)


# A chain of so many spins and bond 3, by what makes it.
CHAINS: dict[str, Callable[[int], tn.Network]] = {
    "mps": lambda sites: T.mps(sites, dim=2, bond=3),
    "x": entered,
    "quimb": lambda sites: tn.Network.from_quimb(as_quimb(sites)),
    "networkx": lambda sites: tn.Network.from_networkx(
        networkx.path_graph(sites), bond=3, output=2
    ),
}


def sites_of(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The tensors of a chain as (bond on the left, site, bond on the right)."""
    found = [np.moveaxis(array, array.shape.index(2), -1) for array in arrays]
    return [
        found[0].T[None],
        *(array.transpose(0, 2, 1) for array in found[1:-1]),
        found[-1][:, :, None],
    ]


def chain_value(arrays: list[np.ndarray], operators: dict[int, np.ndarray]) -> tuple[float, float]:
    """<psi|operators|psi> of an MPS, with its logarithm kept apart, from the left to the right."""
    left, log = np.ones((1, 1)), 0.0
    for k, array in enumerate(arrays):
        operator = operators.get(k, np.eye(2))
        left = np.einsum("ab,aic,ij,bjd->cd", left, array, operator, array)
        log += float(np.log(np.abs(left).max()))
        left = left / np.abs(left).max()
    return left.item(), log


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_states_of_any_number_of_sites(name: str) -> None:
    """What would be a vector of 2^100 entries has an energy and a norm: those networks are
    closed."""
    state = CHAINS[name](100)
    torch.manual_seed(0)
    energy = tn.Layer(tn.energy(state, {(4, 5): np.kron(Z, X)}), **OPTIONS)
    norm = tn.Layer(tn.energy(state, {(): 1.0}), **OPTIONS, log_scale=True)
    norm.load_state_dict(energy.tensors(), strict=False)
    arrays = sites_of([array.detach().numpy() for array in energy.tensors().values()])
    mantissa, log = chain_value(arrays, {4: Z, 5: X})
    np.testing.assert_allclose(energy().item(), mantissa * np.exp(log), rtol=1e-8)
    mantissa, log = chain_value(arrays, {})
    top, scale = norm()
    np.testing.assert_allclose(np.log(top.item()) + scale.item(), np.log(mantissa) + log, rtol=1e-8)


def test_layers_have_a_bound_on_features() -> None:
    """As before: what would make y or x is refused, and told where such a state can go."""
    state = T.mps(100, dim=2, bond=3)
    told = r"the output has 1267650600228229401496703205376 features, at most .* tn\.energy"
    refused: tuple[Callable[[Any], Any], ...] = (
        tn.Layer, tn.cost, tn.plan, tn.compile, tn.compare, tn.Network.freeze
    )  # fmt: skip
    for make in refused:
        with pytest.raises(tn.SpecError, match=told):
            make(state)
        with pytest.raises(tn.SpecError, match=told):
            make(CHAINS["networkx"](100))
    with pytest.raises(tn.SpecError, match=r"input 'x' has 1267650600228229401496703205376"):
        tn.Layer(entered(100))


def test_a_sum_is_no_network() -> None:
    """What one network is asked for says what a sum of them can be asked."""
    terms = tn.energy(T.mps(3, 2, 2), {0: X, 1: X})
    with pytest.raises(tn.SpecError, match=r"got a sum of 2; pass one of them, .* tn\.cost\(net\)"):
        tn.compile(terms)  # pyright: ignore[reportArgumentType]
