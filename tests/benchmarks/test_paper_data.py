"""CIFAR-10 from each kind of source, decoded once; batches are what a slow loop makes of them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.paper import data as data_module
from benchmarks.paper.data import (
    SHIFT,
    as_channels_last,
    augmented,
    centred,
    epoch_order,
    load_data,
)

COUNTS = {"train": 25, "test": 10}


def pixels(part: str, side: int = 32) -> NDArray[np.uint8]:
    """Random images (n, side, side, 3)."""
    generator = np.random.default_rng(COUNTS[part])
    return generator.integers(0, 256, (COUNTS[part], side, side, 3), dtype=np.uint8)


def labels(part: str) -> NDArray[np.int64]:
    """Labels of all ten classes."""
    return np.arange(COUNTS[part]) % 10


def write_folder(folder: Path) -> Path:
    """torchvision's folder with the random images in it."""
    inner = folder / "cifar-10-batches-py"
    inner.mkdir(parents=True)

    def write(name: str, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> None:
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        batch = {b"data": flat, b"labels": classes.tolist(), b"batch_label": b"some"}
        (inner / name).write_bytes(pickle.dumps(batch))

    for k in range(5):
        rows = slice(5 * k, 5 * k + 5)
        write(f"data_batch_{k + 1}", pixels("train")[rows], labels("train")[rows])
    write("test_batch", pixels("test"), labels("test"))
    return folder


def write_arrays(file: Path, **arrays: Any) -> None:
    """An npz file of just this name."""
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def write_npz(file: Path) -> Path:
    """The same images, colours first, under Keras's names."""
    arrays: dict[str, Any] = {}
    for part in COUNTS:
        arrays[f"x_{part}"] = pixels(part).transpose(0, 3, 1, 2)
        arrays[f"y_{part}"] = labels(part)[:, None]
    np.savez(file, **arrays)
    return file


def write_jpegs(file: Path) -> tuple[Path, dict[str, NDArray[np.uint8]]]:
    """The same images as JPEGs, and what Pillow decodes from each."""
    arrays: dict[str, Any] = {}
    decoded: dict[str, NDArray[np.uint8]] = {}
    for part in COUNTS:
        files: list[bytes] = []
        for image in pixels(part):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "JPEG", quality=75)
            files.append(stream.getvalue())
        decoded[part] = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in files])
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_labels"] = labels(part)
    np.savez(file, **arrays)
    return file, decoded


@pytest.mark.parametrize("kind", ["folder", "inner folder", "npz"])
def test_original_pixels_come_out_as_they_went_in(kind: str, tmp_path: Path) -> None:
    """torchvision's folder, the one in it, and an npz file give the same images and labels."""
    if kind == "npz":
        source = write_npz(tmp_path / "cifar.npz")
    else:
        source = write_folder(tmp_path / "data")
        source = source / "cifar-10-batches-py" if kind == "inner folder" else source
    loaded = load_data(source, tmp_path / "cache")
    for part, found in (("train", loaded.train), ("test", loaded.test)):
        assert np.array_equal(found.images.numpy(), pixels(part))
        assert found.labels.tolist() == labels(part).tolist()
    mean = (pixels("train") / 255).reshape(-1, 3).mean(axis=0)
    assert torch.allclose(loaded.mean, torch.tensor(mean, dtype=torch.float32))
    assert ("original pixels" in loaded.name) == (kind != "npz")


