"""Measuring this machine's profile, so that it holds from then on."""

from __future__ import annotations

import os

import torch

from ..hardware.profile.load import LoadedProfile, keep_profile
from ..support.progress import progress_share
from .measure_profile import measure_profile

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
    return (
        f"other programs ran: load {load:.2g} on {cores} core{'' if cores == 1 else 's'}; measure "
        "again when it is quiet"
    )


def measure_device(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, *, shown: bool = True
) -> LoadedProfile:
    """Measure a device and keep the profile: new plans follow it, here and in later processes.

    Arguments:
        device: where to measure.
        dtype: of the arithmetic; torch's present number of threads counts, too.
        shown: whether to show a progress bar on a terminal.

    Where other programs keep the machine busy before it, the profile's source says so.
    """
    note = load_note()
    what = f"measuring {torch.device(device).type}, {str(dtype).removeprefix('torch.')}"
    with progress_share(what, shown=shown) as reach:
        return keep_profile(measure_profile(device, dtype, progress=reach), note)
