"""Gradients, vmap and autocast of the operations in torch_ops.py.

Where torch.compile looks and a program is torch's own calls, these are what it sees, so that it can
fuse them with what stands around. What has no rule goes through the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._functorch.autograd_function import custom_function_call_vmap_helper
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad

from . import torch_ops
from .autograd import (
    Runnable,
    autocast_result,
    functorch_is_active,
    reference_gradients,
    stands_for_many,
    zeros_for,
)
from .torch_ops import Contractions, batch_of, find, outside_traces

_mode_of = torch._C._get_dispatch_mode  # pyright: ignore
_MAKES_GRAPHS = (
    torch._C._TorchDispatchModeKey.FUNCTIONAL,  # pyright: ignore
    torch._C._TorchDispatchModeKey.PROXY,  # pyright: ignore
)
_FAKE = torch._C._TorchDispatchModeKey.FAKE  # pyright: ignore
_below_autograd = torch._C._AutoDispatchBelowAutograd  # pyright: ignore
_after_autograd = torch._C._after_autograd_keyset  # pyright: ignore


def _hint(batch: Any) -> int:
    """A batch size as a number: of a graph that serves all sizes, the one it was traced with."""
    if isinstance(batch, torch.SymInt):
        hint = batch.node.hint
        return 1 if hint is None else int(hint)
    return batch


def _settled(found: Contractions, arrays: Sequence[torch.Tensor], *, trains: bool) -> Runnable:
    """The program that a graph is made for; planned and built as if nothing were traced."""
    batch = _hint(batch_of(found, arrays))
    with outside_traces():
        return found.at(arrays[0], len(arrays), batch, trains=trains)


def _is_in_graph() -> bool:
    """Whether a graph is made for a compiler."""
    return any(_mode_of(key) is not None for key in _MAKES_GRAPHS)


def _is_differentiated_elsewhere() -> bool:
    """Whether torch.func or forward-mode differentiation look at the call."""
    return functorch_is_active() or forward_ad._current_level >= 0  # pyright: ignore


def _reference(found: Contractions, arrays: Sequence[torch.Tensor]) -> torch.Tensor:
    return _settled(found, arrays, trains=False).reference(*arrays)[0]


# -- the forward ---------------------------------------------------------------------------------


def _contract(_: Any, key: str, arrays: list[torch.Tensor]) -> torch.Tensor:
    found = find(key)
    if _is_differentiated_elsewhere():
        return _reference(found, arrays)
    trains = torch.is_grad_enabled() and any(array.requires_grad for array in arrays)
    if _is_in_graph():
        program = _settled(found, arrays, trains=trains)
        if program.is_for_compilers:
            return program.traced(*arrays)
    if trains:
        return _Contraction.apply(key, *arrays)  # pyright: ignore
    with _below_autograd():
        return torch_ops.contract_alone(key, arrays)


class _Contraction(torch.autograd.Function):
    """The operation and its backward, which is one too."""

    @staticmethod
    def forward(ctx: Any, key: str, *arrays: torch.Tensor) -> torch.Tensor:
        ctx.key, ctx.mask = key, ctx.needs_input_grad[1:]
        found = find(key)
        ctx.planned, ctx.places, saves = _what_is_kept(found, arrays, ctx.mask)
        ctx.shapes = tuple(array.shape for array in arrays)
        with _below_autograd():
            if saves:
                mask = [*ctx.mask]
                y, *saved = torch_ops.contract_saving(key, ctx.planned, mask, [*arrays])
            else:
                y, saved = torch_ops.contract_alone(key, [*arrays]), []
        ctx.save_for_backward(*(arrays[place] for place in ctx.places), *saved)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        count = len(ctx.places)
        arrays, saved = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        if torch.is_grad_enabled() or stands_for_many(gradient) or functorch_is_active():
            full = _filled(ctx.places, arrays, ctx.shapes, gradient)
            found = iter(_reference_gradients(find(ctx.key), ctx.mask, gradient, full))
        else:
            found = iter(
                torch_ops.contract_backward(
                    ctx.key, ctx.planned, [*ctx.mask], ctx.places, gradient, [*arrays], [*saved]
                )
            )
        return (None, *(next(found) if asked else None for asked in ctx.mask))


def _what_is_kept(
    found: Contractions, arrays: Sequence[torch.Tensor], mask: tuple[bool, ...]
) -> tuple[int, list[int], bool]:
    """The batch size that is planned for, which arrays the backward reads, and whether the forward
    saves others for it."""
    every = [*range(len(arrays))]
    if _mode_of(_FAKE) is not None and not _is_in_graph():
        return 1, every, False  # only shapes are asked for: nothing is planned
    batch = _hint(batch_of(found, arrays))
    program = _settled(found, arrays, trains=True)
    with outside_traces():
        kernels = program.kernels(mask)
    read = {*kernels.needed, *kernels.origins}
    saves = bool(kernels.saved) or program.keeps_limit
    return batch, [place for place in every if place in read], saves


def _filled(
    places: Sequence[int],
    arrays: Sequence[torch.Tensor],
    shapes: Sequence[torch.Size],
    gradient: torch.Tensor,
) -> list[torch.Tensor]:
    """All arrays; zeros for those that were not kept, on which gradients do not depend."""
    known = dict(zip(places, arrays, strict=True))
    return [
        known[k] if k in known else zeros_for(shape, gradient) for k, shape in enumerate(shapes)
    ]


def _reference_gradients(
    found: Contractions,
    mask: Sequence[bool],
    gradient: torch.Tensor,
    arrays: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    reference = _settled(found, arrays, trains=False).reference
    return reference_gradients(reference, mask, gradient, arrays)


# -- the other two, where they are called by themselves ------------------------------------------


def _contract_saving(
    keyset: Any, key: str, planned: int, mask: list[bool], arrays: list[torch.Tensor]
) -> list[torch.Tensor]:
    with _below_autograd():
        found = torch_ops.contract_saving.redispatch(
            keyset & _after_autograd, key, planned, mask, [array.detach() for array in arrays]
        )
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        found[0] = torch_ops.contract(key, arrays)
    return found


def _contract_backward(
    keyset: Any,
    key: str,
    planned: int,
    mask: list[bool],
    places: list[int],
    gradient: torch.Tensor,
    arrays: list[torch.Tensor],
    saved: list[torch.Tensor],
) -> list[torch.Tensor]:
    again = torch.is_grad_enabled() and any(a.requires_grad for a in (gradient, *arrays))
    if again or _is_differentiated_elsewhere():
        found = find(key)
        full = _filled(places, arrays, _shapes(found, gradient, len(mask)), gradient)
        return _reference_gradients(found, mask, gradient, full)
    with _below_autograd():
        return torch_ops.contract_backward.redispatch(
            keyset & _after_autograd, key, planned, mask, places, gradient, arrays, saved
        )


def _shapes(found: Contractions, gradient: torch.Tensor, count: int) -> list[torch.Size]:
    batch = gradient.shape[0]
    return [
        torch.Size(batch if size is None else size for size in expected.shape)
        for expected in found.expected[:count]
    ]


for _name, _rule in (
    ("contract", _contract),
    ("contract_saving", _contract_saving),
    ("contract_backward", _contract_backward),
):
    torch_ops.LIBRARY.impl(_name, _rule, "Autograd", with_keyset=True)


# -- vmap ----------------------------------------------------------------------------------------


def _vmap_contract(_: Any, key: str, arrays: list[torch.Tensor]) -> torch.Tensor:
    """Where only inputs that have a batch are mapped, it becomes a part of that; else torch maps
    the calls of the reference."""
    found = find(key)
    level = torch._C._functorch.maybe_current_level()  # pyright: ignore
    own = zip(arrays, found.expected, strict=False)
    if found.batched is None or any(
        _is_mapped(array, level) and not expected.is_batched for array, expected in own
    ):
        return _reference(found, arrays)
    interpreter: Any = retrieve_current_functorch_interpreter()
    return custom_function_call_vmap_helper(
        interpreter, _fold_into_batch, torch_ops.contract, key, arrays
    )


def _is_mapped(array: torch.Tensor, level: int) -> bool:
    inside: Any = torch._C._functorch  # pyright: ignore
    return inside.is_batchedtensor(array) and inside.maybe_get_level(array) == level


def _fold_into_batch(
    info: Any, in_dims: tuple[Any, ...], key: str, arrays: list[torch.Tensor]
) -> tuple[torch.Tensor, int]:
    found, size, flat = find(key), info.batch_size, list[torch.Tensor]()
    for array, dim, expected in zip(arrays, in_dims[1], found.expected, strict=False):
        if not expected.is_batched:
            flat.append(array)
            continue
        whole = array.expand(size, *array.shape) if dim is None else array.movedim(dim, 0)
        flat.append(whole.reshape(-1, *whole.shape[2:]))
    y = torch_ops.contract(key, flat)
    return y.reshape(size, -1, y.shape[-1]), 0


def _one_by_one(
    operation: Any, info: Any, in_dims: tuple[Any, ...], arguments: Sequence[Any]
) -> tuple[list[torch.Tensor], list[int]]:
    """One call after the other."""

    def select(dim: Any, value: Any, number: int) -> Any:
        if isinstance(value, list):
            pairs = zip(dim, value, strict=True) if isinstance(dim, list | tuple) else ()
            return [select(*pair, number) for pair in pairs] if pairs else value
        return value if dim is None else value.select(dim, number)

    pairs = [*zip(in_dims, arguments, strict=True)]
    rows = [operation(*(select(*pair, k) for pair in pairs)) for k in range(info.batch_size)]
    found = [torch.stack(column) for column in zip(*rows, strict=True)]
    return found, [0] * len(found)


def _vmap_saving(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
    return _one_by_one(torch_ops.contract_saving, info, in_dims, arguments)


def _vmap_backward(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
    return _one_by_one(torch_ops.contract_backward, info, in_dims, arguments)


for _name in ("contract", "contract_alone"):
    torch_ops.LIBRARY.impl(_name, _vmap_contract, "FuncTorchBatched", with_keyset=True)
torch.library.register_vmap("tnlayer::contract_saving", _vmap_saving, lib=torch_ops.LIBRARY)
torch.library.register_vmap("tnlayer::contract_backward", _vmap_backward, lib=torch_ops.LIBRARY)


# -- autocast ------------------------------------------------------------------------------------


def _autocast(kind: str) -> Callable[[str, list[torch.Tensor]], torch.Tensor]:
    """As for torch's own matrix products the result has autocast's dtype; the arithmetic keeps the
    layer's, for a product of many tensors loses too much in half precision."""

    def call(key: str, arrays: list[torch.Tensor]) -> torch.Tensor:
        with torch.autocast(kind, enabled=False):
            dtype = arrays[-1].dtype
            y = torch_ops.contract(key, [array.to(dtype) for array in arrays])
        return autocast_result(y)

    return call


for _kind in ("CPU", "CUDA"):
    torch_ops.LIBRARY.impl("contract", _autocast(_kind.lower()), f"Autocast{_kind}")
