"""Generated forward and backward behind torch's autograd.

In eager mode a ctx-style Function runs the generated pair. Under functorch transforms, tracing,
export and forward-mode differentiation the generated forward runs alone, as plain torch calls that
torch differentiates itself; that is the reference too, and double backward goes through it. It
keeps no memory limit: where torch differentiates, torch keeps what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.autograd import forward_ad, profiler

from ..errors import BuildError
from ..support.pick_items import picker

if TYPE_CHECKING:
    from ..graph.graph import Graph
    from ..lowering.calls.training_schedules import Mask
    from .generated_functions import Kernels

jit_state = torch._C._get_tracing_state  # pyright: ignore[reportPrivateUsage]
_set_jit_state = torch._C._set_tracing_state  # pyright: ignore
functorch_is_active = torch._C._are_functorch_transforms_active  # pyright: ignore[reportPrivateUsage]

# Gradients of a vectorised Jacobian (``is_grads_batched``), which torch.func does not announce.
stands_for_many = torch._C._functorch.is_legacy_batchedtensor  # pyright: ignore

_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]
_any_autocast = torch._C._is_any_autocast_enabled  # pyright: ignore
_mode_of = torch._C._get_dispatch_mode  # pyright: ignore
# Modes that record calls, or put arrays without entries in the place of others.
_RECORDING = tuple(torch._C._TorchDispatchModeKey.__members__.values())  # pyright: ignore
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_unsafe_view = torch.ops.aten._unsafe_view.default


def is_traced() -> bool:
    """Whether torch looks into what runs: tracing, functorch transforms, forward mode, in which a
    forward_ad.dual_level() is open."""
    if torch.compiler.is_compiling():
        return True
    level = forward_ad._current_level  # pyright: ignore[reportPrivateUsage]
    if level >= 0 or functorch_is_active() or jit_state() is not None:
        return True
    return _mode_count() > 0 and any(_mode_of(key) is not None for key in _RECORDING)


def are_plain(arrays: Sequence[torch.Tensor]) -> bool:
    """Whether arrays are torch's own, none of a subclass that has its own arithmetic."""
    return all(type(array) in _PLAIN for array in arrays)


def is_copy(array: torch.Tensor, source: torch.Tensor) -> bool:
    """Whether an array has memory of its own beside that of what it was made from."""
    if not array.numel():
        return False
    if source.layout is not torch.strided:
        return True
    return array.untyped_storage()._cdata != source.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def shape_of(x: torch.Tensor) -> tuple[int, ...]:
    """Sizes to compare: numbers where torch.jit.trace has tensors for them, and warns."""
    state = None if torch.compiler.is_compiling() else jit_state()
    if state is None:
        return tuple(x.shape)
    _set_jit_state(None)
    try:
        return tuple(x.shape)
    finally:
        _set_jit_state(state)


def autocast_is_on(kind: str) -> bool:
    """Whether torch.autocast is active for a type of device (some have none)."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


# As for torch's matrix products: nothing else is cast.
_AUTOCAST_FROM = (torch.float16, torch.bfloat16, torch.float32)


def autocast_result(y: torch.Tensor) -> torch.Tensor:
    """The result as autocast's matrix products give it: in its dtype, if it is active."""
    kind = y.device.type
    if autocast_is_on(kind) and y.dtype in _AUTOCAST_FROM:
        return y.to(torch.get_autocast_dtype(kind))
    return y


def with_leading(y: torch.Tensor, leading: Sequence[int], *, traced: bool = False) -> torch.Tensor:
    """The result with other leading dimensions; as for nn.Linear it is no view, for nobody has the
    array itself. FSDP warns of views.

    Arguments:
        y: of two dimensions.
        leading: whose product is that of y's first one.
        traced: whether torch looks, which knows its own name for it.
    """
    shape = (*leading, y.shape[-1])
    return y.reshape(shape) if traced else _unsafe_view(y, shape)


def profiler_is_on() -> bool:
    """Whether torch's profiler runs: asked first, for a name takes as long as a small kernel."""
    return profiler._is_profiler_enabled  # pyright: ignore[reportPrivateUsage]


