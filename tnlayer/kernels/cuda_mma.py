"""Tensor cores: a chain's segments as matrices, and products with them by mma instructions.

``merge_blocks`` makes one matrix of the weights of each segment; gradients go through it like
through any other step. ``MmaLowering`` then lowers products of a state with such a matrix to
statements of warps, where the sizes fill the instruction; all other steps are as without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tnlayer.errors import PlanError
from tnlayer.kernels.arrays import Array, volume
from tnlayer.kernels.cuda_segments import Limits, find_register_segments
from tnlayer.kernels.cuda_steps import Lowering, Part
from tnlayer.kernels.loops import At, Mma, Pairs, Precision, Threads
from tnlayer.kernels.stem import StemStep, find_stem, with_chain
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH, Contract, Operand, Step, Value

# Rows of the largest block; columns that a warp does at once; sums that are written out.
MOST_ROWS, MOST_COLUMNS, MOST_SUMS = 64, 32, 256
# Warps that should find work in a step.
LEAST_TILES = 8
# The first architecture with these instructions.
OLDEST = "sm_80"
PRECISIONS: tuple[Precision, ...] = ("tf32", "3xtf32", "bf16")
Bit = tuple[int, int, int]
ADVICE = "leave out tensor_cores= for float32 arithmetic"


def merge_blocks(plan: Plan, most: int = MOST_ROWS) -> Plan:
    """The plan whose stem has one step a segment, with the product of the segment's weights.

    Arguments:
        plan: a forward plan.
        most: rows and columns of a merged matrix.

    Raises:
        PlanError: the batched steps are no chain.
    """
    stem = find_stem(plan)
    if isinstance(stem, str):
        raise PlanError(f"tensor cores take a chain of steps on one input: {stem}; {ADVICE}")
    made: list[Step] = []
    chain: list[StemStep] = []
    for number, segment in enumerate(find_register_segments(stem, plan.sizes, Limits(most))):
        steps = [stem.steps[k] for k in segment.steps]
        chain += _merged(steps, f"block{number}", made)
    return with_chain(plan, stem, chain, made)


def _merged(steps: Sequence[StemStep], name: str, made_of: list[Step]) -> Sequence[StemStep]:
    """The steps as one, whose weight is made by new steps on parameters, which are added to a list;
    as they are where a weight shares a leg with what it leaves alone."""
    if len(steps) == 1 or any(step.kept for step in steps):
        return steps
    weight = steps[0].weight
    contracted, made = list(steps[0].contracted), list(steps[0].made)
    for number, step in enumerate(steps[1:]):
        inner = [leg for leg in step.contracted if leg in made]
        contracted += [leg for leg in step.contracted if leg not in inner]
        made = [leg for leg in made if leg not in inner] + list(step.made)
        value = Value(f"{name}_{number}", (*contracted, *made))
        made_of.append(Contract(value, weight, step.weight))
        weight = Operand(value)
    return [StemStep(steps[-1].name, weight, tuple(contracted), tuple(made), ())]


@dataclass(slots=True)
class MmaLowering(Lowering):
    """Lowers products of a state with a matrix to tensor cores; ``products`` counts them."""

    precision: Precision = "tf32"
    products: int = 0

    def start(self) -> None:
        """As for any plan; results leave by copies where the last block may lack samples."""
        Lowering.start(self)
        if self.block > 1:
            self.direct.clear()

    def contract(self, result: Value, left: Operand, right: Operand | None, part: Part) -> None:
        """As for any plan, or one statement a warp."""
        operands = [o for o in (left, right) if o is not None]
        states = [o for o in operands if o.value.name in self.batched]
        weights = [o for o in operands if o.value.name not in self.batched]
        if part == "samples" and BATCH in result.legs and len(states) == len(weights) == 1:
            loop = self.mma(result, states[0], weights[0], part)
            if loop is not None:
                self.products += 1
                text = f"{result.name} = {weights[0].value.name} x {states[0].value.name}"
                self.emit(part, result.name, f"{text} on tensor cores", [loop])
                return
        Lowering.contract(self, result, left, right, part)

    def mma(self, result: Value, state: Operand, weight: Operand, part: Part) -> Threads | None:
        """The loop over warps; None where the sizes do not fill the instruction."""
        rows = [leg for leg in weight.legs if leg in result.legs]
        sums = [leg for leg in weight.legs if leg not in result.legs]
        columns = [leg for leg in state.legs if leg in result.legs]
        everything = (*rows, *sums, *columns)
        depth = 16 if self.precision == "bf16" else 8
        if (
            len(set(everything)) < len(everything)
            or {*rows, *columns} != set(result.legs)
            or {*sums, *columns} != set(state.legs)
            or any(self.sizes[leg] & (self.sizes[leg] - 1) for leg in everything)
            or volume(rows, self.sizes) < 16
            or volume(columns, self.sizes) < 8
            or not depth <= volume(sums, self.sizes) <= MOST_SUMS
        ):
            return None
        a, b = self.home(weight, part), self.home(state, part)
        target = self.make(result, part)
        of_rows = sorted(self.bits(rows, target, a, b), key=lambda bit: bit[1])
        of_columns = sorted(self.bits(columns, target, a, b), key=lambda bit: bit[2])
        of_sums = sorted(self.bits(sums, target, a, b), key=lambda bit: bit[2])
        wide = int(math.log2(MOST_COLUMNS))
        while wide > 3 and 2 ** (len(of_rows) - 4 + len(of_columns) - wide) < LEAST_TILES:
            wide -= 1
        wide = min(wide, len(of_columns))
        points = [*of_rows[4:], *of_columns[wide:]]
        names = [f"i{n}" for n in range(len(points))]

        def at(array: Array, side: int) -> At:
            terms = tuple((n, bit[side]) for n, bit in zip(names, points, strict=True) if bit[side])
            return At(array.buffer, array.offset, terms, "scalar", array.conj)

        mma = Mma(
            at(target, 0),
            at(a, 1),
            at(b, 2),
            _pairs(of_rows[:4], 1, 0),
            _pairs(of_columns[:wide], 2, 0),
            _pairs(of_sums, 1, 2),
            self.precision,
        )
        return Threads(tuple((name, 2) for name in names), (mma,))

    def bits(self, legs: Sequence[str], *arrays: Array) -> list[Bit]:
        """How far each binary digit of the legs moves in target, weight and state."""
        found: list[Bit] = []
        for leg in legs:
            to, a, b = (array.stride(leg) for array in arrays)
            count = self.sizes[leg].bit_length() - 1
            found += [(to << bit, a << bit, b << bit) for bit in range(count)]
        return found


def _pairs(bits: Sequence[Bit], first: int, second: int) -> Pairs:
    """Offsets of all combinations, the first bit fastest."""
    return tuple(
        (
            sum(bit[first] for k, bit in enumerate(bits) if n >> k & 1),
            sum(bit[second] for k, bit in enumerate(bits) if n >> k & 1),
        )
        for n in range(1 << len(bits))
    )
