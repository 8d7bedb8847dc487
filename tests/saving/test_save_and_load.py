"""A model or a layer goes into a file and comes back: same outputs, and the same bytes again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import tnlayer as tn
from tnlayer.nn.padded import Padded
from tnlayer.saving.safetensors_file import STORED, read_header, read_tensors, write_file

T = tn.topologies
GOLDEN = Path(__file__).parents[1] / "golden" / "saving"


def with_values() -> tn.Network:
    """A constant, a given start, an isometry and a shared tensor."""
    net = tn.Network("values")
    net.input(i=4, k=4)
    net.output(j=4)
    net.bond(a=4, b=4)
    net.tensor("A", "i a", value=np.eye(4), trainable=False)
    net.tensor("B", "k b", share="A")
    net.tensor("C", "a b j", isometry="j")
    return net


LAYERS: dict[str, Callable[[], tn.Layer]] = {
    "layer": lambda: tn.Layer(T.tensor_train((2, 3), (3, 2), rank=2), bias=True),
    "planned": lambda: tn.Layer(T.tree(4, 2, 2), batch=8, objective="infer", backend="torch"),
    "sum": lambda: tn.Layer([T.low_rank(6, 6, 2), T.tensor_train((2, 3), (3, 2), 2)], bias=True),
    "values": lambda: tn.Layer(with_values()),
    "complex": lambda: tn.Layer(T.low_rank(6, 6, 2), dtype=torch.complex128, bias=True),
    "half": lambda: tn.Layer(T.low_rank(6, 6, 2), dtype=torch.bfloat16),
    "log scale": lambda: tn.Layer(T.low_rank(6, 6, 2), log_scale=True),
    "padded": lambda: Padded(T.tensor_train((2, 3), (3, 2), rank=2), 5, 4, bias=True),
    "conv2d": lambda: tn.Conv2d(
        T.low_rank(18, 6, 2), kernel_size=3, groups=2, padding="same", padding_mode="circular"
    ),
    "embedding": lambda: tn.Embedding(T.tensor_train((3, 4), (2, 3), 2), 11, 5, padding_idx=0),
}


def input_of(layer: tn.Layer) -> torch.Tensor:
    """An input that a layer takes."""
    torch.manual_seed(1)
    if isinstance(layer, tn.Embedding):
        return torch.arange(11)
    if isinstance(layer, tn.Conv2d):
        return torch.randn(2, layer.in_channels, 5, 5)
    return torch.randn(3, layer.in_features).to(layer.dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back(name: str, tmp_path: Path) -> None:
    """Same class, options, arrays and outputs; and saving it again gives the same bytes."""
    layer = LAYERS[name]()
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    tn.save(layer, first)
    twin: Any = tn.load(first)
    assert type(twin) is type(layer)
    assert twin.options == layer.options
    assert twin.graphs == layer.graphs
    x = input_of(layer)
    for y, expected in zip(*(z if isinstance(z, tuple) else (z,) for z in (twin(x), layer(x)))):  # noqa: B905
        assert torch.equal(y, expected)
    flags = [p.requires_grad for p in layer.parameters()]
    assert [p.requires_grad for p in twin.parameters()] == flags
    tn.save(twin, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.parametrize("name", LAYERS)
def test_files_of_this_release_can_be_read(name: str) -> None:
    """A file that was written when the format was new is read to the same outputs; what is written
    today is the same bytes."""
    path = GOLDEN / f"{name.replace(' ', '-')}.safetensors"
    twin: Any = tn.load(path)
    expected = torch.from_numpy(np.load(path.with_suffix(".npy")))
    y = twin(input_of(twin))
    y = y[0] if isinstance(y, tuple) else y
    torch.testing.assert_close(torch.view_as_real(y + 0j).double(), expected, rtol=2e-2, atol=1e-5)


def write_golden() -> None:
    """Write the files of this release anew; called by hand, when the format gets a new version."""
    GOLDEN.mkdir(exist_ok=True)
    for name, make in LAYERS.items():
        torch.manual_seed(0)
        layer: Any = make()
        path = GOLDEN / f"{name.replace(' ', '-')}.safetensors"
        tn.save(layer, path)
        y = layer(input_of(layer))
        y = (y[0] if isinstance(y, tuple) else y).detach()
        np.save(path.with_suffix(".npy"), torch.view_as_real(y + 0j).double().numpy())


# -- models ----------------------------------------------------------------------------------------


class Model(nn.Module):
    """A table tied to the head, a block that stands in two places, a buffer, and a convolution."""

    def __init__(self, *, compressed: bool) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.table = nn.Embedding(10, 6)
        self.blocks = nn.ModuleList([block, nn.Sequential(nn.Linear(6, 6)), block])
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.head = nn.Linear(6, 10, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("scale", torch.tensor(2.0, dtype=torch.float64))
        self.register_buffer("mask", torch.tensor([True, False] * 3))
        if compressed:
            net = T.tensor_train((2, 3), (3, 2), rank=2)
            block[0] = tn.Layer(net, bias=True)
            self.blocks[1] = nn.Sequential(Padded(T.low_rank(7, 7, 2), 6, 6, bias=True))
            self.conv = tn.Conv2d(T.low_rank(18, 4, 2), kernel_size=3, padding=1, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.table(x)
        for block in self.blocks:
            y = y + block(y) * self.mask
        image = self.conv(y.reshape(-1, 2, 3, 1)).mean()
        return self.head(y) * self.scale + image


X = torch.tensor([[1, 2, 9]])


def test_a_model_comes_back_into_a_fresh_one(tmp_path: Path) -> None:
    """Layers are swapped in, shared modules in all places, ties stay, and all tensors are equal."""
    model = Model(compressed=True)
    path = tmp_path / "model.safetensors"
    tn.save(model, path)
    for fresh in (Model(compressed=False), Model(compressed=True)):
        fresh.blocks[1].eval()
        twin = tn.load(path, into=fresh)
        assert twin is fresh
        assert torch.equal(fresh(X), model(X))
        assert fresh.head.weight is fresh.table.weight
        assert fresh.blocks[0][0] is fresh.blocks[2][0]  # type: ignore[index]
        assert not fresh.blocks[1][0].training  # type: ignore[index]
        again = tmp_path / "again.safetensors"
        tn.save(fresh, again)
        assert again.read_bytes() == path.read_bytes()
    with pytest.raises(tn.SpecError, match="into=model"):
        tn.load(path)


def test_a_model_on_the_meta_device(tmp_path: Path) -> None:
    """A model that was made without memory is filled, and its ties stay."""
    model = Model(compressed=True)
    path = tmp_path / "model.safetensors"
    tn.save(model, path)
    with torch.device("meta"):
        fresh = Model(compressed=False)
    tn.load(path, into=fresh)
    assert torch.equal(fresh(X), model(X))
    assert fresh.head.weight is fresh.table.weight


def test_wrapped_models(tmp_path: Path) -> None:
    """Within torch.compile and DataParallel the model is meant."""
    model = Model(compressed=True)
    wrapped: list[Any] = [torch.compile(model, backend="eager"), nn.DataParallel(model)]
    tn.save(model, tmp_path / "plain.safetensors")
    for one in wrapped:
        tn.save(one, tmp_path / "wrapped.safetensors")
        assert (tmp_path / "wrapped.safetensors").read_bytes() == (
            tmp_path / "plain.safetensors"
        ).read_bytes()
    fresh = Model(compressed=False)
    parallel = nn.DataParallel(fresh)
    assert tn.load(tmp_path / "plain.safetensors", into=parallel) is parallel
    assert torch.equal(parallel(X), model(X))


def test_dtype_of_the_model_is_kept(tmp_path: Path) -> None:
    """Loaded into a model of another dtype, layers take that of what they replace."""
    path = tmp_path / "model.safetensors"
    tn.save(Model(compressed=True), path)
    fresh: Any = tn.load(path, into=Model(compressed=False).double())
    assert {p.dtype for p in fresh.parameters()} == {torch.float64}
    fresh(X)


def test_the_top_module_may_be_the_layer(tmp_path: Path) -> None:
    """Of a layer's file into=linear gives the layer."""
    layer = tn.Layer(T.low_rank(6, 4, 2), bias=True)
    tn.save(layer, tmp_path / "layer.safetensors")
    twin = tn.load(tmp_path / "layer.safetensors", into=nn.Linear(6, 4), backend="torch")
    assert isinstance(twin, tn.Layer) and twin.options["backend"] == "torch"
    assert torch.equal(twin(torch.ones(6)), layer(torch.ones(6)))


