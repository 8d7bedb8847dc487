"""A benchmark's module in a fresh process, with a store of plans and kernels that is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class FreshProcessError(Exception):
    """The process failed or was stopped; says how, in one line."""


def run_module(module: str, arguments: Sequence[str], store: str, seconds: float) -> str:
    """Run a module; what it printed.

    Arguments:
        module: its name.
        arguments: of its command line.
        store: the folder of plans and kernels.
        seconds: after which it is stopped.

    Raises:
        FreshProcessError: it failed, or took longer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=ROOT,
            env={**os.environ, "TNLAYER_CACHE": "1", "TNLAYER_CACHE_DIR": store},
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"stopped after {seconds:g} s"
        raise FreshProcessError(msg) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise FreshProcessError(lines[-1][:300])
    return done.stdout
