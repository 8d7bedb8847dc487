"""Kernels built by another process while it goes on: the process that builds.

It takes one job after the other from its input, and answers each with a line. It ends when its
input does, when it is told to, and when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import torch

from ..backends.toolchains.processes import stop_all
from .background import Wanted
from .programs_by_batch import RangedProgram

# Calls of torch take all cores, and at the lowest priority kernels would take minutes beside them.
_NICENESS = 5
_LOOK_SECONDS = 0.25
# Nobody listens any more where a layer was dropped before its kernels were there.
_IDLE_SECONDS = 5.0


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
        for number, wanted in _jobs():
            line = json.dumps({"job": number, "error": _build(wanted)}) + "\n"
            answers.write(line.encode())
    _leave()


def _jobs() -> Iterator[tuple[int, Wanted]]:
    """What comes, to the end, or until nothing has come for a while."""
    head = struct.Struct("<Q")
    while select.select([0], [], [], _IDLE_SECONDS)[0]:
        size = _read(head.size)
        if len(size) < head.size:
            return
        yield pickle.loads(_read(head.unpack(size)[0]))


def _read(count: int) -> bytes:
    """So many bytes of the input; fewer at its end."""
    found = b""
    while len(found) < count and (part := os.read(0, count - len(found))):
        found += part
    return found


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
        ranged.prepare(wanted.batch)
        if wanted.has_trials:
            ranged.prepare_close(wanted.batch)
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
