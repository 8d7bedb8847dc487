"""In which precision convolutions run: bfloat16 where the device multiplies in it, else float32."""

from __future__ import annotations

import torch

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
    if device.type != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
