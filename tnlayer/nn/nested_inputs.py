"""Nested inputs: samples of several lengths, which a layer takes one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import SpecError


def is_nested(inputs: Sequence[Any]) -> bool:
    """Whether one of the inputs is nested."""
    return any(getattr(x, "is_nested", False) is True for x in inputs)


def nested_call(
    layer: object, call: Callable[[torch.Tensor], torch.Tensor], inputs: Sequence[torch.Tensor]
) -> torch.Tensor:
    """A nested y of the lengths of the one nested x, differentiably.

    Arguments:
        layer: its repr stands in errors.
        call: what a layer does with an x that is not nested.
        inputs: of the call.

    Raises:
        SpecError: there are other inputs.
    """
    if len(inputs) != 1:
        msg = f"{layer!r}: a nested input must be the only one; pass the samples one by one"
        raise SpecError(msg)
    x: Any = inputs[0]
    if x.layout is torch.jagged and x.is_contiguous():
        y = call(x.values())
        return torch.nested.nested_tensor_from_jagged(
            y, offsets=x.offsets(), lengths=x.lengths(), jagged_dim=x._ragged_idx
        )
    parts = [call(part) for part in x.unbind()]
    return torch.nested.as_nested_tensor(parts, layout=x.layout)
