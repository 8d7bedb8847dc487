"""What belongs to each result besides its figures, and how tables are printed."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tnlayer.hardware.detect_processor import processor_name

RESULTS = Path(__file__).parents[1] / "results"
BUSY_LOAD = 0.5
PACKAGES = (
    "torch",
    "numpy",
    "cotengra",
    "cotengrust",
    "opt_einsum",
    "tensorly",
    "tensorly-torch",
    "tensorkrowch",
)


def provenance(arguments: Sequence[str]) -> dict[str, Any]:
    """Machine, versions, commit, date and command of a run, as JSON-ready values."""
    # Paths are the machine's: of no use in a result.
    words = [Path(word).name if "/" in word else word for word in arguments]
    return {
        "command": [Path(sys.argv[0]).name, *words],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def machine() -> dict[str, Any]:
    """CPU model, cores, threads and load of this machine."""
    return {
        "cpu": processor_name(torch.device("cpu")),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "logical_cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average_at_start": os.getloadavg()[0],
        "system": platform.platform(),
    }


def versions() -> dict[str, str | None]:
    """Versions of the packages that are compared; None where one is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _git(*arguments: str) -> str:
    """Output of a git command in this checkout, or "" outside of one."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def headline(record: dict[str, Any]) -> str:
    """One line on the machine, threads and versions of a run; one more if it was busy."""
    machine_record, package_versions = record["machine"], record["versions"]
    known = ", ".join(f"{name} {version}" for name, version in package_versions.items() if version)
    line = (
        f"{machine_record['cpu']}, {machine_record['cores']} cores, "
        f"{machine_record['torch_threads']} torch threads, fp32; {known}"
    )
    load = machine_record["load_average_at_start"]
    if load > BUSY_LOAD:
        # Threads that wait for a core spin at barriers: times grow tenfold and mean nothing.
        line += f"\nBUSY: load average {load:.1f} at the start; do not quote these times"
    return line


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a result file; infinities and NaN are refused, since JSON has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align a table: the first column left, the others right.

    >>> print(format_table(["case", "ms"], [["tt", "1.25"]]))
    case    ms
    ----  ----
    tt    1.25
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if position == 0 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])
