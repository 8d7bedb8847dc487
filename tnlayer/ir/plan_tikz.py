"""The contraction order of a plan as TikZ, for documents that are set by TeX."""

from __future__ import annotations

from ..support.tex import tex, tex_colours, tex_picture
from .plan_drawing import Layout, label_of, meanings, shape_text

_EDGE = "#666666"


def plan_tikz(layout: Layout, *, legend: bool = True) -> str:
    """The contraction order as a ``tikzpicture``: the tree, and the sizes of each step's result.

    Arguments:
        layout: of the plan, in inches.
        legend: whether what the colours mean stands above.
    """
    used = [_EDGE, *layout.colours.values()]
    names = tex_colours(used)
    ids = {node: f"n{number}" for number, node in enumerate(layout.places)}
    body: list[str] = []
    for node, (x, y) in layout.places.items():
        colour, value = names[layout.colours[layout.kinds[node]]], layout.values[node]
        at = f"({ids[node]}) at ({x:.3f}, {y:.3f})"
        if node in layout.steps:
            sizes = tex(shape_text(layout.plan, value.legs))
            body.append(
                rf"\node[circle, draw, fill={colour}, inner sep=2.2pt, "
                rf"label={{[font=\tiny]right:{sizes}}}] {at} {{}};"
            )
        else:
            words = tex(label_of(layout.plan, value, layout.labels))
            body.append(
                rf"\node[draw, fill={colour}, rounded corners=2pt, font=\tiny, inner sep=2pt] "
                f"{at} {{{words}}};"
            )
    for edges, style in ((layout.edges, ""), (layout.reused, ", dashed, bend left=20")):
        way = "to" if style else "--"
        body += [rf"\draw[{names[_EDGE]}{style}] ({ids[a]}) {way} ({ids[b]});" for a, b in edges]
    top = max((y for _, y in layout.places.values()), default=0.0) + 0.7
    x = min((x for x, _ in layout.places.values()), default=0.0)
    for kind, words in meanings(layout) if legend else ():
        body.append(
            rf"\node[draw, fill={names[layout.colours[kind]]}, font=\tiny, inner sep=2pt, "
            f"anchor=west] at ({x:.3f}, {top:.3f}) {{{tex(words)}}};"
        )
        x += 0.3 + 0.06 * len(words)
    return tex_picture(body, used, "1in")
