"""The network of the paper's section 3, and where it leaves something open.

Three sets of two convolutions, each set followed by pooling; two hidden layers; ten outputs. A
layer is followed by leaky ReLU, dropout, pooling and batch normalisation, in this order, where it
has them. docs/paper.md gives the reasons for what the paper does not say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import tnlayer as tn
from benchmarks.paper.orders import ORDERS, flatten_features
from benchmarks.paper.rows import Row
from tnlayer.graph.graph import Graph

LEAK = 0.2
CLASSES = 10
# Probabilities of dropout; only the last two convolutions have it.
HIDDEN_DROPOUT = LAST_DROPOUT = 0.5
PENULTIMATE_DROPOUT = 0.2
POOLINGS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; the tests use smaller ones than the paper.

    Arguments:
        side: rows and columns of an image.
        channels: of all convolutions but the last.
        last_channels: of the last.
        batch: images of a training step; layers are planned for it.
    """

    side: int = 32
    channels: int = 64
    last_channels: int = 256
    batch: int = 50

    @property
    def features(self) -> int:
        """Features that the hidden layers see."""
        return self.last_channels * (self.side // 2**POOLINGS) ** 2

    @property
    def legs(self) -> int:
        """Legs of size two that the features become."""
        return self.features.bit_length() - 1


class PaperNetwork(nn.Module):
    """Images (n, 3, side, side) to ten logits, both float32.

    Convolutions run in bfloat16 under autocast where ``bfloat16`` says so, in channels_last. A
    tensor-network layer computes in its own dtype, float32, under autocast too; the fully
    connected rows' torch layers run in bfloat16 with the convolutions. Batch normalisation,
    the last layer and the loss are float32.

    Arguments:
        row: the two hidden layers.
        shape: sizes.
        bfloat16: whether convolutions and dense hidden layers run in bfloat16.
    """

    def __init__(self, row: Row, shape: Shape, bfloat16: bool = True) -> None:
        super().__init__()
        self.in_bfloat16 = bfloat16
        self.order = ORDERS[row.order]
        widths = [3, *[shape.channels] * 5, shape.last_channels]
        dropouts = [0.0] * 4 + [PENULTIMATE_DROPOUT, LAST_DROPOUT]
        self.convolutions = nn.Sequential(
            *(
                _convolution(widths[k], widths[k + 1], dropouts[k], pooled=k % 2 == 1)
                for k in range(6)
            )
        )
        first, second = row.graphs(shape.legs)
        self.first = _linear(first, row, shape)
        self.after_first = _after_hidden(first.out_features)
        self.second = _linear(second, row, shape)
        self.after_second = _after_hidden(second.out_features)
        self.last = _gaussian(nn.Linear(second.out_features, CLASSES, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 10)."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.in_bfloat16):
            x = flatten_features(self.convolutions(images), self.order)
            x = self.after_first(self.first(x).float())
            x = self.after_second(self.second(x).float())
        return self.last(x)


def _convolution(channels_in: int, channels_out: int, dropout: float, *, pooled: bool) -> nn.Module:
    """A 3x3 convolution and what follows it."""
    kernel = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    _gaussian(kernel)
    kernel.weight.data = kernel.weight.data.contiguous(memory_format=torch.channels_last)
    parts: list[nn.Module] = [kernel, nn.LeakyReLU(LEAK)]
    if dropout:
        parts.append(nn.Dropout(dropout))
    if pooled:
        # As TensorFlow pads "same": nothing on the left, one on the right.
        parts.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
    return nn.Sequential(*parts, nn.BatchNorm2d(channels_out, affine=False))


def _linear(graph: Graph, row: Row, shape: Shape) -> nn.Module:
    """A hidden layer: torch's own where the row is dense, else the network's."""
    if row.dense:
        return _gaussian(nn.Linear(graph.in_features, graph.out_features, bias=False))
    # Its results stay float32 under autocast, as in the runs that are published. And what runs a
    # step must not depend on when a kernel was there: a run that is resumed gives the same numbers.
    return tn.Layer(graph, batch=shape.batch, autocast=False, tiers=False)


def _after_hidden(features: int) -> nn.Module:
    """What follows a hidden layer."""
    return nn.Sequential(
        nn.LeakyReLU(LEAK), nn.Dropout(HIDDEN_DROPOUT), nn.BatchNorm1d(features, affine=False)
    )


def _gaussian(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Start with deviation 1 / sqrt(n_in), n_in the inputs that one output sums over."""
    inputs = math.prod(layer.weight.shape[1:])
    nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs))
    return layer
