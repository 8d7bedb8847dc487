"""The words that options take, as types: editors complete them, type checkers refuse others.

Where a word may come from elsewhere (a backend that was registered, a dtype by its name), any
string is allowed beside those that are listed, and checked when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch

Objective = Literal["train", "infer"]
TRAIN: Final = "train"
INFER: Final = "infer"

Effort = Literal["fast", "default", "high"]

Backend = Literal["auto", "torch", "cpp", "cuda"] | str

Device = Literal["cpu", "cuda"] | str | torch.device

DtypeName = Literal["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
Dtype = DtypeName | str | torch.dtype

# What a plan is searched by; beside these "combo-N" and "limit-N" with a number.
Minimize = Literal["time", "flops", "write", "size", "max", "rebuild"] | str

# An order of contraction: steps of places in a list of operands that shrinks.
ContractionPath = Sequence[Sequence[int]]

TensorCores = Literal["tf32", "3xtf32", "bf16"]

# What stands beside the legs of a picture.
Labels = Literal["all", "names", "sizes", "none"]
