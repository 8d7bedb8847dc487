"""Singular value decompositions that stop at a rank, of one matrix or of a stack of them."""

from __future__ import annotations

import torch

# A matrix whose sides are both larger is multiplied with few vectors instead, where the rank is at
# most this share of them.
_LARGE, _SHARE = 1000, 5
# Rounds of that, and the change of the captured weight (as a part of what is left) that ends them.
_ROUNDS, _SETTLED = 30, 1e-5
# Powers of A A^H in the space of one round.
_POWERS = 2
# From so many times as many columns as rows on, the other side is taken away first: by A A^H where
# what is left out is at least this share of the weight, for that squares the condition; else by QR.
_WIDE, _GRAM_TAIL = 1, 1e-9
_SEED = 20218


def left_vectors(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    """The first left singular vectors of matrices of shape (..., m, n): (..., m, min(rank, m, n)).

    Large single matrices: randomised block Krylov iterations until the captured weight stands
    still. Source: Musco and Musco, Randomized block Krylov methods for stronger and faster
    approximate singular value decomposition (2015).
    """
    rows, columns = matrix.shape[-2:]
    rank = min(rank, rows, columns)
    small = min(rows, columns)
    if rank == 0:
        return matrix[..., :0]
    if rank == rows:
        return torch.eye(rows, dtype=matrix.dtype).expand(*matrix.shape[:-2], rows, rows)
    if matrix.dim() == 2 and small > _LARGE and rank * _SHARE <= small:
        return _randomised(matrix, rank)
    if columns >= _WIDE * rows:
        vectors = _by_gram(matrix, rank)
        if vectors is not None:
            return vectors
        # T = L Q: L has the left vectors of T.
        matrix = torch.linalg.qr(matrix.mH, mode="r").R.mH
    elif rows >= _WIDE * columns:
        right = _by_gram(matrix.mH, rank)
        if right is not None:
            return torch.linalg.qr(matrix @ right).Q
        q, r = torch.linalg.qr(matrix)
        return q @ _svd(r)[0][..., :rank]
    return _svd(matrix)[0][..., :rank]


def _by_gram(matrix: torch.Tensor, rank: int) -> torch.Tensor | None:
    """The first left vectors of matrices with few rows, as eigenvectors of A A^H; None where the
    rounding of that could be seen in what is left out."""
    values, vectors = torch.linalg.eigh(matrix @ matrix.mH)
    left_out = values[..., : values.shape[-1] - rank].sum(-1)
    if not bool((left_out > _GRAM_TAIL * values.sum(-1)).all()):
        return None
    return vectors.flip(-1)[..., :rank]


def _svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    u, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return u, values


def _randomised(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(_SEED)
    columns = min(rank + 10, *matrix.shape)
    probe = torch.randn(matrix.shape[1], columns, dtype=matrix.dtype, generator=random)
    q = torch.linalg.qr(matrix @ probe).Q
    weight = float(torch.linalg.vector_norm(matrix)) ** 2
    captured = -1.0
    for _ in range(_ROUNDS):
        blocks = [q]
        for _ in range(_POWERS):
            block = matrix @ (matrix.mH @ blocks[-1])
            norms = torch.linalg.vector_norm(block, dim=0).clamp_min(1e-300)
            blocks.append(block / norms)
        basis = torch.linalg.qr(torch.cat(blocks, 1)).Q
        core = basis.mH @ matrix
        left, values = _svd(torch.linalg.qr(core.mH, mode="r").R.mH)
        q = basis @ left[:, :columns]
        found = float(values[:rank].square().sum())
        # Against what is left, but not finer than the arithmetic.
        if found - captured <= _SETTLED * max(weight - found, 1e-14 * weight):
            break
        captured = found
    return q[:, :rank]
