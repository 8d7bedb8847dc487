"""Kernels built by another process while it goes on: the process that builds.

It takes one job after the other from its input, and answers each with a line. It ends when its
input does, when it is told to, and when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any

import torch

from ..backends.toolchains.processes import stop_all
from .background import Wanted
from .programs_by_batch import RangedProgram

# Calls of torch take all cores, and at the lowest priority kernels would take minutes beside them.
_NICENESS = 5
_LOOK_SECONDS = 0.25


def work() -> None:
    """Build what is asked for, until there is nothing more."""
    parent = int(sys.argv[2])
    with suppress(OSError):
        os.nice(_NICENESS)
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # Whatever prints must not answer.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    with suppress(OSError):
        for number, wanted in _jobs(sys.stdin.buffer):
            line = json.dumps({"job": number, "error": _build(wanted)}) + "\n"
            answers.write(line.encode())
    _leave()


def _jobs(pipe: IO[bytes]) -> Any:
    """What comes, to the end."""
    head = struct.Struct("<Q")
    while len(size := pipe.read(head.size)) == head.size:
        yield pickle.loads(pipe.read(head.unpack(size)[0]))


def _build(wanted: Wanted) -> str:
    """Plan and build; what comes of it is in the stores.

    Returns:
        why there are no kernels; "" if there are.
    """
    torch.set_num_threads(wanted.threads)
    try:
        ranged = RangedProgram(
            wanted.graph, wanted.request, one_plan=wanted.one_plan, has_tiers=False
        )
        program = ranged.at(wanted.batch)
        for mask in program.usual_masks(wanted.request.objective):
            program.prepare(mask)
    except Exception as error:  # whatever it is, the one who asked has to know
        return f"{type(error).__name__}: {error}"
    return program.failure


def _watch(parent: int) -> None:
    """End when the parent has ended, however that came."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    _leave()


def _leave() -> None:
    stop_all()
    os._exit(0)
