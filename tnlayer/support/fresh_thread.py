"""Computations in a thread of their own, so that this one starts no OpenMP threads.

A process whose forking thread has started them cannot be forked into one that computes: GNU's
OpenMP waits for threads that the child does not have. The threads that a fresh thread starts are
its own, so that building a layer leaves nothing behind, as building an nn.Linear does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import _get_current_function_mode_stack  # pyright: ignore
from torch.utils._device import DeviceContext

Result = TypeVar("Result")
_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]


def in_fresh_thread(function: Callable[[], Any]) -> None:
    """Call a function that names its devices itself, in another thread where nothing watches.

    Modes belong to a thread: where there is one, the function is called in this one.

    Arguments:
        function: without arguments; what it raises is raised here.
    """
    if _mode_count() or any(
        not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack()
    ):
        function()
        return
    inference = torch.is_inference_mode_enabled()

    def call() -> None:
        with torch.inference_mode(inference):
            function()

    outside_modes(call)


def outside_modes(function: Callable[[], Result]) -> Result:
    """What a function gives in another thread: where no mode of torch holds, whatever holds here.

    Fake tensors, counters, autocast, inference mode and the default device belong to a thread.

    Arguments:
        function: without arguments; what it raises is raised here.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="tnlayer: computation")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
