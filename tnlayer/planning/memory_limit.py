"""Keeping a memory limit: what to make again, and how much to take at once.

Four ways save memory, and the search tries them in the order of what they cost:

1. keep everything (free, if it fits);
2. make some values again in the backward: first those that free most bytes for a second of work;
3. let the batch through in chunks: all batched values are made again, the calls are smaller;
4. loop over summed inner legs, one index at a time, where a value without samples is too large.

Choosing storage orders takes most of the time of lowering. So the search works on estimates (bytes
that are live between the steps of a plan, or one lowered pair with another chunk put in), and only
what looks good is lowered and counted exactly. Nothing is returned that was not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..errors import PlanError
from ..hardware.gpu import Gpu
from ..ir.counts import Amount, Counts, elements
from ..ir.plan import Plan
from ..ir.plan_parts import Memory
from ..ir.plan_text import at_batch
from ..ir.steps import BATCH, Step, Value
from ..lowering.calls.training_schedules import Mask, TrainingSchedules
from ..passes.differentiate import adjoint
from ..passes.slice_legs import looped_together, sliceable_legs
from ..support.wording import counted
from ..targets.lowered_calls import LoweredCalls


def check_limit(
    room: tuple[int, int],
    limit: int,
    batch: int,
    gpu: Gpu | None = None,
    *,
    among_calls: bool = False,
) -> None:
    """Refuse kernels that take more than a memory limit.

    Arguments:
        room: bytes of the workspace, and those that pass at the batch size.
        limit: bytes.
        batch: samples of a call.
        gpu: the device, if it is one.
        among_calls: whether torch's calls were considered beside them.

    Raises:
        LimitRefused: they do.
    """
    own, passing = room
    needed = own + passing
    if needed <= limit:
        return
    more = ", whatever the batch"
    if passing:
        more = f", and arrays around them {passing} at batch {batch}"
    ways = [f"allow {needed}"]
    ways += ["use fewer threads"] if gpu is None else []
    ways += ["use smaller batches"] if passing else []
    ways += [] if among_calls else ["take backend='torch'"]
    msg = (
        f"memory_limit={limit} bytes cannot be kept by compiled kernels: their workspace takes "
        f"{own} bytes {'in all threads' if gpu is None else 'with a full grid'}{more}; "
        f"{', or '.join(ways)}"
    )
    raise LimitRefused(msg, needed, ())


# A stand-in until a device was measured: it only ranks ways to keep a limit.
_FLOPS_PER_SECOND = 100e9
_BYTES_PER_SECOND = 10e9
_CALL = 5e-6

# How the largest value is told of; its legs are named later.
_LARGEST = (
    "; the largest value counted in it is {name}, of which {size} bytes are there at once, legs "
    "{{legs}}"
)

# Estimates leave out copies: how often the target is lowered until the exact count fits.
_ATTEMPTS = 4
_ESTIMATE_ERROR = 1.5
# Smaller chunks than the largest that fits may stay in a cache; below this, calls dominate.
_LEAST_CACHED_CHUNK = 32
_CACHED = (4, 16)
# Legs to slice that are tried. Lowering takes seconds for large plans: there less is tried.
_TRIED_SLICES, _TRIED_SLICES_OF_LARGE = 8, 2
_LARGE_PLAN = 100


class LimitRefused(PlanError):
    """A limit that a plan cannot keep, in canonical names.

    Arguments:
        message: what was tried, with ``{legs}`` where the legs of the largest value are named.
        needed: bytes of the smallest workspace that was found.
        legs: those legs.
    """

    def __init__(self, message: str, needed: int, legs: tuple[str, ...]) -> None:
        super().__init__(message.format(legs=", ".join(legs)))
        self.message = message
        self.needed = needed
        self.legs = legs

    def with_names(self, names: Mapping[str, str]) -> str:
        """The message with the user's names of legs."""
        shown = {**names, BATCH: "batch"}
        return self.message.format(legs=", ".join(shown.get(leg, leg) for leg in self.legs))


class LimitError(PlanError):
    """A limit that a network cannot keep, in the user's names.

    Arguments:
        message: what was tried.
        needed: bytes of the smallest workspace that was found.
    """

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed

    def __reduce__(self) -> tuple[type[LimitError], tuple[str, int]]:
        """Exceptions are made again from all of their arguments."""
        return LimitError, (str(self), self.needed)


