"""The same of a padded layer: its network changes, and what is cut from it does not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ...fitting.fitted import Fitted
from ..dense_weight import DenseWeight
from .ranked import Ranked

if TYPE_CHECKING:
    from typing import Self


class PaddedRanks(DenseWeight):
    """Gives ``fit``, ``truncate``, ``round`` and ``grow`` of the layer inside."""

    @property
    def ranked(self) -> Ranked:
        """The layer inside."""
        raise NotImplementedError

    @property
    def fit(self) -> Fitted | None:
        """As of a Layer, for the features that are used."""
        return self.ranked.fit

    def truncate(
        self,
        *,
        tol: float | None = None,
        params: int | None = None,
        time: float | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Self:
        """As of a Layer; entries of the matrix beyond the features that are used do not count."""
        self.ranked.truncate(tol=tol, params=params, time=time, optimizer=optimizer)
        return self

    def round(self, eps: float, *, optimizer: torch.optim.Optimizer | None = None) -> Self:
        """As of a Layer."""
        self.ranked.round(eps, optimizer=optimizer)
        return self

    def grow(
        self,
        bond: int | Mapping[str, int],
        *,
        seed: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Self:
        """As of a Layer."""
        self.ranked.grow(bond, seed=seed, optimizer=optimizer)
        return self
