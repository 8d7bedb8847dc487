"""Layers on several processes over gloo: ``python -m tests.support.distributed_cases N FOLDER``.

Each case trains three steps, once on N processes and once on one, and compares parameters or
results. A process that finds a difference ends with an error.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

import tnlayer as tn
from tests.support.mixed_cases import divisions, mixed
from tnlayer.ir.batch_range import BatchRange
from tnlayer.runtime.program import Program

STEPS, ROWS = 3, 8


def train_net() -> tn.Network:
    """A train whose bonds have size 4."""
    return tn.topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=4)


def model(backend: str = "torch", batch: int | None = None) -> nn.Sequential:
    """Two layers with something between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        tn.Layer(train_net(), bias=True, backend=backend, batch=batch),
        nn.Tanh(),
        tn.Layer(train_net(), bias=True, backend=backend, batch=batch),
    )


def batches() -> list[torch.Tensor]:
    """Inputs of all steps, equal in all processes."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(ROWS, 64, generator=generator) for _ in range(STEPS)]


def steps(module: nn.Module, rows: slice = slice(None)) -> None:
    """Train: the mean square of what comes out, by rows of each batch."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for x in batches():
        optimiser.zero_grad()
        module(x[rows]).square().mean().backward()
        optimiser.step()


def whole(array: torch.Tensor) -> torch.Tensor:
    """All of an array that may lie on several processes."""
    return array.full_tensor() if isinstance(array, DTensor) else array


def assert_like_one(module: nn.Module, backend: str = "torch") -> None:
    """The parameters are those of a process that trained alone."""
    alone = model(backend)
    steps(alone)
    wanted = dict(alone.named_parameters())
    for name, array in module.named_parameters():
        torch.testing.assert_close(whole(array.detach()), wanted[name].detach(), msg=name)


def own_rows(mesh: DeviceMesh) -> slice:
    """The rows of a batch that are a process's."""
    share = ROWS // mesh.size()
    return slice(mesh.get_rank() * share, (mesh.get_rank() + 1) * share)


def data_parallel(mesh: DeviceMesh, folder: Path) -> None:
    """DistributedDataParallel."""
    replica = DistributedDataParallel(model())
    steps(replica, own_rows(mesh))
    assert_like_one(replica.module)


def fully_sharded(mesh: DeviceMesh, folder: Path) -> None:
    """FSDP2, and a checkpoint of its shards that another one loads."""
    module: Any = model()
    for layer in (module[0], module[2], module):
        fully_shard(layer, mesh=mesh)
    steps(module, own_rows(mesh))
    assert_like_one(module)
    save({"model": module.state_dict()}, checkpoint_id=folder / "sharded")
    again: Any = model()
    for layer in (again[0], again[2], again):
        fully_shard(layer, mesh=mesh)
    state = {"model": again.state_dict()}
    load(state, checkpoint_id=folder / "sharded")
    again.load_state_dict(state["model"])
    assert_like_one(again)


def along_legs(mesh: DeviceMesh, folder: Path) -> None:
    """Tensor parallelism along a bond, a leg of x and a leg of y; on torch's calls and kernels."""
    graph = train_net().freeze()
    bond = next(
        leg for leg, _ in graph.leg_sizes if leg not in (*graph.inputs[0].legs, *graph.output)
    )
    for backend, first, second in (
        ("torch", bond, graph.inputs[0].legs[1]),
        ("cpp", graph.output[1], bond),
    ):
        module = model(backend)
        plan: dict[str, ParallelStyle] = {"0": tn.LegParallel(first), "2": tn.LegParallel(second)}
        parallelize_module(module, mesh, plan)
        local = sum(p.to_local().numel() for p in module.parameters() if isinstance(p, DTensor))
        assert local < sum(p.numel() for p in model().parameters())
        x, same = batches()[0].requires_grad_(), batches()[0].requires_grad_()
        y, wanted = module(x), model(backend)(same)
        torch.testing.assert_close(y, wanted)
        y.square().sum().backward()
        wanted.square().sum().backward()
        torch.testing.assert_close(x.grad, same.grad)
        steps(module)
        alone = model(backend)
        steps(alone)
        other = dict(alone.named_parameters())
        for name, array in module.named_parameters():
            torch.testing.assert_close(whole(array.detach()), other[name].detach(), msg=name)


