"""A CPU, as kernels are made for it."""

from __future__ import annotations

from dataclasses import dataclass

from ..support.dtypes import DTYPES


@dataclass(frozen=True, slots=True)
class Cpu:
    """What kernels are made for.

    Arguments:
        vector_bytes: of one vector register.
        registers: number of vector registers.
        written_out: products that the code of one contraction may hold.
        threads: that share a batch; a block of samples is no larger than leaves work for each.
    """

    vector_bytes: int = 64
    registers: int = 32
    written_out: int = 900
    threads: int = 4

    def width(self, dtype: str) -> int:
        """Entries of a vector; a complex one takes two registers."""
        return self.vector_bytes // DTYPES[dtype].part_bytes

    def machine(self, dtype: str) -> Machine:
        """What tiles are cut for."""
        if dtype.startswith("complex"):
            # A complex number takes two registers, a complex product four multiply-adds.
            return Machine(self.registers // 2, self.written_out // 4)
        return Machine(self.registers, self.written_out)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the tiles are cut for.

    Arguments:
        registers: vector registers.
        written_out: products that the code of one contraction may hold; more of them cost time to
            compile and room in the cache of instructions.
    """

    registers: int = 32
    written_out: int = 900

    @property
    def accumulators(self) -> int:
        """Registers that a tile may use for its results."""
        return self.registers - 6
