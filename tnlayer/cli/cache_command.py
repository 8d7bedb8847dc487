"""``tnlayer cache``: where plans, kernels and profiles lie, how large that is, its removal."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..ir.table_text import table
from ..support.cache_folder import cache_folder
from ..support.json_text import canonical_json
from .shared_options import add_json


def add_cache(commands: Any) -> None:
    """Add the command to those of the command line."""
    text = "show where plans, kernels and profiles are kept, and how large that is"
    command: argparse.ArgumentParser = commands.add_parser("cache", help=text, description=text)
    command.set_defaults(run=run_cache)
    command.add_argument("--clear", action="store_true", help="remove all of it")
    add_json(command)


def run_cache(options: argparse.Namespace) -> str:
    """Folder, files and bytes, after the removal if that was asked for."""
    folder = cache_folder()
    removed = _clear(folder) if options.clear and folder is not None else 0
    parts = {} if folder is None or not folder.exists() else _sizes(folder)
    if options.json:
        numbers = {name: {"files": files, "bytes": size} for name, (files, size) in parts.items()}
        return canonical_json({"folder": folder and str(folder), "parts": numbers})
    if folder is None:
        return "no cache: TNLAYER_CACHE=0, or no folder that only this user can write"
    done = [f"removed {removed:,} bytes"] if options.clear else []
    if not parts:
        return "\n".join((*done, f"{folder}: empty"))
    rows = [("", "files", "bytes")]
    rows += [(name, f"{files:,}", f"{size:,}") for name, (files, size) in parts.items()]
    files, size = (sum(one[k] for one in parts.values()) for k in (0, 1))
    rows.append(("all", f"{files:,}", f"{size:,}"))
    return "\n".join((*done, str(folder), *table(rows)))


# What tnlayer keeps; a folder of the user's that TNLAYER_CACHE_DIR names may hold other things.
PARTS = ("code", "compilers", "cubins", "kernels", "plans", "profiles")


def _parts(folder: Path) -> list[Path]:
    return [folder / name for name in PARTS if (folder / name).is_dir()]


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Number of files and bytes of each part of the cache."""
    found: dict[str, tuple[int, int]] = {}
    for part in _parts(folder):
        files = [one for one in part.rglob("*") if one.is_file()]
        found[part.name] = (len(files), sum(one.stat().st_size for one in files))
    return found


def _clear(folder: Path) -> int:
    """Remove what tnlayer keeps in the folder, and say how many bytes that were.

    Raises:
        BuildError: something cannot be removed.
    """
    if not folder.exists():
        return 0
    size = sum(one for _, one in _sizes(folder).values())
    try:
        for part in _parts(folder):
            shutil.rmtree(part)
    except OSError as error:
        msg = f"the cache {str(folder)!r} cannot be cleared: {error}"
        raise BuildError(msg) from error
    return size
