"""compress: networks in place of matrices; at full rank the model's outputs do not change."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

import tnlayer as tn
from tnlayer.fitting import search
from tnlayer.graph.graph import Graph
from tnlayer.nn.padded import Padded

T = tn.topologies
OPTIONS: dict[str, Any] = {"backend": "torch", "effort": "fast", "progress": False}


def full_rank(module: nn.Module, name: str) -> tn.Network:
    """A network that can be any matrix of a module: for odd names low rank, for others a train
    with larger ports."""
    weight: Any = module.weight
    if isinstance(module, nn.Conv2d):
        features, outputs = weight[0].numel(), weight.shape[0]
    elif isinstance(module, nn.Linear):
        outputs, features = weight.shape
    else:
        features, outputs = weight.shape  # a table, Conv1D, and their layers
    if len(name) % 2:
        return T.low_rank(features, outputs, rank=min(features, outputs))
    shape = (-(-features // 2), 2), (-(-outputs // 2), 2)
    return T.tensor_train(*shape, rank=min(shape[0][0] * shape[1][0], 4))


def conv1d() -> type[nn.Module]:
    """transformers' Conv1D, or none."""
    return pytest.importorskip("transformers.pytorch_utils").Conv1D


class Block(nn.Module):
    """A linear part and one more, with a residual; or, without features to spare, a table."""

    def __init__(self, features: int, kind: str, *, bias: bool) -> None:
        super().__init__()
        self.first = nn.Linear(features, features, bias=bias)
        if kind == "conv1d":
            self.second: nn.Module = conv1d()(features, features)
        else:
            self.second = nn.Linear(features, features, bias=not bias)
        self.norm = nn.LayerNorm(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.second(torch.tanh(self.first(x))))