def split_batches(mesh: DeviceMesh, folder: Path) -> None:
    """Inputs of which each process has some rows (DTensor): results, their placements and three
    steps are those of one process, and the kernels run on those rows."""
    for backend in ("torch", "cpp", "mixed"):
        is_mixed = backend == "mixed"  # for one sample there are steps to divide
        module: Any = model("torch", 1) if is_mixed else model(backend)
        if is_mixed:
            mix(module)
        distribute_module(module, mesh)
        ran = [0]
        for rows in (ROWS, ROWS - 1):  # one row less in one of the processes
            x = batches()[0][:rows].requires_grad_()
            split = distribute_tensor(x.detach(), mesh, [Shard(0)]).requires_grad_()
            with patch.object(Program, "reference", refused(ran)):
                y = module(split)
                assert y.placements == (Shard(0),)
                y.full_tensor().square().sum().backward()
            wanted = model("torch")
            same = wanted(x)
            torch.testing.assert_close(y.full_tensor(), same)
            same.square().sum().backward()
            x_gradient = split.grad
            assert x_gradient is not None
            torch.testing.assert_close(whole(x_gradient), x.grad)
            for one, other in zip(module.parameters(), wanted.parameters(), strict=True):
                assert all(placement.is_replicate() for placement in one.grad.placements)
                torch.testing.assert_close(whole(one.grad), other.grad, rtol=1e-4, atol=1e-4)
                one.grad = None
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
        for x in batches():
            optimiser.zero_grad()
            y = module(distribute_tensor(x, mesh, [Shard(0)]))
            y.square().mean().full_tensor().backward()
            optimiser.step()
        assert not ran[0]
        assert_like_one(module)
    refuse_and_move(mesh)


def mix(module: Any) -> None:
    """Let plans of two regions serve both layers: kernels, and torch's calls."""
    for layer in (module[0], module[2]):
        (ranged,) = layer._programs_for(layer.dtype)
        program = ranged.main
        regions = next(divisions(program.plan, ("cpp", "torch")))
        ranged.replace_range(BatchRange(), mixed(program, regions))


def refused(ran: list[int]) -> Callable[..., Any]:
    """Stands for torch's calls that look at whole arrays."""

    def reference(*_: Any) -> Any:
        ran[0] += 1
        raise AssertionError

    return reference


def refuse_and_move(mesh: DeviceMesh) -> None:
    """Tokens may be split, too; a layer that nobody distributed is refused; where features are
    split torch's calls move entries."""
    layer: Any = tn.Layer(train_net(), bias=True, backend="torch")
    x = batches()[0].reshape(2, ROWS // 2, 64)
    wanted = layer(x)
    split = distribute_tensor(x, mesh, [Shard(1)])
    try:
        layer(split)
    except tn.SpecError as error:
        assert "distribute_module" in str(error)
    else:
        raise AssertionError
    distribute_module(layer, mesh)
    y = layer(split)
    assert y.placements == (Shard(1),)
    torch.testing.assert_close(y.full_tensor(), wanted)
    torch.testing.assert_close(layer(distribute_tensor(x, mesh, [Replicate()])).to_local(), wanted)
    y = layer(distribute_tensor(x, mesh, [Shard(2)]))
    torch.testing.assert_close(y.full_tensor(), wanted)


def pipeline(mesh: DeviceMesh, folder: Path) -> None:
    """A stage a process: the layers of one model after another."""
    rank, count = mesh.get_rank(), mesh.size()
    torch.manual_seed(0)
    layers = [tn.Layer(train_net(), backend="torch") for _ in range(count)]
    x = batches()[0]
    stage = PipelineStage(copy.deepcopy(layers[rank]), rank, count, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=lambda y, _: y.square().sum())
    if rank == 0:
        schedule.step(x)
    else:
        schedule.step(target=torch.zeros_like(x)) if rank == count - 1 else schedule.step()
    nn.Sequential(*layers)(x).square().sum().backward()
    scale = 2  # torch divides gradients by the number of microbatches
    for name, array in stage.submod.named_parameters():
        wanted = dict(layers[rank].named_parameters())[name]
        assert array.grad is not None and wanted.grad is not None
        torch.testing.assert_close(array.grad * scale, wanted.grad, msg=name, rtol=1e-4, atol=1e-4)


CASES: tuple[Callable[[DeviceMesh, Path], None], ...] = (
    data_parallel,
    fully_sharded,
    along_legs,
    split_batches,
    pipeline,
)


def run(rank: int, processes: int, folder: str) -> None:
    """All cases in one of the processes."""
    torch.set_num_threads(1)
    store = f"file://{Path(folder) / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
    mesh = init_device_mesh("cpu", (processes,))
    for case in CASES:
        case(mesh, Path(folder))
        if rank == 0:
            print(case.__name__, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    count, where = int(sys.argv[1]), sys.argv[2]
    start_processes(run, (count, where), nprocs=count, start_method="spawn")
