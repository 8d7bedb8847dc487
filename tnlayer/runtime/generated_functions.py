"""The functions of a forward and its backward, and their source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..support.pick_items import picker

Shape = tuple[int | None, ...]
Quick = Callable[..., tuple[torch.Tensor, ...] | None]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of a pair of schedules, and their source.

    Arguments:
        forward: the inputs give y and what is saved.
        backward: the gradient of y, the inputs that are needed and what was saved give gradients.
        needed: indices of the inputs that the backward reads.
        source: the generated text.
        saved: how many arrays the forward gives behind y.
        unchecked: the forward for contiguous arrays of the program's dtype, if it is another.
        origins: indices of further inputs, of which something that is saved was made: a double
            backward, which makes the gradients again, needs them.
        saved_shapes: shapes of what the forward gives behind y, by which torch's compiler knows it;
            None is the batch.
        parts: the text in parts: of the forward, and of the backward where there is one.
        quick: the backward for a gradient and arrays that are like those of the call before; it
            gives None where they are not, having done nothing.

    ``pick`` takes from all inputs those that are needed.
    """

    forward: Callable[..., tuple[torch.Tensor, ...]]
    backward: Callable[..., tuple[torch.Tensor, ...]]
    needed: tuple[int, ...]
    source: str
    saved: int = 0
    unchecked: Callable[..., tuple[torch.Tensor, ...]] | None = None
    origins: tuple[int, ...] = ()
    saved_shapes: tuple[Shape, ...] = ()
    parts: tuple[str, ...] = ()
    quick: Quick | None = None
    pick: Callable[..., tuple[torch.Tensor, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pick", picker(self.needed))

    @property
    def checked(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The forward for arrays that were checked: contiguous and of the program's dtype."""
        return self.unchecked or self.forward