class Small(nn.Module):
    """A table, blocks (one in two places, perhaps), an image part, and a head that may be tied."""

    def __init__(self, features: int, kind: str, *, bias: bool, tied: bool, again: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(7, features, padding_idx=2)
        blocks = [Block(features, kind, bias=bias)]
        blocks.append(blocks[0] if again else Block(features, "linear", bias=bias))
        self.blocks = nn.ModuleList(blocks)
        self.conv = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
        self.head = nn.Linear(features, 7, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.table(x)
        for block in self.blocks:
            y = block(y)
        image = self.conv(y.reshape(1, 2, -1, y.shape[-1])).mean()
        return self.head(y) + image


X = torch.arange(7).repeat(4).reshape(4, 7)


@settings(max_examples=15)
@given(
    features=st.integers(3, 7),
    kind=st.sampled_from(["linear", "conv1d"]),
    bias=st.booleans(),
    tied=st.booleans(),
    again=st.booleans(),
    whitened=st.booleans(),
)
def test_full_rank_changes_nothing(
    features: int, kind: str, bias: bool, tied: bool, again: bool, whitened: bool
) -> None:
    """A small random model whose modules are all replaced by networks of full rank gives the same
    outputs to 1e-5, whatever is nested, tied or shared; and a file of it, too."""
    torch.manual_seed(features)
    model = Small(features, kind, bias=bias, tied=tied, again=again).eval()
    expected = model(X)
    data = [X, X.flip(0)] if whitened else None
    report = tn.compress(model, full_rank, data, **OPTIONS)
    assert report.model is model
    y = model(X)
    size = expected.abs().max()
    assert float(((y - expected).abs().max() / size).detach()) < 1e-5, str(report)
    kept = {row.name: row.why for row in report.rows if not row.is_replaced}
    assert set(kept) == ({"table", "head"} if tied else set())
    assert all("untie" in why for why in kept.values())
    assert (model.blocks[0] is model.blocks[1]) == again
    for module in model.modules():
        assert type(module) not in (nn.Conv2d, nn.Linear) or tied


def test_dry_run_leaves_every_byte() -> None:
    """Nothing of the model, its modes, its hooks or torch's random numbers changes."""
    model = Small(6, "linear", bias=True, tied=True, again=True)
    model.blocks[0].eval()
    before = copy.deepcopy(model.state_dict())
    modules = [(name, id(module), module.training) for name, module in model.named_modules()]
    state = torch.get_rng_state()
    for rule in (T.low_rank, full_rank, tn.Budget(compression=1.3)):
        report = tn.compress(model, rule, X, dry_run=True, compression=1.5, **OPTIONS)
        assert report.is_dry and report.replaced
        assert rule is full_rank or report.parameters < report.parameters_before
    assert modules == [(n, id(m), m.training) for n, m in model.named_modules()]
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for key, array in model.state_dict().items():
        assert torch.equal(array, before[key])
        assert array.data_ptr() != before[key].data_ptr()


@pytest.mark.parametrize("kind", ["linear", "embedding", "conv2d"])
def test_the_top_module_itself(kind: str) -> None:
    """A module that is the model is returned as its network; the old one is as it was."""
    modules: dict[str, tuple[nn.Module, torch.Tensor]] = {
        "linear": (nn.Linear(6, 5), torch.randn(3, 6)),
        "embedding": (nn.Embedding(6, 5), torch.tensor([1, 5])),
        "conv2d": (nn.Conv2d(2, 5, 3), torch.randn(1, 2, 4, 4)),
    }
    module, x = modules[kind]
    for dry in (True, False):
        report = tn.compress(module, full_rank, dry_run=dry, **OPTIONS)
        assert (report.model is module) == dry
    torch.testing.assert_close(report.model(x), module(x), rtol=1e-4, atol=1e-5)
    assert isinstance(report.model, tn.Layer)


def test_rules() -> None:
    """A topology, a network, a function, and patterns, of which the first that matches counts."""
    net, train = T.low_rank(8, 8, rank=2), T.tensor_train((4, 2), (2, 4), 2)
    rules: list[tuple[Any, list[str]]] = [
        (T.low_rank, ["0", "2", "head"]),
        (lambda module, name: net if name == "2" else None, ["2"]),
        (lambda module, name: tn.fit_budget(T.low_rank, 8, 8, params=40), ["0", "2"]),
        ({"head": None, "*": T.low_rank}, ["0", "2"]),
        ({"[02]": net}, ["0", "2"]),
        ({"*": {"0": net}}, ["0"]),
        (lambda module, name: [net, train] if name == "0" else None, ["0"]),
    ]
    for rule, wanted in rules:
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        if "head" in wanted or "head" in str(rule) or len(wanted) > 2:
            model.add_module("head", nn.Linear(8, 8))
        wanted = [name for name in wanted if name in dict(model.named_modules())]
        report = tn.compress(model, rule, compression=2, **OPTIONS)
        assert [row.name for row in report.replaced] == wanted
        for row in report.rows:
            found = model.get_submodule(row.name)
            assert isinstance(found, tn.Layer) == row.is_replaced
            assert row.why
        assert model(torch.randn(3, 8)).shape == (3, 8)


def test_wrong_rules() -> None:
    """What is no rule, does not fit or matches nothing is an error, and the model stays."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    small = T.low_rank(4, 4, rank=2)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (3, {}, "rule=3"),
        ("low_rank", {}, "rule"),
        ({3: small}, {}, "pattern 3"),
        ({"fc*": small}, {}, "no module matches.*fc"),
        (small, {}, "at least 8 to 8"),
        (lambda module, name: module, {}, "the rule gave"),
        (T.low_rank, {"compression": 0}, "compression"),
        (T.low_rank, {"batch": 0}, "batch"),
        (T.low_rank, {"objective": "fast"}, "objective"),
        (T.low_rank, {"dry_run": 1}, "dry_run"),
        (T.low_rank, {"data": 3}, "data"),
        (T.low_rank, {"data": []}, "empty"),
        (T.low_rank, {"filter_fn": lambda module, name: False}, "nothing can be compressed"),
        (tn.Budget(compression=1000), {}, "a compression of"),
        (tn.Budget(time=1e-9), {}, "the fastest choice"),
        (tn.Budget(params=10), {}, "parameters"),
        (tn.Budget(compression=2), {"loss": lambda model, batch: 0.0}, "needs data"),
    ]
    for rule, options, said in cases:
        with pytest.raises(tn.SpecError, match=said):
            tn.compress(model, rule, **{**OPTIONS, **options})
        assert [type(module) for module in model] == [nn.Linear, nn.Linear]
    with pytest.raises(tn.SpecError, match=r"torch\.nn\.Module"):
        tn.compress(torch.zeros(2), T.low_rank)  # type: ignore[arg-type]


class Derived(nn.Linear):
    """It does something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).neg()


def with_hook() -> nn.Module:
    """A hook would be lost."""
    module = nn.Linear(6, 6)
    module.register_forward_hook(lambda module, inputs, y: torch.as_tensor(y))
    return module


def pruned() -> nn.Module:
    """Made from two arrays."""
    module = nn.Linear(6, 6)
    prune.l1_unstructured(module, "weight", 3)
    return module


def quantised() -> nn.Module:
    """A weight that is another class of tensor, as torchao's."""

    class Other(torch.Tensor):
        pass

    module = nn.Linear(6, 6)
    module.weight = nn.Parameter(module.weight.detach().as_subclass(Other))
    return module


def padding_row() -> nn.Module:
    """A table whose row for padding is not zero, as where it was trained by another library."""
    module = nn.Embedding(6, 6, padding_idx=2)
    with torch.no_grad():
        module.weight[2] = 1
    return module


def with_hook_of_the_state() -> nn.Module:
    """Something happens when its state is read."""
    module = nn.Linear(6, 6)
    module.register_state_dict_pre_hook(lambda *arguments: None)
    return module


def with_hook_of_an_array() -> nn.Module:
    """Something happens to the gradients of its bias."""
    module = nn.Linear(6, 6)
    module.bias.register_post_accumulate_grad_hook(lambda array: None)
    return module


ODD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "derived": (lambda: Derived(6, 6), "Derived"),
    "attention": (lambda: nn.MultiheadAttention(6, 2).out_proj, "NonDynamicallyQuantizableLinear"),
    "hook": (with_hook, "hooks"),
    "pruned": (pruned, "pruned"),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(6, 6)), "parametrized"),
    "quantised": (quantised, "Other"),
    "meta": (lambda: nn.Linear(6, 6, device="meta"), "meta"),
    "max_norm": (lambda: nn.Embedding(6, 6, max_norm=1.0), "max_norm"),
    "padding row": (padding_row, "padding_idx=2 is not zero"),
    "hook of the state": (with_hook_of_the_state, "hooks"),
    "hook of an array": (with_hook_of_an_array, "hooks"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_modules_stay(name: str) -> None:
    """They are the same objects afterwards, and the report says why."""
    make, said = ODD[name]
    module = make()
    model = nn.ModuleDict({"plain": nn.Linear(6, 6), "odd": module})
    report = tn.compress(model, T.low_rank, compression=1.5, **OPTIONS)
    assert model["odd"] is module
    assert [row.name for row in report.replaced] == ["plain"]
    (row,) = (row for row in report.rows if row.name == "odd")
    assert said in row.why
    assert row.why in " ".join(str(report).split())  # it goes over several lines


def test_wrapped_models() -> None:
    """Compiled, scripted and parallel models are refused; DataParallel's is changed within."""
    compiled: Any = torch.compile(nn.Sequential(nn.Linear(6, 6)), backend="eager")
    own = nn.Sequential(nn.Linear(6, 6))
    own[0].compile(backend="eager")
    for model in (compiled, own, nn.Sequential(compiled)):
        with pytest.raises(tn.SpecError, match="compiled"):
            tn.compress(model, T.low_rank, **OPTIONS)
    model = nn.Sequential(nn.Linear(6, 6))
    tn.compress(nn.DataParallel(model), T.low_rank, compression=1.5, **OPTIONS)
    assert isinstance(model[0], tn.Layer)


def test_compiled_afterwards() -> None:
    """A function that was compiled before the model was compressed runs the new layers."""
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    compiled: Any = torch.compile(lambda x: model(x), backend="eager")
    x = torch.randn(3, 6)
    compiled(x)
    tn.compress(model, T.low_rank, compression=1.5, **OPTIONS)
    torch.testing.assert_close(compiled(x), model(x))


def test_again() -> None:
    """A model that was compressed can be compressed again: what is left dense, and by a function
    the layers themselves."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(9, 7))
    x = torch.randn(3, 8)
    tn.compress(model[:2], {"0": T.low_rank(8, 8, rank=4)}, **OPTIONS)
    tn.compress(model, {"2": T.tensor_train((5, 2), (2, 4), 4)}, **OPTIONS)
    assert isinstance(model[2], Padded)
    before = model[1](model[0](x))
    report = tn.compress(
        model, lambda m, n: T.tensor_train((4, 2), (4, 2), 4) if n == "0" else None, **OPTIONS
    )
    assert [row.name for row in report.replaced] == ["0"]
    torch.testing.assert_close(model[1](model[0](x)), before, rtol=1e-4, atol=1e-5)
    report = tn.compress(model, T.low_rank, compression=1.5, **OPTIONS)
    assert [row.name for row in report.replaced] == ["1"]
    assert {row.name for row in report.rows if "already" in row.why} == {"0", "2"}


def test_modes_dtypes_and_what_is_frozen_are_kept() -> None:
    """The new module is in the mode, dtype and trainability of the old, on memory of its own."""
    old = nn.Linear(8, 8).to(torch.bfloat16).eval()
    old.weight.requires_grad_(False)
    model = nn.Sequential(old)
    tn.compress(model, full_rank, **OPTIONS)
    new: Any = model[0]
    assert not new.training and new.dtype == torch.bfloat16
    flags = {name: array.requires_grad for name, array in new.named_parameters()}
    assert flags.pop("bias") and not any(flags.values())
    bias: Any = old.bias
    assert torch.equal(new.bias, bias)
    assert new.bias.data_ptr() != bias.data_ptr()


def test_data_weights_the_error() -> None:
    """With data the error on it is smaller than without, and both errors are in the report."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(16, 16))
    data = torch.randn(200, 16) * torch.logspace(0, -3, 16)
    errors: list[float] = []
    for batches in (None, data, [data[:100], data[100:]], [(data, None)]):
        model = copy.deepcopy(base)
        report = tn.compress(model, T.low_rank(16, 16, rank=4), batches, **OPTIONS)
        (row,) = report.rows
        assert (row.whitened_residual is None) == (batches is None)
        y, wanted = model(data), base(data)
        error = (y - wanted).norm() / (wanted - wanted.mean(0)).norm()
        errors.append(float(error.detach()))
        if batches is not None:
            assert row.residual is not None and row.whitened_residual is not None
            assert row.whitened_residual < row.residual
    assert max(errors[1:]) < 0.3 * errors[0]


# -- budgets ---------------------------------------------------------------------------------------


def two_kinds() -> nn.Sequential:
    """One matrix of rank 2, one of full rank."""
    torch.manual_seed(0)
    low = nn.Linear(24, 24, bias=False)
    with torch.no_grad():
        low.weight.copy_(torch.randn(24, 2) @ torch.randn(2, 24))
    return nn.Sequential(low, nn.Linear(24, 24, bias=False))


def test_a_budget_goes_where_it_costs_least() -> None:
    """What is of low rank is compressed first, and the other stays dense."""
    for rule in (tn.Budget(compression=1.5), tn.Budget(params=800)):
        model = two_kinds()
        report = tn.compress(model, rule, **OPTIONS)
        assert [row.name for row in report.replaced] == ["0"]
        first = report.rows[0]
        assert first.residual is not None and first.residual < 1e-5
        assert report.parameters <= (800 if rule.params else 1152 / 1.5)
        assert report.parameters == sum(p.numel() for p in model.parameters())
        assert "dense is the best" in report.rows[1].why


def test_a_budget_refines_only_what_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are tried come from closed forms; sweeps are of the chosen ones, by data, and
    have the time that is given."""
    seen: list[tuple[bool, float]] = []
    real = search.sweep

    def sweep(problem: Any, stored: Any, is_over: Any) -> None:
        seen.append((problem.target.covariance is not None, is_over.__self__.until))
        real(problem, stored, is_over)

    monkeypatch.setattr(search, "sweep", sweep)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 36))
    budget = tn.Budget(compression=3, topologies=[T.tensor_train, T.btt])
    report = tn.compress(model, budget, torch.randn(64, 36), seconds=1000, **OPTIONS)
    assert report.replaced
    assert seen
    assert all(weighted and until < math.inf for weighted, until in seen)


def test_a_budget_of_time_is_kept() -> None:
    """The predicted time of the matrices is at most the share that was asked for."""
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))
    report = tn.compress(
        model, tn.Budget(time=0.6, topologies=[T.low_rank]), objective="infer", **OPTIONS
    )
    assert report.replaced
    assert report.seconds <= 0.6 * report.dense_seconds
    assert "ms" in str(report)


def test_a_loss_says_what_matters() -> None:
    """A module that the loss does not see is compressed, however large its error is."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.unseen = nn.Linear(24, 24), nn.Linear(24, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.seen(x) + 1e-6 * self.unseen(x)

    model = Two()
    x = torch.randn(50, 24)
    wanted = model(x).detach()

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return (model(batch) - wanted).square().mean()

    report = tn.compress(model, tn.Budget(compression=1.4), x, loss=loss, **OPTIONS)
    assert [row.name for row in report.replaced] == ["unseen"]
    assert float(loss(model, x).detach()) < 1e-6


def test_the_smallest_is_told_and_can_be_had() -> None:
    """Of a budget beyond all sizes that are usually tried, the message names the most there is."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(96, 96), torch.nn.Linear(96, 6))
    with pytest.raises(tn.SpecError) as caught:
        tn.compress(model, tn.Budget(compression=1e5), dry_run=True, **OPTIONS)
    found = re.search(r"a compression of ([\d.,]+),", str(caught.value))
    assert found is not None
    most = float(found[1].replace(",", ""))
    assert most > 10
    report = tn.compress(model, tn.Budget(compression=most), dry_run=True, **OPTIONS)
    assert report.compression >= most
    said = str(report)
    assert "keeps almost nothing of the weights: train it, or ask for less" in said
    slower = [row.name for row in report.replaced if row.now.seconds > row.dense.seconds]
    assert ("slower than dense" in said) == bool(slower)
    assert "saves -" not in said


def test_measured_times() -> None:
    """measure=True times each module and the model, and the numbers are plain."""
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    x = torch.randn(8, 16)
    report = tn.compress(model, T.low_rank, x, measure=True, **OPTIONS)
    (row,) = report.rows
    assert row.measured and row.measured_dense and report.measured and report.measured_before
    assert row.rows == 8
    numbers = report.numbers()
    assert numbers["modules"][0]["now"]["parameters"] == row.now.parameters
    assert "measured" in str(report)
    assert all(array.grad is None for array in model.parameters())


def test_rows_are_those_that_modules_meet() -> None:
    """Samples times positions, patches of convolutions, calls of shared modules added up."""
    model = Small(6, "linear", bias=True, tied=False, again=True)
    report = tn.compress(model, T.low_rank, X, dry_run=True, compression=1.5, **OPTIONS)
    rows = {row.name: row.rows for row in report.rows}
    assert rows["table"] == rows["head"] == 28
    assert rows["blocks.0.first"] == 56
    image = model.conv(torch.zeros(1, 2, 14, 6))
    assert rows["conv"] == image.shape[-1] * image.shape[-2]


def test_labels_of_graphs() -> None:
    """A frozen graph is a rule as well as a network is."""
    model = nn.Sequential(nn.Linear(8, 8))
    graph = T.low_rank(8, 8, rank=2).freeze()
    assert isinstance(graph, Graph)
    report = tn.compress(model, graph, **OPTIONS)
    assert [row.network for row in report.rows] == ["low rank"]
    assert list(itertools.chain(model.state_dict())) == ["0.V", "0.U", "0.bias"]


def test_complex_modules() -> None:
    """Conjugates are where they belong: with data of fewer samples than features a network of full
    rank gives the same outputs on them."""
    module = nn.Linear(8, 6, dtype=torch.complex128)
    x = torch.randn(3, 8, dtype=torch.complex128)
    model = nn.Sequential(module)
    report = tn.compress(model, T.low_rank(8, 6, rank=6), x, **OPTIONS)
    torch.testing.assert_close(model(x), module(x), rtol=1e-6, atol=1e-6)
    assert report.rows[0].whitened_residual is not None
    assert report.rows[0].whitened_residual < 1e-6


def test_errors_of_fits_name_the_module() -> None:
    """A weight with a NaN, and a lazy module, are told with their names."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(8, 8))
    with torch.no_grad():
        model.get_parameter("1.weight")[0, 0] = torch.nan
    with pytest.raises(tn.SpecError, match=r"module '1'.*1 NaN"):
        tn.compress(model, T.low_rank, compression=1.5, **OPTIONS)
    with pytest.raises(tn.SpecError, match="'0' is lazy"):
        tn.compress(nn.Sequential(nn.LazyLinear(3)), T.low_rank, **OPTIONS)


def spoilt(value: float) -> nn.Sequential:
    """A model whose first matrix has one entry that is not finite."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24))
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0] = value
    return model


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_budget_says_what_no_fit_can_take(value: float) -> None:
    """Of a weight that is not finite the report of a budget says that, and not that dense is best;
    so does the error where the budget cannot be had because of it."""
    said = "its weight has 1 NaN and 0" if math.isnan(value) else "its weight has 0 NaN and 1"
    report = tn.compress(spoilt(value), tn.Budget(compression=1.3), **OPTIONS)
    assert [row.name for row in report.replaced] == ["2"]
    assert report.rows[0].why.startswith(f"{said} infinite of 576")
    for budget in (tn.Budget(compression=4), tn.Budget(time=1e-9)):
        with pytest.raises(tn.SpecError, match=rf"modules that stay: '0' \({said} infinite of 576"):
            tn.compress(spoilt(value), budget, **OPTIONS)
    with pytest.raises(tn.SpecError, match=rf"module '0': {said} infinite of 576"):
        tn.compress(spoilt(value), T.low_rank, **OPTIONS)


def test_a_budget_says_why_modules_stay_where_it_cannot_be_had() -> None:
    """On the meta device nothing can be fitted; modules of one reason are named together. What is
    too small for all networks, or out of the range of squares, is told as well."""
    model = nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24)).to("meta")
    said = r"modules that stay: '0', '1' \(its weight is on the meta device: load it first\)"
    for budget in (tn.Budget(compression=1.3), tn.Budget(params=700), tn.Budget(time=0.5)):
        with pytest.raises(tn.SpecError, match=said):
            tn.compress(model, budget, **OPTIONS)
    with pytest.raises(tn.SpecError, match=r"'0' \(no network that was tried is smaller\)"):
        tn.compress(nn.Sequential(nn.Linear(1, 2)), tn.Budget(compression=2), **OPTIONS)
    huge = nn.Sequential(nn.Linear(24, 24, dtype=torch.float64), nn.Linear(24, 24))
    with torch.no_grad():
        huge.get_parameter("0.weight").fill_(1e200)
    report = tn.compress(huge, tn.Budget(compression=1.2), **OPTIONS)
    assert "largest entry is 1e+200" in report.rows[0].why


def test_a_loss_that_is_no_number_is_told() -> None:
    """How much modules matter cannot be measured by it."""
    data = torch.randn(5, 24)
    with pytest.raises(tn.SpecError, match="loss= gives nan for the model as it is"):
        tn.compress(
            two_kinds(), tn.Budget(compression=1.3), data, loss=lambda *_: torch.nan, **OPTIONS
        )


def test_inputs_that_are_not_finite_are_told_with_the_module() -> None:
    """The message speaks of the inputs of a module, and counts entries of the data; a budget
    leaves such a module, and says so."""
    data = torch.ones(20, 24)
    data[0, 3], data[1, 2], data[1, 5] = torch.nan, torch.inf, -torch.inf
    said = "its inputs, on the data, have 1 NaN and 2 infinite of 480 entries of a batch"
    model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24))
    with pytest.raises(tn.SpecError, match=f"module '0': {said}"):
        tn.compress(model, T.low_rank, [data, data.nan_to_num(posinf=0, neginf=0)], **OPTIONS)
    first = {"filter_fn": lambda module, name: name == "0"}
    budget = tn.Budget(compression=1.2)
    with pytest.raises(tn.SpecError, match=r"'0' \(its inputs, on the data, have 1 NaN and 2"):
        tn.compress(model, budget, data, **first, **OPTIONS)
    convolution = nn.Conv2d(2, 3, 2, padding=1)
    with pytest.raises(tn.SpecError, match=r"the model: its inputs.* 1 NaN and 2 infinite of 480"):
        tn.compress(convolution, T.low_rank, data.reshape(10, 2, 4, 6), compression=1.1, **OPTIONS)
    with pytest.raises(tn.SpecError, match="data: batch 1 has 1 NaN and 2 infinite of 480"):
        tn.from_linear(nn.Linear(24, 24), T.low_rank, data=[torch.ones(2, 24), data])


def test_reasons_name_errors_as_columns_do() -> None:
    """The error of a reason is that of the column, of a network as it was tried: by the weights
    without data, whitened with them; with a loss it is how much that rises."""
    torch.manual_seed(0)
    budget = tn.Budget(compression=1.5, topologies=[T.low_rank])
    data = torch.randn(60, 24)
    model = nn.Sequential(nn.Linear(24, 24))
    for inputs, name in ((None, "error"), (data, "whitened error")):
        report = tn.compress(model, budget, inputs, dry_run=True, **OPTIONS)
        found = re.search(rf"for {name} ([\d.]+) as tried", report.rows[0].why)
        assert found is not None
        if inputs is None:
            assert float(found[1]) == pytest.approx(report.rows[0].error, rel=2e-3)
        else:
            assert report.rows[0].error <= 1.002 * float(found[1])
    report = tn.compress(
        model, budget, data, dry_run=True,
        loss=lambda model, batch: model(batch).square().mean(), **OPTIONS,
    )  # fmt: skip
    assert re.search(r"for a loss higher by [\d.e-]+ as tried$", report.rows[0].why)


def test_inputs_by_name_are_seen() -> None:
    """A module that its owner calls with input= is whitened as others are."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(input=x)

    model = Named()
    report = tn.compress(model, T.low_rank, torch.randn(5, 8), compression=1.5, **OPTIONS)
    assert report.rows[0].rows == 5 and report.rows[0].whitened_residual is not None
    assert model(torch.randn(2, 8)).shape == (2, 8)


@pytest.mark.parametrize(
    "rule", [T.low_rank, tn.Budget(compression=1.5, topologies=[T.low_rank])], ids=["each", "all"]
)
def test_ctrl_c_leaves_the_model(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second fit is passed on, though a single fit would keep its best, and each
    module is the one that it was."""
    real, calls = search.peel, itertools.count()

    def peel(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(search, "peel", peel)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    before = list(model)
    with pytest.raises(KeyboardInterrupt):
        tn.compress(model, rule, compression=2, **OPTIONS)
    assert all(one is other for one, other in zip(model, before, strict=True))


def test_inputs_of_zeros_weight_no_error() -> None:
    """A module that sees zeros alone, behind one that starts at zero, comes as near to its matrix
    as its rank allows; any matrix would give its outputs."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    for array in model[0].parameters():
        nn.init.zeros_(array)
    wanted = model.get_parameter("1.weight").detach().double().numpy()
    data = torch.randn(9, 16)
    report = tn.compress(model, {"1": T.low_rank(16, 16, rank=4)}, data, **OPTIONS)
    (row,) = report.replaced
    assert row.whitened_residual is None
    new: Any = model[1]
    error = np.linalg.norm(new.to_dense().detach().double().numpy() - wanted)
    values = np.linalg.svd(wanted, compute_uv=False)
    assert math.isclose(error, np.linalg.norm(values[4:]), rel_tol=1e-5)


def test_a_budget_wipes_no_module_that_sees_zeros() -> None:
    """A module of zeros is left out for nothing; one that sees zeros is not, and stays dense."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    for array in model[0].parameters():
        nn.init.zeros_(array)
    budget = tn.Budget(compression=1.5, topologies=[T.low_rank])
    report = tn.compress(model, budget, torch.randn(9, 16), **OPTIONS)
    assert [row.name for row in report.replaced] == ["0"]


def test_in_inference_mode_layers_can_be_trained_afterwards() -> None:
    """Who measures a model in inference mode and compresses it there can heal it outside."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Embedding(16, 16), nn.Conv2d(4, 4, 2))
    x = torch.randn(3, 16)
    with torch.inference_mode():
        tn.compress(model, {"*": T.low_rank}, **OPTIONS)
    model[0](x).square().sum().backward()
    assert all(p.grad is not None for p in model[0].parameters())
    assert not any(p.is_inference() for p in model.parameters())


def test_unknown_options_are_told_before_anything_is_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A typo costs no hour of fits: it is named, with what was meant."""

    def fitted(*_: object, **__: object) -> None:
        pytest.fail("a matrix was fitted")

    monkeypatch.setattr("tnlayer.models.matrix_fit.fit_part", fitted)
    model = nn.Sequential(nn.Linear(8, 8))
    for options, message in (
        ({"compresion": 2}, "compresion.*did you mean 'compression'"),
        ({"backnd": "torch"}, "backnd.*did you mean 'backend'"),
        ({"bias": True}, "bias"),
        ({"dtype": torch.float64}, "dtype"),
    ):
        with pytest.raises(tn.SpecError, match=message):
            tn.compress(model, T.low_rank, progress=False, **options)  # type: ignore[arg-type]
