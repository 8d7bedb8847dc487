"""Kernels built by another process while this one goes on: the side that asks.

One worker a process, of low priority, started when something is asked for; it goes when nothing was
asked for a while. What it makes goes through the stores of plans and kernels; it only answers that
it is done. It is no thread, which would hold the interpreter's lock for seconds while it plans.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..graph.graph import Graph
from ..planning.request import Request
from ..support.cache_folder import cache_folder
from ..support.debug import debug
from ..support.locks import Lock, after_fork

# What the worker runs; it looks for modules where this process does.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import work; work()"
_WORKER = f"{__package__}.background_worker"
# Seconds that a worker has to end, with the compilers that it runs.
_GRACE = 2.0


@dataclass(frozen=True)
class Wanted:
    """Kernels to build.

    Arguments:
        graph: the network.
        request: what its plan is for, as it was asked for.
        one_plan: whether one plan serves all batch sizes.
        batch: samples of the call that needs them.
        has_trials: whether those of plans that are close by prediction are wanted, too.
        threads: of torch, for which times are predicted.
    """

    graph: Graph
    request: Request
    one_plan: bool
    batch: int
    has_trials: bool = False
    threads: int = field(default_factory=torch.get_num_threads)


@dataclass
class Job:
    """What was asked of a worker.

    Arguments:
        wanted: the kernels.
        error: why there are none; "" while it is not known, and where there are.
        done: whether the worker has answered.
        owner: the process that asked: a forked child hears no answer.
    """

    wanted: Wanted
    error: str = ""
    done: bool = False
    owner: int = field(default_factory=os.getpid)

    def is_running(self) -> bool:
        """Whether there will be an answer; looks whether there is one."""
        if not self.done and self.owner == os.getpid():
            _QUEUE.read()
        return not self.done and self.owner == os.getpid()


def can_build() -> bool:
    """Whether there is an interpreter to start, and a store that takes what it makes."""
    if os.name != "posix" or cache_folder() is None:
        return False
    # In a program that has Python inside, or was frozen into one file, this is that program.
    executable = Path(sys.executable or "")
    is_python = "py" in executable.name.lower() and not getattr(sys, "frozen", False)
    return is_python and os.access(executable, os.X_OK)


def build(wanted: Wanted, key: object) -> Job:
    """Ask for kernels.

    Arguments:
        wanted: the kernels.
        key: of the job: what is asked for twice is built once.
    """
    return _QUEUE.add(wanted, key)


class _Queue:
    """The worker, and what it was asked for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: dict[int, Job] = {}
        self._keys: dict[object, Job] = {}
        self._heard = self._unsent = b""
        self._count = 0

    def add(self, wanted: Wanted, key: object) -> Job:
        """Ask the worker, which is started where there is none."""
        with self._lock:
            known = self._keys.get(key)
            if known is not None and not known.done:
                return known
            job = self._keys[key] = Job(wanted)
            self._count += 1
            self._jobs[self._count] = job
            self._send(self._count, wanted)
            return job

    def _send(self, number: int, wanted: Wanted) -> None:
        try:
            self._try_to_send(number, wanted)
        except (OSError, ValueError, pickle.PicklingError, AttributeError, TypeError) as error:
            self._answer(number, f"the process that builds kernels: {error}")

    def _try_to_send(self, number: int, wanted: Wanted) -> None:
        content = pickle.dumps((number, wanted))
        self._take()  # the worker may have gone
        if self._process is None:
            self._process = _started()
            self._heard = self._unsent = b""
        self._unsent += struct.pack("<Q", len(content)) + content
        self._write(self._process)

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        """Send what the pipe takes: a worker that builds reads nothing, and nobody waits for it."""
        assert process.stdin is not None
        with suppress(BlockingIOError):
            while self._unsent:
                sent = os.write(process.stdin.fileno(), self._unsent)
                self._unsent = self._unsent[sent:]

    def read(self) -> None:
        """Take the answers that have come."""
        with self._lock:
            self._take()

    def _take(self) -> None:
        """Take the answers that have come, and note whether the worker has gone."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        has_ended = False
        with suppress(BrokenPipeError):  # what has ended says so below
            self._write(process)
        with suppress(BlockingIOError):
            while not has_ended:
                said = os.read(process.stdout.fileno(), 2**16)
                has_ended = not said
                self._heard += said
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            answer: Any = json.loads(line)
            self._answer(answer["job"], answer["error"])
        if has_ended:
            self._process = None
            code = process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()
            self._ended(code)

    def _ended(self, code: int) -> None:
        """A worker went: by itself, for it had waited for long, or by an accident."""
        for number, job in list(self._jobs.items()):
            if code:
                self._answer(number, f"the process that builds kernels ended with code {code}")
            else:
                self._send(number, job.wanted)

    def _answer(self, number: int, error: str) -> None:
        job = self._jobs.pop(number, None)
        if job is not None:
            job.error, job.done = error, True
            self._keys = {key: one for key, one in self._keys.items() if one is not job}
            debug(1, f"kernels of {job.wanted.graph.label!r} in the background: {error or 'done'}")

    def stop(self) -> None:
        """At the end of the interpreter: nothing outlives it."""
        with self._lock:
            process = self._process
            self._forget()
        if process is not None:
            _stop(process)

    def forked(self) -> None:
        """In a forked child: the worker is its parent's."""
        self._forget()


def _started() -> subprocess.Popen[bytes]:
    """A new worker: a group of its own, so that Ctrl-C is not for it. No session: Linux shares
    time between sessions first, and its low priority counts within one."""
    package = Path(__file__).parents[2]
    paths = [str(package), *(path or str(Path.cwd()) for path in sys.path)]
    process = subprocess.Popen(
        [sys.executable, "-c", _START.format(_WORKER), json.dumps(paths), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if debug_is_on() else subprocess.DEVNULL,
        process_group=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for pipe in (process.stdin, process.stdout):
        os.set_blocking(pipe.fileno(), False)
    return process


def debug_is_on() -> bool:
    """Whether what a worker says is of interest."""
    return os.environ.get("TNLAYER_DEBUG", "0") != "0"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a worker: it stops its compilers when it is told to."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_QUEUE = _Queue()
atexit.register(_QUEUE.stop)
after_fork(_QUEUE.forked)
