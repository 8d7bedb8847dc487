"""Arrays of a user in float64 or complex128, in which all fits are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import SpecError
from ..graph.argument_checks import shown

# Beyond so many entries a dense tensor is not held in float64.
MOST_ENTRIES = 2**29


def as_double(value: Any, what: str) -> torch.Tensor:
    """An array as a dense tensor in float64 or complex128 on the CPU, of finite entries.

    Arguments:
        value: a tensor, an array or nested lists.
        what: it is, for messages.

    Raises:
        SpecError: it has no entries, other than numbers, or entries that are not finite.
    """
    if isinstance(value, torch.Tensor):
        array = value.detach()
        if array.is_meta:
            msg = f"{what} is on the meta device and has no entries; load or initialise it first"
            raise SpecError(msg)
        if array.is_quantized or array.is_nested:
            msg = f"{what} is quantized or nested; dequantize it, and pass a dense tensor"
            raise SpecError(msg)
        array = array if array.layout is torch.strided else array.to_dense()
    elif isinstance(value, torch.nn.Module):
        msg = (
            f"{what} is a module, {type(value).__name__}, and no array: pass its weight, or write "
            "tn.from_linear(linear, net)"
        )
        raise SpecError(msg)
    else:
        try:
            # A copy: read-only arrays are none that torch takes.
            array = torch.as_tensor(np.array(value), device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            msg = f"{what} is no array of numbers ({error}); got {shown(value)}"
            raise SpecError(msg) from error
    if array.numel() > MOST_ENTRIES:
        msg = f"{what} has {array.numel()} entries; at most {MOST_ENTRIES} can be fitted"
        raise SpecError(msg)
    dtype = torch.complex128 if array.is_complex() else torch.float64
    array = array.to(device="cpu", dtype=dtype).resolve_conj().resolve_neg()
    # A Parameter's or another subclass's behaviour is no business of the arithmetic.
    array = array.as_subclass(torch.Tensor)
    finite = torch.isfinite(array)
    if not bool(finite.all()):
        nan = int(torch.isnan(array).sum())
        infinite = array.numel() - int(finite.sum()) - nan
        msg = (
            f"{what} has {nan} NaN and {infinite} infinite of {array.numel()} entries; there is "
            "nothing near such an array: mend or mask them before it is fitted"
        )
        raise SpecError(msg)
    return array
