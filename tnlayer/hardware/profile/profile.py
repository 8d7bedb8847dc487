"""The frozen Profile: what the operations of one device cost, as measured tables."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from ...errors import SpecError
from ...support.codec import Codec, CodecError, Form, number
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
        return {"schema": SCHEMA, **_CODEC.write(Profile, self)}

    @classmethod
    def from_document(cls, document: object) -> Profile:
        """The profile that :meth:`document` wrote.

        Raises:
            SpecError: the document is not a profile of a schema that is known.
        """
        try:
            return _read(document)
        except ValueError as error:
            msg = f"not a device profile of schema {SCHEMA}: {error}"
            raise SpecError(msg) from error


def _read(document: object) -> Profile:
    if not isinstance(document, dict):
        raise CodecError("profile", "an object")
    record = cast("dict[str, Any]", dict(document))
    schema = record.pop("schema", None)
    if schema not in READABLE:
        raise CodecError("profile.schema", f"one of {', '.join(map(str, READABLE))}")
    if schema != SCHEMA:
        if "multiply_add" in record:
            raise CodecError("profile", "no multiply_add in schema 2")
        record["multiply_add"] = None
    profile = _CODEC.read(Profile, record, "profile")
    if set(profile.call_seconds) != set(CALLS):
        raise CodecError("profile.calls", f"each of {', '.join(CALLS)}")
    if len(profile.gemm) != len(VARIANTS):
        raise CodecError("profile.gemm", f"a grid for each of {', '.join(VARIANTS)}")
    return profile


def _seconds(item: object, where: str) -> float:
    seconds = number(item, where)
    if seconds <= 0:
        raise CodecError(where, "a positive number of seconds")
    return seconds


def _grid(item: object, where: str) -> Grid:
    grid = _GRIDS.read(Grid, item, where)
    if any(list(axis) != sorted(set(axis)) for axis in grid.axes) or len(grid.seconds) != math.prod(
        map(len, grid.axes)
    ):
        raise CodecError(where, "seconds for each point of increasing axes")
    return grid


# A measured time has no more than four digits that mean anything.
_SECONDS = Form(lambda seconds: float(f"{seconds:.4g}"), _seconds)
_GRIDS = Codec({float: _SECONDS})
_CODEC = Codec({float: _SECONDS, Grid: Form(lambda grid: _GRIDS.write(Grid, grid), _grid)})
