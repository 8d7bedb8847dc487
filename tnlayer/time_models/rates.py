"""What predictions rest on: a device's rates, and what kernels are compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..hardware.profile.load import load_profile, op_times
from ..hardware.profile.op_times import OpTimes
from ..hardware.profile.profile import Profile
from ..ir.backend_names import CPP, CUDA


@dataclass(frozen=True, slots=True)
class Rates:
    """What predictions rest on.

    Arguments:
        times: the device's operations.
        profile: the profile that they come from.
        cpu: what kernels are compiled for; None: none can be.
        gpu: the same of CUDA kernels; of the two at most one is there.
    """

    times: OpTimes
    profile: Profile
    cpu: Cpu | None = None
    gpu: Gpu | None = None

    @property
    def kernels(self) -> str:
        """The backend of kernels here."""
        return CPP if self.gpu is None else CUDA

    @property
    def compiled_cpu(self) -> Cpu:
        """What C++ kernels are compiled for; a plan that asks for them knows."""
        return self.cpu or Cpu()

    @property
    def compiled_gpu(self) -> Gpu:
        """What CUDA kernels are compiled for; a plan that asks for them knows."""
        return self.gpu or Gpu()


def rates_for(dtype: str, device: str, cpu: Cpu | None, gpu: Gpu | None = None) -> Rates:
    """The rates of a device."""
    return Rates(op_times(dtype, device), load_profile(dtype, device).profile, cpu, gpu)
