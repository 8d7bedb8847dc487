"""Isometric tensors that stay isometric, whatever an optimiser does.

Each is a function of a free parameter of the same number of entries. A matrix W0 of orthonormal
columns, n by k, is turned by the Cayley transform of a skew matrix:

    A = X W0^H - W0 X^H,   W = (1 - A/2)^-1 (1 + A/2) W0.

X is free, and W = W0 where it is zero. All matrices of one shape are turned by one call.

Source: Z. Wen and W. Yin, A feasible method for optimization with orthogonality constraints,
Math. Program. 142 (2013), arXiv:1012.3434, eqs. 2.6 and 2.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..graph.cancel_isometries import is_scaled_isometry
from ..graph.graph import Parameter
from ..runtime.module_arrays import Maker, add_parameter, look_up

# Matrices of more rows are turned by way of 2 k by 2 k systems, if those are smaller.
_DENSE_ROWS = 256


@dataclass(frozen=True, slots=True)
class Matricised:
    """An isometric tensor as a matrix with at least as many rows as columns.

    Arguments:
        name: of the tensor.
        shape: of the whole tensor, before legs are fixed.
        axes: its axes, those of the rows first.
        split: how many of the axes are rows.
        rows, columns: of the matrix.
        pins: for each axis the index that is stored, or None: all.
        has_scale: whether the tensor is a multiple of an isometry.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    split: int
    rows: int
    columns: int
    pins: tuple[int | None, ...]
    has_scale: bool

    @property
    def layout(self) -> tuple[object, ...]:
        """What puts a matrix's axes in the tensor's order."""
        return self.shape, self.axes, self.pins

    def tensors(self, matrices: torch.Tensor) -> torch.Tensor:
        """Stored tensors of matrices, (count, rows, columns): the axes in the tensor's order, those
        with a fixed leg gone."""
        sizes = [self.shape[axis] for axis in self.axes]
        back = [1 + self.axes.index(axis) for axis in range(len(self.axes))]
        tensors = matrices.reshape(-1, *sizes).permute(0, *back)
        for axis, pin in reversed(list(enumerate(self.pins))):
            if pin is not None:
                tensors = tensors.select(1 + axis, pin)
        return tensors

    def block(self, tensor: torch.Tensor) -> torch.Tensor:
        """The part of the matrix that a stored tensor is; all of it where no leg is fixed."""
        stored = [axis for axis in range(len(self.shape)) if self.pins[axis] is None]
        kept = [axis for axis in self.axes if self.pins[axis] is None]
        rows = math.prod(self.shape[a] for a in self.axes[: self.split] if self.pins[a] is None)
        return tensor.permute([stored.index(axis) for axis in kept]).reshape(rows, -1)

    def matrix(self, block: torch.Tensor) -> torch.Tensor:
        """The isometric matrix that is nearest to one; where legs are fixed, one of those that have
        the block as a part."""
        if not any(pin is not None for pin in self.pins):
            return polar(block)
        rows = self._places(self.axes[: self.split])
        columns = self._places(self.axes[self.split :])
        return _with_block(block, rows, columns, self.rows, self.columns)

    def scale_of(self, block: torch.Tensor) -> float:
        """The factor of a multiple of an isometry, of which a part is known."""
        singular = torch.linalg.svdvals(block)
        if len(block) == self.rows:
            return float(singular.mean())
        # Its rows are a part of others: no part of an isometry has a singular value above 1.
        guess = float(block.abs().square().mean()) * self.rows
        return max(math.sqrt(guess), float(singular.max()))

    def _places(self, axes: Sequence[int]) -> list[int]:
        """Which rows, or columns, are stored."""
        sizes = [self.shape[axis] for axis in axes]
        numbers = torch.arange(math.prod(sizes), device="cpu").reshape(sizes)
        for place, axis in reversed(list(enumerate(axes))):
            pin = self.pins[axis]
            if pin is not None:
                numbers = numbers.select(place, pin)
        return numbers.flatten().tolist()


