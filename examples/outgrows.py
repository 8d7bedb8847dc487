"""A layer whose training state outgrows one process: python -m examples.outgrows

The layer is a sum of Tucker networks (block term). Leg t numbers the terms and every tensor has it,
so that split along t each of n processes holds a part of 1/n of everything: tensors, gradients,
both moments of Adam and what a step makes on the way. No process ever holds a whole tensor, not
at the start either.

Memory is counted, before anything runs by ``tn.cost`` and afterwards from the arrays that are
there, and held against ``--limit``. With ``--processes 1`` the same layer is refused:

    python -m examples.outgrows --processes 1
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import parallelize_module
from torch.multiprocessing.spawn import start_processes

import tnlayer as tn

LEGS, RANK, BATCH, MIB = (64, 64), 16, 8, 2**20


@dataclass(frozen=True)
class State:
    """Bytes that a process holds while it trains.

    Arguments:
        tensors: of the layer.
        moments: what Adam keeps, two numbers an entry.
        step: at most beside these: gradients, values on the way, y.
    """

    tensors: int
    moments: int
    step: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.tensors + self.moments + self.step


@dataclass(frozen=True)
class Options:
    """What each process has to know.

    Arguments:
        processes: how many.
        terms: of the sum, which the number of processes divides.
        limit: bytes that a process may hold.
        steps: of Adam.
        folder: where the processes find each other.
    """

    processes: int
    terms: int
    limit: int
    steps: int
    folder: str


def network(terms: int) -> tn.Network:
    """A sum of so many Tucker networks; what a process has of it is one with fewer terms."""
    return tn.topologies.block_term(LEGS, LEGS, terms, RANK)


def predict(net: tn.Network) -> State:
    """What training takes where a process holds such a network; nothing is allocated."""
    cost = tn.cost(net, batch=BATCH)
    size = cost.plan.itemsize
    tensors = cost.stored * size
    largest = max(math.prod(parameter.shape) for parameter in net.freeze().parameters) * size
    # Adam's own step has all gradients and makes two arrays a tensor, one tensor after the other.
    return State(tensors, 2 * tensors, max(cost.training_peak, tensors + 2 * largest))


def count(layer: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, int]:
    """Bytes of a process's tensors and of their moments, as they lie there."""
    tensors = sum(local(array).nbytes for array in layer.parameters())
    moments = (
        local(value).nbytes
        for state in optimiser.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim()
    )
    return tensors, sum(moments)


def local(array: torch.Tensor) -> torch.Tensor:
    """A process's own part of an array."""
    return array.to_local() if isinstance(array, DTensor) else array


def draw(layer: tn.Layer, seed: int) -> None:
    """Fill a process's parts so that Var(y) = Var(x); of its own, for others hold the rest."""
    graph = layer.graph
    summed = [size for leg, size in graph.leg_sizes if leg not in graph.output]
    deviation = math.prod(summed) ** (-0.5 / len(graph.tensors))
    generator = torch.Generator().manual_seed(seed)
    for array in layer.parameters():
        local(array.detach()).normal_(0, deviation, generator=generator)


def train(rank: int, options: Options) -> None:
    """In each process: make the layer without entries, split it, draw, train and count."""
    torch.set_num_threads(1)
    store = f"file://{Path(options.folder) / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=options.processes)
    mesh = init_device_mesh("cpu", (options.processes,))
    layer = tn.Layer(network(options.terms), device="meta", batch=BATCH)
    model = nn.Sequential(layer)
    parallelize_module(model, mesh, {"0": tn.LegParallel("t")})
    model.to_empty(device="cpu")
    draw(layer, seed=rank)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs = torch.Generator().manual_seed(0)  # all processes see the same samples
    losses: list[float] = []
    for _ in range(options.steps):
        x = torch.randn(BATCH, layer.in_features, generator=inputs)
        loss = nn.functional.mse_loss(model(x), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    tensors, moments = count(model, optimiser)
    part = predict(network(options.terms // options.processes))
    assert (tensors, moments) == (part.tensors, part.moments), "what is there was predicted"
    if rank == 0:
        print(f"each process holds {(tensors + moments) / MIB:.2f} MiB of tensors and moments")
        print(f"loss of y = x: {losses[0]:.3f} at first, {losses[-1]:.3f} after {options.steps}")
    dist.destroy_process_group()


def table(whole: State, part: State, options: Options) -> str:
    """What is predicted, in MiB."""
    rows = [(name, getattr(whole, name), getattr(part, name)) for name in State.__annotations__]
    rows.append(("all", whole.total, part.total))
    lines = [f"{'MiB':10} {'one process':>12} {f'each of {options.processes}':>12}"]
    lines += [f"{name:10} {one / MIB:>12.2f} {own / MIB:>12.2f}" for name, one, own in rows]
    return "\n".join([*lines, f"limit {options.limit / MIB:.2f} MiB"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, refuse what does not fit, and train what does."""
    parser = argparse.ArgumentParser(prog="python -m examples.outgrows")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--terms", type=int, default=16, help="a multiple of the processes")
    parser.add_argument("--limit", type=float, default=8.0, help="MiB that a process may hold")
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args(arguments)
    if given.terms % given.processes:
        parser.error(f"--terms {given.terms} is no multiple of --processes {given.processes}")
    with tempfile.TemporaryDirectory() as folder:
        options = Options(given.processes, given.terms, int(given.limit * MIB), given.steps, folder)
        part = predict(network(options.terms // options.processes))
        print(table(predict(network(options.terms)), part, options))
        if part.total > options.limit:
            print(f"{part.total / MIB:.2f} MiB a process are more than the limit: not run")
            return 1
        start_processes(train, (options,), nprocs=options.processes, start_method="spawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
