"""A network that is not finished, as far as it can be drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from .drawing.drawing import Missing
from .graph import Graph
from .validate import validate


def as_far_as_it_goes(graph: Graph) -> tuple[Graph, Missing]:
    """What there is of a network whose legs have not all their ends, and what it lacks.

    Arguments:
        graph: what was said so far, unchecked.

    Raises:
        SpecError: ends are not all that it lacks.
    """
    ends = Counter(leg for tensor in graph.tensors for leg in tensor.legs)
    ends.update(leg for port in graph.inputs for leg in port.legs)
    unused = tuple(leg for leg in graph.sizes if not ends[leg])
    output = tuple(leg for leg in graph.output if leg not in unused)
    ends.update(output)
    single = {leg for leg in graph.sizes if ends[leg] == 1}
    closed = replace(
        graph,
        leg_sizes=tuple((leg, size) for leg, size in graph.leg_sizes if leg not in unused),
        output=output,
        # What has two ends is summed anyway.
        summed=frozenset(single),
        fixed=tuple((leg, at) for leg, at in graph.fixed if ends[leg] > 1),
    )
    validate(closed)
    return closed, Missing(frozenset(single) - graph.summed, unused)
