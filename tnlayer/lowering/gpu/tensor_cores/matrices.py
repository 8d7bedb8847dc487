"""Tensor cores: a chain's segments as matrices, and products with them by mma instructions.

``merge_blocks`` makes one matrix of the weights of each segment; gradients go through it like
through any other step. ``MmaLowering`` then lowers products of a state with such a matrix to
statements of warps, where the sizes fill the instruction; all other steps are as without.

    gates on pairs of legs       merged into one matrix of 16 x 16
    a --[0]-------               a --[      ]--
    b --[0]--[2]--               b --[ 0 1  ]--    three gates: 3 x 4 products for each entry
    c --[1]--[2]--               c --[  2   ]--    one matrix: 16, but two instructions of a warp
    d --[1]-------               d --[      ]--    give 16 rows for 8 entries of the other legs

More products are done than without, on units that do several times as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ....errors import PlanError
from ....hardware.gpu import Tiling
from ....ir.launches import WARP
from ....ir.loops import At, Axis, Mma, OffsetPairs, Precision, Space, Statement, Threads
from ....ir.plan import Plan
from ....ir.steps import BATCH, Contract, Operand, Step, Value
from ....passes.stem import StemStep, find_stem, with_chain
from ...array_layout import Array, packed, volume
from ...lower_step import StepProduct
from ..lower_steps import MOST_COPIED, Lowering, Part
from ..merge_kernels import MOST_IN_ONE_BLOCK
from ..padded_strides import padded
from ..register_segments import Limits, find_register_segments
from ..thread_loop import lower_product
from .mma_lanes import FEW, Bit, Chosen, choose_bits
from .thread_loop_lanes import order_points
from .warps import ROW_BITS, Product, Split, choose_split

# Rows of the largest block: twice the rows are twice the products for each entry, and four times
# the weights that have to lie beside the states. Sums that are written out.
MOST_ROWS, MOST_SUMS = 64, 32
# Results of a point, and products written out, in steps that run once a call.
ONCE = Tiling(products=16)
# Such a step has few results and long sums, and most threads would be idle. Terms from which on
# points share a sum, and how many share one.
LONG_SUM, LEAST_SHARES, MOST_SHARES = 128, 4, 64
# Index of points that share a gradient's samples.
SHARE = "share"
# The first architecture with these instructions.
OLDEST = "sm_80"
PRECISIONS: tuple[Precision, ...] = ("tf32", "3xtf32", "bf16")
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
    """Lowers products of a state with a matrix, and of two states, to tensor cores.

    Arguments:
        precision: of the operands.
        periods: entries after which arrays in shared memory leave one out.
        most_copied: entries of all copies of a gradient to which warps add that share its terms.
        kept: parameters, and values of such, that each block copies into its shared memory.
        kept_periods: entries after which those copies leave one out.
        counts: of each loop of a block the instructions of the busiest warp, the cycles of the
            worst access of shared memory, and those of all.
        products: loops on tensor cores so far.
        copied: most entries of a gradient's copies so far.
    """

    precision: Precision = "tf32"
    periods: tuple[int, ...] = ()
    most_copied: int = 0
    kept: frozenset[str] = frozenset()
    kept_periods: tuple[int, ...] = ()
    counts: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    products: int = 0
    copied: int = 0

    def cost(self) -> tuple[int, int, int]:
        """Instructions of the busiest warps, cycles of the worst access down to ``FEW``, of all."""
        busiest, worst, cycles = zip((0, FEW, 0), *self.counts, strict=True)
        return sum(busiest), max(worst), sum(cycles)

    def volumes_far(self) -> dict[str, int]:
        """Entries of parameters, and of values of such, that samples read from global memory, as
        often as they do."""
        spaces = {buffer.name: buffer.space for buffer in self.buffers}
        found: dict[str, int] = {}
        for step in self.plan.steps:
            operands = [operand.value for operand in step.operands]
            if not any(value.name in self.batched for value in operands):
                continue
            for value in operands:
                space = spaces[self.local[value.name].buffer]
                if value.name not in self.batched and space in ("shared", "input"):
                    entries = volume(value.legs, self.sizes)
                    found[value.name] = found.get(value.name, 0) + entries
        return found

    def makes_in_outputs(self) -> bool:
        """Results leave by copies where the last block may lack samples."""
        return self.block == 1

    def copy_parameters(self) -> None:
        """Small parameters that a block reads, and what is kept, into shared memory."""
        places = self.places_of_branch()
        read = {
            operand.value.name
            for step in self.plan.steps
            for operand in step.operands
            if {o.value.name for o in step.operands} & self.batched
            or "prologue" in places.get(step.result.name, ())
        }
        values = [value for value in self.plan.inputs if BATCH not in value.legs]
        values = [value for value in values if value.name in read]
        fits = sum(volume(value.legs, self.sizes) for value in values) <= MOST_COPIED
        for value in values:
            if fits:
                self.copy_in(value, "prologue")
            elif value.name in self.kept:
                self.keep(value)

    def keep(self, value: Value) -> None:
        """Copy into shared memory, in a layout of its own."""
        # Weights are read otherwise than states, so another padding may suit them better.
        periods, self.periods = self.periods, self.kept_periods
        self.copy_in(value, "prologue")
        self.periods = periods

    def after_step(self, step: Step) -> None:
        """What is kept comes into shared memory."""
        if step.result.name in self.kept:
            self.keep(step.result)

    def strides_of(self, legs: Sequence[str], space: Space) -> dict[str, int]:
        """Padded where it may lie in shared memory."""
        if space in ("block", "partial"):
            return padded(legs, self.sizes, *self.periods)
        return packed(legs, self.sizes)

    def on_warps(self, what: StepProduct) -> Threads | None:
        """A product of a state with a matrix, or of two states that sums over samples."""
        result, left, right = what.result, what.left, what.right
        if right is None:
            return None
        states = [o for o in (left, right) if o.value.name in self.batched]
        weights = [o for o in (left, right) if o.value.name not in self.batched]
        loop = None
        if BATCH in result.legs and len(states) == len(weights) == 1:
            loop = self.mma(result, weights[0], states[0])
        elif BATCH not in result.legs and len(states) == 2:
            loop = self.mma(result, left, right) or self.mma(result, right, left)
        self.products += loop is not None
        return loop

    def ordered(self, part: Part, body: Sequence[Statement]) -> Sequence[Statement]:
        """Points of a block's loops ordered by banks; those of warps are chosen as such."""
        if part not in ("prologue", "samples"):
            return body
        inside = {b.name for b in self.buffers if b.space in ("block", "partial")}
        found: list[Statement] = []
        for loop in body:
            assert isinstance(loop, Threads)
            if not any(isinstance(statement, Mma) for statement in loop.body):
                loop, (worst, cycles) = order_points(loop, inside)
                self.counts.append((0, worst, cycles if part == "samples" else 0))
            found.append(loop)
        return found

    def once_a_call(
        self, target: Array, left: Array, right: Array | None, part: Part
    ) -> Sequence[Threads]:
        """Long sums are loops, and where there are fewer results than threads their terms are
        shared."""
        shared = self.shared_legs(target, left, right)
        if not shared:
            return [self.once(target, left, right)]
        # The points' order is that of the larger operand in memory: neighbours read neighbours.
        array = max([left, right or left], key=lambda array: volume(array.legs, self.sizes))
        legs = sorted((*target.legs, *shared), key=lambda leg: -array.stride(leg))
        parts = self.workspace(f"{target.buffer}_t", legs, part)
        return [self.once(parts, left, right), self.once(target, parts, None)]

    def once(self, target: Array, left: Array, right: Array | None) -> Threads:
        return lower_product(target, left, right, self.sizes, tiling=ONCE, rolled=True)

    def shared_legs(self, target: Array, left: Array, right: Array | None) -> list[str]:
        """Summed legs whose terms go to points of their own."""
        legs = dict.fromkeys((*left.legs, *(right.legs if right else ())))
        summed = [leg for leg in legs if leg not in target.legs]
        points, terms = volume(target.legs, self.sizes), volume(summed, self.sizes)
        # What is too large for one block has a grid of its own.
        most = self.threads * (1 if points * terms <= MOST_IN_ONE_BLOCK else MOST_SHARES)
        found: list[str] = []
        for leg in summed if terms >= LONG_SUM else ():
            shares = volume((*found, leg), self.sizes)
            if points * shares <= most and shares <= MOST_SHARES:
                found.append(leg)
        # A second step and its barrier for two shares would cost what it saves.
        return found if volume(found, self.sizes) >= LEAST_SHARES else []

    def mma(self, result: Value, left: Operand, right: Operand) -> Threads | None:
        """The loop over warps; None where the sizes do not fill the instruction.

        Of a gradient of a matrix the sums are what both states have, and the samples of the block
        are a loop around: those that are missing are in no sum.
        """
        rows = [leg for leg in left.legs if leg in result.legs]
        columns = [leg for leg in right.legs if leg in result.legs]
        sums = [leg for leg in left.legs if leg not in result.legs and leg != BATCH]
        everything = (*rows, *columns, *sums)
        # A repeated leg is a diagonal, and one of both operands and the result a batch of products:
        # neither is a matrix product. Fragments are addressed by bits, so sizes are powers of two.
        depth = 16 if self.precision == "bf16" else 8
        if (
            len(set(everything)) < len(everything)
            or len(set(right.legs)) < len(right.legs)
            or {*rows, *columns} != set(result.legs)
            or {*sums, *columns} != set(right.legs) - ({BATCH} - set(columns))
            or any(self.sizes[leg] & (self.sizes[leg] - 1) for leg in everything)
            or volume(rows, self.sizes) < 16
            or volume(columns, self.sizes) < 8
            or volume(sums, self.sizes) < depth
        ):
            return None
        a, b = self.home(left, "samples"), self.home(right, "samples")
        is_sum = BATCH not in result.legs
        target = self.partial(result) if is_sum else self.make(result, "samples")
        spaces = {buffer.name: buffer.space for buffer in self.buffers}

        def outside(array: Array) -> bool:
            return spaces[array.buffer] not in ("block", "partial")

        chosen = choose_bits(
            tuple(sorted(self.bits(rows, target, a, b), key=lambda bit: bit[1])),
            tuple(sorted(self.bits(columns, target, a, b), key=lambda bit: bit[2])),
            tuple(sorted(self.bits(sums, target, a, b), key=lambda bit: bit[2])),
            packs=self.precision == "bf16",
            in_global=(outside(target), outside(a), outside(b)),
        )
        product = Product(
            len(chosen.rows),
            len(chosen.columns),
            len(chosen.sums),
            depth.bit_length() - 1,
            self.block.bit_length() - 1 if is_sum else 0,
            chosen.cycles,
            is_sum,
        )
        split = choose_split(product, self.threads // WARP, self.most_copied)
        inside = [n for n, array in zip(chosen.cycles, (a, b, target), strict=True)
                  if not outside(array)]  # fmt: skip
        if split.copies > 1:
            self.copied = max(self.copied, split.copies * volume(result.legs, self.sizes))
        self.counts.append((split.busiest, max(inside, default=0), split.cycles))
        return self.loop(target, a, b, chosen, split, adds=is_sum)

    def loop(
        self, target: Array, a: Array, b: Array, chosen: Chosen, split: Split, *, adds: bool
    ) -> Threads:
        """The statement for all tiles of the target and all shares of their terms."""
        # The first bits are an instruction's own; each bit that is left is an index of the points,
        # and so is each bit of the sums that points share.
        tiles = [*chosen.rows[ROW_BITS:], *chosen.columns[split.columns :]]
        inner = len(chosen.sums) - split.terms
        indices = [(f"i{n}", 2, bit) for n, bit in enumerate(tiles)]
        indices += [(f"s{n}", 2, bit) for n, bit in enumerate(chosen.sums[inner:])]
        copy = tuple((f"s{n}", 1 << n) for n in range(split.terms))
        written = min(inner, int(math.log2(MOST_SUMS)))
        loops = [Axis(2, bit[1], bit[2]) for bit in reversed(chosen.sums[written:inner])]
        if adds and self.block > 1:
            # Missing samples are in no sum, so this loop stays outside and ends at the last one.
            axis = Axis(self.block, a.stride(BATCH), b.stride(BATCH), of_samples=True)
            if split.samples:
                axis = replace(axis, first=SHARE, step=1 << split.samples)
                indices.append((SHARE, axis.step, (0, 0, 0)))
                copy = (*copy, (SHARE, 1 << split.terms))
            loops.insert(0, axis)

        def at(array: Array, side: int) -> At:
            terms = tuple((name, bit[side]) for name, _, bit in indices if bit[side])
            return At(array.buffer, array.offset, terms, "scalar", array.conj)

        mma = Mma(
            at(target, 0),
            at(a, 1),
            at(b, 2),
            _pairs(chosen.rows[:ROW_BITS], 1, 0),
            _pairs(chosen.columns[: split.columns], 2, 0),
            _pairs(chosen.sums[:written], 1, 2),
            self.precision,
            tuple(loops),
            adds=adds,
            copies=split.copies,
            copy=copy,
        )
        return Threads(tuple((name, count) for name, count, _ in indices), (mma,))

    def bits(self, legs: Sequence[str], *arrays: Array) -> list[Bit]:
        """How far each binary digit of the legs moves in target, left and right."""
        found: list[Bit] = []
        for leg in legs:
            to, a, b = (array.stride(leg) for array in arrays)
            count = self.sizes[leg].bit_length() - 1
            found += [(to << bit, a << bit, b << bit) for bit in range(count)]
        return found


def _pairs(bits: Sequence[Bit], first: int, second: int) -> OffsetPairs:
    """Offsets of all combinations, the first bit fastest."""
    return tuple(
        (
            sum(bit[first] for k, bit in enumerate(bits) if n >> k & 1),
            sum(bit[second] for k, bit in enumerate(bits) if n >> k & 1),
        )
        for n in range(1 << len(bits))
    )
