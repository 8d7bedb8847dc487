"""The gallery of the README: six networks as the package draws them, in one picture.

python -m examples.readme_gallery        # writes docs/images/gallery.svg
"""

from __future__ import annotations

import re
from pathlib import Path

import tnlayer as tn
from tnlayer.graph.drawing.options import adjusted
from tnlayer.graph.drawing.placement import place
from tnlayer.graph.drawing.svg import picture_svg
from tnlayer.support.html import text

OUT = Path(__file__).parents[1] / "docs" / "images" / "gallery.svg"
# Pixels.
WIDTH, HEIGHT, HEAD, GAP = 264, 220, 22, 4
COLUMNS = 3


def networks() -> dict[str, tn.Network]:
    """What is shown, by name."""
    topologies = tn.topologies
    return {
        "tensor_ring": topologies.tensor_ring((2,) * 6, (2,) * 6, rank=2),
        "tree": topologies.tree(8, 2, 2),
        "peps": topologies.peps(3, 3, 2, 2),
        "mera_2d": topologies.mera_2d(4, 4, 2, 2),
        "brickwall": topologies.brickwall(6, 2, 3),
        "butterfly": topologies.butterfly(8),
    }


def picture() -> str:
    """All of them as one SVG."""
    cells: list[str] = []
    shown = networks()
    for number, (name, net) in enumerate(shown.items()):
        row, column = divmod(number, COLUMNS)
        x, y = column * (WIDTH + GAP), row * (HEIGHT + GAP)
        graph = net.freeze()
        drawn = picture_svg(graph, adjusted(place(graph), None, "none"))
        inside = re.sub(
            r'width="\d+" height="\d+"',
            f'x="{x}" y="{y + HEAD}" width="{WIDTH}" height="{HEIGHT - HEAD}"',
            drawn,
            count=1,
        )
        cells.append(f'<text x="{x + 8}" y="{y + 16}" font-weight="bold">{text(name)}</text>')
        cells.append(inside)
    width = COLUMNS * (WIDTH + GAP)
    height = -(-len(shown) // COLUMNS) * (HEIGHT + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" role="img" '
        f'aria-label="Six networks"><rect width="{width}" height="{height}" fill="white"/>'
        f"{''.join(cells)}</svg>\n"
    )


if __name__ == "__main__":
    OUT.write_text(picture(), encoding="utf-8")
