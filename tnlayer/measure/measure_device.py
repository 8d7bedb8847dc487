"""Measuring this machine's profile, so that it holds from then on."""

from __future__ import annotations

import torch

from ..hardware.machine_load import load_note
from ..hardware.profile.load import LoadedProfile, keep_profile
from ..support.progress import progress_share
from .measure_profile import measure_profile


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
    note = note and f"{note}; measure again when it is quiet"
    what = f"measuring {torch.device(device).type}, {str(dtype).removeprefix('torch.')}"
    with progress_share(what, shown=shown) as reach:
        return keep_profile(measure_profile(device, dtype, progress=reach), note)
