"""An atomic, content-addressed store of files: for plans, device profiles and built kernels.

Where it lies and whom it trusts is decided in cache_folder.py. A file is written under another name
in the same folder, synced, then renamed, so that a reader sees the old entry or the new one. Each
file ends with a checksum of its key and its payload. Whatever goes wrong is a miss, never an
exception.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .cache_folder import (
    UntrustedError,
    cache_bound,
    cache_folder,
    check_folder,
    check_owner,
    real_folder,
)
from .debug import debug

MAX_ENTRY_BYTES = 64 * 2**20

# A temp file older than this was left by a process that died while it wrote.
STALE_SECONDS = 3600.0

# A store that is over its bound is cut to this share of it, so that not each write has to.
KEPT_SHARE = 0.75

_SUFFIX = ".tmp"
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# The checksum stands behind the payload, so that a loader that is given the path of a shared object
# or of a JSON text finds it at the beginning.
_MARK = b"\nsha256:"
_TRAILER_BYTES = len(_MARK) + 64 + 1


# -- the store -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Store:
    """The entries of one kind, each a file: bytes by key.

    A key is one or more names with slashes between them; the last is the name of the file. Reading
    never makes a folder, and nothing here raises an OSError.

    Arguments:
        name: the folder of this kind within the cache folder.
        limit: bytes that a payload may have; longer ones are neither written nor read.
        bounded: whether the entries that were used longest ago go when all of them are over
            :func:`cache_bound`.
    """

    name: str
    limit: int = MAX_ENTRY_BYTES
    bounded: bool = False

    def read(self, key: str) -> bytes | None:
        """The payload under a key; None if there is none that is whole and trusted.

        Raises:
            ValueError: the key is no path of plain names.
        """
        found = self._find(key)
        return None if found is None else found[1]

    def find(self, key: str) -> Path | None:
        """The file of a key, which begins with its payload; None if it is not whole and trusted.

        Raises:
            ValueError: the key is no path of plain names.
        """
        found = self._find(key)
        return None if found is None else found[0]

    def _find(self, key: str) -> tuple[Path, bytes] | None:
        folders = self._folders(key, 1)
        if not folders:
            return None
        path = folders[-1] / _name(key)
        try:
            _check_folders(folders)
            payload = _checked(key, _read_file(path, self.limit + _TRAILER_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            debug(1, f"cache {self.name}: {key} is not used: {error}")
            return None
        if self.bounded:
            with suppress(OSError):
                os.utime(path)
        return path, payload

    def write(self, key: str, payload: bytes) -> None:
        """Store a payload under a key, in place of what was there; does nothing where it cannot.

        Raises:
            ValueError: the key is no path of plain names.
        """
        folders = self._folders(key, 1)
        if not folders:
            return
        bound = cache_bound() if self.bounded else None
        try:
            if len(payload) > self.limit:
                msg = f"{len(payload)} bytes, at most {self.limit} are stored"
                raise ValueError(msg)
            _make_folders(folders)
            path = folders[-1] / _name(key)
            _replace_file(path, payload + _trailer(key, payload))
            if bound is not None:
                _remove_oldest(folders[1], bound, path)
        except (OSError, ValueError) as error:
            debug(1, f"cache {self.name}: {key} is not stored: {error}")

    def remove(self, key: str) -> None:
        """Forget what is under a key, if it can be done.

        Raises:
            ValueError: the key is no path of plain names.
        """
        folders = self._folders(key, 1)
        if not folders:
            return
        try:
            _check_folders(folders)
            (folders[-1] / _name(key)).unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            debug(1, f"cache {self.name}: {key} is not removed: {error}")

    def entries(self, folder: str = "") -> tuple[str, ...]:
        """The keys in a folder of the store and below it, sorted, whether they can be read or not.

        Arguments:
            folder: the first names of the keys, without a slash at the end; all by default.

        Raises:
            ValueError: the folder is no path of plain names.
        """
        folders = self._folders(folder, 0)
        if not folders:
            return ()
        try:
            _check_folders(folders)
            return tuple(sorted(_keys_below(folders[-1], folder)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            debug(1, f"cache {self.name}: {folders[-1]} is not used: {error}")
            return ()

    def clear(self) -> None:
        """Remove all entries of this store, and what writers that died left behind."""
        folders = self._folders("", 0)
        if not folders:
            return
        try:
            _check_folders(folders)
            shutil.rmtree(folders[-1])
        except FileNotFoundError:
            return
        except OSError as error:
            debug(1, f"cache {self.name}: not cleared: {error}")

    def _folders(self, key: str, names: int) -> tuple[Path, ...]:
        """The folders of a key, from the cache folder down; none where there is no cache.

        A key has no way out of the store. Its last ``names`` names are no folders.
        """
        parts = key.split("/") if key else []
        if not all(map(_is_plain, parts)) or len(parts) < names:
            msg = f"{key!r} is no key: expected plain names with slashes between them"
            raise ValueError(msg)
        folder = cache_folder()
        if folder is None:
            return ()
        inner = (self.name, *parts[: len(parts) - names])
        return (folder, *(folder.joinpath(*inner[: n + 1]) for n in range(len(inner))))


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _is_plain(name: str) -> bool:
    return _SEGMENT.fullmatch(name) is not None and not name.endswith(_SUFFIX)


def _keys_below(folder: Path, key: str) -> Iterator[str]:
    """Keys of what lies in a folder; temp files and odd names are passed over."""
    with os.scandir(folder) as found:
        for entry in found:
            if not _is_plain(entry.name):
                continue
            inner = f"{key}/{entry.name}" if key else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _keys_below(Path(entry.path), inner)
            else:
                yield inner


# -- files -----------------------------------------------------------------------------------------


def _trailer(key: str, payload: bytes) -> bytes:
    """The end of a file: a checksum of its key and its payload."""
    digest = hashlib.sha256(key.encode() + b"\0" + payload).hexdigest()
    return _MARK + digest.encode() + b"\n"


def _checked(key: str, content: bytes) -> bytes:
    """The payload of a file's content, if its checksum is right.

    Raises:
        ValueError: the content was cut, changed, or written under another key.
    """
    payload = content[:-_TRAILER_BYTES]
    if content[len(payload) :] != _trailer(key, payload):
        msg = "its checksum is wrong"
        raise ValueError(msg)
    return payload


def _read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of this user's, at most ``limit`` bytes.

    A symlink is not followed, and a pipe that lies there does not block.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            msg = f"{path} is no regular file"
            raise UntrustedError(msg)
        check_owner(path, found)
        content = file.read(limit + 1) if found.st_size <= limit else b""
    if max(len(content), found.st_size) > limit:
        msg = f"it has {found.st_size} bytes, at most {limit} are read"
        raise ValueError(msg)
    return content


def _check_folders(folders: Sequence[Path]) -> None:
    """Refuse folders that others could have made; the cache folder, which is first, was checked."""
    for folder in folders[1:]:
        check_folder(folder)


def _make_folders(folders: Sequence[Path]) -> None:
    """Make the folders that are missing, for this user only; refuse those that others made."""
    base = folders[0]
    for missing in reversed([path for path in (base, *base.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    check_folder(real_folder(base))
    for folder in folders[1:]:
        folder.mkdir(mode=0o700, exist_ok=True)
        check_folder(folder)


def _replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, even after a crash."""
    _remove_stale(path.parent)
    descriptor, name = tempfile.mkstemp(_SUFFIX, ".", path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the platform lets a folder be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_oldest(store: Path, bound: int, written: Path) -> None:
    """Remove the files that were used longest ago, if all of a store have more bytes than that.

    Arguments:
        store: its folder.
        bound: bytes.
        written: what was just written, which stays.
    """
    files: list[tuple[int, int, Path]] = []
    for key in _keys_below(store, ""):
        path = store / key
        # Another process may have removed it meanwhile.
        with suppress(OSError):
            found = path.stat(follow_symlinks=False)
            files.append((found.st_mtime_ns, found.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= bound:
        return
    for _, size, path in sorted(files):
        if total <= KEPT_SHARE * bound:
            break
        if path == written:
            continue
        with suppress(OSError):
            path.unlink()
            total -= size
            if path.parent not in (store, written.parent):
                path.parent.rmdir()  # if it is empty now


def _remove_stale(folder: Path) -> None:
    """Remove temp files of writers that died; younger ones may belong to one at work."""
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith(_SUFFIX) and entry.name.startswith("."):
                # Another process may have renamed or removed it meanwhile.
                with suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                        Path(entry.path).unlink()
