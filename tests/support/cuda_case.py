"""A network's CUDA schedule with random arrays, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

import tnlayer as tn
from tests.support.strategies import random_array
from tnlayer.hardware.gpu import Gpu
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.plan import Plan
from tnlayer.lowering.gpu.pipeline import schedule_backward, schedule_forward
from tnlayer.lowering.gpu.schedule import GpuSchedule


@dataclass
class CudaCase:
    """A network, its plan, random arrays, and what forward and backward must give."""

    net: tn.Network
    kind: str
    gpu: Gpu
    seed: int
    batch: int
    plan: Plan = field(init=False)
    given: dict[str, np.ndarray] = field(init=False)
    exact: dict[str, np.ndarray] = field(init=False)
    programs: tuple[GpuSchedule, GpuSchedule] = field(init=False)

    def __post_init__(self) -> None:
        # A plan for fused kernels: many small steps.
        program = tn.compile(self.net, backend="torch", dtype=self.kind, batch=64, minimize="flops")
        self.plan = plan = program.plan
        random = np.random.default_rng(self.seed)
        is_complex = self.kind.startswith("complex")
        self.given = {}
        for value in plan.inputs:
            sizes = [plan.axis_size(axis) for axis in plan.axes_of(value)]
            shape = tuple(self.batch if size is None else size for size in sizes)
            self.given[value.name] = random_array(random, shape, is_complex)
        leaves = [torch.from_numpy(array).requires_grad_() for array in self.given.values()]
        y = program.reference(*leaves)[0]
        self.exact = {"out_y": y.detach().resolve_conj().numpy()}
        slope = random_array(random, tuple(y.shape), is_complex)
        if leaves:
            gradients = torch.autograd.grad(y, leaves, torch.from_numpy(slope))
            for name, gradient in zip(self.given, gradients, strict=True):
                self.exact[f"out_d_{name}"] = gradient.resolve_conj().numpy()
        wanted = list(self.given)
        self.given["g"] = slope
        prefix = f"k{self.seed}_"
        self.programs = (
            schedule_forward(plan, self.gpu, f"{prefix}forward"),
            schedule_backward(plan, wanted, self.gpu, f"{prefix}backward"),
        )

    def inputs_of(self, program: LoopProgram) -> dict[str, np.ndarray]:
        return {buffer.name: self.given[buffer.name] for buffer in program.of("input")}

    def infinite(self) -> dict[str, np.ndarray]:
        """Infinite weights, all else positive: then every result is a sum of positive terms."""
        weights = {value.name for value in self.plan.parameters}
        return {
            name: np.full_like(array, np.inf) if name in weights else np.abs(array)
            for name, array in self.given.items()
        }

    def check(self, found: dict[str, np.ndarray], what: str) -> None:
        for name, entries in found.items():
            exact = self.exact[name]
            scale = max(1.0, float(np.abs(exact).max(initial=0)))
            error = np.abs(entries.reshape(exact.shape) - exact).max(initial=0) / scale
            single = np.dtype(self.kind).itemsize == (8 if self.kind.startswith("complex") else 4)
            assert not np.isnan(error), f"{what}: {name} is off by NaN"
            assert error < (1e-4 if single else 1e-10), f"{what}: {name} is off by {error}"
