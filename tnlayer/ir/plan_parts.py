"""Parts of a plan beside its steps: outputs, what keeps a memory limit, regions."""

from __future__ import annotations

from dataclasses import dataclass

from .steps import Operand


@dataclass(frozen=True, slots=True)
class Output:
    """A result of the plan: its name outside, the value, the legs of each axis it leaves with."""

    name: str
    operand: Operand
    axes: tuple[tuple[str, ...], ...]

    @property
    def legs(self) -> tuple[str, ...]:
        """Legs in the order in which they leave."""
        return tuple(leg for axis in self.axes for leg in axis)


@dataclass(frozen=True, slots=True)
class Memory:
    """How a plan keeps to a memory limit; the default keeps everything and takes all at once.

    Arguments:
        recompute: forward values that the backward makes again instead of having them kept.
        chunk: samples that pass through at once, or None: the whole batch.
        slices: inner legs that are looped over, one index at a time.
        adds: whether y, and the gradients of the ports, are added to arrays that the caller has:
            those of networks that ran before.
    """

    recompute: tuple[str, ...] = ()
    chunk: int | None = None
    slices: tuple[str, ...] = ()
    adds: bool = False


KEEP_ALL = Memory()


@dataclass(frozen=True, slots=True)
class BackendSpan:
    """A run of batched steps that one backend does as a whole (see passes/partition.py).

    Arguments:
        backend: "torch", or that of compiled kernels: "cpp".
        steps: how many steps of the plan that touch samples.
    """

    backend: str
    steps: int
