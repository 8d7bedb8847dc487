"""A factorization that no topology file has, in under 15 lines, trained on handwritten digits.

The ladder: the input legs hang on one tensor train, the output legs on another, and rungs join
core to core::

    i0    i1    i2        input legs
     |     |     |
    A0 -- A1 -- A2        rail
     |     |     |        rungs
    B0 -- B1 -- B2        rail
     |     |     |
    j0    j1    j2        output legs

A low-rank layer has one bond between its two halves. Here each leg has its own rung, and both
halves are small. Run it with:

    python -m examples.new_factorization
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import nn
from tqdm import tqdm

import tnlayer as tn
from examples.demo import CLASSES, batches, load


def ladder(in_shape: Sequence[int], out_shape: Sequence[int], rail: int, rung: int) -> tn.Network:
    """Two tensor trains joined by rungs; ``rail`` and ``rung`` are the sizes of the bonds."""
    net = tn.Network("ladder")
    last = len(in_shape) - 1
    net.input({f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    net.bond(**{f"rung{k}": rung for k in range(last + 1)})
    net.bond(**{f"rail{side}{k}": rail for side in "AB" for k in range(last)})
    for k in range(last + 1):
        for side, leg in (("A", f"i{k}"), ("B", f"j{k}")):
            rails = [f"rail{side}{m}" for m in (k - 1, k) if 0 <= m < last]
            net.tensor(f"{side}{k}", [leg, f"rung{k}", *rails])
    return net


def train(net: tn.Network, epochs: int) -> float:
    """Train a classifier with this layer on the 64 pixels; returns the test accuracy."""
    torch.manual_seed(0)
    digits = load()
    layer = tn.Layer(net, bias=True)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(layer.out_features, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    steps = len(digits.train_x) // 64 * epochs
    for x, y in tqdm(batches(digits, 64, epochs), total=steps, desc="ladder", unit="step"):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return (model(digits.test_x).argmax(1) == digits.test_y).double().mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe, count, train, report."""
    parser = argparse.ArgumentParser(description="Train a factorization of your own.")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    net = ladder((4, 4, 4), (8, 8, 8), rail=2, rung=4)
    print(tn.cost(net, batch=64))
    accuracy = train(net, options.epochs)
    print(
        f"ladder: {net.parameter_count} parameters for a map of {net.in_features} to "
        f"{net.out_features} features (dense: {net.in_features * net.out_features}), "
        f"test accuracy {accuracy:.1%}"
    )


if __name__ == "__main__":
    main()