def test_jpegs_are_decoded_and_named(tmp_path: Path) -> None:
    """JPEGs give Pillow's pixels; the name tells what they are, apart from other data's."""
    source, decoded = write_jpegs(tmp_path / "jpegs.npz")
    loaded = load_data(source, tmp_path / "cache")
    assert np.array_equal(loaded.train.images.numpy(), decoded["train"])
    assert np.array_equal(loaded.test.images.numpy(), decoded["test"])
    assert loaded.name.startswith("JPEGs of jpegs.npz, sha256 ")
    other = load_data(write_npz(tmp_path / "jpegs2.npz"), tmp_path / "cache")
    assert loaded.name.split("sha256")[1] != other.name.split("sha256")[1]


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call maps the file of the first; changed data are decoded anew."""
    source = write_npz(tmp_path / "cifar.npz")
    first = load_data(source, tmp_path / "cache")

    def refuse(path: Path) -> None:
        msg = f"decoded {path} again"
        raise AssertionError(msg)

    monkeypatch.setattr(data_module, "read_source", refuse)
    second = load_data(source, tmp_path / "cache")
    assert torch.equal(first.train.images, second.train.images)
    write_arrays(source, **{**np.load(source), "y_test": np.zeros(10, np.int64)})
    with pytest.raises(AssertionError, match="again"):
        load_data(source, tmp_path / "cache")


def test_a_batch_that_runs_code_is_refused(tmp_path: Path) -> None:
    """A pickle that names a function other than numpy's constructors is not loaded."""
    source = write_folder(tmp_path / "data")
    (source / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(ValueError, match="not pathlib"):
        load_data(source, tmp_path / "cache")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "lacks data_batch_1"),
        (lambda path: write_arrays(path, a=np.zeros(3)), "it holds a"),
        (
            lambda path: write_arrays(
                path,
                **{f"{p}_images": pixels("test") for p in COUNTS},
                **{f"{p}_labels": labels("train") for p in COUNTS},
            ),
            r"shape \(10, 32, 32, 3\) beside 25 labels",
        ),
    ],
)
def test_what_is_no_source_is_told(make: Any, message: str, tmp_path: Path) -> None:
    """A wrong path, an empty folder, other arrays and wrong shapes each say what was expected."""
    make(tmp_path / "source")
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path / "source", tmp_path / "cache")


def test_augmentation_is_a_flip_and_a_shift_with_zeros() -> None:
    """Each image is the source, or its mirror image, moved by at most 4 pixels each way."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 12, 12, 3, generator=generator) + 1
    result = augmented(images, generator)
    seen: set[tuple[bool, int, int]] = set()
    for image, moved in zip(images, result, strict=True):
        wide = torch.zeros(12 + 2 * SHIFT, 12 + 2 * SHIFT, 3)
        wide[SHIFT:-SHIFT, SHIFT:-SHIFT] = image
        matches = [
            (flip, row, column)
            for flip in (False, True)
            for row in range(2 * SHIFT + 1)
            for column in range(2 * SHIFT + 1)
            if torch.equal(
                moved.flip(1) if flip else moved, wide[row : row + 12, column : column + 12]
            )
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {flip for flip, _, _ in seen} == {False, True}
    assert {row for _, row, _ in seen} == set(range(2 * SHIFT + 1))
    assert {column for _, _, column in seen} == set(range(2 * SHIFT + 1))


def test_images_are_centred_and_lie_in_channels_last() -> None:
    """x / 255 less the mean; as (n, 3, rows, columns) it is the same memory."""
    images = torch.from_numpy(pixels("test"))
    mean = torch.tensor([0.1, 0.2, 0.3])
    x = centred(images, mean)
    assert torch.allclose(x, images.double().div(255).sub(mean).float(), atol=1e-6)
    turned = as_channels_last(x)
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert turned.data_ptr() == x.data_ptr()
    assert torch.equal(turned[3, 1, 5, 7], x[3, 5, 7, 1])


def test_every_epoch_has_an_order_of_its_own() -> None:
    """Orders are permutations, the same each time, others for other epochs and seeds."""
    orders = {(s, e): epoch_order(50, s, e) for s in range(3) for e in range(3)}
    for (seed, epoch), order in orders.items():
        assert sorted(order.tolist()) == list(range(50))
        assert torch.equal(order, epoch_order(50, seed, epoch))
    assert len({tuple(order.tolist()) for order in orders.values()}) == 9
