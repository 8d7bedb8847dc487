"""The covariance of inputs, by which errors are weighted, from batches of data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ..errors import SpecError
from ..graph.argument_checks import check_whole, shown
from ..graph.told_calls import told_class
from .doubles import as_double

# Eigenvalues below this share of the largest are rounding.
_RANK = 1e-12
# What a fit adds to each variance, as a part of their mean: directions that the data do not have
# are fitted to the target where nothing else asks for them.
_RIDGE = 1e-8
_FIX = "pass (x.mT @ x.conj()) / n of inputs x"


@told_class("tn.Covariance(matrix), or tn.Covariance.of(batches)")
@dataclass(frozen=True, eq=False)
class Covariance:
    """The second moments of inputs, the mean of x.mT @ x.conj() for rows x, that weight the error.

    ``tn.Covariance(matrix)`` says that a matrix is a covariance, and no batch of inputs.
    ``tn.Covariance.of(batches)`` makes one from data; ``in_features`` zeros are no data.

    Arguments:
        matrix: (in_features, in_features), Hermitian, with no negative eigenvalue.
        used: features that are no padding; None: all.

    Raises:
        SpecError: it is not square, not Hermitian, or not finite.

    >>> import torch, tnlayer as tn
    >>> found = tn.Covariance.of(torch.eye(3))
    >>> found.matrix.diagonal()
    tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
    >>> error = torch.ones(2, 3, dtype=torch.float64)
    >>> found.features, round(found.norm(error), 3), round(found.ridged_norm(error), 3)
    (3, 1.414, 1.414)
    >>> root = found.root
    >>> bool(torch.allclose(root @ root.mH, found.ridged)), found.unweighted(root).shape
    (True, torch.Size([3, 3]))
    >>> found.pad(4).features
    4
    """

    matrix: torch.Tensor
    used: int | None = None

    def __post_init__(self) -> None:
        matrix = _as_rows(self.matrix, "Covariance: the matrix")
        if matrix.shape[0] != matrix.shape[1]:
            msg = (
                f"Covariance: the matrix has shape {tuple(matrix.shape)}, expected (in_features, "
                "in_features); Covariance.of(batches) makes one from data"
            )
            raise SpecError(msg)
        size = float(matrix.abs().max()) if matrix.numel() else 0.0
        if size and float((matrix - matrix.mH).abs().max()) > 1e-5 * size:
            msg = f"Covariance: the matrix is not Hermitian; {_FIX}"
            raise SpecError(msg)
        if bool((matrix.diagonal().real < -1e-6 * size).any()):
            msg = f"Covariance: the matrix has negative variances; {_FIX}"
            raise SpecError(msg)
        object.__setattr__(self, "matrix", (matrix + matrix.mH) / 2)

    @classmethod
    def of(cls, data: Any, in_features: int | None = None) -> Covariance:
        """The covariance of data, about zero.

        Arguments:
            data: a tensor (..., in_features), an iterable of such, or a Covariance.
            in_features: how many are expected.

        Raises:
            SpecError: there is no data, or with another number of features, or not finite.
        """
        if isinstance(data, cls):
            found = data
        else:
            single = isinstance(data, torch.Tensor) or hasattr(data, "__array__")
            batches = [data] if single else data
            if not isinstance(batches, Iterable) or isinstance(batches, str | bytes):
                msg = (
                    f"data={shown(data)}: expected inputs (n, in_features), an iterable of such, "
                    "or tn.Covariance(matrix)"
                )
                raise SpecError(msg)
            found = _of_batches(batches, in_features)
        count = len(found.matrix)
        if in_features is not None and count != in_features:
            msg = f"data has {count} features; expected {check_whole(in_features, 'in_features')}"
            raise SpecError(msg)
        return found

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.matrix)

    def norm(self, error: torch.Tensor) -> float:
        """Frobenius norm of E C^(1/2).

        Arguments:
            error: E, of shape (rows, features).
        """
        weighted = (error @ self.matrix.to(error.dtype)) * error.conj()
        return math.sqrt(max(0.0, float(weighted.sum().real)))

    @cached_property
    def ridged(self) -> torch.Tensor:
        """The matrix by which a fit weights errors: with a little more on the diagonal, so that
        directions which the data do not have are not arbitrary."""
        used = self.features if self.used is None else self.used
        if not used:
            return self.matrix
        more = torch.zeros(self.features, dtype=self.matrix.dtype, device="cpu")
        more[:used] = _RIDGE * self.matrix.diagonal()[:used].real.mean()
        return self.matrix + more.diag()

    def ridged_norm(self, error: torch.Tensor) -> float:
        """The norm that a fit makes small.

        Arguments:
            error: of shape (rows, features).
        """
        weighted = (error @ self.ridged.to(error.dtype)) * error.conj()
        return math.sqrt(max(0.0, float(weighted.sum().real)))

    @cached_property
    def root(self) -> torch.Tensor:
        """A matrix S with S S^H = C, ridged: its Cholesky factor, or V sqrt(D) for a singular C."""
        factor, info = torch.linalg.cholesky_ex(self.ridged)
        if not int(info):
            diagonal = factor.diagonal().real
            if float(diagonal.min()) > 1e-5 * float(diagonal.max()):
                return factor
        values, vectors = torch.linalg.eigh(self.ridged)
        return vectors * values.clamp_min(0).sqrt()

    def unweighted(self, matrix: torch.Tensor) -> torch.Tensor:
        """The smallest M with M S = matrix, where there is one; else the nearest.

        Arguments:
            matrix: of shape (rows, features).
        """
        root = self.root.to(matrix.dtype)
        u, values, v = torch.linalg.svd(root, full_matrices=False)
        kept = values > math.sqrt(_RANK) * values[0] if values.numel() else values > 0
        inverse = torch.where(kept, 1 / values.clamp_min(1e-300), torch.zeros_like(values))
        return ((matrix @ v.mH) * inverse) @ u.mH

    def pad(self, features: int) -> Covariance:
        """The same with more features, which are always zero.

        Arguments:
            features: how many there are then.
        """
        more = features - self.features
        padded = torch.nn.functional.pad(self.matrix, (0, more, 0, more))
        return Covariance(padded, self.features)


def _of_batches(batches: Iterable[Any], in_features: int | None) -> Covariance:
    total: torch.Tensor | None = None
    count = 0
    for number, batch in enumerate(batches):
        # Of a pair, as a DataLoader gives it, the inputs.
        pair = isinstance(batch, tuple | list) and len(batch) and hasattr(batch[0], "shape")
        x = batch[0] if pair else batch
        rows = _as_rows(x, f"data: batch {number}")
        if in_features is not None and rows.shape[-1] != in_features:
            msg = (
                f"data: batch {number} has shape {tuple(rows.shape)}; expected (n, {in_features}): "
                "inputs of the layer. A covariance is passed as tn.Covariance(matrix)"
            )
            raise SpecError(msg)
        moment = rows.mH @ rows
        if total is not None and total.shape != moment.shape:
            msg = f"data: batch {number} has {len(moment)} features, those before {len(total)}"
            raise SpecError(msg)
        total = moment if total is None else total + moment
        count += len(rows)
    if total is None or not count:
        msg = "data: there is no input in it; pass at least one row (n, in_features)"
        raise SpecError(msg)
    if not bool(total.any()):
        msg = "data: all inputs are zero, which weight no error"
        raise SpecError(msg)
    # E[|(W - W') x^T|^2] = tr E C^T E^H with x as rows: the transpose of x^H x.
    return Covariance((total / count).mT)


def _as_rows(value: Any, what: str) -> torch.Tensor:
    rows = as_double(value, what)
    if rows.dim() < 1:
        msg = f"{what} has no axis of features; expected (n, in_features)"
        raise SpecError(msg)
    return rows.reshape(-1, rows.shape[-1])
