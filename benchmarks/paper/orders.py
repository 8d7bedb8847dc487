"""The order in which the last convolution's features become legs: the paper's first open question.

Features are (channel, row, column). An order makes two choices: whether the channel's legs come
first or last, and how pixels are numbered: row by row, or along a space-filling curve, where
pixels that follow each other are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Order:
    """One way to flatten features.

    Arguments:
        text: what it is, in words.
        channels_first: whether the channel is the slowest index.
        hilbert: whether pixels follow Hilbert's curve instead of rows.
    """

    text: str
    channels_first: bool
    hilbert: bool


ORDERS = {
    "channels-last": Order("pixels row by row, then channels", False, False),
    "channels-first": Order("channels, then pixels row by row", True, False),
    "hilbert-last": Order("pixels along a space-filling curve, then channels", False, True),
    "hilbert-first": Order("channels, then pixels along a space-filling curve", True, True),
}


def hilbert_curve(side: int) -> list[int]:
    """Pixels of a square, as row x side + column, in the order of Hilbert's curve.

    Source: Hilbert, Ueber die stetige Abbildung einer Linie auf ein Flächenstück, Math. Ann. 38
    (1891); the turns bit by bit as in Skilling, AIP Conf. Proc. 707 (2004).

    Arguments:
        side: a power of two.

    >>> hilbert_curve(2)
    [0, 2, 3, 1]
    """
    pixels: list[int] = []
    for position in range(side * side):
        rest, column, row, size = position, 0, 0, 1
        while size < side:
            right, down = (rest // 2) & 1, (rest ^ (rest // 2)) & 1
            if not down:
                if right:
                    column, row = size - 1 - column, size - 1 - row
                column, row = row, column
            column, row = column + size * right, row + size * down
            rest, size = rest // 4, size * 2
        pixels.append(row * side + column)
    return pixels


def flatten_features(x: Tensor, order: Order) -> Tensor:
    """Features (n, channels, side, side) as (n, features) in an order."""
    pixels = x.flatten(2)
    if order.hilbert:
        curve = torch.tensor(hilbert_curve(x.shape[-1]), device=x.device)
        pixels = pixels.index_select(2, curve)
    return (pixels if order.channels_first else pixels.transpose(1, 2)).flatten(1)
