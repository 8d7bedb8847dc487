"""The fixed part of printed C++ and CUDA C++, one golden file a variant."""

from __future__ import annotations

import pytest

from tests.support.golden import Golden
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cuda.prelude import cuda_prelude
from tnlayer.lowering.gpu.sums_over_blocks import loads_together


@pytest.mark.parametrize(("scalar", "width"), [("float32", 4), ("float32", 16), ("complex64", 4)])
def test_golden_cpp(scalar: str, width: int, golden: Golden) -> None:
    """The prelude of kernels of a dtype and a vector width is the text in the golden file."""
    golden.check(prelude(scalar, width), suffix="cpp")


@pytest.mark.parametrize(
    ("scalar", "stored"),
    [("float32", "float32"), ("float32", "bfloat16"), ("complex64", "complex64")],
)
def test_golden_cuda(scalar: str, stored: str, golden: Golden) -> None:
    """The prelude of kernels of a dtype that stores another one is the text in the golden file."""
    golden.check(cuda_prelude(scalar, stored, loads_together(scalar)), suffix="cu")
