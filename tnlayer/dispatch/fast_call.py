"""The short way of a call that is like one that was checked before.

At batch 1 a kernel takes a few microseconds, and the checks of a call in Python take ten times as
long. What a guard finds to be like a call that went the long way runs at once; everything else
takes the long way, with its errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from ..lowering.calls.training_schedules import Mask
from ..runtime import cuda_devices
from ..runtime.array_checks import PLAIN
from ..runtime.autograd import (
    Step,
    autocast_is_on,
    autocast_result,
    contract_checked,
    functorch_is_active,
    is_traced,
    with_leading,
)
from ..runtime.module_arrays import home_of, homes_of, is_made, look_up_all
from ..runtime.torch_guards import Guard, guard_of
from ..support.pick_items import picker
from .programs_by_batch import RangedProgram
from .sum_of_networks import SummedRanges

_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]
_address = torch.Tensor.data_ptr
_without_autocast = torch._C._DisableAutocast  # pyright: ignore

_Pick = Callable[[Any], tuple[Any, ...]]


class FastCall:
    """Runs calls that are like a checked one; made by :func:`fast_call_like`.

    Arguments:
        guard: whether tensors, x and then all stored arrays, are like those of the checked call.
        ranged: the programs by batch size.
        pick: takes what they are called with; None: all arrays, in order.
        stored: takes the arrays from the module's parameters, and from its buffers and attributes,
            if some lie there.
        names: of arrays that are no attributes, and so must not become any.
        buffered: of those that are buffers, and so must not become parameters.
        bias: its place among the arrays; None: there is none.
        leading: number of leading dimensions of x.
        row_bytes, itemsize: bytes of a sample of x, and of an entry.
        mask: which of what they are called with require a gradient, but for what is made.
        made: names of arrays that are made at each call, behind all others, with their dtypes and
            shapes.
        cast: under autocast the dtype of the program and whether the result has autocast's.
    """

    __slots__ = (
        "batch", "bias", "buffered", "cast", "guard", "itemsize", "leading", "made", "mask",
        "names", "pick", "ranged", "row_bytes", "step", "stored",
    )  # fmt: skip

    def __init__(
        self,
        guard: Guard,
        ranged: RangedProgram | SummedRanges,
        pick: _Pick | None,
        stored: tuple[_Pick, _Pick | None, _Pick | None],
        names: frozenset[str],
        buffered: frozenset[str],
        bias: int | None,
        leading: int,
        row_bytes: int,
        itemsize: int,
        mask: Mask,
        made: Mapping[str, tuple[torch.dtype, torch.Size]],
        cast: tuple[torch.dtype, bool] | None,
    ) -> None:
        self.guard, self.ranged, self.pick = guard, ranged, pick
        self.stored, self.names, self.buffered = stored, names, buffered
        self.bias, self.leading, self.mask = bias, leading, mask
        self.row_bytes, self.itemsize, self.made, self.cast = row_bytes, itemsize, made, cast
        # The last one that ran.
        self.step: Step | None = None
        # Samples of the last call that had any; 0 before.
        self.batch = 0

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor | None:
        """The result, or None where the call has to take the long way."""
        # is_traced() would take as long as all checks here: tracers have modes, or other dispatch
        # keys than the guard has seen, but for these three.
        level = forward_ad._current_level  # pyright: ignore[reportPrivateUsage]
        if is_dynamo_compiling() or level >= 0 or functorch_is_active() or _mode_count():
            return None
        own = module.__dict__
        parameters = own["_parameters"]
        from_parameters, from_buffers, from_attributes = self.stored
        try:
            arrays = (*inputs, *from_parameters(parameters))
            if from_buffers is not None:
                arrays += from_buffers(own["_buffers"])
            if from_attributes is not None:
                arrays += from_attributes(own)
            x = arrays[0]
            # A guard that is asked about a nested array ends the process.
            if x.is_nested or not self.guard(*arrays) or not x.is_contiguous():
                return None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None  # a name is gone; other than one input; torch.fx stands in for all inputs
        # What torch would find elsewhere now, or where there was no bias.
        if not own.keys().isdisjoint(self.names) or (
            self.bias is None
            and (parameters.get("bias") is not None or own["_buffers"].get("bias") is not None)
        ):
            return None
        if self.buffered and not parameters.keys().isdisjoint(self.buffered):
            return None
        shape = x.shape
        batch = shape[0] if self.leading == 1 else math.prod(shape[: self.leading])
        # A guard looks at no storage, which may have been resized.
        end = x.storage_offset() * self.itemsize + batch * self.row_bytes
        if x.untyped_storage().nbytes() < end:
            return None
        if self.bias is not None and not arrays[self.bias].data_ptr():
            return None
        if self.leading != 1:
            arrays = (x.reshape(batch, *shape[self.leading :]), *arrays[1:])
        program = self.ranged.at(batch)
        if batch:
            self.batch = batch
        if not program.checks_addresses and not all(map(_address, arrays[1:])):
            return None
        if self.made:
            # Made once a call, so after all that may send it the long way, but for their own looks.
            made = tuple(look_up_all(module, self.made).values())
            if not all(map(_is_like, made, self.made.values())):
                return None
            arrays += made
        taken = arrays if self.pick is None else self.pick(arrays)
        step = self._step(program, taken) if torch.is_grad_enabled() else None
        if self.cast is not None:
            y = _run_under_autocast(program, step, taken, self.cast)
        elif step is not None:
            y = contract_checked(step, taken)
        else:
            y = program.infer_checked(*taken)[0]
        if self.leading == 1:
            return y
        return with_leading(y, shape[: self.leading])

    def _step(self, program: Any, taken: tuple[torch.Tensor, ...]) -> Step | None:
        """The functions of a program for the gradients that arrays want; None: they want none."""
        mask = tuple(a.requires_grad for a in taken) if self.made else self.mask
        if True not in mask:
            return None
        step = self.step
        if (
            step is None
            or step.program is not program
            or step.mask != mask
            or step.kernels is not program.kernels(mask)  # it had to do with torch's meanwhile
        ):
            step = self.step = Step(program, mask, is_checked=True)
        return step

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a layer has to check its own first call."""
        return type(None), ()


