"""The folder in which a kernel is built, and the folders that killed processes left behind.

A folder holds a file that its process keeps locked. A lock ends with its process, however that
ends: a folder whose file nobody locks is left over, and the next build removes it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import BuildError
from ...support.debug import debug

try:
    import fcntl
except ImportError:  # no POSIX: nothing tells whose folder is left over
    fcntl = None  # type: ignore[assignment]

PREFIX = "tnlayer-build-"
_LOCK = "lock"
# A folder without a lock: its process died at once, or is about to make it.
_STALE_SECONDS = 3600.0
_ATTEMPTS = 10


@contextmanager
def build_folder() -> Generator[Path]:
    """A folder of this user's for one build, removed at its end; left-over ones go, too.

    Raises:
        BuildError: there is no place for it.
    """
    sweep()
    folder, lock = _make()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def sweep() -> None:
    """Remove the build folders of processes that are gone."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
        for entry in found:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _remove_left_over(Path(entry.path))


def _make() -> tuple[Path, int]:
    """A new folder, and its locked file, or -1 where there are no locks."""
    try:
        for _ in range(_ATTEMPTS):
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            if fcntl is None:
                return folder, -1
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have taken it for a left-over one before it was locked.
            if (folder / _LOCK).exists():
                return folder, lock
            os.close(lock)
    except OSError as error:
        msg = (
            f"no folder can be made to build kernels in: {error}; set TMPDIR to one on a disk with "
            "room, or use backend='torch'"
        )
        raise BuildError(msg) from error
    msg = "no folder to build kernels in lasts: other processes remove them"
    raise BuildError(msg)


def _remove_left_over(folder: Path) -> None:
    """Remove a build folder of this user's whose process is gone."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if time.time() - found.st_mtime > _STALE_SECONDS:
            folder.rmdir()  # what is not empty is no build folder
        return
    assert fcntl is not None, "there is no sweeping without locks"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        debug(1, f"removing {folder}, which a process left behind")
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
