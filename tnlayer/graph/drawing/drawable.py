"""What draws itself: ``draw`` of networks and graphs, with one text of help for both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from ...support.option_words import Labels
from ..graph_values import GraphValues
from .drawing import Missing, draw_graph
from .options import Positions, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Drawable(ABC):
    """A network, finished or not."""

    @abstractmethod
    def _drawn(self) -> tuple[GraphValues, Missing | None]:
        """What there is to be drawn, and what it lacks; None where it is finished."""

    def draw(
        self,
        path: str | Path | None = None,
        ax: Axes | None = None,
        *,
        positions: Positions | None = None,
        labels: Labels = "all",
        style: Style | None = None,
        title: bool = True,
        legend: bool = True,
    ) -> Axes:
        """Draw nodes, leg names and sizes with matplotlib (``pip install tnlayer[viz]``).

        Rings, grids and chains are drawn as such, a state and its conjugate, as in
        :func:`tnlayer.energy`, one above the other with operators between, others in levels from
        the inputs up. A network that is not finished is drawn as far as it goes: a leg with one end
        is a stub that ends at a mark "open".

        Arguments:
            path: file to save the picture to; the suffix says its format: .svg, .png, .pdf, ...;
                .tikz for a picture to put into a TeX document, .tex for a document of its own.
            ax: axes to draw on, or None for a figure of its own.
            positions: of tensors by name, (x, y) with y upward; neighbours stand 1.5 to 2.4 apart
                otherwise. By the name of a leg: of the dot of a leg with three ends or more, else
                of its mark at a port, a sum or a fixed index; where a tensor has that name, the
                tensor is meant. Ports move with their tensor, dots stand amid their tensors; what
                is left out stays.
            labels: what stands beside legs: "all" (names and sizes), "names", "sizes" or "none".
            style: colours such as "#bcd6f2", by kind (tensor, frozen, constant, shared, conjugated,
                input, output, fix, sum, open, copy) or by the name of a tensor.
            title: whether label and number of parameters stand above. A picture for TeX has
                neither title nor legend: a caption says what it shows.
            legend: whether what the colours mean stands below.

        Raises:
            BuildError: matplotlib is missing.
            SpecError: the network is too large to be read or has no meaning, or the format, a
                position, a label, a colour or a flag is none.

        >>> import tnlayer as tn
        >>> net = tn.topologies.low_rank(8, 6, rank=2)
        >>> net.draw().get_title().splitlines()[0]
        'low rank, 28 parameters'
        >>> net = tn.topologies.cp((2, 2), (2, 2), rank=3)
        >>> axes = net.draw(positions={"r": (1, 3)}, title=False, legend=False)
        >>> axes.get_title()
        ''
        """
        graph, missing = self._drawn()
        return draw_graph(
            graph, path, ax, positions=positions, labels=labels, style=style,
            title=title, legend=legend, missing=missing,
        )  # fmt: skip