def matricised(parameter: Parameter) -> Matricised:
    """The matrix of a tensor with ``isometry``, its larger side as the rows."""
    shape, one = parameter.full_shape, parameter.node.isometry
    other = tuple(axis for axis in range(len(shape)) if axis not in one)
    sizes = [math.prod(shape[axis] for axis in side) for side in (one, other)]
    rows, columns = (one, other) if sizes[0] >= sizes[1] else (other, one)
    return Matricised(
        parameter.name,
        shape,
        (*rows, *columns),
        len(rows),
        max(sizes),
        min(sizes),
        parameter.pins,
        is_scaled_isometry(parameter.node),
    )


class _Arrays(nn.Module):
    """Arrays under names that need not be names of attributes."""

    def put(self, name: str, array: torch.Tensor, *, trains: bool) -> None:
        if trains:
            add_parameter(self, name, nn.Parameter(array))
        else:
            self._buffers[name] = array

    def get(self, name: str) -> torch.Tensor:
        # A replica of nn.DataParallel has it elsewhere.
        array = self._parameters.get(name)
        if array is None:
            array = look_up(self, name)
        assert array is not None
        return array


class KeptIsometries(Maker):
    """The free parameters of a layer's isometric tensors, and what is made of them.

    Arguments:
        parameters: of the layer's networks: trainable, with ``isometry``.
        device, dtype: of the arrays.

    The submodules ``free``, ``start`` and ``scale`` hold X, W0 and the factor of each tensor that
    is a multiple of an isometry, under the tensors' names.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self._shapes = {parameter.name: matricised(parameter) for parameter in parameters}
        groups: dict[tuple[object, ...], list[Matricised]] = {}
        for one in self._shapes.values():
            form = (one.rows, one.columns, one.has_scale)
            groups.setdefault(form, []).append(one)
        self._groups = tuple(map(tuple, groups.values()))
        self.free, self.start, self.scale = _Arrays(), _Arrays(), _Arrays()
        for name, one in self._shapes.items():
            empty = torch.zeros(one.rows, one.columns, device=device, dtype=dtype)
            self.free.put(name, empty, trains=True)
            self.start.put(name, empty.clone(), trains=False)
            if one.has_scale:
                self.scale.put(name, torch.ones((), device=device, dtype=dtype), trains=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors."""
        return tuple(self._shapes)

    def any_parameter(self) -> torch.Tensor:
        """The first free parameter."""
        return self.free.get(self.names[0])

    def made(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The isometric tensors of these names; all of one form by one call."""
        wanted = set(names)
        found: dict[str, torch.Tensor] = {}
        for group in self._groups:
            own = [one for one in group if one.name in wanted]
            found.update(self._group(own) if own else ())
        return found

    def _group(self, group: Sequence[Matricised]) -> list[tuple[str, torch.Tensor]]:
        free = _stacked([self.free.get(one.name) for one in group])
        start = _stacked([self.start.get(one.name) for one in group])
        matrices = turned(start, free)
        if group[0].has_scale:
            scales = _stacked([self.scale.get(one.name) for one in group])
            matrices = matrices * scales[:, None, None]
        first = group[0]
        if all(one.layout == first.layout for one in group):  # one call puts all axes in order
            tensors = first.tensors(matrices).contiguous().unbind()
            return [(one.name, tensor) for one, tensor in zip(group, tensors, strict=True)]
        pairs = zip(group, matrices.unbind(), strict=True)
        return [(one.name, one.tensors(matrix)[0].contiguous()) for one, matrix in pairs]

    def empty(self, name: str) -> torch.Tensor:
        """An array like a tensor; nothing is made of parameters that may be uninitialised."""
        one, like = self._shapes[name], self.free.get(name)
        pairs = zip(one.shape, one.pins, strict=True)
        return like.detach().new_empty([size for size, pin in pairs if pin is None])

    @torch.no_grad()
    def right_inverse(self, name: str, value: torch.Tensor) -> None:
        """Start anew from the isometry that is nearest to a tensor's matrix: X is zero then."""
        start, scale = self._solved(name, value)
        self.start.get(name).copy_(start)
        self.free.get(name).zero_()
        if self._shapes[name].has_scale:
            self.scale.get(name).fill_(scale)

    @torch.no_grad()
    def take(self, name: str, value: torch.Tensor, state: dict[str, Any], prefix: str) -> None:
        """The same for a state_dict."""
        start, scale = self._solved(name, value)
        state[f"{prefix}start.{name}"] = start.to(value.dtype)
        state[f"{prefix}free.{name}"] = torch.zeros_like(start, dtype=value.dtype)
        if self._shapes[name].has_scale:
            state[f"{prefix}scale.{name}"] = value.new_full((), scale)

    def _solved(self, name: str, value: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The isometric matrix nearest to a tensor's, and its factor."""
        one = self._shapes[name]
        block = one.block(wide(value))
        scale = (one.scale_of(block) or 1.0) if one.has_scale else 1.0
        return one.matrix(block / scale), scale

    def rebase_(self) -> None:
        """Make the tensors as they are now the new starting points."""
        for name, array in self.made(self.names).items():
            self.right_inverse(name, array)


def turned(start: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Matrices of orthonormal columns, turned by the Cayley transform of free ones.

    Arguments:
        start: W0, (count, n, k).
        free: X, of the same shape.

    A last step of Newton's method for the polar factor takes away what rounding left of W^H W - 1.
    """
    dtype = start.dtype
    start, free = wide(start), wide(free)
    _, rows, columns = start.shape
    if rows <= max(_DENSE_ROWS, 2 * columns):
        # Twice both sides: a call of torch takes as long as the arithmetic of small matrices.
        skew = free @ start.mH
        skew = skew - skew.mH
        two = torch.eye(rows, dtype=start.dtype, device=start.device) * 2
        matrix = torch.linalg.solve(two - skew, torch.baddbmm(start, skew, start, beta=2))
    else:
        left = torch.cat([free, start], dim=-1)
        right = torch.cat([start, -free], dim=-1)
        small = right.mH @ left / 2
        one = torch.eye(2 * columns, dtype=start.dtype, device=start.device)
        matrix = start + left @ torch.linalg.solve(one - small, right.mH @ start)
    matrix = torch.baddbmm(matrix, matrix, matrix.mH @ matrix, beta=1.5, alpha=-0.5)
    return matrix.to(dtype)


def _stacked(arrays: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(arrays)) if len(arrays) > 1 else arrays[0].unsqueeze(0)


def polar(matrix: torch.Tensor) -> torch.Tensor:
    """The isometry that is nearest to a matrix of at least as many rows as columns."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


def _with_block(
    block: torch.Tensor, rows: Sequence[int], columns: Sequence[int], height: int, width: int
) -> torch.Tensor:
    """An isometry, height by width, that has a block at some rows and columns.

    The block is a part of an isometry, so its singular values are at most 1: where they are above,
    by rounding or since a user set it, they are 1 then.
    """
    u, s, vh = torch.linalg.svd(block, full_matrices=False)
    s = s.clamp(max=1)
    block = (u * s) @ vh
    others = [row for row in range(height) if row not in set(rows)]
    left = torch.zeros(height, len(columns), dtype=block.dtype, device=block.device)
    left[rows] = block
    # The other rows R have R^H R = 1 - block^H block.
    missing = torch.eye(len(columns), dtype=block.dtype, device=block.device) - block.mH @ block
    values, vectors = torch.linalg.eigh(missing)
    most = min(len(others), len(columns))
    roots = values.clamp(min=0).sqrt().to(block.dtype)
    if most:
        left[others[:most]] = roots[-most:, None] * vectors[:, -most:].mH
    whole = torch.zeros(height, width, dtype=block.dtype, device=block.device)
    whole[:, columns] = polar(left)
    rest = [column for column in range(width) if column not in set(columns)]
    if rest:
        basis = torch.linalg.qr(torch.cat([whole[:, columns], _noise(whole, len(rest))], -1)).Q
        whole[:, rest] = basis[:, len(columns) :]
    return whole


def _noise(like: torch.Tensor, columns: int) -> torch.Tensor:
    """Columns in no special direction, the same each time."""
    generator = torch.Generator("cpu").manual_seed(0)
    shape = (like.shape[0], columns)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return noise.to(like.device, like.dtype)


def wide(array: torch.Tensor) -> torch.Tensor:
    """In single precision at least: torch solves no system in half precision."""
    return array.float() if array.dtype in (torch.float16, torch.bfloat16) else array
