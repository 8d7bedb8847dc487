"""Running compilers: what they say is read to the end and kept in part, and none of their children
outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from ...errors import BuildError
from ...support.locks import Lock

# What is kept of an output; the rest is read, so that no writer waits, and dropped.
_KEPT_BYTES = 4 * 2**20
# How long to wait for the end of an output after the end of its process: a server that a compiler
# started may hold it.
_GRACE_SECONDS = 2.0
_MOST_LINES = 20
_MOST_COLUMNS = 300


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended.

    Arguments:
        code: its exit code.
        output, errors: the beginnings of what it wrote.
    """

    code: int
    output: bytes
    errors: bytes

    def words(self) -> str:
        """What it said, for a message: the first lines, whatever bytes they are."""
        text = (self.errors or self.output).decode("utf-8", "replace")
        lines = [
            "".join(c if c.isprintable() or c == "\t" else "?" for c in line[:_MOST_COLUMNS])
            for line in text.splitlines()[:_MOST_LINES]
        ]
        return "\n".join(lines) or "(it said nothing)"


_known: weakref.WeakSet[Processes] = weakref.WeakSet()


def stop_all() -> None:
    """Kill all commands of this process that still run; it is about to end."""
    for processes in list(_known):
        processes.stop()


class Processes:
    """Commands that run side by side, and end together where one of them must."""

    def __init__(self) -> None:
        _known.add(self)
        self._lock = Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a command to its end.

        Arguments:
            command: program and arguments.
            timeout: seconds; then it is killed with all its children.
            environment: variables beside those of this process.

        Raises:
            BuildError: it cannot be started, or takes too long.
        """
        process = self._start(command, {**os.environ, **(environment or {})})
        readers = [_Reader(process.stdout), _Reader(process.stderr)]
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            msg = (
                f"{command[0]} did not end within {timeout:.0f} seconds and was stopped; set CXX "
                "to another compiler, or use backend='torch'"
            )
            raise BuildError(msg) from None
        finally:
            if process.returncode is None:
                _kill(process)
            with self._lock:
                self._running.discard(process)
        return Finished(code, *(reader.content() for reader in readers))

    def _start(
        self, command: Sequence[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                msg = "another unit of the kernel failed"
                raise BuildError(msg)
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, env=environment, process_group=0,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                msg = f"the compiler {command[0]} does not run: {error}; set CXX to another one"
                raise BuildError(msg) from error
            self._running.add(process)
        return process

    def stop(self) -> None:
        """Kill what runs, and let nothing more start."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children: they are a group of their own, but no session, for Linux
    shares time between sessions first, and niceness counts within one."""
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


class _Reader:
    """Reads a pipe to its end in a thread and keeps the beginning."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read1(2**16):  # type: ignore[attr-defined]
                self._kept += chunk[: max(0, _KEPT_BYTES - len(self._kept))]

    def content(self) -> bytes:
        self._thread.join(_GRACE_SECONDS)
        return bytes(self._kept)
