"""The six calls of the CUDA driver that launching a kernel takes, through cuda.bindings.

All else is torch's: devices, streams and memory. A context is torch's own, the primary one of the
device. Handles are values of cuda.bindings and opaque here.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from tnlayer.errors import BuildError


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
        raise BuildError(f"{name} failed: {_words(status)}")
    return results[0] if len(results) == 1 else tuple(results)


def _words(status: Any) -> str:
    _, text = _driver().cuGetErrorString(status)
    return f"{status.name} ({text.decode() if text else 'no text'})"


def bind_context(device: int) -> None:
    """Make the primary context of a device current in this thread, if none is.

    torch binds it at the first call of the CUDA runtime in a thread, and a thread of autograd or of
    the user's may come here before that.
    """
    if not int(_call("cuCtxGetCurrent")):
        handle = _call("cuDeviceGet", device)
        _call("cuCtxSetCurrent", _call("cuDevicePrimaryCtxRetain", handle))


def load_module(binary: bytes) -> Any:
    """Load a cubin into the current context."""
    return _call("cuModuleLoadData", binary)


def find_function(module: Any, name: str, shared_bytes: int) -> Any:
    """An entry point of a module, allowed to use so much dynamic shared memory a block."""
    function = _call("cuModuleGetFunction", module, name.encode())
    attribute = _driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    # More than 48 KB has to be asked for, and asking for less does no harm.
    _call("cuFuncSetAttribute", function, attribute, shared_bytes)
    return function


def blocks_a_multiprocessor(function: Any, threads: int, shared_bytes: int) -> int:
    """How many blocks of a kernel a multiprocessor holds at once."""
    name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
    return _call(name, function, threads, shared_bytes)


def launch(
    function: Any,
    grid: int,
    threads: int,
    shared_bytes: int,
    stream: int,
    values: tuple[int, ...],
    kinds: tuple[Any, ...],
) -> None:
    """Put a kernel into a stream.

    Arguments:
        function: the entry point.
        grid: blocks.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block.
        stream: the raw handle, as torch gives it.
        values: the kernel's arguments.
        kinds: the ctypes type of each argument; the driver copies them before this returns.
    """
    _call(
        "cuLaunchKernel", function, grid, 1, 1, threads, 1, 1, shared_bytes, stream,
        (values, kinds), 0,
    )  # fmt: skip
