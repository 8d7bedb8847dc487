"""The short way of a call that is like one that was checked before.

At batch 1 a kernel takes a few microseconds, and the checks of a call in Python take ten times as
long. What a guard finds to be like a call that went the long way runs at once; everything else
takes the long way, with its errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tnlayer.runtime.autograd import autocast_is_on, contract_checked, is_traced
from tnlayer.runtime.guard import Guard, guard_of
from tnlayer.runtime.pick import picker
from tnlayer.runtime.ranged import RangedProgram

_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]
_PLAIN = (torch.Tensor, torch.nn.Parameter)

# Arrays by name: the parameters or the buffers of a module.
Arrays = Mapping[str, torch.Tensor | None]


class FastCall:
    """Runs calls that are like a checked one; made by :func:`fast_call_like`.

    Arguments:
        guard: whether tensors, x and then all stored arrays, are like those of the checked call.
        programs: each summed network with the places of its arrays behind x; None: all, in order.
        stored: names of the arrays, of parameters and of buffers.
        leading: number of leading dimensions of x.
        differentiable: whether one of the arrays requires a gradient.
    """

    __slots__ = ("differentiable", "guard", "leading", "programs", "stored")

    def __init__(
        self,
        guard: Guard,
        programs: tuple[tuple[RangedProgram, Callable[..., Any] | None], ...],
        stored: tuple[Callable[..., Any], Callable[..., Any]],
        leading: int,
        differentiable: bool,
    ) -> None:
        self.guard, self.programs, self.stored = guard, programs, stored
        self.leading, self.differentiable = leading, differentiable

    def __call__(
        self, inputs: tuple[torch.Tensor, ...], parameters: Arrays, buffers: Arrays
    ) -> torch.Tensor | None:
        """The sum of the networks' results, or None where the call has to take the long way."""
        if is_traced() or _mode_count():
            return None
        try:
            arrays = (*inputs, *self.stored[0](parameters), *self.stored[1](buffers))
            x = arrays[0]
            # A guard takes torch's zeros that have no memory for an array like any other.
            if not self.guard(*arrays) or not x.is_contiguous() or x._is_zerotensor():
                return None
        except (KeyError, TypeError):  # a name is gone; other than one input
            return None
        with_gradient = torch.is_grad_enabled()
        if with_gradient and not self.differentiable:
            return None
        shape = arrays[0].shape
        batch = shape[0] if self.leading == 1 else math.prod(shape[: self.leading])
        if self.leading != 1:
            arrays = (arrays[0].reshape(batch, *shape[self.leading :]), *arrays[1:])
        total: torch.Tensor | None = None
        for ranged, pick in self.programs:
            program = ranged.at(batch)
            taken = arrays if pick is None else pick(arrays)
            y = (
                contract_checked(program, taken)
                if with_gradient
                else program.infer_checked(*taken)[0]
            )
            total = y if total is None else total + y
        assert total is not None
        if self.leading == 1:
            return total
        return total.reshape(*shape[: self.leading], total.shape[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a layer has to check its own first call."""
        return type(None), ()


def fast_call_like(
    x: torch.Tensor,
    feature_dims: int,
    programs: Sequence[RangedProgram],
    parameters: Arrays,
    buffers: Arrays,
) -> FastCall | None:
    """The short way for calls like one that just went the long way; None if there is none.

    Arguments:
        x: the one, batched input.
        feature_dims: number of its last dimensions that are no batch.
        programs: the networks that are summed.
        parameters, buffers: of the module.
    """
    if is_traced() or _mode_count() or autocast_is_on(x.device.type):
        return None
    order = dict.fromkeys(name for r in programs for name in r.main.parameter_order)
    first = [name for name in order if parameters.get(name) is not None]
    second = [name for name in order if name not in first]
    if any(buffers.get(name) is None for name in second):
        return None  # a parametrization makes it at each call
    stored = (picker(first), picker(second))
    arrays = (x, *stored[0](parameters), *stored[1](buffers))
    main = programs[0].main
    if not all(map(_is_ready, arrays, [main.dtype] * len(arrays))) or not main.can_take(arrays):
        return None
    leading = x.dim() - feature_dims
    guard = guard_of(arrays, [leading, *[0] * (len(arrays) - 1)])
    if guard is None:
        return None
    places = {name: place for place, name in enumerate((*first, *second), start=1)}
    picks: list[tuple[RangedProgram, Callable[..., Any] | None]] = []
    for ranged in programs:
        wanted = [0, *(places[name] for name in ranged.main.parameter_order)]
        picks.append((ranged, None if wanted == [*range(len(arrays))] else picker(wanted)))
    return FastCall(
        guard, tuple(picks), stored, leading, any(array.requires_grad for array in arrays)
    )


def _is_ready(array: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether compiled code can read an array as it lies there."""
    return (
        type(array) in _PLAIN
        and array.dtype is dtype
        and array.is_contiguous()
        and not array.is_neg()
        and not array.is_conj()
        and not array._is_zerotensor()
    )
