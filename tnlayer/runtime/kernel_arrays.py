"""Arrays held against the plan, and made ready for kernels, which read them by their addresses.

What torch's guard finds to be like arrays that were checked passes at once: shapes, dtypes, devices
and strides are compared each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..errors import SpecError
from ..support.pick_items import picker
from .array_checks import PLAIN, Expected, check_array, check_storage
from .torch_guards import Guard, guard_of

_FIX = (
    "it was swapped or changed after the forward, or by a hook for saved tensors: leave it until "
    "the backward has run"
)
_address = torch.Tensor.data_ptr


class Held:
    """Holds arrays for torch's operations against the plan.

    Arguments:
        where: whose arrays these are.
        expected: the arrays of a call, in order.
    """

    def __init__(self, where: str, expected: Sequence[Expected]) -> None:
        self.where, self.expected = where, tuple(expected)
        self.free = [int(one.is_batched) for one in self.expected]
        self.batched = picker([place for place, free in enumerate(self.free) if free])
        self.guard: Guard | None = None

    def check(self, arrays: Sequence[torch.Tensor]) -> None:
        """Refuse arrays that are not as the plan has them; all but the first must have memory.

        Raises:
            SpecError: names the array.
        """
        known = self.is_known(arrays)
        if known and all(map(_address, arrays[1:])):
            return
        self._compare(arrays)
        for array, expected in zip(arrays[1:], self.expected[1:], strict=True):
            check_storage(self.where, expected.name, array)
        if not known:
            self.guard = guard_of(arrays, self.free)

    def is_known(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether arrays are like some that were checked, but for their addresses."""
        guard = self.guard
        return guard is not None and guard(*arrays) and self._have_one_batch(arrays)

    def _have_one_batch(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether the batched ones, of whose batch a guard knows nothing, have as many samples."""
        batch = -1
        for array in self.batched(arrays):
            size = array.size(0)
            if batch not in (-1, size):
                return False
            batch = size
        return True

    def _compare(self, arrays: Sequence[torch.Tensor]) -> None:
        """Compare each array with the plan."""
        batch: int | None = None
        device: torch.device | None = None
        for array, expected in zip(arrays, self.expected, strict=True):
            check_array(self.where, array, expected, fix=_FIX, batch=batch, device=device)
            device = array.device
            if expected.is_batched:
                batch = array.shape[0]


class Ready(Held):
    """Makes arrays ready for a kernel: those that do not lie in a row are copied.

    Arguments:
        where, expected: as for all.
        dense: gives an array as the kernel reads it, a copy if it must.
        is_near: whether the kernel can reach an array's memory.
    """

    def __init__(
        self,
        where: str,
        expected: Sequence[Expected],
        dense: Callable[[torch.Tensor], torch.Tensor],
        is_near: Callable[[torch.Tensor], bool],
    ) -> None:
        super().__init__(where, expected)
        self.dense, self.is_near = dense, is_near

    def __call__(self, arrays: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The arrays as the kernel can read them.

        Raises:
            SpecError: an array is not as the plan has it.
        """
        if self.is_known(arrays):
            return arrays
        self._compare(arrays)
        found = [*map(self.dense, arrays)]
        # Copies that lie in a row are like others that come so, but where each call has to cast.
        if all(a.dtype is b.dtype for a, b in zip(arrays, found, strict=True)):
            self.guard = guard_of(found, self.free)
        return found

    def with_memory(self, arrays: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The arrays, of which one had no address: memory for torch's zeros that have none.

        Raises:
            SpecError: an array's storage was given back.
        """
        found = [torch.zeros_like(a) if a._is_zerotensor() else a for a in arrays]
        for array, expected in zip(arrays, self.expected, strict=True):
            check_storage(self.where, expected.name, array)
        if all(a is b for a, b in zip(arrays, found, strict=True)):
            msg = f"{self.where}: an array has no memory; pass arrays that torch has allocated"
            raise SpecError(msg)
        return found

    def _have_one_batch(self, arrays: Sequence[torch.Tensor]) -> bool:
        """The same, and whether they lie in a row: a guard looks at their strides no more."""
        batch = -1
        for array in self.batched(arrays):
            size = array.size(0)
            if batch not in (-1, size) or not array.is_contiguous():
                return False
            batch = size
        return True

    def _compare(self, arrays: Sequence[torch.Tensor]) -> None:
        """The same, and whether the kernel can read it."""
        super()._compare(arrays)
        for array, expected in zip(arrays, self.expected, strict=True):
            if type(array) not in PLAIN or not self.is_near(array):
                msg = (
                    f"{self.where}: {expected.name}: expected a torch.Tensor in memory that the "
                    f"kernel can reach, got {type(array).__name__} on {array.device}; {_FIX}"
                )
                raise SpecError(msg)
            check_storage(self.where, expected.name, array)
