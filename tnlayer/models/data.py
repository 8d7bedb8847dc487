"""Batches of a model's inputs, and what its modules see of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import shown

# Modules with more features are not whitened: a covariance has the square of them.
MOST_FEATURES = 16_384

Call = Callable[[nn.Module, Any], Any]


def batches_of(data: Any) -> list[Any]:
    """The batches of some data: one tensor or mapping is one batch.

    Raises:
        SpecError: it is nothing to go through, or empty.
    """
    if isinstance(data, torch.Tensor | Mapping):
        return [data]
    if not isinstance(data, Iterable):
        msg = f"data={shown(data)}: expected a batch of the model's inputs, or batches"
        raise SpecError(msg)
    found = list(data)
    if not found:
        msg = "data is empty: expected one batch of the model's inputs at least"
        raise SpecError(msg)
    return found


def call_model(model: nn.Module, batch: Any) -> Any:
    """Run a model on a batch: a tensor, a mapping of arguments, or a pair of which the first is the
    input, as a DataLoader gives."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, Sequence) and batch and not isinstance(batch, str):
        return model(batch[0])
    return model(batch)


@dataclass(slots=True)
class Seen:
    """What one module saw of some batches.

    Arguments:
        rows: samples that it met in the first batch: positions of a convolution, indices of a
            table, all leading dimensions of others.
        total: samples of all batches.
        covariance: sum of x x^H over them, as columns, or None: not summed, or all were zero.
        spoilt: what is not finite in the inputs that were summed, in words; "" if nothing is.
    """

    rows: int = 0
    total: int = 0
    covariance: torch.Tensor | None = None
    spoilt: str = ""


@dataclass(slots=True)
class Watched:
    """Modules that are watched while a model runs.

    Arguments:
        modules: those that are.
        whitened: ids of those whose covariances are summed.
    """

    modules: Sequence[nn.Module]
    whitened: frozenset[int] = frozenset()
    seen: dict[int, Seen] = field(default_factory=dict[int, Seen])
    _is_first: bool = True

    def run(self, model: nn.Module, batches: Sequence[Any], call: Call) -> dict[int, Seen]:
        """Run a model on batches in eval mode, without gradients; nothing of it changes.

        Returns:
            what each module saw, by its id; a module that was never called is not there.
        """
        handles = [
            module.register_forward_pre_hook(self._see, with_kwargs=True) for module in self.modules
        ]
        try:
            with as_evaluated(model), torch.no_grad():
                for number, batch in enumerate(batches):
                    self._is_first = number == 0
                    call(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        for one in self.seen.values():
            # Inputs that are all zero, behind a part that starts so, weight no error: a matrix of
            # zeros would be as good as any.
            if one.covariance is not None and not bool(one.covariance.any()):
                one.covariance = None
        return self.seen

    def _see(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = next((one for one in (*inputs, *named.values())), None)
        if not isinstance(x, torch.Tensor):
            return
        seen = self.seen.setdefault(id(module), Seen())
        rows = _rows(module, x)
        seen.total += rows
        if self._is_first:
            seen.rows += rows
        if id(module) in self.whitened:
            flat = _flat(module, x)
            if flat is not None and flat.shape[-1] <= MOST_FEATURES:
                part = flat.to(torch.float64 if not flat.is_complex() else torch.complex128)
                # Of x as columns, on which matrices act: conjugates matter where x is complex.
                moments = (part.mT @ part.conj()).cpu()
                # Any such entry is in its own square.
                if not seen.spoilt and not bool(moments.diagonal().isfinite().all()):
                    seen.spoilt = _not_finite(x)
                seen.covariance = moments if seen.covariance is None else seen.covariance + moments


@contextmanager
def as_evaluated(model: nn.Module) -> Any:
    """A model in eval mode, each module in its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def _rows(module: nn.Module, x: torch.Tensor) -> int:
    """Samples of a call."""
    if isinstance(module, nn.Embedding):
        return x.numel()
    if isinstance(module, nn.Conv2d):
        high, wide = _positions(module, x)
        return (x.shape[0] if x.dim() == 4 else 1) * high * wide
    return x.numel() // max(1, x.shape[-1])


def _not_finite(x: torch.Tensor) -> str:
    """How many entries of a batch are not finite, in words."""
    nan, finite = int(x.isnan().sum()), int(x.isfinite().sum())
    if finite == x.numel():
        return "have squares that are not finite: scale them"
    return (
        f"have {nan} NaN and {x.numel() - finite - nan} infinite of {x.numel()} entries of a batch:"
        " mend them, or the module before that makes them"
    )


def _positions(conv: nn.Conv2d, x: torch.Tensor) -> tuple[int, int]:
    """Sizes of the y of a convolution."""
    found: list[int] = []
    for axis in (0, 1):
        reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
        pad = _border(conv)
        border = pad[2 * (1 - axis)] + pad[2 * (1 - axis) + 1]
        found.append((x.shape[axis - 2] + border - reach - 1) // conv.stride[axis] + 1)
    return found[0], found[1]


def _border(conv: nn.Conv2d) -> list[int]:
    """What nn.functional.pad takes to pad as a convolution does."""
    return [int(size) for size in vars(conv)["_reversed_padding_repeated_twice"]]


def _flat(module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """The samples of a call as rows; patches of a convolution, those of all its groups."""
    if not isinstance(module, nn.Conv2d):
        return x.reshape(-1, x.shape[-1])
    pad = _border(module)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = nn.functional.pad(x if x.dim() == 4 else x[None], pad, mode=mode)
    patches = nn.functional.unfold(
        x, cast(Any, module.kernel_size), cast(Any, module.dilation), 0, cast(Any, module.stride)
    )
    features = patches.shape[1] // module.groups
    return patches.mT.reshape(-1, features)
