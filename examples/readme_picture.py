"""The picture of the README: a MERA, the order in which it is contracted, and the code that runs.

    python -m examples.readme_picture        # writes docs/images/mera.svg

All three are what the package itself shows: the network as in a notebook, the plan as in a
notebook, and an excerpt of ``layer.source("forward")``. Isometries are trapezia, narrower where
their result is smaller.
"""

from __future__ import annotations

import re
from pathlib import Path

import tnlayer as tn
from tnlayer.graph.drawing.placement import place
from tnlayer.graph.drawing.svg import picture_svg
from tnlayer.ir.plan_svg import plan_svg
from tnlayer.support.html import text

OUT = Path(__file__).parents[1] / "docs" / "images" / "mera.svg"
# Pixels.
WIDTH, MARGIN, HEAD = 800, 16, 30
LINE, CODE_WIDTH, CODE_CHARACTERS = 13.0, 372, 59
STEP_LINES = 9


def network() -> tn.Network:
    """Eight legs of size 2, bonds of size 3; the names are Vidal's: u disentangles, w coarsens."""
    net = tn.topologies.mera(8, dim=2, bond=3)
    names = {tensor.name: tensor.name for tensor in net.freeze().tensors}
    short = {"disentangler": "u", "isometry": "w"}
    for name in names:
        kind, _, place_in_it = name.partition("_")
        names[name] = f"{short.get(kind, kind)} {place_in_it}".strip().replace(" ", "_")
    return net.renamed(names)


def excerpt(source: str) -> list[str]:
    """Of the kernels' source the calls of a sample's steps, and where the first of these begins."""
    lines = source.splitlines()
    calls = next(n for n, line in enumerate(lines) if re.match(r"STEP forward_samples\(", line))
    end = lines.index("}", calls)
    first = next(n for n, line in enumerate(lines) if line.startswith("STEP forward_samples0_"))
    shown = [*lines[calls : end + 1], "", *lines[first - 1 : first - 1 + STEP_LINES], "    ..."]
    return [cut(line) for line in shown]


def cut(line: str) -> str:
    """A line of code that fits in its column."""
    line = line.replace("const entry* __restrict ", "const entry* ")
    return line if len(line) <= CODE_CHARACTERS else f"{line[: CODE_CHARACTERS - 3]}..."


def inside(svg: str, x: float, y: float, width: float, height: float) -> tuple[str, float]:
    """A picture at a place of another, as large as the room there lets it be; and its height."""
    found = re.match(r'<svg [^>]*?width="(\d+)" height="(\d+)"', svg)
    assert found is not None
    own_width, own_height = int(found[1]), int(found[2])
    scale = min(width / own_width, height / own_height)
    size = f'x="{x:.0f}" y="{y:.0f}" width="{scale * own_width:.0f}" '
    size += f'height="{scale * own_height:.0f}"'
    return re.sub(r'width="\d+" height="\d+"', size, svg, count=1), scale * own_height


def title(words: str, x: float, y: float) -> str:
    """A heading of a part."""
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="14" font-weight="bold">{text(words)}</text>'


def code(lines: list[str], x: float, y: float) -> str:
    """Lines of code on a ground of their own."""
    height = LINE * len(lines) + 14
    rows = "".join(
        f'<text x="{x + 8:.0f}" y="{y + 17 + LINE * number:.1f}" xml:space="preserve">'
        f"{text(line)}</text>"
        for number, line in enumerate(lines)
    )
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{CODE_WIDTH}" height="{height:.0f}" rx="4" '
        f'fill="#f6f8fa" stroke="#d0d7de"/><g font-family="monospace" font-size="9.8">{rows}</g>'
    )


def picture() -> str:
    """The whole picture."""
    net = network()
    graph = net.freeze()
    counted = tn.cost(net, batch=256, backend="cpp")
    source = tn.Layer(net, batch=256, backend="cpp", tiers=False).source("forward")
    top = f"1. The network: {graph.in_features} to {graph.out_features} features, "
    top += f"{graph.parameter_count} parameters ({counted.dense_parameters:,} if dense)"
    drawn, high = inside(
        picture_svg(graph, place(graph)), MARGIN + 40, MARGIN + HEAD, WIDTH - 2 * MARGIN - 80, 600
    )
    below = MARGIN + HEAD + high + 24
    plan, plan_high = inside(
        plan_svg(counted.plan), MARGIN, below + HEAD - 8, WIDTH - CODE_WIDTH - 3 * MARGIN, 560
    )
    lines = excerpt(source)
    right = WIDTH - MARGIN - CODE_WIDTH
    height = below + HEAD + max(plan_high, LINE * len(lines) + 14) + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" role="img" '
        'aria-label="A MERA, its plan and the code that runs">'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>'
        f"{title(top, MARGIN, MARGIN + 10)}{drawn}"
        f"{title('2. The order of contraction', MARGIN, below + 8)}{plan}"
        f"{title('3. The code that runs', right, below + 8)}{code(lines, right, below + HEAD - 8)}"
        "</svg>\n"
    )


def main() -> None:
    """Write the picture."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(picture(), encoding="utf-8")
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
