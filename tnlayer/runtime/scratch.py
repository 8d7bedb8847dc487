"""Memory for intermediates that is used again by the next call.

The system maps and clears fresh memory page by page: on a CPU that takes longer than most matrix
products take to fill it. torch keeps a cache of blocks for CUDA and none for the CPU. Here arrays
of a megabyte and more come from blocks that are kept. A block is free as soon as nothing else
refers to its storage, which torch counts, so that nobody has to say when an array is done with:
not autograd, which holds what the forward saved, nor a hook that keeps a saved array longer.

Results never come from here: what the user gets is the user's alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..errors import SpecError
from ..support.locks import Lock

# Smaller arrays are in the C library's own free lists already.
_LEAST_BYTES = 2**20
# A block serves arrays down to this share of its size.
_LEAST_SHARE = 0.75
# Entries of the matrices from which on a product with one column runs as one with a row.
_LEAST_ROW_FIRST = 2**16
# Smaller arrays, whatever their dtype, are made as torch makes them.
LEAST_ENTRIES = min(_LEAST_ROW_FIRST, _LEAST_BYTES // torch.complex128.itemsize)
# Of the machine's memory, at most this share is kept.
_DEFAULT_SHARE = 8
_LEAST_LIMIT = 2**30

_use_count: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)  # pyright: ignore[reportPrivateUsage]


def scratch_limit() -> int:
    """Bytes that may be kept: TNLAYER_SCRATCH in MiB, by default an eighth of the memory; 0: none.

    Raises:
        SpecError: the variable is no whole number.
    """
    text = os.environ.get("TNLAYER_SCRATCH", "")
    if not text:
        return max(_LEAST_LIMIT, _memory_bytes() // _DEFAULT_SHARE)
    if not text.isdecimal():
        msg = f"TNLAYER_SCRATCH={text!r}: expected a whole number of MiB, 0 to keep nothing"
        raise SpecError(msg)
    return int(text) * 2**20


def _memory_bytes() -> int:
    """Memory of the machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


@dataclass(frozen=True, slots=True)
class _Block:
    """A flat array, the handle of its storage, and the count of references when it is free."""

    array: torch.Tensor
    storage: int
    idle: int

    @property
    def size(self) -> int:
        return self.array.numel() * self.array.itemsize


class Scratch:
    """A set of kept blocks; one serves the whole process, whatever the thread."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._lock = Lock()
        self.limit = scratch_limit()

    def take(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor | None:
        """An array with undefined entries, or None where a fresh one is as good.

        Arguments:
            shape: of the array.
            like: an array of its dtype, on its device.
        """
        count = math.prod(shape)
        size = count * like.itemsize
        if size < _LEAST_BYTES or size > self.limit or like.device.type != "cpu":
            return None
        with self._lock:
            block = self._find(size, like.dtype) or self._make(count, like.dtype)
            return None if block is None else block.array[:count].view(shape)

    def clear(self) -> None:
        """Forget all blocks; those in use go on living until their arrays are gone."""
        with self._lock:
            self._blocks.clear()

    @property
    def kept_bytes(self) -> int:
        """Bytes of all blocks, in use or free."""
        return sum(block.size for block in self._blocks)

    def _find(self, size: int, dtype: torch.dtype) -> _Block | None:
        """The smallest free block that fits and is not much too large."""
        fitting = [
            block
            for block in self._blocks
            if block.array.dtype == dtype
            and size <= block.size <= size / _LEAST_SHARE
            and _is_free(block)
        ]
        return min(fitting, key=lambda block: block.size, default=None)

    def _make(self, count: int, dtype: torch.dtype) -> _Block | None:
        """A new block, if the limit has room for it once free ones are gone."""
        if _use_count is None:
            return None
        size = count * dtype.itemsize
        if self.kept_bytes + size > self.limit:
            self._blocks = [block for block in self._blocks if not _is_free(block)]
            if self.kept_bytes + size > self.limit:
                return None
        # A block outlives an inference mode in which it may be made.
        with torch.inference_mode(False):
            array = torch.empty(count, dtype=dtype, device="cpu")
        storage = array.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
        block = _Block(array, storage, _use_count(storage))
        self._blocks.append(block)
        return block


def _is_free(block: _Block) -> bool:
    assert _use_count is not None
    return _use_count(block.storage) <= block.idle


SCRATCH = Scratch()


def mm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """torch.mm into kept memory."""
    return torch.mm(left, right, out=SCRATCH.take((left.shape[0], right.shape[1]), left))


def bmm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """torch.bmm into kept memory."""
    shape = (left.shape[0], left.shape[1], right.shape[2])
    if shape[2] == 1 and left.numel() >= _LEAST_ROW_FIRST and left.stride(0):
        # Matrices times columns take twice as long as rows times their transposes.
        rows = right.reshape(shape[0], 1, right.shape[1])
        out = SCRATCH.take((shape[0], 1, shape[1]), left)
        return torch.bmm(rows, left.transpose(1, 2), out=out).view(shape)
    return torch.bmm(left, right, out=SCRATCH.take(shape, left))


def copy(source: torch.Tensor) -> torch.Tensor:
    """A contiguous copy in kept memory."""
    array = None
    if source.numel() * source.itemsize >= _LEAST_BYTES:
        array = SCRATCH.take(tuple(source.shape), source)
    if array is None:
        return source.clone(memory_format=torch.contiguous_format)
    return array.copy_(source)


def empty_like(source: torch.Tensor) -> torch.Tensor:
    """An array like a contiguous one with undefined entries, in kept memory."""
    array = SCRATCH.take(tuple(source.shape), source)
    return torch.empty_like(source) if array is None else array


def mul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A contiguous elementwise product in kept memory."""
    # torch.broadcast_shapes takes longer than a small product.
    shape = tuple(b if a == 1 else a for a, b in zip(left.shape, right.shape, strict=True))
    array = SCRATCH.take(shape, left)
    return new_mul(left, right) if array is None else torch.mul(left, right, out=array)


def new_mul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A contiguous elementwise product in memory of its own.

    torch alone lays the product out as its operand is, and a copy of that would be a second array.
    """
    shape = tuple(b if a == 1 else a for a, b in zip(left.shape, right.shape, strict=True))
    array = torch.empty(shape, dtype=left.dtype, device=left.device)
    return torch.mul(left, right, out=array)
