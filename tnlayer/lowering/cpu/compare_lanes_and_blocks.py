"""Legs or samples as lanes, and how many samples a block has: by an estimate of cycles.

Its cycles are only compared with each other. How long a kernel takes is foreseen by
time_models/cpu_kernels.py, from measured rates.

With legs as lanes a block is one sample as long as parameters are small: its state stays nearest.
Parameters that leave the first caches are read once a block, and so are the vectors of partial sums
of their gradients; then blocks of several samples pay. Samples as lanes always have a block of one
vector. The estimate counts multiply-adds, what is read and written, and changes of lanes; decision
record 0013 says how far it is from measured times. Of a state of legs a b c d, 16 samples::

    legs as lanes       one sample after the other, or a few:  a vector holds  x[s, a, b, :, :]
    samples as lanes    all 16 at once, 16 times the memory:   a vector holds  x[:, a, b, c, d]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from ...hardware.cpu import (
    AT_ONCE,
    CACHE_RATES,
    PEAK_REACHED,
    TRANSPOSED,
    TRANSPOSED_ROWS,
)
from ...passes.stem import Stem, StemStep, state_after
from ..array_layout import Lanes, volume

# Samples of a block at most: more states at once leave the caches.
MOST_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """What an estimate is about.

    Arguments:
        sizes: of all legs of the stem.
        width: entries of a vector.
        itemsize: bytes of an entry.
        products: real multiply-adds in a product, 4 if it is complex.
        batch: samples of a call.
        threads: that share them.
        backward: whether the backward is meant, which makes all states again.
    """

    sizes: Mapping[str, int]
    width: int
    itemsize: int
    products: int
    batch: int
    threads: int
    backward: bool


def blocks_of(setting: Setting) -> list[int]:
    """Samples that a block may have with legs as lanes: two blocks a thread at least."""
    most = min(MOST_SAMPLES, setting.batch // (2 * setting.threads))
    return [1, *(block for block in (2, 4, 8, 16) if block <= most)]


def cycles(stem: Stem, lanes: Mapping[str, Lanes], block: int, setting: Setting) -> float:
    """Cycles of one thread for a sample.

    Arguments:
        stem: steps in the order in which they run.
        lanes: of each step by its result; empty if samples are the lanes.
        block: samples of a block.
        setting: sizes, machine and batch.
    """
    sizes, entry = setting.sizes, setting.itemsize
    legs, since = stem.legs, next(iter(lanes.values()), ())
    # A backward makes the states again, and has two products for each of a forward.
    passes = 3 if setting.backward else 1
    weights = sum(volume(step.weight.legs, sizes) for step in stem.steps) * entry
    partials = sum(_partial(step, lanes.get(step.name, ()), setting) for step in stem.steps)
    work = moved = 0.0
    states = [volume(legs, sizes)]
    for step in stem.steps:
        own = lanes.get(step.name, ())
        work += _work(step, legs, own, block, setting)
        # A step that turns its lanes (lane_rotation.py) counts as a move, too: this estimate is
        # only held against samples as lanes.
        if own != since:
            moved += states[-1] / _filled(own, setting)
        legs, since = state_after(legs, step), own
        states.append(volume(legs, sizes))
    # x and y lie in rows; samples as lanes are transposed at both ends.
    moved += (states[0] + states[-1]) / (_filled(since, setting) if lanes else setting.width)
    # What is used between two uses of a state: two neighbours, or in the backward all.
    near = sum(states) if setting.backward else max(a + b for a, b in pairwise(states))
    # Each state is written once and read once; weights once a block, whatever its samples.
    traffic = 2 * sum(states) * entry * passes / _rate(near * entry * block)
    traffic += weights * passes / _rate(weights) / block
    if setting.backward:
        traffic += 2 * partials / _rate(partials) / block
    registers = 2 if setting.products > 1 else 1
    move = TRANSPOSED if lanes else TRANSPOSED_ROWS
    total = passes * work + move * registers * moved * (2 if setting.backward else 1) + traffic
    return total * _idle(block, setting)


def _work(
    step: StemStep, legs: tuple[str, ...], lanes: Lanes, block: int, setting: Setting
) -> float:
    """Cycles of the multiply-adds of one sample: loads bound them where tiles are small."""
    sizes = setting.sizes
    vectors = volume((*legs, *step.made), sizes) / _filled(lanes, setting)
    kept = [leg for leg in legs if leg not in (*step.contracted, *step.kept, *lanes)]
    # The tile that registers hold: 24 results, at most 8 rows (tile_shapes.py).
    rows = min(volume(kept, sizes) * (block if lanes else 1), 8)
    columns = min(volume(step.made, sizes), 24 // rows)
    # For each product of vectors 1 / rows + 1 / columns loads; whichever takes longer counts.
    needed = max(setting.products / PEAK_REACHED, 1 / rows + 1 / columns)
    return vectors * needed / AT_ONCE


def _partial(step: StemStep, lanes: Lanes, setting: Setting) -> float:
    """Bytes of the partial sums of a gradient: a vector an entry, unless the lanes are its legs."""
    entries = volume(step.weight.legs, setting.sizes) * setting.itemsize
    own = [leg for leg in lanes if leg in step.weight.legs]
    return entries * setting.width / volume(own, setting.sizes)


def _filled(lanes: Lanes, setting: Setting) -> int:
    """Lanes in use."""
    return volume(lanes, setting.sizes) if lanes else setting.width


def _rate(size: float) -> float:
    return next(rate for most, rate in CACHE_RATES if size <= most)


def _idle(block: int, setting: Setting) -> float:
    """How much longer it takes since the last blocks are not full, or threads have none."""
    blocks = -(-setting.batch // block)
    turns = -(-blocks // setting.threads)
    return turns * block * min(setting.threads, setting.batch) / setting.batch
