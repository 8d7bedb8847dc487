"""Tensors that are isometries, or multiples of one: projections and random ones.

Source: G. Evenbly and G. Vidal, Algorithms for entanglement renormalization, Phys. Rev. B 79 (2009)
144108, section IV: the isometry that has the largest overlap with an environment is its polar
factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Isometry:
    """Which tensors are allowed: those that are isometries as matrices.

    Arguments:
        rows: axes of one side of the matrix.
        scaled: whether a multiple of an isometry is allowed, too.
    """

    rows: tuple[int, ...]
    scaled: bool = False

    def matrix(self, array: torch.Tensor) -> torch.Tensor:
        """The array as a matrix with at least as many rows as columns."""
        order = self._order(array.dim())
        rows = math.prod(array.shape[axis] for axis in self.rows)
        matrix = array.permute(order).reshape(rows, -1)
        return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT

    def array(self, matrix: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """The array of such a matrix."""
        order = self._order(len(shape))
        rows = math.prod(shape[axis] for axis in self.rows)
        if rows * rows < math.prod(shape):
            matrix = matrix.mT
        back = torch.argsort(torch.tensor(order, dtype=torch.long)).tolist()
        return matrix.reshape([shape[axis] for axis in order]).permute(back)

    def _order(self, count: int) -> list[int]:
        return [*self.rows, *(axis for axis in range(count) if axis not in self.rows)]

    def nearest(self, array: torch.Tensor) -> torch.Tensor:
        """The nearest allowed tensor."""
        matrix = self.matrix(array)
        u, values, v = torch.linalg.svd(matrix, full_matrices=False)
        scale = float(values.mean()) if self.scaled and values.numel() else 1.0
        return self.array(scale * (u @ v), tuple(array.shape))

    def tangent(self, at: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """The projection of a direction to those along which an allowed tensor may move.

        Arguments:
            at: an allowed tensor.
        """
        matrix = self.matrix(at)
        square = float(matrix.abs().square().sum())
        columns = max(1, matrix.shape[1])
        size = square / columns

        def project(direction: torch.Tensor) -> torch.Tensor:
            if not square:
                return direction
            step = self.matrix(direction)
            overlap = matrix.mH @ step
            moved = step - matrix @ (overlap + overlap.mH) / (2 * size)
            if self.scaled:
                moved = moved + matrix * (overlap.diagonal().sum().real / square)
            return self.array(moved, tuple(at.shape))

        return project


def random_isometry(
    rows: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype, random: torch.Generator
) -> torch.Tensor:
    """A Haar-random isometry: the polar factor of a Gaussian matrix."""
    return Isometry(rows).nearest(torch.randn(shape, dtype=dtype, generator=random))
