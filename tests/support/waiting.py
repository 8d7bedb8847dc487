"""Waiting for other processes and threads: the one place where tests look at a clock."""

from __future__ import annotations

import time
from collections.abc import Callable


def comes_true(condition: Callable[[], bool], seconds: float = 120) -> bool:
    """Whether something comes true in a while: how soon says nothing, a busy machine is slow.

    Arguments:
        condition: asked again and again.
        seconds: after which what has not come true counts as hanging.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
