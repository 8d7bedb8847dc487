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

# Singular values of larger targets take seconds.
_MOST_ROWS = 2048


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

    def overlap(self, one: torch.Tensor, other: torch.Tensor) -> complex:
        """The inner product of two dense tensors, where they count and as errors are weighted."""
        one, other = self.cut(one), self.cut(other)
        if self.covariance is not None:
            other = other @ self.covariance.ridged.to(other.dtype)
        return complex((one.conj() * other).sum())

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

    def low_rank_residual(self, parameters: int) -> tuple[int, float] | None:
        """The rank of a low rank network with at most so many parameters, and the least loss that
        it can have; None where that is not to be had from singular values in no time.

        Arguments:
            parameters: of the network that is compared.
        """
        dense = self.dense
        if dense.dim() != 2 or not self.norm or max(dense.shape) > _MOST_ROWS:
            return None
        if self.part is not None:
            dense = dense[: self.part[0]]
            if self.covariance is None:
                dense = dense[:, : self.part[1]]
        rows, columns = dense.shape if self.part is None else self.part
        rank = parameters // max(1, rows + columns)
        if rank < 1:
            return None
        if self.covariance is not None:
            gram = dense @ self.covariance.ridged.to(dense.dtype) @ dense.mH
        else:
            gram = dense @ dense.mH if rows <= columns else dense.mH @ dense
        values = torch.linalg.eigvalsh((gram + gram.mH) / 2).clamp_min(0).flip(0)
        left_out, whole = float(values[rank:].sum()), float(values.sum())
        # What is below this is rounding of the squares.
        share = left_out / whole if whole else 0.0
        return rank, math.sqrt(share) if share > 1e-14 else 0.0


def _relative(error: float, norm: float) -> float:
    if norm:
        return error / norm
    return 0.0 if not error else math.inf
