"""The contraction order of a plan as SVG: text alone, which needs no other library."""

from __future__ import annotations

from ..support.html import text
from .plan_drawing import COLOURS, Layout, label_of, lay_out, meanings, shape_text
from .plan_values import PlanValues

# Pixels of an inch of the layout, of a character; more steps than this make no small picture.
_INCH, _CHARACTER, _MARGIN = 74.0, 6.0, 14.0
_LEGEND_CHARACTER = 5.0
MAX_STEPS = 60


def plan_svg(plan: PlanValues) -> str:
    """The contraction order as an SVG element; "" where it would be too long for a notebook.

    Arguments:
        plan: the plan; a dot tells its step where the mouse rests on it.
    """
    if not 0 < len(plan.steps) <= MAX_STEPS:
        return ""
    layout = lay_out(plan)
    xs = [x for x, _ in layout.places.values()]
    ys = [y for _, y in layout.places.values()]
    left = min(xs) - layout.column_width / 2
    head = 26.0
    legend, legend_width = _legend(layout)
    width = max(_INCH * (max(xs) - left + 1.6), legend_width) + 2 * _MARGIN
    height = _INCH * (max(ys) - min(ys)) + 2 * _MARGIN + head + 16

    def at(node: str) -> tuple[float, float]:
        x, y = layout.places[node]
        return _MARGIN + _INCH * (x - left), head + _MARGIN + 8 + _INCH * (max(ys) - y)

    parts = [_edge(at(a), at(b), dashed=False) for a, b in layout.edges]
    parts += [_edge(at(a), at(b), dashed=True) for a, b in layout.reused]
    parts += [_node(layout, node, at(node)) for node in layout.places]
    parts.append(legend)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="10" '
        f'role="img" aria-label="contraction order">{"".join(parts)}</svg>'
    )


def _edge(a: tuple[float, float], b: tuple[float, float], *, dashed: bool) -> str:
    style = ' stroke-dasharray="3 3"' if dashed else ""
    return (
        f'<path d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" stroke="#666666"{style} '
        'fill="none"/>'
    )


def _node(layout: Layout, node: str, at: tuple[float, float]) -> str:
    """A dot for a step, with its sizes beside it; a box with its name for what goes in or out."""
    x, y = at
    colour = COLOURS[layout.kinds[node]]
    value = layout.values[node]
    words = text(label_of(layout.plan, value))
    if node in layout.steps:
        sizes = shape_text(layout.plan, value.legs)
        beside = ""
        if not layout.places[node][0]:
            beside = f'<text x="{x + 10:.1f}" y="{y + 3:.1f}" fill="#333333">{sizes}</text>'
        return (
            f'<g><title>{words}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{colour}" '
            f'stroke="#333333"/>{beside}</g>'
        )
    half = _CHARACTER * len(words) / 2 + 4
    return (
        f'<rect x="{x - half:.1f}" y="{y - 8:.1f}" width="{2 * half:.1f}" height="16" rx="4" '
        f'fill="{colour}" stroke="#333333" stroke-width="0.7"/>'
        f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">{words}</text>'
    )


def _legend(layout: Layout) -> tuple[str, float]:
    """What the colours mean, and how wide that is."""
    parts: list[str] = []
    x = _MARGIN
    for kind, words in meanings(layout):
        parts.append(
            f'<rect x="{x:.1f}" y="8" width="10" height="10" fill="{COLOURS[kind]}" '
            'stroke="#333333" stroke-width="0.6"/>'
            f'<text x="{x + 14:.1f}" y="17">{text(words)}</text>'
        )
        x += 26 + _LEGEND_CHARACTER * len(words)
    return "".join(parts), x - _MARGIN
