"""The network of the paper's section 3: sizes, dtypes, starts, and how features become legs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

import tnlayer as tn
from benchmarks.paper.model import PaperNetwork, Shape
from benchmarks.paper.orders import ORDERS, flatten_features, hilbert_curve
from benchmarks.paper.parameters import CONSTANT, convolution_parameters
from benchmarks.paper.protocols import PROTOCOLS, Protocol
from benchmarks.paper.rows import ROWS, rows_named
from tests.support.small_paper import SMALL


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("FC-1", 4096 * 4096 + 4096 * 64),
        ("FC-2", 4096 * 10 + 10 * 64),
        ("MERA-2", 560),
        ("MERA-3", 1782),
        ("TT-3", 672),
        ("TT-5", 1820),
        ("TT-7", 3528),
        ("tree-3", 720),
        ("low-rank-1", 12352),
        ("brickwall", 55 * 16 + 55 * 16 - 6 * 8),
        ("PEPS-3", 1440 + 1080),
    ],
)
def test_hidden_layers_have_the_parameters_of_the_table(name: str, parameters: int) -> None:
    """Counts at full size; with 2,560 they are the first column, exact where the paper's is."""
    row = ROWS[name]
    graphs = row.graphs()
    assert sum(graph.parameter_count for graph in graphs) == parameters
    width = 10 if name == "FC-2" else 4096
    assert [g.in_features for g in graphs] == [4096, width]
    assert [g.out_features for g in graphs] == [width, 64]


def test_low_rank_has_seven_times_the_parameters_of_mera() -> None:
    """Even rank 1 has 12,352, and the brick wall about as many as MERA-3."""
    count = {n: sum(g.parameter_count for g in ROWS[n].graphs()) for n in ROWS}
    assert round(count["low-rank-1"] / count["MERA-3"]) == 7
    assert 0.9 < count["brickwall"] / count["MERA-3"] < 1.1


def test_the_whole_network_at_full_size() -> None:
    """Learned weights are convolutions, hidden layers and 64 x 10; features are 4 x 4 x 256."""
    shape = Shape()
    assert (shape.features, shape.legs) == (4096, 12)
    model = PaperNetwork(ROWS["FC-2"], shape)
    count = sum(p.numel() for p in model.parameters())
    assert count == convolution_parameters() + 4096 * 10 + 10 * 64 + 640
    assert CONSTANT == 4 * 640
    features = model.convolutions(torch.zeros(2, 3, 32, 32))
    assert features.shape == (2, 256, 4, 4)


def test_parts_stand_where_the_paper_has_them() -> None:
    """Pooling after each second convolution; dropout 0.2, 0.5 in the last two; then 0.5, 0.5."""
    model = PaperNetwork(ROWS["MERA-2"], SMALL)
    kinds = [type(m).__name__ for m in model.convolutions.modules()]
    kinds = [kind for kind in kinds if kind != "Sequential"]
    pair = ["Conv2d", "LeakyReLU", "BatchNorm2d", "Conv2d", "LeakyReLU", "MaxPool2d", "BatchNorm2d"]
    last = ["Conv2d", "LeakyReLU", "Dropout", "BatchNorm2d"]
    last += ["Conv2d", "LeakyReLU", "Dropout", "MaxPool2d", "BatchNorm2d"]
    assert kinds == [*pair, *pair, *last]
    drops = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.2, 0.5, 0.5, 0.5]
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert not [name for name, _ in model.named_parameters() if "bias" in name]


@pytest.mark.parametrize("name", ["MERA-3", "FC-1"])
def test_dtypes_under_autocast(name: str) -> None:
    """Convolutions and dense hidden layers give bfloat16; network layers and logits float32."""
    model = PaperNetwork(ROWS[name], SMALL)
    seen: dict[str, torch.dtype] = {}

    def keep(what: str) -> object:
        return lambda _module, _inputs, y: seen.__setitem__(what, y.dtype)

    model.convolutions.register_forward_hook(keep("convolutions"))  # type: ignore[arg-type]
    model.first.register_forward_hook(keep("first"))  # type: ignore[arg-type]
    logits = model(torch.randn(4, 3, 16, 16).to(memory_format=torch.channels_last))
    expected = torch.bfloat16 if name == "FC-1" else torch.float32
    assert seen == {"convolutions": torch.bfloat16, "first": expected}
    assert logits.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_gaussian_weights_have_deviation_one_over_root_of_inputs() -> None:
    """FC: 1 / sqrt(n_in); a convolution's n_in is 9 x channels."""
    torch.manual_seed(0)
    model = PaperNetwork(ROWS["FC-1"], Shape(side=16, channels=32, last_channels=64))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.numel() > 5000:
            inputs = math.prod(module.weight.shape[1:])
            assert float(module.weight.detach().std()) * math.sqrt(inputs) == pytest.approx(
                1, rel=0.05
            )


