"""In which precision convolutions run: bfloat16 where the device multiplies in it, else float32."""

from __future__ import annotations

import torch

from tnlayer.hardware.half_precision import wide_products

PRECISIONS = ("auto", "bfloat16", "float32")


def runs_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether convolutions and dense hidden layers run in bfloat16.

    A processor without bfloat16 products has them emulated: a third of float32's speed was seen.

    Arguments:
        precision: of PRECISIONS; "auto" asks the device.
        device: what trains.
    """
    if precision != "auto":
        return precision == "bfloat16"
    return not wide_products("bfloat16", device.type)
