"""Files of the safetensors format: written in one way only, read without trust.

A file is eight bytes with the length of the header, the header, which is a JSON object, and the
bytes of all tensors without holes. The format is a page long and frozen, so that it is read here,
where each length is checked before anything is allocated for it.

Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..support.json_text import MAX_TEXT_BYTES, canonical_json, parse_json

METADATA = "__metadata__"
# A length and, at least, "{}".
_LEAST_BYTES = 10
_LENGTH_BYTES = 8
_MOST_AXES = 64
_MOST_ENTRIES = 2**48
# Tensors lie at such multiples behind the header.
_ALIGNED = 8

STORED: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in STORED.items()}


def as_path(value: Any, fix: str) -> Path:
    """The path of a file.

    Arguments:
        value: what the user gave.
        fix: a call that is right.

    Raises:
        SpecError: it is no path.
    """
    if not isinstance(value, str | os.PathLike):
        msg = f"{shown(value)} is no path of a file: write {fix}"
        raise SpecError(msg)
    return Path(os.fsdecode(value))


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a file.

    Arguments:
        dtype: of its entries.
        shape: sizes of its axes.
        start, end: its bytes in the file.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file has.

    Arguments:
        path: the file.
        entries: its tensors by name.
        metadata: texts by name.
    """

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]


# -- writing ---------------------------------------------------------------------------------------


def write_file(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a file, under another name first, so that no reader sees a part of it.

    The same tensors and texts give the same bytes: names are sorted, wide dtypes first.

    Arguments:
        path: of the file; what is there is replaced.
        tensors: real, dense, of a dtype in ``STORED``.
        metadata: texts by name.

    Raises:
        SpecError: a dtype has no name in the format, or the header would be too long.
        OSError: the folder is not there, the disk is full, ...
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    records: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        array = tensors[name]
        if array.dtype not in _NAMES:
            msg = f"{name}: safetensors has no dtype {array.dtype}; convert it, or leave it out"
            raise SpecError(msg)
        size = array.numel() * array.dtype.itemsize
        records[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    header = canonical_json(records).encode("ascii")
    header += b" " * (-len(header) % _ALIGNED)
    if len(header) > MAX_TEXT_BYTES:
        msg = f"the header would have {len(header)} bytes, at most {MAX_TEXT_BYTES} are allowed"
        raise SpecError(msg)
    _check_byte_order()
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(len(header).to_bytes(_LENGTH_BYTES, "little"))
            file.write(header)
            for name in order:
                file.write(_bytes_of(tensors[name]))
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(0o666 & ~_umask())
        Path(part).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise


def _bytes_of(array: torch.Tensor) -> memoryview:
    """The bytes of a tensor, row major."""
    flat = array.detach().cpu().contiguous().reshape(-1)
    data: Any = flat.view(torch.uint8).numpy() if flat.numel() else b""
    return memoryview(data)


def _umask() -> int:
    """The mask that new files of this process get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_byte_order() -> None:
    if sys.byteorder != "little":
        msg = "safetensors files are little endian, this machine is not; convert them elsewhere"
        raise SpecError(msg)


# -- reading ---------------------------------------------------------------------------------------


def read_header(path: Path) -> Header:
    """What a file has, after all lengths, dtypes and places were checked; no tensor is read.

    Raises:
        SpecError: it is no whole file of the format.
        OSError: it cannot be opened.
    """
    _check_byte_order()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LEAST_BYTES or length > min(size - _LENGTH_BYTES, MAX_TEXT_BYTES):
            msg = (
                f"{shown(str(path))} is no safetensors file: of {size} bytes the header would take "
                f"{shown(length)}, at most {MAX_TEXT_BYTES} are read"
            )
            raise SpecError(msg)
        text = file.read(length)
    where = shown(str(path))
    if len(text) != length or not text.startswith(b"{"):
        msg = f"{where} is no safetensors file: its header does not start with an object"
        raise SpecError(msg)
    records: Any = parse_json(text)
    metadata = records.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        msg = f"{where}: {METADATA}: expected an object of texts"
        raise SpecError(msg)
    start = _LENGTH_BYTES + length
    entries = {
        name: _entry(record, start, f"{where}: tensor {shown(name)}")
        for name, record in records.items()
    }
    _check_places(entries, start, size, where)
    return Header(path, entries, cast("dict[str, str]", metadata))


def read_tensors(header: Header, names: Iterator[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The named tensors of a file, one after the other, on the CPU.

    Raises:
        SpecError: the file has become shorter.
    """
    with header.path.open("rb") as file:
        for name in names:
            yield name, _read(file, header.entries[name], f"{header.path}: tensor {shown(name)}")


def _entry(record: object, start: int, where: str) -> Entry:
    """One tensor of a header."""
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(record, dict) or record.keys() != keys:
        msg = f"{where}: expected an object with dtype, shape and data_offsets"
        raise SpecError(msg)
    fields = cast("dict[str, Any]", record)
    name, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(name, str) or name not in STORED:
        msg = f"{where}: dtype {shown(name)}, expected one of {', '.join(STORED)}"
        raise SpecError(msg)
    if not _are_whole(shape) or len(shape) > _MOST_AXES or max(shape, default=0) > _MOST_ENTRIES:
        msg = f"{where}: shape {shown(shape)}, expected at most {_MOST_AXES} sizes"
        raise SpecError(msg)
    dtype, size = STORED[name], 1
    for axis in shape:  # a product of many large sizes would take long
        size = min(size * axis, _MOST_ENTRIES + 1)
        if size == 0:
            break
    size = 0 if 0 in shape else size
    if not _are_whole(offsets) or len(offsets) != 2:
        msg = f"{where}: data_offsets {shown(offsets)}, expected two numbers"
        raise SpecError(msg)
    if offsets[1] - offsets[0] != size * dtype.itemsize:
        msg = f"{where}: data_offsets {shown(offsets)} do not hold shape {shown(shape)} of {dtype}"
        raise SpecError(msg)
    return Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _are_whole(items: object) -> bool:
    """Whether something is a list of whole numbers from 0 on."""
    return isinstance(items, list) and all(type(item) is int and item >= 0 for item in items)


def _check_places(entries: Mapping[str, Entry], start: int, size: int, where: str) -> None:
    """All bytes behind the header belong to one tensor each."""
    at = start
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != at:
            msg = f"{where}: tensors overlap or leave a hole at byte {at}; the file is damaged"
            raise SpecError(msg)
        at = entry.end
    if at != size:
        msg = f"{where}: expected {at} bytes, the file has {size}; it is cut off or damaged"
        raise SpecError(msg)


def _read(file: BinaryIO, entry: Entry, where: str) -> torch.Tensor:
    size = entry.end - entry.start
    if not size:
        return torch.empty(entry.shape, dtype=entry.dtype)
    data = bytearray(size)
    file.seek(entry.start)
    found = cast(Any, file).readinto(data)
    if found != size:
        msg = f"{where}: the file ended after {found} of {size} bytes"
        raise SpecError(msg)
    flat = torch.frombuffer(data, dtype=torch.uint8)
    if entry.dtype == torch.bool:
        return (flat != 0).reshape(entry.shape)
    assert math.prod(entry.shape) * entry.dtype.itemsize == size
    return flat.view(entry.dtype).reshape(entry.shape)