def _run_under_autocast(
    program: Any,
    step: Step | None,
    taken: tuple[torch.Tensor, ...],
    cast: tuple[torch.dtype, bool],
) -> torch.Tensor:
    """The same in the program's dtype; the result in autocast's, if that is wanted."""
    dtype, casts = cast
    with _without_autocast():
        x = taken[0]
        if x.dtype is not dtype:
            taken = (x.to(dtype), *taken[1:])
        y = program.infer_checked(*taken)[0] if step is None else contract_checked(step, taken)
    return autocast_result(y) if casts else y


def _is_like(array: torch.Tensor | None, kind: tuple[torch.dtype, torch.Size]) -> bool:
    """Whether compiled code can read an array, of some dtype and shape, as it lies there."""
    if array is None:
        return False
    return (array.dtype, array.shape) == kind and _is_ready(array, array.dtype)


def fast_call_like(
    x: torch.Tensor,
    feature_dims: int,
    ranged: RangedProgram | SummedRanges,
    module: nn.Module,
    known: Mapping[str, torch.Tensor],
    *,
    casts: bool,
) -> FastCall | None:
    """The short way for calls like one that just went the long way; None if there is none.

    Arguments:
        x: the one, batched input.
        feature_dims: number of its last dimensions that are no batch.
        ranged: the programs by batch size.
        module: that has the arrays.
        known: the arrays of that call; what is made is another each time.
        casts: whether the result has autocast's dtype under autocast.
    """
    if is_traced() or _mode_count():
        return None
    main = ranged.known
    made = tuple(name for name in main.parameter_order if is_made(module, name))
    if "bias" in made:
        return None  # whether there is one is asked before it is made
    names = [name for name in main.parameter_order if name not in made]
    homes: tuple[Mapping[str, Any], ...] = homes_of(module)
    found = {name: home_of(module, name) for name in names}
    if None in found.values():
        return None
    grouped = [[name for name in names if found[name] is home] for home in homes]
    stored = [home[name] for home, group in zip(homes, grouped, strict=True) for name in group]
    arrays: tuple[torch.Tensor, ...] = (x, *stored, *(known[name] for name in made))
    buffers, attributes = (picker(group) if group else None for group in grouped[1:])
    under_autocast = autocast_is_on(x.device.type)
    dtypes = [x.dtype if under_autocast else main.dtype, *[main.dtype] * (len(arrays) - 1)]
    if not all(map(_is_ready, arrays, dtypes)) or not main.can_take(arrays):
        return None
    leading = x.dim() - feature_dims
    guard = guard_of(arrays[: 1 + len(stored)], [leading, *[0] * len(stored)])
    if guard is None:
        return None
    ordered = [name for group in (*grouped, made) for name in group]
    places = {name: place for place, name in enumerate(ordered, start=1)}
    hidden = frozenset({*grouped[0], *grouped[1], "bias"} - set(grouped[2])) - set(module.__dict__)
    pick = _picks([places[name] for name in main.parameter_order], len(arrays))
    return FastCall(
        guard,
        ranged,
        pick,
        (picker(grouped[0]), buffers, attributes),
        hidden,
        frozenset(grouped[1]),
        places.get("bias"),
        leading,
        math.prod(x.shape[leading:]) * x.itemsize,
        x.itemsize,
        tuple(array.requires_grad for array in (arrays if pick is None else pick(arrays))),
        {name: (known[name].dtype, known[name].shape) for name in made},
        (main.dtype, casts) if under_autocast else None,
    )  # fmt: skip


def _picks(places: Sequence[int], count: int) -> _Pick | None:
    """Takes x and the arrays at some places from so many; None: all, in order."""
    if [*places] == [*range(1, count)]:
        return None
    if [*places] == [*range(1, len(places) + 1)]:
        return itemgetter(slice(len(places) + 1))
    return picker([0, *places])


def _is_ready(array: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether compiled code can read an array as it lies there."""
    return (
        type(array) in PLAIN
        and array.dtype is dtype
        and array.layout is torch.strided
        and (array.is_cpu or cuda_devices.is_on_gpu(array))
        and array.is_contiguous()
        and not array.is_neg()
        and not array.is_conj()
        and not array._is_zerotensor()
    )
