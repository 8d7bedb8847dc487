"""What launching asks torch about CUDA devices: which one, its size, its current stream.

All of it stands here, so that tests can put an emulated device in its place.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ..errors import BuildError

_HERE = nullcontext()
# The handle alone: torch.cuda.current_stream makes an object of it first, at each launch.
_raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # pyright: ignore[reportPrivateUsage]


def is_on_gpu(array: torch.Tensor) -> bool:
    """Whether an array lies in the memory of a CUDA device."""
    return array.is_cuda


def device_of(array: torch.Tensor) -> int:
    """The number of the device that an array lies on."""
    index = array.device.index
    return torch.cuda.current_device() if index is None else index


def has_gpu() -> bool:
    """Whether torch sees a CUDA device; a build for AMD's does not count."""
    return torch.version.cuda is not None and torch.cuda.is_available()


def current_gpu() -> int:
    """The number of torch's current device.

    Raises:
        BuildError: torch sees no CUDA device; says how to build without one.
    """
    if not has_gpu():
        msg = (
            "backend='cuda' without arch= is made for torch's current CUDA device, and torch "
            f"{torch.__version__} sees none; to build without one, "
            "tn.compile(net, backend='cuda', arch='sm_90')"
        )
        raise BuildError(msg)
    return torch.cuda.current_device()


def arch_of(device: int) -> str:
    """The architecture of a device, such as "sm_90"."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def multiprocessors(device: int) -> int:
    """How many multiprocessors a device has."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def shared_bytes(device: int) -> int:
    """Shared memory of each of them, of all its blocks together."""
    return torch.cuda.get_device_properties(device).shared_memory_per_multiprocessor


def on_device(device: int) -> AbstractContextManager[object]:
    """Makes a device the current one inside a with statement."""
    return _HERE if torch.cuda.current_device() == device else torch.cuda.device(device)


def on_device_of(array: torch.Tensor | None) -> AbstractContextManager[object]:
    """The same for the device of an array; nothing is changed for one that lies elsewhere."""
    if array is None or not is_on_gpu(array):
        return _HERE
    return on_device(device_of(array))


def raw_stream(device: int) -> int:
    """The handle of torch's current stream on a device: read anew at each launch."""
    if _raw_stream is None:
        return torch.cuda.current_stream(device).cuda_stream
    return _raw_stream(device)


def is_capturing() -> bool:
    """Whether a CUDA graph is captured from the current stream."""
    return torch.cuda.is_current_stream_capturing()