def counted_seconds(lowered: LoweredCalls, batch: int) -> float:
    """Rough time of a forward and backward: FLOPs, bytes and calls at fixed rates."""
    total = 0.0
    for schedule in (lowered.pair.forward, lowered.pair.backward):
        if schedule is not None:
            total += _work(schedule.plan.counts, batch)
            total += schedule.kernel_count_at(batch) * _CALL
    return total


def keep_limit(
    lowered: LoweredCalls,
    batch: int,
    limit: int,
    seconds: Callable[[LoweredCalls], float] | None = None,
    *,
    keeps: bool = True,
) -> LoweredCalls:
    """The plan with the ``Memory`` that keeps a limit at the least predicted time, lowered.

    Arguments:
        lowered: a forward plan; of its own ``memory`` only ``adds`` is kept.
        batch: samples of a call; the limit holds for calls with at most that many.
        limit: bytes that forward and backward may allocate beyond x, y, the parameters and their
            gradients.
        seconds: predicted time of forward and backward of a plan; by default from its counts.
        keeps: whether the forward may keep values for the backward.

    Raises:
        LimitRefused: the limit cannot be kept; says how little is possible, and with what chunk.
    """
    bare = Memory(adds=lowered.plan.memory.adds)
    if lowered.plan.memory != bare:
        lowered = replace(lowered, plan=replace(lowered.plan, memory=bare))
    search = _Search(lowered, batch, limit, keeps)
    if search.fits(bare):
        return lowered
    found = [search.lowered(memory) for memory in search.found()]
    if not found:
        raise search.refusal()
    predict = seconds or (lambda one: counted_seconds(one, batch))
    return found[0] if len(found) == 1 else min(found, key=predict)


