"""Train one small network on handwritten digits, its hidden layer dense, TT, tree and MERA.

The digits are scikit-learn's bundled 8x8 images of real handwriting. Only the hidden layer differs,
4096 features to 4096. Prints one table and draws the MERA and its contraction tree:

    python -m examples.demo
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from tqdm import tqdm

import tnlayer as tn

PIXELS, CLASSES = 64, 10
OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Digits:
    """Images (n, 64), scaled to zero mean and unit deviation, and their labels (n,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    network: tn.Network
    accuracy: float
    step_seconds: float


def load() -> Digits:
    """The digits, 1437 for training and 360 for the test, split the same way every time."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    train_x, test_x = (torch.as_tensor(part, dtype=torch.float32) for part in parts[:2])
    train_y, test_y = (torch.as_tensor(part, dtype=torch.int64) for part in parts[2:])
    mean, deviation = train_x.mean(), train_x.std()
    return Digits((train_x - mean) / deviation, train_y, (test_x - mean) / deviation, test_y)


def dense(legs: int) -> tn.Network:
    """The dense map as a network of one tensor; its costs are counted like all others'."""
    net = tn.Network("dense")
    net.input(i=2**legs)
    net.output(j=2**legs)
    net.tensor("weight", "i j")
    return net


def networks(legs: int) -> dict[str, tn.Network]:
    """The four hidden layers, 2**legs features to 2**legs."""
    pairs = (2,) * legs
    return {
        "dense": dense(legs),
        "TT": tn.topologies.tensor_train(pairs, pairs, rank=3),
        "tree": tn.topologies.tree(legs, dim=2, bond=3),
        "MERA": tn.topologies.mera(legs, dim=2, bond=2),
    }


def make_model(name: str, net: tn.Network) -> nn.Module:
    """Pixels, features, hidden layer, classes; the dense hidden layer is torch's own."""
    features = net.in_features
    # Steps are timed, and all of them shall run the kernels: the first one waits for these.
    hidden = (
        nn.Linear(features, features) if name == "dense" else tn.Layer(net, bias=True, tiers=False)
    )
    return nn.Sequential(
        nn.Linear(PIXELS, features),
        nn.BatchNorm1d(features),
        nn.ReLU(),
        hidden,
        nn.BatchNorm1d(features),
        nn.ReLU(),
        nn.Linear(features, CLASSES),
    )


def batches(digits: Digits, size: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of ``size`` samples; a remainder is left out, so that steps compare."""
    for _ in range(epochs):
        for chosen in torch.randperm(len(digits.train_x)).split(size):
            if len(chosen) == size:
                yield digits.train_x[chosen], digits.train_y[chosen]


def train(
    model: nn.Module, digits: Digits, batch: int, epochs: int, bar: tqdm[NoReturn]
) -> tuple[float, float]:
    """Train and return test accuracy and the median time of a step in seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    seconds: list[float] = []
    for x, y in batches(digits, batch, epochs):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        bar.update()
    model.eval()
    with torch.no_grad():
        right = model(digits.test_x).argmax(1) == digits.test_y
    return right.double().mean().item(), statistics.median(seconds)


def run(legs: int, batch: int, epochs: int) -> list[Row]:
    """Train the network with each hidden layer, from the same seed."""
    digits = load()
    steps = len(digits.train_x) // batch * epochs
    rows: list[Row] = []
    for name, net in networks(legs).items():
        torch.manual_seed(0)
        model = make_model(name, net)
        with tqdm(total=steps, desc=f"{name:>5}", unit="step") as bar:
            accuracy, seconds = train(model, digits, batch, epochs, bar)
        rows.append(Row(name, net, accuracy, seconds))
    return rows


def table(rows: Sequence[Row], batch: int) -> str:
    """The table: parameters, compression, FLOPs, accuracy and time, one line a hidden layer."""
    title = ("hidden layer", "parameters", "compression", "FLOPs forward", "FLOPs backward")
    lines: list[tuple[str, ...]] = [(*title, "test accuracy", "time per step")]
    for row in rows:
        cost = tn.cost(row.network, batch=batch)
        lines.append(
            (
                row.name,
                f"{cost.parameters:,}",
                f"{cost.compression:,.0f}x",
                f"{cost.forward_flops:,}",
                f"{cost.backward_flops:,}",
                f"{row.accuracy:.1%}",
                f"{row.step_seconds * 1e3:.1f} ms",
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    text = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def draw(net: tn.Network, batch: int, folder: Path) -> list[Path]:
    """Draw a network and its contraction tree; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    network_png, tree_png = folder / "mera_network.png", folder / "mera_contraction_tree.png"
    net.draw(network_png)
    tn.plan(net, batch=batch).draw(str(tree_png))
    return [network_png, tree_png]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the table, draw the MERA."""
    parser = argparse.ArgumentParser(description="Train digits with four kinds of hidden layer.")
    parser.add_argument("--legs", type=int, default=12, help="hidden features: 2 to this power")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pictures")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    rows = run(options.legs, options.batch, options.epochs)
    features = 2**options.legs
    print(
        f"\nHidden layer {features} to {features} in a network of three linear layers, "
        f"{options.epochs} epochs on real handwritten digits.\n"
        f"FLOPs: the hidden layer's, for one batch of {options.batch}; the layer's bias is in none "
        "of its numbers.\nTime: a whole training step, the optimiser's update included, median, "
        f"{torch.get_num_threads()} threads.\n"
    )
    print(table(rows, options.batch))
    print()
    for path in draw(networks(options.legs)["MERA"], options.batch, options.out):
        print(f"drew {path}")
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