class Runnable(Protocol):
    """What :func:`run` asks of a program."""

    dtype: torch.dtype

    @property
    def graph(self) -> Graph:
        """The network, or the first of several."""
        ...

    @property
    def stand_in(self) -> Runnable | None:
        """Keeps a memory limit where the kernels cannot take the arrays; None: no limit."""
        ...

    def reference(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What torch can trace and differentiate."""
        ...

    def traced(self, *arrays: torch.Tensor) -> torch.Tensor:
        """y as torch's own calls, forward and backward as planned, for a compiler that looks."""
        ...

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The same of any arrays."""
        ...

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether the kernels can read these arrays."""
        ...

    def can_take_gradient(self, gradient: torch.Tensor) -> bool:
        """The same for the gradient of y."""
        ...

    def kernels(self, mask: Mask) -> Kernels:
        """The functions for a mask of wanted gradients."""
        ...

    def use_torch(self, mask: Mask, error: BuildError) -> object:
        """Let torch run from now on what cannot be built; raises where kernels were asked for."""
        ...

    def check_inputs(
        self,
        where: str,
        arrays: Sequence[torch.Tensor],
        fix: str,
        gradient: torch.Tensor | None = None,
    ) -> None:
        """Refuse arrays that are not as the plan has them."""
        ...

    @property
    def input_shapes(self) -> Sequence[Sequence[int | None]]:
        """Shapes of all inputs; None is the batch."""
        ...

    @property
    def is_for_compilers(self) -> bool:
        """Whether a compiler shall see torch's own calls instead of an operation."""
        ...

    @property
    def keeps_limit(self) -> bool:
        """Whether there is a memory limit."""
        ...

    @property
    def owns_results(self) -> bool:
        """Whether results surely share no memory with arguments or each other."""
        ...

    def saves_like(self, other: Runnable, mask: Mask) -> bool:
        """Whether a backward of another program of the network can read what this one saves."""
        ...


def run(program: Runnable, arrays: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Apply a program to its input arrays, differentiably and in their own dtype.

    Arguments:
        program: the compiled network.
        arrays: ports, then parameters, in the program's order, all of its dtype.
    """
    kind = arrays[0].device.type if arrays else "cpu"
    if autocast_is_on(kind):
        with torch.autocast(kind, enabled=False):
            return _run(program, arrays)
    return _run(program, arrays)


def _run(program: Runnable, arrays: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Choose between the generated pair and the plain forward; autocast is off."""
    if is_traced():
        return program.reference(*arrays)[0]
    if program.stand_in is not None and are_plain(arrays) and not program.can_take(arrays):
        program = program.stand_in
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        if not program.can_take(arrays):
            return program.reference(*arrays)[0]
        mask = tuple(array.requires_grad for array in arrays)
        step = Step(program, mask, is_checked=False)
        return _Contraction.apply(step, *arrays)  # pyright: ignore
    return program.infer(*arrays)[0]


class Step:
    """A program's functions for one mask of wanted gradients: of one call, or of all that are like
    a checked one.

    Arguments:
        program: the compiled network.
        mask: for each input, whether its gradient is wanted.
        is_checked: whether the arrays are known to be as compiled code wants them.
    """

    __slots__ = ("forward", "is_plain", "kernels", "mask", "place", "program", "quick")

    def __init__(self, program: Runnable, mask: Mask, *, is_checked: bool) -> None:
        kernels = program.kernels(mask)
        self.program, self.mask, self.kernels = program, mask, kernels
        self.forward = kernels.checked if is_checked else kernels.forward
        self.quick = kernels.quick
        # Whether a backward reads inputs alone, as that of most compiled kernels does.
        self.is_plain = not (kernels.saved or kernels.origins)
        # Puts gradients, behind a None, where autograd looks for them, the first for the step.
        numbers = iter(range(1, 1 + len(mask)))
        self.place = picker([0, *(next(numbers) if asked else 0 for asked in mask)])


class _Contraction(torch.autograd.Function):
    """The generated forward and the generated backward for one mask of wanted gradients."""

    @staticmethod
    def forward(ctx: Any, step: Step, *arrays: torch.Tensor) -> torch.Tensor:
        ctx.step = step
        kernels = step.kernels
        if step.is_plain:
            (y,) = step.forward(*arrays)
            ctx.save_for_backward(*kernels.pick(arrays))
        else:
            y, *saved = step.forward(*arrays)
            origins = [arrays[index] for index in kernels.origins]
            ctx.save_for_backward(*kernels.pick(arrays), *saved, *origins)
        # Of an array that nobody else has: it may be changed in place.
        return y.data if y._is_view() else y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        step: Step = ctx.step
        kernels, (gradient,) = step.kernels, gradients
        if torch.is_grad_enabled():
            return (None, *_reference_backward(ctx, gradient))
        kept = ctx.saved_tensors
        if kernels.origins:
            kept = kept[: -len(kernels.origins)]
        if step.quick is not None and not (
            functorch_is_active() or _mode_count() or _any_autocast() or jit_state() is not None
        ):
            quick = step.quick(gradient, kept)
            if quick is not None:
                return step.place((None, *quick))
        if not step.program.can_take_gradient(gradient):
            return (None, *_reference_backward(ctx, gradient))
        kind = gradient.device.type
        try:
            if autocast_is_on(kind):  # the caller may run the backward under it, too
                with torch.autocast(kind, enabled=False):
                    wanted = kernels.backward(gradient, *kept)
            else:
                wanted = kernels.backward(gradient, *kept)
        except BuildError as error:  # compiled at the first backward
            step.program.use_torch(step.mask, error)
            return (None, *_reference_backward(ctx, gradient))
        return step.place((None, *wanted))


class _TracedPair(torch.autograd.Function):
    """Forward and backward made of torch's own calls, which a compiler looks into."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, mask: Mask, reference: Any, *arrays: torch.Tensor
    ) -> torch.Tensor:
        y, *saved = kernels.forward(*arrays)
        ctx.kernels, ctx.mask, ctx.reference = kernels, mask, reference
        ctx.count = len(arrays)
        ctx.save_for_backward(*arrays, *saved)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        arrays, saved = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        if torch.is_grad_enabled():
            found = iter(reference_gradients(ctx.reference, ctx.mask, gradients[0], arrays))
        else:
            needed = ctx.kernels.pick(arrays)
            found = iter(ctx.kernels.backward(gradients[0], *needed, *saved))
        return (None, None, None, *(next(found) if asked else None for asked in ctx.mask))


def traced_pair(
    kernels: Kernels, mask: Mask, reference: Any, arrays: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """Apply functions that are made of torch's own calls, differentiably.

    Arguments:
        kernels: for a mask of wanted gradients.
        mask: that one.
        reference: the forward alone, for gradients of gradients.
        arrays: all inputs.
    """
    return _TracedPair.apply(kernels, mask, reference, *arrays)  # pyright: ignore


def reference_gradients(
    reference: Callable[..., tuple[torch.Tensor, ...]],
    mask: Sequence[bool],
    gradient: torch.Tensor,
    arrays: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """Gradients of the reference; in grad mode they can be differentiated again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # One tensor may stand in several places, and each wants its own part of the gradient.
        arrays = [
            array.view_as(array) if array.requires_grad else array.detach().requires_grad_(asked)
            for array, asked in zip(arrays, mask, strict=True)
        ]
        y = reference(*arrays)[0]
        wanted = [array for array, asked in zip(arrays, mask, strict=True) if asked]
        grads = torch.autograd.grad(y, wanted, gradient, create_graph=again, allow_unused=True)
    pairs = zip(grads, wanted, strict=True)
    return [torch.zeros_like(array) if grad is None else grad for grad, array in pairs]


# What Function.apply does beyond this is for transforms, under which nothing here comes to it, but
# takes as long as all the rest.
_apply = super(torch.autograd.Function, _Contraction).apply  # pyright: ignore


def contract_checked(step: Step, arrays: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Apply a program, differentiably, to arrays that are like those of a call that went through
    :func:`run` with no transform, mode or autocast.

    Arguments:
        step: of the program, for what these arrays want.
        arrays: ports, then parameters, in the program's order.
    """
    return _apply(step, *arrays)


def zeros_for(shape: Sequence[int], gradient: torch.Tensor) -> torch.Tensor:
    """Zeros that stand for an array on which no gradient depends; not made from the gradient, which
    may stand for a batch of gradients."""
    return torch.zeros(shape, dtype=gradient.dtype, device=gradient.device, requires_grad=True)


def _reference_backward(ctx: Any, gradient: torch.Tensor) -> list[torch.Tensor | None]:
    """Gradients from torch's own backward of the forward; in grad mode they can be differentiated
    again.

    Arrays that are neither read by the backward nor origins of what was saved were not kept; the
    gradients do not depend on them, so zeros stand in for them.
    """
    program, mask, kernels = ctx.step.program, ctx.step.mask, ctx.step.kernels
    saved = ctx.saved_tensors
    kept = dict(zip(kernels.needed, saved, strict=False))
    kept.update(zip(kernels.origins, saved[len(saved) - len(kernels.origins) :], strict=True))
    batch = gradient.shape[0] if gradient.dim() > 1 else 1
    arrays = [
        kept[index]
        if index in kept
        else zeros_for([batch if size is None else size for size in shape], gradient)
        for index, shape in enumerate(program.input_shapes)
    ]
    where = f"program of {program.graph.label!r}"
    fix = "leave it as it is until the backward has run"
    program.check_inputs(where, arrays, fix, gradient)
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # One tensor may stand in several places (tied parameters, a product of x with itself), and
        # each place wants its own part of the gradient.
        arrays = [array.view_as(array) for array in arrays]
        y = program.reference(*arrays)[0]
        wanted = [array for array, asked in zip(arrays, mask, strict=True) if asked]
        found = iter(
            torch.autograd.grad(y, wanted, gradient, create_graph=again, allow_unused=True)
        )
    return [next(found) if asked else None for asked in mask]
