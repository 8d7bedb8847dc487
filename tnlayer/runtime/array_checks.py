"""What an array must be before its address goes to a kernel, and the words where it is not.

A kernel reads as many entries as its plan says, whatever lies there. So each array is held against
the plan: where a layer or a program is called, and again where a backward gets back what was saved,
for in between a user may have swapped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import SpecError
from .autograd import shape_of

PLAIN = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True, slots=True)
class Expected:
    """An array as a plan has it.

    Arguments:
        name: as the user knows it.
        shape: sizes of its axes; None is the batch.
    """

    name: str
    shape: tuple[int | None, ...]

    @property
    def is_batched(self) -> bool:
        """Whether the array has the batch, as its first axis."""
        return None in self.shape

    def fits(self, shape: Sequence[int], batch: int | None = None) -> bool:
        """Whether a shape is that one; with a batch, of so many samples."""
        wanted = (batch if size is None else size for size in self.shape)
        return len(shape) == len(self.shape) and all(
            size is None or size == found for size, found in zip(wanted, shape, strict=True)
        )

    def shown(self, batch: int | None = None) -> str:
        """The shape in words."""
        first = "batch" if batch is None else str(batch)
        sizes = [first if size is None else str(size) for size in self.shape]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def check_array(
    where: object,
    array: object,
    expected: Expected,
    *,
    fix: str,
    batch: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> None:
    """Refuse an array that is not as the plan has it.

    Arguments:
        where: whose array it is, in words or the module itself.
        array: what stands in its place.
        expected: its name and shape.
        fix: what the user can do.
        batch: samples of the call; None: any number.
        dtype, device: what it must have; None: any.

    Raises:
        SpecError: names the array, what was expected and what was got.
    """
    if not isinstance(array, torch.Tensor):
        wrong = f"a torch.Tensor, got {type(array).__name__}"
    elif is_odd(array):
        wrong = f"a dense array, got {array.layout}" + (", nested" if array.is_nested else "")
    elif not expected.fits(shape_of(array), batch):
        wrong = f"shape {expected.shown(batch)}, got {shape_of(array)}"
    elif dtype is not None and array.dtype != dtype:
        wrong = f"dtype {dtype}, got {array.dtype}"
    elif device is not None and array.device != device:
        wrong = f"device {device}, got {array.device}"
    else:
        return
    msg = f"{where}: {expected.name}: expected {wrong}; {fix}"
    raise SpecError(msg)


def is_odd(array: torch.Tensor) -> bool:
    """Whether a tensor is sparse, of another library's layout, or nested without being jagged: then
    it has no strides, and some have no shape."""
    if array.layout is torch.jagged:
        return False
    return array.layout is not torch.strided or array.is_nested


def check_storage(where: object, name: str, array: torch.Tensor) -> None:
    """Refuse a plain array whose storage ends before its last entry: it was resized.

    torch's own operations read on behind it, or end the process.

    Raises:
        SpecError: says how many bytes there are.
    """
    if type(array) not in PLAIN or array.layout is not torch.strided or not array.numel():
        return
    if not (array.is_cpu or array.is_cuda) or array._is_zerotensor():
        return
    steps = ((size - 1) * step for size, step in zip(array.shape, array.stride(), strict=True))
    needed = (array.storage_offset() + 1 + sum(steps)) * array.itemsize
    found = array.untyped_storage().nbytes()
    if found < needed:
        msg = (
            f"{where}: {name}: its storage has {found} bytes, expected {needed} for shape "
            f"{tuple(array.shape)} and {array.dtype}; it was resized, as sharded modules do "
            "between calls: fill it again before the call"
        )
        raise SpecError(msg)
