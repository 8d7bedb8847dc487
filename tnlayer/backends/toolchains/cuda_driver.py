"""The few calls of the CUDA driver that launching a kernel takes, through cuda.bindings.

All else is torch's: devices, streams and memory. A context is torch's own, the primary one of the
device. Handles are values of cuda.bindings and opaque here.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ...errors import BuildError

# Shared memory that the driver keeps of a multiprocessor for each block (compute capability 8.0 and
# later).
RESERVED_SHARED = 1024
# torch's default stream. 0 would be another one, that of the thread, where cuda.bindings are told
# so by CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM.
_LEGACY_STREAM = 1
# Errors that stay with a context: they come from a kernel that ran before, whoever launched it.
_STICKY = ("ILLEGAL_ADDRESS", "LAUNCH_FAILED", "LAUNCH_TIMEOUT", "MISALIGNED_ADDRESS", "ASSERT",
           "ILLEGAL_INSTRUCTION", "INVALID_ADDRESS_SPACE", "INVALID_PC", "HARDWARE_STACK_ERROR",
           "ECC_UNCORRECTABLE")  # fmt: skip


@lru_cache(maxsize=1)
def _driver() -> Any:
    return importlib.import_module("cuda.bindings.driver")


def _call(name: str, *arguments: Any) -> Any:
    """Call the driver; one result as a value, several as a tuple.

    Raises:
        BuildError: it did not succeed; has the name of the call and the driver's words.
    """
    status, *results = getattr(_driver(), name)(*arguments)
    if status:  # CUDA_SUCCESS is 0
        raise _failure(name, status)
    return results[0] if len(results) == 1 else tuple(results)


def _failure(name: str, status: Any) -> BuildError:
    """What is known of a call that did not succeed."""
    advice = ""
    if status.name.removeprefix("CUDA_ERROR_") in _STICKY:
        advice = (
            ". A kernel that was launched before did this, of whatever package, and the context is "
            "lost: run the program again with CUDA_LAUNCH_BLOCKING=1, or under compute-sanitizer"
        )
    if name == "cuModuleLoadData":
        version = _driver().cuDriverGetVersion()[1]
        advice = (
            f". The driver knows CUDA {version // 1000}.{version % 1000 // 10}; the kernels were "
            "built by the NVRTC of CUDA 13, which needs a driver of CUDA 13 (580 or later)"
        )
    return BuildError(f"{name} failed: {_words(status)}{advice}")


def _words(status: Any) -> str:
    _, text = _driver().cuGetErrorString(status)
    return f"{status.name} ({text.decode() if text else 'no text'})"


@lru_cache(maxsize=64)
def _primary(device: int) -> tuple[Any, int]:
    """The primary context of a device, which torch uses, too, and its address; retained once."""
    context = _call("cuDevicePrimaryCtxRetain", _call("cuDeviceGet", device))
    return context, int(context)


def bind_context(device: int) -> None:
    """Make the primary context of torch's current device current in this thread, if it is not.

    torch binds it at the first call of the CUDA runtime in a thread, and a thread of autograd or of
    the user's may come here before that: then no context is current, or that of another device.
    """
    primary, address = _primary(device)
    if int(_call("cuCtxGetCurrent")) != address:
        _call("cuCtxSetCurrent", primary)


def load_module(binary: bytes) -> Any:
    """Load a cubin into the current context."""
    return _call("cuModuleLoadData", binary)


def find_function(module: Any, name: str, shared_bytes: int) -> Any:
    """An entry point of a module, allowed to use so much dynamic shared memory a block.

    It is loaded now: the driver loads modules lazily, which a CUDA graph's capture does not allow.
    """
    function = _call("cuModuleGetFunction", module, name.encode())
    attribute = _driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    # More than 48 KB has to be asked for, and asking for less does no harm.
    _call("cuFuncSetAttribute", function, attribute, shared_bytes)
    _call("cuFuncLoad", function)
    return function


def resident_blocks(function: Any, threads: int, shared_bytes: int, most_shared: int) -> int:
    """How many blocks of a kernel a multiprocessor holds at once; from now on it has room for them.

    A multiprocessor's first cache and its shared memory are one memory. How it is divided is the
    driver's choice, unless it is asked for what the blocks take.

    Arguments:
        function: the entry point.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block; it has no other.
        most_shared: shared memory of a multiprocessor, in bytes.
    """
    attribute = _driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
    _call("cuFuncSetAttribute", function, attribute, 100)
    name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
    held = _call(name, function, threads, shared_bytes)
    # In percent; the driver takes the next larger size that there is. The rest is the cache's.
    taken = held * (shared_bytes + RESERVED_SHARED)
    _call("cuFuncSetAttribute", function, attribute, min(100, -(-100 * taken // most_shared)))
    return held


class Arguments:
    """Room for the arguments of a kernel, and the table of their places that the driver reads.

    All arguments are words of eight bytes; a kernel reads the lower half of one that it calls int.
    The driver copies them before a launch returns, so the room serves the next launch, too.

    Arguments:
        count: of the kernel's arguments.
    """

    __slots__ = ("_places", "_values", "table")

    def __init__(self, count: int) -> None:
        self._values = (ctypes.c_uint64 * count)()
        first = ctypes.addressof(self._values)
        self._places = (ctypes.c_void_p * count)(*(first + 8 * k for k in range(count)))
        self.table = ctypes.addressof(self._places)

    def set(self, values: Sequence[int]) -> None:
        """Put all arguments into their places."""
        self._values[:] = values


def launch(
    function: Any, grid: int, threads: int, shared_bytes: int, stream: int, arguments: Arguments
) -> None:
    """Put a kernel into a stream.

    Arguments:
        function: the entry point.
        grid: blocks.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block.
        stream: the raw handle, as torch gives it.
        arguments: of the kernel.
    """
    status, *_ = _driver().cuLaunchKernel(
        function, grid, 1, 1, threads, 1, 1, shared_bytes, stream or _LEGACY_STREAM,
        arguments.table, 0,
    )  # fmt: skip
    if status:
        raise _failure("cuLaunchKernel", status)
