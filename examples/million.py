"""A layer from a million features to a million: MERA beside a tensor train of as many parameters.

The dense layer would have 2^40 weights, 4 TiB. The task has correlations at all distances: x is a
signal whose spectrum falls as 1/f, under white noise as strong as itself; y shall be the signal.
The best linear answer is known (Wiener's filter), so that losses have a floor to be held against.

    python -m examples.million
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import tnlayer as tn

NOISE = 0.01


@dataclass(frozen=True)
class Outcome:
    """One line of the table: mean squared errors and times in seconds."""

    name: str
    layer: tn.Layer
    start_error: float
    error: float
    step_seconds: float


# -- the task --------------------------------------------------------------------------------------


def spectrum(features: int) -> Tensor:
    """Power of the signal at frequencies 0 to features / 2: 1/f, none at 0, variance one in all."""
    power = torch.arange(features // 2 + 1, dtype=torch.float64)
    power[1:] = 1 / power[1:]
    # All frequencies but 0 and the last stand for two waves.
    return power * features / (2 * power.sum() - power[-1])


def draw(features: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy signals and the signals, each (batch, features)."""
    white, noise = torch.randn(2, batch, features, generator=generator)
    shape = spectrum(features).sqrt().float()
    signal = torch.fft.irfft(torch.fft.rfft(white) * shape, n=features)
    return signal + noise, signal


def wiener_error(features: int) -> float:
    """Mean squared error of the best linear filter: the mean over waves of S / (S + 1)."""
    share = spectrum(features) / (spectrum(features) + 1)
    return float((2 * share.sum() - share[0] - share[-1]) / features)


# -- the layers ------------------------------------------------------------------------------------


def mera(legs: int, bond: int) -> tn.Network:
    """MERA whose wires end where they began: with gates of identity the layer is the identity."""
    net = tn.topologies.mera(legs, 2, bond)
    graph = net.freeze()
    # Output legs stand in the order of their making. Follow each back to the input leg that a gate
    # of identity makes it of: the first out leg goes on from the first leg in.
    origin = {leg: place for place, leg in enumerate(graph.inputs[0].legs)}
    for node in graph.tensors:
        left, right, out_left, out_right = node.legs
        origin[out_left], origin[out_right] = origin[left], origin[right]
    net.reorder(output=sorted(graph.output, key=lambda leg: origin[leg]))
    return net


def tensor_train(legs: int, parameters: int) -> tn.Network:
    """The tensor train of legs of two whose parameters are nearest to a number."""
    pairs = (2,) * legs
    trains = [tn.topologies.tensor_train(pairs, pairs, rank) for rank in range(1, 17)]
    return min(trains, key=lambda net: abs(net.parameter_count - parameters))


@torch.no_grad()
def start_near_identity(layer: tn.Layer, noise: float = NOISE) -> None:
    """Give each gate or core the identity between its legs in and out, and a little noise.

    A gate is (left, right, out left, out right); a core (bond, in, out, bond), at either end with
    one bond less, and starts with its bonds at index 0.
    """
    nodes = layer.graph.tensors
    for place, node in enumerate(nodes):
        weight = layer.get_parameter(node.name)
        weight.normal_(std=noise)
        if node.isometry:
            left, right, out_left, out_right = weight.shape
            eyes = torch.eye(left, out_left), torch.eye(right, out_right)
            weight.add_(torch.einsum("ac,bd->abcd", *eyes))
        else:
            bond = 1 if place == 0 else weight.shape[0]
            weight.view(bond, 2, 2, -1)[0, :, :, 0] += torch.eye(2)


# -- training --------------------------------------------------------------------------------------


def error_of(layer: tn.Layer, batch: tuple[Tensor, Tensor]) -> float:
    """Mean squared error."""
    with torch.no_grad():
        return float(torch.nn.functional.mse_loss(layer(batch[0]), batch[1]))


def train(name: str, net: tn.Network, steps: int, batch: int, rate: float) -> Outcome:
    """Train one layer on fresh signals; errors are on signals that it never saw."""
    features = net.in_features
    layer = tn.Layer(net, batch=batch, effort="fast", tiers=False)  # steps are timed
    start_near_identity(layer)
    held_out = draw(features, batch, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(layer.parameters(), lr=rate)
    start_error, seconds = error_of(layer, held_out), list[float]()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        x, y = draw(features, batch, generator)
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(x), y)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        if step % max(1, steps // 10) == 0:
            print(f"{name}: step {step}/{steps}, error {loss.item():.4f}", flush=True)
    return Outcome(name, layer, start_error, error_of(layer, held_out), statistics.median(seconds))


def table(outcomes: Sequence[Outcome], features: int) -> str:
    """The numbers, one line a layer."""
    lines = [
        f"{features:,} features to {features:,}: dense {features**2:,} weights, "
        f"{4 * features**2 / 2**40:.3g} TiB",
        f"best linear filter: error {wiener_error(features):.4f}; y = x: 1; y = 0: 1",
        f"{'layer':8} {'parameters':>10} {'at start':>9} {'trained':>8} {'s a step':>9}",
    ]
    for one in outcomes:
        lines.append(
            f"{one.name:8} {one.layer.graph.parameter_count:>10,} {one.start_error:>9.4f} "
            f"{one.error:>8.4f} {one.step_seconds:>9.3f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both layers and print the table."""
    parser = argparse.ArgumentParser(description="A layer from 2^20 features to 2^20.")
    parser.add_argument("--legs", type=int, default=20, help="features: 2 to this power")
    parser.add_argument("--bond", type=int, default=2, help="MERA's")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.005, help="Adam's, at the start")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    first = mera(options.legs, options.bond)
    second = tensor_train(options.legs, first.parameter_count)
    outcomes = [
        train(name, net, options.steps, options.batch, options.rate)
        for name, net in ((f"MERA-{options.bond}", first), ("TT", second))
    ]
    print(table(outcomes, first.in_features))


if __name__ == "__main__":
    main()
