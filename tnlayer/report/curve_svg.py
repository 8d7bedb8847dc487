"""Predicted time by batch size, of a network and of dense, as an SVG element: both axes are
logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..ir.plan_text import milliseconds
from ..planning.break_even import CurvePoint, Ranges
from ..support.html import text

# Pixels.
WIDTH, HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 26, 40
OURS, DENSE, FASTER = "#2a6f97", "#c1592b", "#dcefe0"

_Scale = Callable[[float], float]


def curve_svg(points: Sequence[CurvePoint], ranges: Ranges, objective: str) -> str:
    """Both curves, with the batch sizes shaded at which the network is the faster one.

    Arguments:
        points: in the order of their batch sizes; at least two.
        ranges: batch sizes at which the network is faster.
        objective: "train" or "infer": which times are drawn.
    """
    dense = [(p.batch, p.dense.wanted(objective)) for p in points]
    ours = [(p.batch, p.ours.wanted(objective)) for p in points if p.ours is not None]
    seconds = [second for _, second in (*dense, *ours) if second > 0]
    first, last = points[0].batch, points[-1].batch
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    high = max(high, low + 1)

    def x(batch: float) -> float:
        inside = min(max(batch, first), last)
        share = math.log(inside / first) / math.log(last / first)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(second: float) -> float:
        share = (math.log10(second) - low) / (high - low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    shaded = [
        f'<rect x="{x(start):.1f}" y="{_TOP}" width="{x(end or last) - x(start):.1f}" '
        f'height="{HEIGHT - _TOP - _BOTTOM}" fill="{FASTER}"><title>the network is faster</title>'
        "</rect>"
        for start, end in ranges
        if start <= last
    ]
    parts = [
        *shaded,
        *_axes(x, y, points, (low, high)),
        *(_curve([(x(b), y(s), b, s) for b, s in of if s > 0], colour, name)
          for of, colour, name in ((dense, DENSE, "dense"), (ours, OURS, "network"))),
        _legend(is_shaded=bool(shaded)),
    ]  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" role="img" '
        f'aria-label="predicted time by batch size">{"".join(parts)}</svg>'
    )


def _axes(
    x: _Scale, y: _Scale, points: Sequence[CurvePoint], decades: tuple[int, int]
) -> list[str]:
    """Lines at each power of four of the batch size and of ten of the time, and what they are."""
    low, high = decades
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts: list[str] = []
    batch = 1
    while batch <= points[-1].batch:
        if batch >= points[0].batch:
            at = x(batch)
            parts.append(
                f'<path d="M{at:.1f} {_TOP}V{bottom}" stroke="#e4e4e4"/><text x="{at:.1f}" '
                f'y="{bottom + 15}" text-anchor="middle">{batch:,}</text>'
            )
        batch *= 4
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(
            f'<path d="M{_LEFT} {at:.1f}H{right}" stroke="#e4e4e4"/><text x="{_LEFT - 6}" '
            f'y="{at + 4:.1f}" text-anchor="end">{10.0 ** (power + 3):g}</text>'
        )
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">samples of a call</text>'
        f'<text x="4" y="{_TOP - 10}">ms</text>'
    )
    return parts


def _curve(places: Sequence[tuple[float, float, int, float]], colour: str, name: str) -> str:
    """A line through points, each of which tells its time where the mouse rests on it."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>'
        f"{text(f'{name}, batch {batch:,}: {milliseconds(second)} ms')}</title></circle>"
        for x, y, batch, second in places
    )
    return f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _legend(*, is_shaded: bool) -> str:
    """What the colours mean."""
    parts: list[str] = []
    x = _LEFT + 4
    meanings = [(OURS, "network"), (DENSE, "dense")]
    meanings += [(FASTER, "the network is predicted to be faster")] if is_shaded else []
    for colour, words in meanings:
        parts.append(
            f'<rect x="{x}" y="6" width="12" height="10" fill="{colour}"/>'
            f'<text x="{x + 17}" y="15">{words}</text>'
        )
        x += 32 + 6 * len(words)
    return "".join(parts)