def gates(name: str) -> dict[str, torch.Tensor]:
    """The weights of a row's first hidden layer, as matrices from legs in to legs out."""
    torch.manual_seed(0)
    layer = tn.Layer(ROWS[name].graphs(6)[0])
    return {n: p.detach().flatten(2).flatten(0, 1) for n, p in layer.named_parameters()}


def test_starts() -> None:
    """Haar and near identity are isometries, one far from the identity and one near; Gaussian
    is none, and all keep the variance."""
    eye = torch.eye(4)
    for name, is_isometric, is_near in (
        ("MERA-3", True, False),
        ("MERA-3@identity", True, True),
        ("MERA-3@gaussian", False, False),
    ):
        matrices = gates(name)
        assert len(matrices) == 8
        for matrix in matrices.values():
            small = matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
            assert torch.allclose(small, torch.eye(len(small)), atol=1e-5) == is_isometric
        # Disentanglers of the first level: 2 x 2 legs into 3 x 3; the wires are entries 0 1 3 4.
        wires = matrices["disentangler_0_0"][:, [0, 1, 3, 4]]
        assert (float((wires - eye).abs().max()) < 0.3) == is_near
    torch.manual_seed(0)
    layer = tn.Layer(ROWS["MERA-3@gaussian"].graphs(6)[0])
    assert float(layer.to_dense().detach().square().sum()) / 64 == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_hilbert_curve_visits_neighbours(side: int) -> None:
    """Every pixel once, each next to the one before."""
    curve = hilbert_curve(side)
    assert sorted(curve) == list(range(side * side))
    for here, there in itertools.pairwise(curve):
        (row, column), (next_row, next_column) = divmod(here, side), divmod(there, side)
        assert abs(row - next_row) + abs(column - next_column) == 1


def test_orders_are_four_different_permutations() -> None:
    """Feature (c, y, x) lands where the name of the order says."""
    x = torch.arange(2 * 8 * 4 * 4).reshape(2, 8, 4, 4)
    flat = {name: flatten_features(x, order) for name, order in ORDERS.items()}
    assert len({tuple(y[0].tolist()) for y in flat.values()}) == 4
    curve = hilbert_curve(4)
    for pixel in range(16):
        for channel in range(8):
            row, column = divmod(pixel, 4)
            value = x[1, channel, row, column]
            assert flat["channels-first"][1, 16 * channel + pixel] == value
            assert flat["channels-last"][1, 8 * pixel + channel] == value
            place = curve.index(pixel)
            assert flat["hilbert-first"][1, 16 * channel + place] == value
            assert flat["hilbert-last"][1, 8 * place + channel] == value


def test_protocols_end_as_they_say() -> None:
    """short: 12 epochs of 1,000 steps along a cosine; paper: ten tests without a better one."""
    short, paper = PROTOCOLS["short"], PROTOCOLS["paper"]
    assert short.steps(50_000) == 12_000
    assert short.rate(0, 12_000) == 1e-3
    assert short.rate(6_000, 12_000) == pytest.approx(5e-4)
    assert short.rate(12_000, 12_000) == pytest.approx(0, abs=1e-12)
    assert not short.is_over(11_999, 12_000, [0.5] * 23)
    assert short.is_over(12_000, 12_000, [0.5] * 24)
    assert paper.steps(50_000) is None
    assert paper.rate(123_456, None) == 1e-3
    assert not paper.is_over(5_500, None, [0.1, 0.5, *[0.4] * 9])
    assert paper.is_over(6_000, None, [0.1, 0.5, *[0.5] * 10])
    assert Protocol("some", "", epochs=2, most_steps=3).steps(200) == 3


def test_rows_by_name_and_group() -> None:
    """Names keep their order; a group is all its rows; what is unknown is told with what is."""
    assert [row.name for row in rows_named("TT-3,FC-1,TT-3")] == ["TT-3", "FC-1"]
    assert len(rows_named("table")) == 10
    assert len(rows_named("all")) == len(ROWS)
    with pytest.raises(ValueError, match="'TT-4'; there are FC-1"):
        rows_named("TT-4")
