"""The dense matrix under the name by which torch's modules know it: ``weight``."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import SpecError
from ..runtime.module_arrays import look_up


class DenseWeight(nn.Module):
    """Gives ``weight``, which nn.TransformerEncoderLayer, nn.MultiheadAttention and many models
    read of their linear parts."""

    def to_dense(self) -> torch.Tensor:
        """The dense matrix, (out_features, in_features).

        Raises:
            SpecError: there is none, or it is too large.
        """
        raise NotImplementedError

    @property
    def weight(self) -> torch.Tensor:
        """The array of that name, or, where no tensor bears it, the dense matrix, made anew at each
        look: read-only, for what is written into it is lost. Gradients go through it.

        Raises:
            AttributeError: the layer has no dense matrix.
        """
        own = look_up(self, "weight")
        if own is not None:
            return own
        try:
            return self.to_dense()
        except SpecError as error:
            msg = f"{type(self).__name__!r} object has no attribute 'weight': {error}"
            raise AttributeError(msg) from error
