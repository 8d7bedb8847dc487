"""Guards around all memory that a kernel gets: our own memory checker, wherever kernels run.

compute-sanitizer sees each access and says which one is wrong, but it is not installed everywhere.
Here every argument and the workspace lie between bands of known bytes. A write outside changes one
of them; what is read outside is NaN, so that it shows in the result where it matters. A write to an
input is found, too.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tnlayer.backends import cuda_unit
from tnlayer.backends.cuda_unit import Loaded

# Bytes on either side, and what they are: NaN in every dtype.
BAND, BYTE = 4096, 0xFF


@dataclass(frozen=True)
class Guarded:
    """An array between two bands.

    Arguments:
        name: for messages.
        memory: all bytes.
        inside: the array.
    """

    name: str
    memory: Tensor
    inside: Tensor

    @classmethod
    def like(cls, name: str, array: Tensor) -> Guarded:
        """Room for an array of the same shape; NaN all over."""
        size = array.numel() * array.element_size()
        memory = torch.full((size + 2 * BAND,), BYTE, dtype=torch.uint8, device=array.device)
        inside = memory[BAND : BAND + size].view(array.dtype).view(array.shape)
        return cls(name, memory, inside)

    def check(self) -> None:
        """Refuse bands that were written to.

        Raises:
            ArithmeticError: they were.
        """
        for side, band in (("before", self.memory[:BAND]), ("behind", self.memory[-BAND:])):
            if not bool((band == BYTE).all()):
                raise ArithmeticError(f"a kernel writes {side} {self.name}")


@contextmanager
def guarded() -> Generator[list[str]]:
    """Inside, each launch of our kernels is checked; the list has the kernels that were.

    Raises:
        ArithmeticError: at a launch, if it wrote to an input or outside of its memory.
    """
    launch, room = Loaded.launch, cuda_unit.workspace
    rooms: list[Guarded] = []
    seen: list[str] = []

    def workspace(entries: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        rooms.append(Guarded.like("the workspace", room(entries, dtype, device)))
        return rooms[-1].inside

    def checked(self: Loaded, arrays: Sequence[Tensor], batch: int, device: int) -> bool:
        arguments = self.source.arguments
        own = [Guarded.like(a.name, array) for a, array in zip(arguments, arrays, strict=True)]
        for argument, guard, array in zip(arguments, own, arrays, strict=True):
            if not argument.is_output:
                guard.inside.copy_(array)
        rooms.clear()
        if not launch(self, [guard.inside for guard in own], batch, device):
            return False
        for guard in (*own, *rooms):
            guard.check()
        for argument, guard, array in zip(arguments, own, arrays, strict=True):
            same = guard.inside.view(torch.uint8), array.contiguous().view(torch.uint8)
            if argument.is_output:
                array.copy_(guard.inside)
            elif not torch.equal(*same):
                raise ArithmeticError(f"a kernel writes to its input {argument.name}")
        seen.extend(entry.name for entry in self.source.entries)
        return True

    Loaded.launch, cuda_unit.workspace = checked, workspace
    try:
        yield seen
    finally:
        Loaded.launch, cuda_unit.workspace = launch, room
