"""The processor of a device: its name and its caches, as the system tells them."""

from __future__ import annotations

import platform
import re
from functools import cache
from itertools import takewhile
from pathlib import Path

import torch

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@cache
def processor_name(device: str = "cpu") -> str:
    """The model of the processor, as the system names it; empty for a GPU that is not there.

    Arguments:
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def processor_features() -> str:
    """What the system says of the first processor that bears on its instructions.

    >>> processor_features() == processor_features()
    True
    """
    try:
        with Path("/proc/cpuinfo").open() as lines:
            # The clock's rate changes; the list of one processor ends with an empty line.
            first = takewhile(str.strip, lines)
            kept = [line for line in first if not line.startswith(("cpu MHz", "bogomips"))]
    except OSError:
        kept = [platform.processor()]
    return "".join([platform.machine(), "\n", *kept])


def cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Bytes of each data cache of the first core, smallest level first; empty if nobody tells.

    Arguments:
        folder: where Linux lists them.

    >>> all(size > 0 for size in cache_sizes().values())
    True
    """
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = (
                (index / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KMG]?)", size)
        if kind != "Instruction" and match is not None and level.isdecimal():
            found[int(level)] = int(match[1]) * _UNITS[match[2]]
    return {f"L{level}": found[level] for level in sorted(found)}
