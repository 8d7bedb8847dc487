"""The frozen Profile: what the operations of one device cost, as measured tables."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from ...errors import SpecError
from ...support.json_text import canonical_json
from .grid import Grid

SCHEMA = 3
# Documents that can be read, the newest first. Schema 2 has no ``multiply_add``.
READABLE = (SCHEMA, 2)

# Whether the left and the right factor of a product are stored transposed.
VARIANTS = ("nn", "tn", "nt", "tt")

# What autograd adds to the forward and to the backward of a layer: once, and for each array.
AUTOGRAD = ("forward", "forward_array", "backward", "backward_array")

# Calls whose overhead is measured apart.
STARTED = ("mm", "bmm", "copy", "product", "sum", "view")
CALLS = (*STARTED, *AUTOGRAD)

# Bytes of a line of the caches, and those read and written by a copy that stands for memory beyond
# the caches of a core, as large as the weights that kernels read from there.
LINE, FAR_BYTES = 64, 2**22


@dataclass(frozen=True)
class Profile:
    """What the operations of one device cost, for one dtype and number of threads.

    Arguments:
        device: "cpu" or "cuda".
        name: name of the processor.
        dtype: dtype of the arithmetic.
        threads: threads of torch; 1 for a GPU.
        versions: of what ran the operations (torch).
        gemm: for each variant, seconds a multiplication of mm by (rows, columns, summed).
        batched: the same of one of many bmm matrices, by (rows, columns, summed).
        small: the same where the matrices are too small for torch to call the BLAS.
        small_limit: multiplications of one matrix below which ``small`` holds.
        stream: seconds for one byte read or written by a contiguous copy, by bytes.
        strided: seconds an entry of a copy that reads with a stride, by (entries read before a line
            of the cache is read again, stride, entries).
        transposed: seconds an entry of a copy of a transposed matrix, by entries.
        row, block: seconds for each inner row, and for each two-dimensional block, of a loop that
            torch cannot merge into long rows.
        reduce: seconds a byte that a sum reads, by (entries beside each other that it keeps, 1 for
            a sum over the last axis; bytes).
        fault: seconds for one byte of a fresh array that the system has to map first.
        fault_bytes: size from which on fresh arrays are mapped anew at each call.
        calls: seconds of a call on a few entries, by kind, and of what autograd adds.
        multiply_add: seconds of one multiply-add of vectors in registers, in compiled code while
            all threads do the same; None where none could be compiled, and in schema 2.
    """

    device: str
    name: str
    dtype: str
    threads: int
    versions: tuple[tuple[str, str], ...]
    gemm: tuple[Grid, ...]
    batched: tuple[Grid, ...]
    small: Grid
    small_limit: int
    stream: Grid
    strided: Grid
    transposed: Grid
    row: float
    block: float
    reduce: Grid
    fault: float
    fault_bytes: int
    calls: tuple[tuple[str, float], ...]
    multiply_add: float | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: part of the key of every plan that was chosen by it."""
        return hashlib.sha256(canonical_json(self.document()).encode()).hexdigest()

    @cached_property
    def call_seconds(self) -> dict[str, float]:
        """Overhead of each kind of call."""
        return dict(self.calls)

    @cached_property
    def started(self) -> float:
        """Mean overhead of a call, over its kinds: what Python and torch need to start anything."""
        return sum(self.call_seconds[kind] for kind in STARTED) / len(STARTED)

    @cached_property
    def far_line(self) -> float:
        """Seconds for a line that a core copies beyond its own caches, the other ones at it too."""
        return LINE * self.threads * self.stream.per_unit(FAR_BYTES)

    @property
    def flops_per_second(self) -> float:
        """The best rate that any matrix product reached."""
        return 2 / min(min(grid.seconds) for grid in self.gemm)

    def bandwidth(self, size: float) -> float:
        """Bytes a second that a copy of an array of this many bytes reads and writes."""
        return 1 / self.stream.per_unit(2 * size)

    # -- written form ----------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """The profile as plain values; seconds are rounded to four digits."""
        plain = {name: _plain(getattr(self, name)) for name in (f.name for f in fields(self))}
        return {"schema": SCHEMA, **plain}

    @classmethod
    def from_document(cls, document: object) -> Profile:
        """The profile that :meth:`document` wrote.

        Raises:
            SpecError: the document is not a profile of a schema that is known.
        """
        try:
            return _read(document)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            msg = f"not a device profile of schema {SCHEMA}: {type(error).__name__}: {error}"
            raise SpecError(msg) from error


def _plain(value: Any) -> Any:
    match value:
        case Grid():
            return {"axes": [list(axis) for axis in value.axes], "seconds": _plain(value.seconds)}
        case tuple():
            return [_plain(item) for item in value]
        case float():
            return float(f"{value:.4g}")
        case _:
            return value


def _grid(document: Mapping[str, Any]) -> Grid:
    axes = tuple(tuple(int(size) for size in axis) for axis in document["axes"])
    seconds = tuple(map(_positive, document["seconds"]))
    if len(seconds) != math.prod(map(len, axes)) or any(list(a) != sorted(set(a)) for a in axes):
        msg = "a grid does not match its axes"
        raise ValueError(msg)
    return Grid(axes, seconds)


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        msg = f"expected a positive number of seconds, got {value!r}"
        raise ValueError(msg)
    return number


def _read(document: Any) -> Profile:
    schema = document["schema"]
    expected = {"schema", *(f.name for f in fields(Profile))}
    if schema != SCHEMA:
        expected -= {"multiply_add"}
    if schema not in READABLE or set(document) != expected:
        msg = f"schema {schema!r} or its fields are not known"
        raise ValueError(msg)
    multiply_add = document.get("multiply_add")
    profile = Profile(
        device=str(document["device"]),
        name=str(document["name"]),
        dtype=str(document["dtype"]),
        threads=int(document["threads"]),
        versions=tuple((str(name), str(version)) for name, version in document["versions"]),
        gemm=tuple(map(_grid, document["gemm"])),
        batched=tuple(map(_grid, document["batched"])),
        small=_grid(document["small"]),
        small_limit=int(document["small_limit"]),
        stream=_grid(document["stream"]),
        strided=_grid(document["strided"]),
        transposed=_grid(document["transposed"]),
        row=_positive(document["row"]),
        block=_positive(document["block"]),
        reduce=_grid(document["reduce"]),
        fault=_positive(document["fault"]),
        fault_bytes=int(document["fault_bytes"]),
        calls=tuple((str(name), _positive(seconds)) for name, seconds in document["calls"]),
        multiply_add=None if multiply_add is None else _positive(multiply_add),
    )
    if set(profile.call_seconds) != set(CALLS) or len(profile.gemm) != len(VARIANTS):
        msg = "calls or variants are missing"
        raise ValueError(msg)
    return profile
