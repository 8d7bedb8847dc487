"""A target: the device that a plan is for, its rates, and what kernels are compiled for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..hardware.profile.load import load_profile, op_times
from ..hardware.profile.op_times import OpTimes
from ..hardware.profile.profile import Profile


@dataclass(frozen=True, slots=True)
class Machine:
    """What a backend compiles for; of the two at most one is there.

    Arguments:
        cpu: of C++ kernels.
        gpu: of CUDA kernels.
    """

    cpu: Cpu | None = None
    gpu: Gpu | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a plan is lowered for, and what predictions rest on.

    Arguments:
        times: the device's operations.
        profile: the profile that they come from.
        cpu: what kernels are compiled for; None: none can be.
        gpu: the same of CUDA kernels; of the two at most one is there.
        device: the type of the device.
    """

    times: OpTimes
    profile: Profile
    cpu: Cpu | None = None
    gpu: Gpu | None = None
    device: str = "cpu"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by what it is for: another process has the rates that hold there."""
        return target_for, (self.times.dtype, self.device, self.cpu, self.gpu)

    @property
    def compiled_cpu(self) -> Cpu:
        """What C++ kernels are compiled for; a plan that asks for them knows."""
        return self.cpu or Cpu()

    @property
    def compiled_gpu(self) -> Gpu:
        """What CUDA kernels are compiled for; a plan that asks for them knows."""
        return self.gpu or Gpu()


def target_for(dtype: str, device: str, cpu: Cpu | None = None, gpu: Gpu | None = None) -> Target:
    """The target of a type of device, with the rates that hold now."""
    return Target(op_times(dtype, device), load_profile(dtype, device).profile, cpu, gpu, device)
