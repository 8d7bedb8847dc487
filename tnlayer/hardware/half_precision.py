"""How fast this processor multiplies numbers of 16 bits.

Where it has no instructions for them, torch's products of float16 take 80 to 200 times as long as
those of float32 (measured; decision 35). Calls of torch make these products in float32 then
and round each result, as an instruction would.
"""

from __future__ import annotations

from functools import cache

from ..support.dtypes import DTYPES
from .detect_processor import processor_features

# Instructions that multiply 16 bits and add in float32, as Linux names them, with the time of a
# product in that of float32: a dot product takes pairs; a tile of AMX does 16 times as many.
_INSTRUCTIONS = {
    "bfloat16": (("amx_bf16", 1 / 16), ("avx512_bf16", 1 / 2)),
    "float16": (("amx_fp16", 1 / 16), ("avx512_fp16", 1 / 2)),
}


def wide_products(dtype: str, device: str) -> bool:
    """Whether calls of torch make products of a dtype in float32, for it has no fast ones.

    Arguments:
        dtype: of the factors.
        device: type of the device; a GPU multiplies all that it stores.

    >>> wide_products("float32", "cpu")
    False
    """
    is_ours = device == "cpu" and DTYPES[dtype].is_stored_only
    return is_ours and product_share(dtype) is None


def copies_factors(dtype: str, device: str) -> bool:
    """Whether torch copies the factors of a batch of products that are repeated, or whose matrices
    do not lie one behind the other: its products of 16 bits are another library's than those of
    float32, which read each matrix where it is.

    Arguments:
        dtype: of the factors.
        device: type of the device.

    >>> copies_factors("float32", "cpu")
    False
    """
    is_half = device == "cpu" and DTYPES[dtype].is_stored_only
    return is_half and not wide_products(dtype, device)


def product_share(dtype: str) -> float | None:
    """The time of a product of 16 bits in that of float32; None: no instruction makes it."""
    return share_with(dtype, processor_features())


@cache
def share_with(dtype: str, features: str) -> float | None:
    """The same with a processor of such features.

    >>> share_with("bfloat16", "flags : avx512f avx512_bf16"), share_with("float16", "flags : f16c")
    (0.5, None)
    """
    words = features.split()
    return next((share for name, share in _INSTRUCTIONS[dtype] if name in words), None)
