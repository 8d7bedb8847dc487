"""All that is known of dtypes, in one table: one like those that are here is a new row.

Two kinds: those that parameters and arithmetic may have, and those of whole numbers that an input
may have, which a layer casts to its own.

A stored form of another size than 16 bits, such as fp8, needs more than its row. The text of
codegen/cuda/prelude.py takes 16 bits for granted: the struct ``stored``, its conversions by one
instruction each (those of fp8 take pairs, by way of f16), and ``words``, which has no access below
4 bytes. A form with a scale, as int8 has, is a tensor and a scale, which no layer or plan knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Dtype:
    """What entries of a dtype are.

    Arguments:
        name: as torch has it.
        itemsize: bytes of an entry.
        arithmetic: the dtype that kernels compute in; another one where entries are only stored.
        part: the dtype of the real and of the imaginary part; its own where it is real.
        work: multiplications of real numbers in one product, in the time of float32's.
        c_type: a part in C and CUDA C++; "" where entries are only stored.
        ptx: name in PTX, of what is only stored.
        in_documents: whether values of it can be written as JSON (numpy has no bfloat16).
    """

    name: str
    itemsize: int
    arithmetic: str
    part: str
    work: int
    c_type: str = ""
    ptx: str = ""
    in_documents: bool = True

    @property
    def is_complex(self) -> bool:
        """Whether an entry has two parts."""
        return self.part != self.name

    @property
    def is_stored_only(self) -> bool:
        """Whether arithmetic is in another dtype, and results are rounded once."""
        return self.arithmetic != self.name

    @property
    def part_bytes(self) -> int:
        """Bytes of the real part."""
        return self.itemsize // 2 if self.is_complex else self.itemsize


DTYPES: Mapping[str, Dtype] = MappingProxyType(
    {
        dtype.name: dtype
        for dtype in (
            Dtype("float16", 2, "float32", "float16", 1, ptx="f16"),
            Dtype("bfloat16", 2, "float32", "bfloat16", 1, ptx="bf16", in_documents=False),
            Dtype("float32", 4, "float32", "float32", 1, "float"),
            Dtype("float64", 8, "float64", "float64", 2, "double"),
            Dtype("complex64", 8, "complex64", "float32", 4, "float"),
            Dtype("complex128", 16, "complex128", "float64", 8, "double"),
        )
    }
)
WHOLE_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64")
PORT_DTYPES = (*DTYPES, *WHOLE_DTYPES)