class Other(nn.Module):
    """A model of another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 6)


@pytest.mark.parametrize("change", ["other", "sizes", "bias", "kind", "extra", "untied"])
def test_models_that_do_not_fit_stay_as_they_were(change: str, tmp_path: Path) -> None:
    """The error names what does not fit, and nothing of the model has changed."""
    model = Model(compressed=True)
    path = tmp_path / "model.safetensors"
    if change == "untied":
        model.head.weight = nn.Parameter(torch.zeros(10, 6))
    tn.save(model, path)
    fresh: Any = Model(compressed=False)
    match change:
        case "other":
            fresh = Other()
        case "sizes":
            fresh.blocks[1][0] = nn.Linear(6, 5)
        case "bias":
            fresh.blocks[1][0] = nn.Linear(6, 6, bias=False)
        case "kind":
            fresh.blocks[1][0] = nn.Conv2d(6, 6, 1)
        case "extra":
            fresh.more = nn.Linear(2, 2)
        case _:
            pass
    before = copy.deepcopy(fresh.state_dict())
    modules = [id(module) for module in fresh.modules()]
    with pytest.raises(tn.SpecError, match=r"blocks|more|weight"):
        tn.load(path, into=fresh)
    assert [id(module) for module in fresh.modules()] == modules
    assert all(torch.equal(before[key], value) for key, value in fresh.state_dict().items())


def test_what_cannot_be_saved() -> None:
    """Pruned layers, arrays without entries and states that are no tensors are refused."""
    pruned = nn.Sequential(tn.Layer(T.low_rank(6, 4, 2)))
    prune.l1_unstructured(pruned[0], "U", 2)

    class Extra(nn.Linear):
        def get_extra_state(self) -> object:
            return {"a": 1}

    for module, said in (
        (pruned, "pruning"),
        (nn.Linear(2, 2, device="meta"), "meta"),
        (Extra(2, 2), "no tensor"),
        (torch.zeros(2), "Module"),
    ):
        with pytest.raises(tn.SpecError, match=said):
            tn.save(module, "/nowhere/x.safetensors")  # type: ignore[arg-type]
    with pytest.raises(OSError):
        tn.save(nn.Linear(2, 2), "/nowhere/x.safetensors")


def test_a_callable_init_is_left_out(tmp_path: Path) -> None:
    """Entries are saved, so how they were drawn need not be."""
    net = tn.Network("own")
    net.input(i=3)
    net.output(j=2)
    net.tensor("A", "i j", init=lambda array: array.fill_(2.0))  # type: ignore[misc]
    layer = tn.Layer(net)
    tn.save(layer, tmp_path / "own.safetensors")
    twin: Any = tn.load(tmp_path / "own.safetensors")
    assert torch.equal(twin.A, layer.A)  # type: ignore[arg-type]


# -- the format ------------------------------------------------------------------------------------


def test_files_are_those_of_the_safetensors_library(tmp_path: Path) -> None:
    """Each dtype that the library writes is read here, and each that is written here is read there,
    scalars and empty tensors too."""
    library = pytest.importorskip("safetensors.torch")
    tensors = {
        name: torch.arange(6, dtype=torch.float32).reshape(2, 3).to(dtype)
        for name, dtype in STORED.items()
    }
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4)}
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_file(ours, tensors, {"format": "pt"})
    library.save_file(tensors, theirs, {"format": "pt"})
    found = library.load_file(ours)
    header = read_header(theirs)
    assert header.metadata == read_header(ours).metadata == {"format": "pt"}
    back = dict(read_tensors(header, iter(header.entries)))
    for name, tensor in tensors.items():
        for one in (found[name], back[name]):
            assert (one.dtype, one.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(one.float(), tensor.float())


def test_what_is_frozen_stays_frozen(tmp_path: Path) -> None:
    """A model that freezes arrays when it is made has them frozen after it was compressed, and
    after it was loaded; the bias by itself."""

    def make() -> nn.Module:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        model[0].requires_grad_(False)
        model.get_parameter("1.bias").requires_grad_(False)
        return model

    model = make()
    tn.compress(model, T.low_rank(8, 8, rank=2), backend="torch", progress=False)
    flags = {name: array.requires_grad for name, array in model.named_parameters()}
    tn.save(model, tmp_path / "model.safetensors")
    for fresh in (make(), model):
        twin = tn.load(tmp_path / "model.safetensors", into=fresh)
        assert {name: array.requires_grad for name, array in twin.named_parameters()} == flags
    assert flags["2.bias"] and flags["1.U"]
    assert not (flags["1.bias"] or flags["0.U"] or flags["0.bias"])