@dataclass(slots=True)
class _Search:
    """One plan and limit, with what was lowered and the smallest workspace that was seen so far."""

    given: LoweredCalls
    batch: int
    limit: int
    keeps: bool = True
    smallest: tuple[int, Memory] | None = None
    _lowered: dict[Memory, LoweredCalls] = field(default_factory=dict[Memory, LoweredCalls])

    @property
    def plan(self) -> Plan:
        """The plan, with nothing done to save memory."""
        return self.given.plan

    @property
    def bare(self) -> Memory:
        """Nothing is done to save memory."""
        return self.plan.memory

    @property
    def mask(self) -> Mask:
        """The wanted gradients."""
        return self.given.mask

    def lowered(self, memory: Memory) -> LoweredCalls:
        """The plan with one way to save memory, lowered."""
        if memory == self.bare:
            return self.given
        if memory not in self._lowered:
            plan = replace(self.plan, memory=memory)
            self._lowered[memory] = replace(self.given, plan=plan)
        return self._lowered[memory]

    def pair(self, memory: Memory) -> TrainingSchedules:
        """Its schedules."""
        return self.lowered(memory).pair

    def is_allowed(self, memory: Memory) -> bool:
        """Whether the forward keeps values only where it may."""
        return self.keeps or self.pair(memory).forward.saved_bytes == Amount()

    def workspace(self, memory: Memory) -> int:
        """Exact workspace; remembers the smallest that is allowed."""
        needed = self.pair(memory).workspace_bytes(self.batch)
        if (self.smallest is None or needed < self.smallest[0]) and self.is_allowed(memory):
            self.smallest = (needed, memory)
        return needed

    def fits(self, memory: Memory) -> bool:
        """Whether a way keeps the limit."""
        return self.is_allowed(memory) and self.workspace(memory) <= self.limit

    def found(self) -> list[Memory]:
        """What keeps the limit; slices only where nothing else does."""
        # Where no gradient is wanted there is no backward that could make anything again.
        steps = self.plan.steps if any(self.mask) else ()
        everything = replace(self.bare, recompute=tuple(step.result.name for step in steps))
        again = self._recomputations() if self.keeps else iter([everything])
        found = self.keeping(again if any(self.mask) else ())
        if self.plan.is_batched:
            found += self.keeping(self._chunks(self.bare)) or self.keeping(self._chunks(everything))
        if not found:
            found = self.keeping(self._sliced(everything))
        if not found and self.plan.is_batched:
            found = self.keeping(self._sliced(replace(everything, chunk=1)))
        return found

    def keeping(self, memories: Iterable[Memory]) -> list[Memory]:
        """Those that keep the limit, each once."""
        return [memory for memory in dict.fromkeys(memories) if self.fits(memory)]

    # -- recomputation ---------------------------------------------------------------------

    def _recomputations(self) -> Iterator[Memory]:
        """The shortest start of the list of cheap values that is predicted to fit."""
        order = self._by_worth()
        if not order:
            return
        real = self.workspace(self.bare)
        factor = real / max(1, self._estimate(()))
        target = float(self.limit)
        estimates = [self._estimate(tuple(order[: n + 1])) * factor for n in range(len(order))]
        for _ in range(_ATTEMPTS if len(self.plan.steps) <= _LARGE_PLAN else 1):
            count = next((n + 1 for n, size in enumerate(estimates) if size <= target), None)
            if count is None:
                break
            memory = replace(self.bare, recompute=tuple(sorted(order[:count])))
            needed = self.workspace(memory)
            if needed <= self.limit:
                yield memory
                return
            target = min(target, estimates[count - 1]) * self.limit / needed
        if estimates[-1] <= self.limit * _ESTIMATE_ERROR:
            yield replace(self.bare, recompute=tuple(sorted(order)))

    def _by_worth(self) -> list[str]:
        """Kept values, most bytes freed for a second of repeated work first."""
        backward = self.pair(self.bare).backward
        kept = {value.name: value for value in backward.plan.saved} if backward else {}
        makers = {step.result.name: step for step in self.plan.steps}

        def worth(name: str) -> float:
            size = self._bytes(kept[name]).at(self.batch)
            return size / _step_seconds(self.plan, makers[name], self.batch)

        return sorted(kept, key=lambda name: (-worth(name), name))

    def _estimate(self, recompute: tuple[str, ...]) -> int:
        """Bytes that are live between the steps of forward and backward, copies left out."""
        names = [value.name for value in self.plan.inputs]
        wanted = [name for name, asked in zip(names, self.mask, strict=True) if asked]
        backward = adjoint(self.plan, wanted, recompute)
        saved = sum(self._bytes(value).at(self.batch) for value in backward.saved)
        kept = {value.name for value in backward.saved}
        forward = self._live(self.plan, kept)
        return max(forward, saved + self._live(backward, set()))

    def _live(self, plan: Plan, kept: set[str]) -> int:
        """Largest sum of values that exist at once, inputs and results left out."""
        last = {o.value.name: n for n, step in enumerate(plan.steps) for o in step.operands}
        results = {output.operand.value.name for output in plan.outputs}
        releases: dict[int, list[str]] = {}
        for name, index in last.items():
            releases.setdefault(index, []).append(name)
        live: dict[str, int] = {}
        total = peak = 0
        for index, step in enumerate(plan.steps):
            name = step.result.name
            if name not in results:
                live[name] = self._bytes(step.result).at(self.batch)
                total += live[name]
            peak = max(peak, total)
            for dead in releases.get(index, ()):
                if dead not in kept:
                    total -= live.pop(dead, 0)
        return peak

    def _bytes(self, value: Value) -> Amount:
        return elements(value.legs, self.plan.sizes) * self.plan.itemsize

    # -- chunks ----------------------------------------------------------------------------

    def _chunks(self, base: Memory) -> list[Memory]:
        """The largest chunk that fits, and smaller ones that may stay in a cache."""
        largest = self._largest_chunk(base)
        if largest is None or largest.chunk is None:
            return []
        smaller = (largest.chunk // factor for factor in _CACHED)
        kept = (chunk for chunk in smaller if chunk >= _LEAST_CACHED_CHUNK)
        return [largest, *(replace(largest, chunk=self._even(chunk)) for chunk in kept)]

    def _largest_chunk(self, base: Memory) -> Memory | None:
        """The largest chunk that keeps the limit, in even parts of the batch."""
        chunk = max(1, -(-self.batch // 8))
        best: Memory | None = None
        for _ in range(_ATTEMPTS):
            memory = replace(base, chunk=chunk)
            fits = self.fits(memory)
            if fits and (best is None or best.chunk is None or chunk > best.chunk):
                best = memory
            predicted = self._predict_chunk(self.pair(memory))
            # Where a smaller chunk's calls promised more than they keep, aim lower.
            following = self._even(predicted if fits else min(predicted, chunk - 1))
            if following == chunk or (best is not None and following <= (best.chunk or 0)):
                break
            if following < 1:
                break
            chunk = following
        if best is None and chunk > 1:
            memory = replace(base, chunk=1)
            best = memory if self.fits(memory) else None
        return best

    def _predict_chunk(self, pair: TrainingSchedules) -> int:
        """The largest chunk with which these calls would keep the limit; 0 if there is none."""
        low, high = 0, self.batch
        while low < high:
            middle = (low + high + 1) // 2
            if pair.with_chunk(middle).workspace_bytes(self.batch) <= self.limit:
                low = middle
            else:
                high = middle - 1
        return low

    def _even(self, chunk: int) -> int:
        """A chunk of at most this size that parts the batch evenly."""
        if chunk < 1:
            return 0
        turns = -(-self.batch // chunk)
        return -(-self.batch // turns)

    # -- slices ----------------------------------------------------------------------------

    def _sliced(self, base: Memory) -> list[Memory]:
        """A leg after the other, largest first, as long as that helps and the limit is not kept."""
        memory, needed = base, self.workspace(base)
        looped = {BATCH} if base.chunk is not None else set[str]()
        batch = base.chunk or self.batch
        legs = sorted(sliceable_legs(self.plan), key=lambda leg: (-self._carried(leg, batch), leg))
        small = len(self.plan.steps) <= _LARGE_PLAN
        for leg in legs[: _TRIED_SLICES if small else _TRIED_SLICES_OF_LARGE]:
            if looped_together(self.plan, looped | {leg}):
                continue
            tried = replace(memory, slices=(*memory.slices, leg))
            size = self.workspace(tried)
            if size < needed and self.is_allowed(tried):
                memory, needed = tried, size
                looped.add(leg)
            if needed <= self.limit:
                break
        if needed > self.limit:
            return []
        return [memory] if memory.chunk is None else self._chunks(memory)

    def _carried(self, leg: str, batch: int) -> int:
        """Bytes of the values that have a leg."""
        results = (step.result for step in self.plan.steps)
        return sum(self._bytes(value).at(batch) for value in results if leg in value.legs)

    # -- refusal ---------------------------------------------------------------------------

    def refusal(self) -> LimitRefused:
        """What was tried, how little is possible, and what to do."""
        assert self.smallest is not None
        needed, memory = self.smallest
        whole = ["the whole batch at once"] if self.plan.is_batched else []
        how = [
            *(whole if memory.chunk is None else [f"a chunk of {memory.chunk}"]),
            *(["everything made again in the backward"] if memory.recompute else []),
            *([f"{counted(len(memory.slices), 'leg')} sliced"] if memory.slices else []),
        ]
        told = f" ({', '.join(how)})" if how else ""
        smaller = "a smaller batch or smaller bonds" if self.plan.is_batched else "smaller bonds"
        largest, size = self._largest_counted(memory)
        named = "" if largest is None else _LARGEST.format(name=largest.name, size=size)
        message = (
            f"memory_limit={self.limit} bytes cannot be kept{at_batch(self.plan, self.batch)}: the "
            f"smallest workspace found is {needed} bytes{told}{named}. Raise the limit to "
            f"{needed}, or take {smaller}."
        )
        return LimitRefused(message, needed, () if largest is None else largest.legs)

    def _largest_counted(self, memory: Memory) -> tuple[Value | None, int]:
        """The largest value that a limit counts, and the bytes of it that are there at once: x, y,
        parameters and gradients are not counted, of a chunk or a loop one turn is there."""
        pair = self.pair(memory)
        plans = [self.plan, *([] if pair.backward is None else [pair.backward.plan])]
        batch = min(self.batch, memory.chunk or self.batch)
        sizes: list[tuple[int, Value]] = []
        for plan in plans:
            results = {output.operand.value.name for output in plan.outputs}
            for value in (step.result for step in plan.steps if step.result.name not in results):
                legs = tuple(leg for leg in value.legs if leg not in memory.slices)
                sizes.append(((elements(legs, plan.sizes) * plan.itemsize).at(batch), value))
        size, largest = max(sizes, key=lambda one: one[0], default=(0, None))
        return largest, size


def _step_seconds(plan: Plan, step: Step, batch: int) -> float:
    return _CALL + _work(plan.counts_of(step), batch)


def _work(counts: Counts, batch: int) -> float:
    """Seconds of counted work at fixed rates."""
    operations = counts.real_flops.at(batch) / _FLOPS_PER_SECOND
    moved = (counts.bytes_read + counts.bytes_written).at(batch) / _BYTES_PER_SECOND
    return operations + moved
