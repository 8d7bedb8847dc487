"""CIFAR-10 as it lies on disk: torchvision's folder, arrays in an npz file, or JPEGs in one."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

PARTS = ("train", "test")
_FOLDER = "cifar-10-batches-py"
_BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
# What an npz file may call its arrays.
_NPZ_NAMES = (("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("{}_x", "{}_y"))


@dataclass(frozen=True, slots=True)
class Arrays:
    """Decoded images and labels.

    Arguments:
        name: what the data is, for the results.
        images: by part, "train" and "test": (n, rows, columns, 3).
        labels: by part: (n,), 0 to 9.
    """

    name: str
    images: dict[str, Bytes]
    labels: dict[str, Bytes]


def read_source(path: Path) -> Arrays:
    """Decode all images.

    Arguments:
        path: torchvision's folder (the one that holds cifar-10-batches-py, or that one itself), an
            npz file with train_images, train_labels, test_images, test_labels (or x_train,
            y_train, x_test, y_test), or one with train_jpeg, train_offsets, train_labels, ....

    Raises:
        ValueError: there is nothing there, or nothing of these kinds.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            return _read_npz(file, path)
    msg = f"--data {path}: no such file or folder. {_EXPECTED}"
    raise ValueError(msg)


def source_key(path: Path) -> str:
    """A digest of the files of a source: decoded images are kept under it."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else _folder_files(path):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


_EXPECTED = (
    f"Expected torchvision's CIFAR-10 folder (with {_FOLDER} in it), an npz file with the arrays "
    "train_images, train_labels, test_images, test_labels, or one with JPEGs: train_jpeg, "
    "train_offsets, train_labels and the same of test"
)


# -- an npz file -----------------------------------------------------------------------------------


def _read_npz(file: Mapping[str, Any], path: Path) -> Arrays:
    if "train_jpeg" in file:
        images = {part: _decode(file[f"{part}_jpeg"], file[f"{part}_offsets"]) for part in PARTS}
        labels = {part: file[f"{part}_labels"] for part in PARTS}
        return _checked(f"JPEGs of {path.name}", images, labels)
    for image_name, label_name in _NPZ_NAMES:
        if all(image_name.format(part) in file for part in PARTS):
            images = {part: _rows_first(file[image_name.format(part)]) for part in PARTS}
            labels = {part: file[label_name.format(part)].reshape(-1) for part in PARTS}
            return _checked(f"arrays of {path.name}", images, labels)
    msg = f"--data {path}: it holds {', '.join(file)}. {_EXPECTED}"
    raise ValueError(msg)


def _decode(jpegs: Bytes, offsets: NDArray[np.int64]) -> Bytes:
    """Images (n, rows, columns, 3) of JPEG files that lie back to back."""
    try:
        from PIL import Image
    except ImportError:
        msg = "JPEGs are read with Pillow: pip install 'tnlayer[bench]'"
        raise ValueError(msg) from None
    files = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return np.stack(
        [
            np.asarray(Image.open(io.BytesIO(jpegs[start:end].tobytes())).convert("RGB"))
            for start, end in files
        ]
    )


def _rows_first(images: Bytes) -> Bytes:
    """Images (n, rows, columns, 3), whether the colours came first or last."""
    return images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images


# -- torchvision's folder --------------------------------------------------------------------------


def _folder_files(path: Path) -> list[Path]:
    folder = path if path.name == _FOLDER else path / _FOLDER
    files = [folder / name for part in PARTS for name in _BATCHES[part]]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        msg = f"--data {path}: {folder} lacks {', '.join(missing)}. {_EXPECTED}"
        raise ValueError(msg)
    return files


def _read_folder(path: Path) -> Arrays:
    batches = {file.name: _unpickle(file) for file in _folder_files(path)}
    images: dict[str, Bytes] = {}
    labels: dict[str, Bytes] = {}
    for part in PARTS:
        read = [batches[name] for name in _BATCHES[part]]
        flat = np.concatenate([batch[b"data"] for batch in read])
        images[part] = _rows_first(flat.reshape(-1, 3, 32, 32))
        labels[part] = np.concatenate([np.asarray(batch[b"labels"]) for batch in read])
    return _checked(f"original pixels of {_FOLDER}", images, labels)


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays and plain values only: a pickle may not run anything else."""

    _ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            msg = f"a batch of CIFAR-10 holds arrays and lists, not {module_name}.{global_name}"
            raise ValueError(msg)
        return super().find_class(module_name, global_name)


def _unpickle(file: Path) -> dict[bytes, Any]:
    with file.open("rb") as stream:
        return _ArrayUnpickler(stream, encoding="bytes").load()


# -- what all have in common -----------------------------------------------------------------------


def _checked(name: str, images: dict[str, Bytes], labels: dict[str, NDArray[Any]]) -> Arrays:
    """The arrays as uint8, if their shapes fit."""
    for part in PARTS:
        shape, count = images[part].shape, len(labels[part])
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[0] != count:
            msg = (
                f"{name}: {part} images have shape {shape} beside {count} labels; expected "
                "(n, side, side, 3) or (n, 3, side, side), and n labels"
            )
            raise ValueError(msg)
        if images[part].dtype != np.uint8 or not 0 <= labels[part].min() <= labels[part].max() < 10:
            msg = f"{name}: expected {part} images of uint8 and labels from 0 to 9"
            raise ValueError(msg)
    return Arrays(
        name,
        {part: np.ascontiguousarray(images[part]) for part in PARTS},
        {part: labels[part].astype(np.uint8) for part in PARTS},
    )
