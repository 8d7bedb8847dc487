"""What is fitted: a dense array in float64 or complex128, checked; and how errors count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ..errors import SpecError
from .closed_network import ClosedNetwork
from .covariance import Covariance
from .doubles import as_double


def as_target(value: Any, nets: Sequence[ClosedNetwork]) -> torch.Tensor:
    """The dense tensor that networks with equal ports shall have, of their ``dense_shape``.

    Arguments:
        value: (out_features, features of the inputs), or the same entries with an axis a leg.
        nets: the networks.

    Raises:
        SpecError: it has another shape, or entries that are not finite.
    """
    array = as_double(value, "the target")
    first = nets[0]
    graph = first.graph
    ports = [graph.output, *(port.legs for port in graph.inputs)]
    by_leg = tuple(n for legs in ports for n in graph.shape_of(graph.open_legs(legs)))
    shape = tuple(array.shape)
    if shape not in (first.dense_shape, by_leg):
        # Without an input, or with one feature, a vector is a matrix.
        if not (graph.inputs or len(shape) != 1 or shape[0] != first.dense_shape[0]):
            return array.reshape(first.dense_shape)
        msg = (
            f"the target has shape {shape}; expected {first.dense_shape}, that is (out_features, "
            f"in_features) as the weight of nn.Linear, or one axis a leg: {by_leg}"
        )
        raise SpecError(msg)
    return array.reshape(first.dense_shape)


@dataclass(frozen=True)
class Target:
    """A dense tensor, and how its errors are weighted.

    Arguments:
        dense: of the networks' ``dense_shape``.
        covariance: of the features of the one input; None: all errors count alike.
        part: rows and columns that count, where a layer is padded: the first ones; None: all.
    """

    dense: torch.Tensor
    covariance: Covariance | None = None
    part: tuple[int, int] | None = None

    @cached_property
    def norm(self) -> float:
        """Frobenius norm."""
        return float(torch.linalg.vector_norm(self.dense))

    def cut(self, error: torch.Tensor) -> torch.Tensor:
        """An error that is zero where nothing counts."""
        if self.part is None:
            return error
        rows, columns = self.part
        kept = torch.zeros_like(error)
        kept[:rows, :columns] = error[:rows, :columns]
        return kept

    def completed(self, dense: torch.Tensor) -> torch.Tensor:
        """The target, with what a network has already where nothing counts: the nearest to it
        among those that are as good."""
        if self.part is None:
            return self.dense
        rows, columns = self.part
        filled = dense.clone()
        filled[:rows, :columns] = self.dense[:rows, :columns]
        return filled

    def residual(self, dense: torch.Tensor) -> float:
        """Relative Frobenius norm of the error; for a target of zeros 0 if it is met, else inf."""
        error = self.cut(self.dense - dense)
        return _relative(float(torch.linalg.vector_norm(error)), self.norm)

    def whitened_residual(self, dense: torch.Tensor) -> float | None:
        """The relative error of the outputs on the data: of (W - W') C^(1/2)."""
        if self.covariance is None:
            return None
        error = self.covariance.norm(self.cut(self.dense - dense))
        return _relative(error, self.covariance.norm(self.dense))

    def loss(self, dense: torch.Tensor) -> float:
        """What is minimised: whitened where there is a covariance."""
        if self.covariance is None:
            return self.residual(dense)
        error = self.covariance.ridged_norm(self.cut(self.dense - dense))
        return _relative(error, self.covariance.ridged_norm(self.dense))


def _relative(error: float, norm: float) -> float:
    if norm:
        return error / norm
    return 0.0 if not error else math.inf
