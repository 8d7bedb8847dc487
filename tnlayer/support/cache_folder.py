"""Where the cache lies, and which folders and files are trusted: no other user could write them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import platformdirs

from ..errors import SpecError
from .debug import debug

_DEFAULT_BOUND = 2**30
_MAX_PARTS = 400  # parts of a path, those of its symlinks included


class UntrustedError(OSError):
    """A path that another user could have written; it is not used."""


# -- where the cache lies --------------------------------------------------------------------------


def cache_folder() -> Path | None:
    """The folder of the cache, whether it exists yet or not; None where there is no cache.

    ``TNLAYER_CACHE_DIR`` names it; else it is the user's cache folder of the platform. There is no
    cache where ``TNLAYER_CACHE=0``, where no home is known, and where another user could have put
    the folder there.

    Raises:
        SpecError: ``TNLAYER_CACHE`` is neither 0 nor 1.
    """
    switch = os.environ.get("TNLAYER_CACHE", "1")
    if switch not in ("0", "1"):
        msg = f"TNLAYER_CACHE={switch!r}: expected 0 (no cache) or 1"
        raise SpecError(msg)
    if switch == "0":
        return None
    try:
        folder = _named_folder()
        with suppress(FileNotFoundError):
            check_folder(real_folder(folder))
    except (OSError, RuntimeError) as error:
        debug(1, f"no cache: {error}")
        return None
    return folder


def _named_folder() -> Path:
    """What the environment asks for, as an absolute path."""
    named = os.environ.get("TNLAYER_CACHE_DIR")
    if named:
        return Path(os.path.abspath(Path(named).expanduser()))  # noqa: PTH100  # keeps symlinks
    folder = platformdirs.user_cache_path("tnlayer", appauthor=False)
    if not folder.is_absolute():
        # Without HOME, and with a user id that no table knows, older platformdirs leave "~" there.
        msg = f"this user has no home ({folder}): set TNLAYER_CACHE_DIR to have a cache"
        raise OSError(msg)
    return folder


def cache_bound() -> int:
    """Bytes that each bounded store may hold: TNLAYER_CACHE_LIMIT in MiB, by default 1024.

    Raises:
        SpecError: the variable is no whole number.
    """
    text = os.environ.get("TNLAYER_CACHE_LIMIT", "")
    if not text:
        return _DEFAULT_BOUND
    if not text.isdecimal():
        msg = f"TNLAYER_CACHE_LIMIT={text!r}: expected a whole number of MiB"
        raise SpecError(msg)
    return int(text) * 2**20


# -- whom it trusts --------------------------------------------------------------------------------


def real_folder(folder: Path) -> Path:
    """Where a folder really lies, if no other user can exchange a part of the way there.

    Raises:
        UntrustedError: names the symlink or the folder that another user can exchange.
    """
    if os.name != "posix":
        return folder.resolve()
    real, rest = Path(folder.anchor), list(folder.parts[1:])
    for _ in range(_MAX_PARTS):
        if not rest:
            break
        name = rest.pop(0)
        above, real = real, real.parent if name == ".." else real / name
        with suppress(FileNotFoundError):
            found = real.lstat()
            if stat.S_ISLNK(found.st_mode):
                if found.st_uid not in (0, os.geteuid()):
                    msg = f"{real} is a symlink of user {found.st_uid}"
                    raise UntrustedError(msg)
                target = real.readlink()
                real = Path(target.anchor) if target.is_absolute() else above
                rest[:0] = target.parts[1:] if target.is_absolute() else target.parts
            elif rest and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                msg = f"everyone may write to {real}, in which {folder} lies"
                raise UntrustedError(msg)
    else:
        msg = f"{folder} has too many parts, or its symlinks form a loop"
        raise UntrustedError(msg)
    return real


def check_folder(folder: Path) -> None:
    """Refuse what is no folder, or one that others own or may write to.

    Raises:
        FileNotFoundError: there is nothing yet.
        UntrustedError: names the path, and what is wrong with it.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        msg = f"{folder} is no folder"
        raise UntrustedError(msg)
    check_owner(folder, found)


def check_owner(path: Path, found: os.stat_result) -> None:
    if os.name != "posix":
        return
    if found.st_uid != os.geteuid():
        msg = f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}"
        raise UntrustedError(msg)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"others may write to {path}: chmod go-w it to have it used"
        raise UntrustedError(msg)
