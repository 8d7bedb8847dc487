"""Fitted: the entries that were found for a network, and how near they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class TensorFit:
    """What became of one tensor.

    Arguments:
        name: of the tensor.
        shape: as it is stored.
        role: "fitted", "isometric", "scaled isometric", "shared" (fitted, at several nodes) or
            "kept" (frozen or constant).
        norm: Frobenius norm of its entries.
        cut: where it was split off by singular values: the norm of those that were left out, as a
            part of the target's; else None.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    norm: float
    cut: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What :func:`tnlayer.fit` found.

    Arguments:
        parameters: arrays by tensor name, in float64 or complex128 on the CPU, as a Layer's
            state_dict names them; frozen ones among them. Empty where a layer holds them.
        residual: ||W - W'|| / ||W||, Frobenius norms; 0 for a target of zeros that is met.
        whitened_residual: the same of (W - W') C^(1/2) for the covariance C of the data, that is
            the relative error of the outputs on it; None without data.
        method: how it was found, such as "TT-SVD" or "ALS, Gauss-Newton".
        seconds: how long it took.
        per_tensor: each tensor's role and norm.
        steps: sweeps over all tensors and steps of all together, in the start that was best.
        tried: the minimised residual that each start came to.
        is_interrupted: whether Ctrl-C ended it: then this is the best until then.
        ended: why it ended: "closed form", "converged", "step limit", "time limit", ...
        low_rank: to compare with: the rank of a low rank network with at most as many parameters,
            and the least ``loss`` that it can have; None for targets of more than 2048 features, or
            too few parameters for rank 1.
        remark: what else a user should know, such as a size that was chosen by default.

    >>> import torch, tnlayer as tn
    >>> found = tn.fit(tn.topologies.low_rank(6, 4, rank=1), torch.ones(4, 6))
    >>> found.residual < 1e-12, found.loss == found.residual, found.is_whitened
    (True, True, False)
    >>> sorted(found.parameters), found.without_parameters().parameters
    (['U', 'V'], {})
    >>> found.numbers()["method"]
    'SVD'
    """

    parameters: Mapping[str, torch.Tensor]
    residual: float
    whitened_residual: float | None
    method: str
    seconds: float
    per_tensor: tuple[TensorFit, ...]
    steps: int = 0
    tried: tuple[float, ...] = field(default=())
    is_interrupted: bool = False
    ended: str = ""
    low_rank: tuple[int, float] | None = None
    remark: str = ""

    @property
    def is_whitened(self) -> bool:
        """Whether errors were weighted by the covariance of data."""
        return self.whitened_residual is not None

    @property
    def loss(self) -> float:
        """The residual that was minimised: the whitened one where there was data."""
        return self.residual if self.whitened_residual is None else self.whitened_residual

    def without_parameters(self) -> Fitted:
        """The report alone, for where a layer holds the entries."""
        return replace(self, parameters={})

    def numbers(self) -> dict[str, Any]:
        """The report as plain values, for a file."""
        return {
            "residual": self.residual,
            "whitened_residual": self.whitened_residual,
            "method": self.method,
            "seconds": self.seconds,
            "steps": self.steps,
            "tried": list(self.tried),
            "is_interrupted": self.is_interrupted,
            "ended": self.ended,
            "low_rank": None if self.low_rank is None else list(self.low_rank),
            "remark": self.remark,
            "per_tensor": [
                {"name": t.name, "shape": list(t.shape), "role": t.role, "norm": t.norm,
                 "cut": t.cut}
                for t in self.per_tensor
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [
            *self._residuals(),
            ("found by", self.method + (" (interrupted)" if self.is_interrupted else "")),
            *([("ended", self.ended)] if self.ended and not self.is_interrupted else []),
            *self._starts(),
            ("seconds", f"{self.seconds:.2f}"),
            *([("size", self.remark)] if self.remark else []),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        names = max((len(t.name) for t in self.per_tensor), default=0)
        for one in self.per_tensor:
            shape = " x ".join(map(str, one.shape)) or "1"
            cut = "" if one.cut is None else f", cut {one.cut:.3g}"
            lines.append(f"  {one.name:<{names}}  {shape}  {one.role}, norm {one.norm:.3g}{cut}")
        return "\n".join(lines)

    def _residuals(self) -> list[tuple[str, str]]:
        """What to judge by first."""
        rows = [("residual", f"{self.residual:.3g}")]
        if self.whitened_residual is not None:
            judged = f"{self.whitened_residual:.3g}  (judge by this one)"
            rows.insert(0, ("residual on the data", judged))
        if self.low_rank is not None:
            rank, least = self.low_rank
            rows.append(
                (f"low rank {rank}", f"{least:.3g}, the best of at most as many parameters")
            )
        return rows

    def _starts(self) -> list[tuple[str, str]]:
        """How many starts there were, and how far apart they ended."""
        if len(self.tried) < 2:
            return []
        return [
            ("starts", f"{len(self.tried)}, from {min(self.tried):.3g} to {max(self.tried):.3g}")
        ]

    def __repr__(self) -> str:
        return f"Fitted(residual={self.residual:.3g}, method={self.method!r})"


def or_interrupt(found: Fitted) -> Fitted:
    """A fit that is a part of more work: where Ctrl-C ended it, the work ends, too.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    if found.is_interrupted:
        raise KeyboardInterrupt
    return found
