"""The ways of compressing a model that the table compares, each on a copy of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.baselines import CannotRun
from tnlayer.nn.dense_modules import replace_module

from .workload import Workload

T = tn.topologies
TOPOLOGIES: dict[str, Any] = {
    "low rank": T.low_rank,
    "tensor train": T.tensor_train,
    "BTT": T.btt,
    "Monarch": T.monarch,
    "Kronecker": T.kronecker,
    "tree": T.tree,
    "Tucker": T.tucker,
    "MERA": T.mera,
}
BUDGET = "tn.Budget"
SVD = "SVD, two nn.Linear"
RIVALS = ("blocktt", "tucker", "cp")
# Weighted by data as well.
WHITENED = ("low rank", "tensor train", "BTT")
# All topologies are compared here, the budget and low rank at each level.
MIDDLE = 4.0
# Sweeps where there is no closed form, or data: most of what they bring comes with the first.
FIT: dict[str, Any] = {"steps": 1, "starts": 1}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Arguments:
        name: of a topology or another method.
        level: compression asked for: of each matrix, or of the model for a budget.
        whitened: whether data weights the fits.
    """

    name: str
    level: float
    whitened: bool


@dataclass(frozen=True)
class Made:
    """A compressed model.

    Arguments:
        model: it.
        parameters: of the whole model.
        replaced: matrices that were replaced.
        flops: of all matrices that were looked at, for one sample; None where nothing counts them.
        residual: median relative error of the replaced matrices.
        whitened: median relative error of their outputs on the data; None without data.
        seconds: processor time of the fits and of what chose them.
        predicted: seconds of all matrices at the rows that the data have; None: not predicted.
    """

    model: nn.Module
    parameters: int
    replaced: int
    flops: float | None
    residual: float | None
    whitened: float | None
    seconds: float
    predicted: float | None


def cases(levels: Sequence[float]) -> Iterator[Case]:
    """All rows, in their order.

    Arguments:
        levels: compressions.
    """
    for level in levels:
        if level == MIDDLE:
            yield Case(SVD, level, False)
        for name in TOPOLOGIES:
            if level == MIDDLE or name == "low rank":
                yield Case(name, level, False)
                if name in WHITENED:
                    yield Case(name, level, True)
        if level == MIDDLE:
            for factorization in RIVALS:
                yield Case(f"tensorly-torch {factorization}", level, False)
        yield Case(BUDGET, level, True)


def compress(case: Case, work: Workload, model: nn.Module, layers: Mapping[str, Any]) -> Made:
    """Compress a copy of a model, in place.

    Arguments:
        case: how.
        work: the model's data and matrices.
        model: the copy.
        layers: options of the new layers, such as backend.

    Raises:
        CannotRun, tnlayer.SpecError: the case cannot be had; the message is its row.
    """
    if case.name == SVD:
        return _by_hand(case, work, model, _two_linears)
    if case.name.startswith("tensorly-torch"):
        return _by_hand(case, work, model, _of_tensorly)
    rule = tn.Budget(compression=case.level) if case.name == BUDGET else TOPOLOGIES[case.name]
    began = time.process_time()
    report = tn.compress(
        model,
        rule,
        work.data if case.whitened else None,
        work.is_matrix,
        compression=case.level,
        batch=256,
        objective="infer",
        call=work.call,
        fit_options=FIT,
        **layers,
    )
    seconds = time.process_time() - began
    rows = report.replaced
    weighted = [row.whitened_residual for row in rows if row.whitened_residual is not None]
    return Made(
        model=report.model,
        parameters=report.parameters,
        replaced=len(rows),
        flops=sum(row.now.flops / row.rows for row in report.rows),
        residual=median(row.residual or 0.0 for row in rows) if rows else None,
        whitened=median(weighted) if weighted else None,
        seconds=seconds,
        predicted=report.seconds,
    )


def _by_hand(case: Case, work: Workload, model: nn.Module, make: Any) -> Made:
    """Each matrix in turn by a function of a module, which torch or another library offers."""
    began = time.process_time()
    found = [one for one in model.named_modules() if work.is_matrix(one[1], one[0])]
    errors: list[float] = []
    replaced = 0
    for name, module in found:
        new = make(module, case)
        if new is None:
            continue
        replaced += 1
        errors.append(_error(module, new))
        model = replace_module(model, module, new)
        assert model.get_submodule(name) is new
    if not replaced:
        msg = "it takes nn.Linear, of which this model has none among its matrices"
        raise CannotRun(msg)
    return Made(
        model=model,
        parameters=sum(array.numel() for array in model.parameters()),
        replaced=replaced,
        flops=None,
        residual=median(errors),
        whitened=None,
        seconds=time.process_time() - began,
        predicted=None,
    )


@torch.no_grad()
def _error(old: Any, new: nn.Module) -> float:
    """Relative Frobenius error of a matrix, by unit vectors."""
    is_conv = isinstance(old, nn.Conv2d)
    features = old.in_channels if is_conv else old.in_features
    units = torch.eye(features, dtype=old.weight.dtype)
    x = units[:, :, None, None] if is_conv else units
    zero = torch.zeros_like(x[:1])
    exact, near = (module(x) - module(zero) for module in (old, new))
    return float((near - exact).norm() / exact.norm())


@torch.no_grad()
def _two_linears(module: Any, case: Case) -> nn.Module | None:
    """The best matrix of the rank that has so many parameters, as two modules of torch."""
    is_conv = isinstance(module, nn.Conv2d)
    if is_conv and (module.kernel_size != (1, 1) or module.groups != 1):
        return None
    weight = module.weight.detach().reshape(module.weight.shape[0], -1)
    outputs, features = weight.shape
    rank = max(1, int(weight.numel() / case.level / (outputs + features)))
    u, values, v = torch.linalg.svd(weight.double(), full_matrices=False)
    roots = values[:rank].sqrt()
    first, second = roots[:, None] * v[:rank], u[:, :rank] * roots
    has_bias = module.bias is not None
    if is_conv:
        parts = nn.Conv2d(features, rank, 1, bias=False), nn.Conv2d(rank, outputs, 1, bias=has_bias)
        first, second = first[..., None, None], second[..., None, None]
    else:
        parts = nn.Linear(features, rank, bias=False), nn.Linear(rank, outputs, bias=has_bias)
    for part, array in zip(parts, (first, second), strict=True):
        part.weight.copy_(array)
    if has_bias:
        parts[1].bias.copy_(module.bias)  # type: ignore[union-attr]
    return nn.Sequential(*parts)


def _of_tensorly(module: Any, case: Case) -> nn.Module | None:
    """tensorly-torch's own conversion, its sizes chosen by it."""
    if not isinstance(module, nn.Linear):
        return None
    try:
        import tltorch
    except ImportError as error:
        msg = f"tensorly-torch is not installed: pip install 'tnlayer[bench]' ({error})"
        raise CannotRun(msg) from error
    factorization = case.name.split()[-1]
    try:
        # Its signature says rank: str.
        convert: Any = tltorch.FactorizedLinear.from_linear
        return convert(
            module,
            rank=1 / case.level,
            bias=module.bias is not None,
            factorization=factorization,
            implementation="factorized",
        )
    except Exception as error:
        msg = f"{type(error).__name__} of tensorly-torch: {error}"
        raise CannotRun(msg) from error
