"""Whether other programs keep the machine busy, which changes what is measured beside them."""

from __future__ import annotations

import os

# Programs that want more of the machine than this share of its cores change what is measured.
_QUIET = 0.5


def load_note() -> str:
    """What to tell of a measurement that begins now, beside other programs; "" where it is quiet,
    or the system does not say."""
    if not hasattr(os, "getloadavg"):
        return ""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return ""
    cores = os.cpu_count() or 1
    if load <= _QUIET * cores:
        return ""
    return f"other programs ran: load {load:.2g} on {cores} core{'' if cores == 1 else 's'}"
