"""``python -m tnlayer profile``: shows the device profile in use, and measures it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from ..errors import SpecError
from ..hardware.detect_processor import cache_sizes, processor_name
from ..hardware.profile.load import LoadedProfile, forget_measured, load_profile
from ..hardware.profile.text import main_rates, profile_text
from ..measure.measure_device import measure_device
from ..support.cache_folder import cache_folder
from ..support.dtypes import DTYPES
from ..support.json_text import canonical_json
from ..support.torch_threads import torch_threads

_DEVICES = ("cpu", "cuda")


def add_profile(commands: Any) -> None:
    """Add the command to those of the command line."""
    text = "show what operations cost on this machine, measured if need be"
    command = commands.add_parser("profile", help=text, description=text)
    command.set_defaults(run=run_profile)
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument(
        "--dtype", nargs="+", default=["float32"], help="float32, float64, complex64, ..."
    )
    command.add_argument("--threads", type=int, default=None, help="threads of torch")
    command.add_argument(
        "--measure",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="measure now, or not at all; by default once",
    )
    command.add_argument(
        "--reset",
        action="store_true",
        help="forget all that was measured here; with --measure, and measure anew",
    )
    command.add_argument("--json", action="store_true", help="everything as JSON")
    # Writes the bare profile: this is how those that ship with the package are made.
    command.add_argument("--output", type=Path, default=None, help=argparse.SUPPRESS)


def run_profile(options: argparse.Namespace) -> str:
    """The profiles in use for the dtypes asked for, as text or JSON; measured if need be.

    Raises:
        SpecError: an option is wrong, or the device is not there.
    """
    _check(options)
    if options.reset:
        forget_measured()
        options.measure = bool(options.measure)
    with torch_threads(options.threads):
        loaded = [_measured(options, dtype) for dtype in options.dtype]
    if options.output is not None:
        text = json.dumps(loaded[0].profile.document()) + "\n"
        try:
            options.output.write_text(text, encoding="utf-8")
        except OSError as error:
            msg = f"--output {str(options.output)!r} cannot be written ({error.strerror})"
            raise SpecError(msg) from error
    if options.json:
        return canonical_json({"profiles": [_document(one) for one in loaded]})
    local = cache_sizes() if options.device == "cpu" else {}
    here = processor_name(options.device)
    return "\n\n".join(
        profile_text(one.profile, one.source, local if one.profile.name == here else None)
        for one in loaded
    )


def _check(options: argparse.Namespace) -> None:
    if options.device not in _DEVICES:
        msg = f"--device {options.device!r} is unknown; expected one of {', '.join(_DEVICES)}"
        raise SpecError(msg)
    if options.device == "cuda" and options.measure is not False and not torch.cuda.is_available():
        msg = "--device cuda: this machine has no CUDA device that torch can use; add --no-measure"
        raise SpecError(msg)
    for dtype in options.dtype:
        if dtype not in DTYPES:
            msg = f"--dtype {dtype!r} is not supported; expected one of {', '.join(DTYPES)}"
            raise SpecError(msg)
    if options.threads is not None and options.threads < 1:
        msg = f"--threads {options.threads}: expected a positive number of threads"
        raise SpecError(msg)
    if options.output is not None and len(options.dtype) != 1:
        msg = f"--output takes one profile, but --dtype names {len(options.dtype)} of them"
        raise SpecError(msg)


def _measured(options: argparse.Namespace, dtype: str) -> LoadedProfile:
    """The profile in use, after measuring it if that is asked for or was never done."""
    loaded = load_profile(dtype, options.device)
    wanted = loaded.measured is None if options.measure is None else options.measure
    if not wanted:
        return loaded
    loaded = measure_device(options.device, getattr(torch, dtype))
    if cache_folder() is None:
        return LoadedProfile(
            loaded.profile,
            f"{loaded.source}, not stored: there is no cache folder",
            loaded.measured,
        )
    return loaded


def _document(loaded: LoadedProfile) -> dict[str, Any]:
    return {
        "source": loaded.source,
        "measured": loaded.measured,
        "digest": loaded.profile.digest,
        "rates": main_rates(loaded.profile),
        "profile": loaded.profile.document(),
    }
