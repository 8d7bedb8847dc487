"""Images as memory maps that are decoded once, and batches of them: shifted, flipped, centred."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.paper.sources import PARTS, read_source, source_key

# Pixels that an image is shifted by at most, in each direction.
SHIFT = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Images of one part, as they were decoded.

    Arguments:
        images: (n, rows, columns, 3), uint8.
        labels: (n,), int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> Part:
        """So many images, spread evenly: they may lie class by class."""
        if count is None or count >= len(self):
            return self
        chosen = torch.arange(count) * len(self) // count
        return Part(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> Part:
        """The same on a device."""
        return Part(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Data:
    """Training and test images.

    Arguments:
        name: what they are, and a digest of the decoded pixels.
        train, test: the two parts.
        mean: (3,), of the training images, each divided by 255.
    """

    name: str
    train: Part
    test: Part
    mean: Tensor

    def first(self, count: int | None) -> Data:
        """So many images of each part."""
        return Data(self.name, self.train.first(count), self.test.first(count), self.mean)

    def to(self, device: torch.device) -> Data:
        """The same on a device."""
        return Data(self.name, self.train.to(device), self.test.to(device), self.mean.to(device))


def load_data(path: Path, cache: Path) -> Data:
    """Images from a source, decoded at the first call and mapped into memory from then on.

    Arguments:
        path: see ``read_source``.
        cache: folder that keeps decoded images.

    Raises:
        ValueError: the source is none.
    """
    if not path.exists():
        read_source(path)  # tells what was expected
    folder = cache / "data" / source_key(path)
    if not (folder / "about.json").is_file():
        _decode_into(folder, path)
    about = json.loads((folder / "about.json").read_text())
    parts = {part: _open_part(folder, part) for part in PARTS}
    return Data(about["name"], parts["train"], parts["test"], torch.tensor(about["mean"]))


def _decode_into(folder: Path, path: Path) -> None:
    """Write the arrays of a source; the folder appears whole or not at all."""
    arrays = read_source(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name) / "new"
        scratch.mkdir()
        for part in PARTS:
            np.save(scratch / f"{part}_images.npy", arrays.images[part])
            np.save(scratch / f"{part}_labels.npy", arrays.labels[part])
            digest.update(arrays.images[part].tobytes() + arrays.labels[part].tobytes())
        mean = arrays.images["train"].mean(axis=(0, 1, 2), dtype=np.float64) / 255
        about = {
            "name": f"{arrays.name}, sha256 {digest.hexdigest()[:12]}",
            "mean": mean.tolist(),
        }
        (scratch / "about.json").write_text(json.dumps(about))
        if not folder.exists():
            scratch.replace(folder)


def _open_part(folder: Path, part: str) -> Part:
    # Mapped copy-on-write: torch wants memory that it may write to, and never does here.
    images = np.load(folder / f"{part}_images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / f"{part}_labels.npy", allow_pickle=False)
    return Part(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def centred(images: Tensor, mean: Tensor) -> Tensor:
    """Images (n, rows, columns, 3) of uint8, divided by 255, less the training images' mean."""
    return images.float().div_(255).sub_(mean)


def as_channels_last(images: Tensor) -> Tensor:
    """Images (n, rows, columns, 3) as (n, 3, rows, columns) in channels_last, without a copy."""
    return images.permute(0, 3, 1, 2)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image or not, and shift it by up to 4 pixels each way; zeros come in.

    Arguments:
        images: (n, side, side, channels), centred.
        generator: of the CPU, whatever device the images are on.
    """
    count, side = images.shape[:2]
    flips = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=generator)
    rows, columns = shifts + torch.arange(side)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = pad(images, (0, 0, SHIFT, SHIFT, SHIFT, SHIFT))
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]]


def epoch_order(images: int, seed: int, epoch: int) -> Tensor:
    """The order of the training images in an epoch; it depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    return torch.randperm(images, generator=generator)
