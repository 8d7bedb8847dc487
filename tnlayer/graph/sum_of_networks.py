"""A sum of networks: what ``net1 + net2`` gives and tn.Layer takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..support.html import block, heading, html_of, lines
from ..support.option_words import Labels
from ..support.wording import counted
from .describe import sum_label
from .drawing.options import Style
from .drawing.several import draw_graphs
from .graph import Graph, count_parameters
from .port_differences import check_can_be_added

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A notebook shows so many of the networks.
_HTML_NETWORKS = 6


class SumOfNetworks(tuple[Graph, ...]):
    """Networks with equal ports, whose results are added: ``net1 + net2 + net3``.

    :class:`tnlayer.Layer` takes it as it takes a list; tensors of one name in two of them must be
    renamed, or are one parameter with ``shared=``. :func:`tnlayer.cost` counts each of them and
    the whole, :func:`tnlayer.plan` plans each. ``sum[0]`` is one of them.

    >>> import tnlayer as tn
    >>> T = tn.topologies
    >>> both = T.low_rank(16, 16, rank=2) + T.tensor_train((4, 4), (4, 4), rank=2)
    >>> print(both)
    low rank + tensor train
    >>> tn.Layer(both, backend="torch").parameter_count
    128
    >>> tn.cost(both, batch=64).parameters, len(tn.plan(both, batch=64))
    (128, 2)
    """

    __slots__ = ()

    @classmethod
    def of(cls, graphs: Iterable[Graph]) -> SumOfNetworks:
        """The sum of graphs.

        Arguments:
            graphs: one or more.

        Raises:
            SpecError: their ports differ.

        >>> import tnlayer as tn
        >>> net = tn.topologies.low_rank(4, 4, rank=1)
        >>> len(tn.SumOfNetworks.of([net.freeze(), net.renamed(prefix="b_").freeze()]))
        2
        """
        found = tuple(graphs)
        for graph in found[1:]:
            check_can_be_added(found[0], graph)
        return cls(found)

    def __str__(self) -> str:
        return sum_label(self)

    def __repr__(self) -> str:
        return f"<Sum of {counted(len(self), 'network')}: {sum_label(self, is_counted=False)}>"

    def _repr_html_(self) -> str:
        shown = self[:_HTML_NETWORKS]
        title = (
            f"Sum of {counted(len(self), 'network')}, {counted(self.parameter_count, 'parameter')}"
        )
        left = len(self) - len(shown)
        more = (
            [f"and {counted(left, 'network')} more: sum[{len(self) - 1}] is the last"]
            if left
            else []
        )
        return block(heading(title), *map(html_of, shown), lines(more))

    def __add__(self, other: SumOfNetworks | Graph) -> SumOfNetworks:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sum of both; of a tuple it would be a tuple."""
        if isinstance(other, SumOfNetworks):
            return SumOfNetworks.of((*self, *other))
        return SumOfNetworks.of((*self, other)) if isinstance(other, Graph) else NotImplemented

    def draw(
        self, path: str | Path | None = None, *, labels: Labels = "all", style: Style | None = None
    ) -> Figure:
        """Draw the networks beside each other with matplotlib (``pip install tnlayer[viz]``), of
        more than 12 the first ones. ``sum[0].draw()`` draws one, with more options.

        Arguments:
            path: file to save the picture to; the suffix says its format: .svg, .png, .pdf, ...
            labels, style: as for :meth:`tnlayer.Graph.draw`; tensors in style may be those of some
                of the networks only.

        Raises:
            BuildError: matplotlib is missing.
            SpecError: a network is too large to be read, or the format, a label or a colour is
                none.

        >>> import tnlayer as tn
        >>> T = tn.topologies
        >>> both = T.low_rank(16, 16, rank=2) + T.tensor_train((4, 4), (4, 4), rank=2)
        >>> len(both.draw().axes)
        2
        """
        return draw_graphs(self, path, labels=labels, style=style)

    @property
    def parameter_count(self) -> int:
        """Trainable entries, those of one name counted once."""
        return count_parameters(self)
