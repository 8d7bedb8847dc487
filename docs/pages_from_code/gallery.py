"""The gallery: a page for each topology, with its picture, what it computes, what it costs."""

from __future__ import annotations

import inspect
import io
import textwrap
from dataclasses import dataclass

import matplotlib

import tnlayer as tn
from tnlayer.cli.networks import load_network


@dataclass(frozen=True, slots=True)
class Entry:
    """What the code of a topology does not say of itself.

    Arguments:
        call: a small network of it, to be drawn and counted.
        kind: the part of the gallery.
        when: when to take it, and when not.
    """

    call: str
    kind: str
    when: str


CHAINS, TREES, SUMS, BLOCKS, GRIDS, GATES, STATES = (
    "Chains and rings",
    "Trees and renormalization",
    "Sums of products",
    "Block matrices and fast transforms",
    "Grids",
    "Circuits of gates",
    "States and classifiers",
)

ENTRIES: dict[str, Entry] = {
    "tensor_train": Entry(
        "tensor_train((4, 4, 4), (4, 4, 4), rank=2)",
        CHAINS,
        "The first to try where few parameters matter: any shapes, closed-form fits by singular "
        "values, and the rank says how rich it is. Neighbouring legs see each other best; with a "
        "large rank it takes more FLOPs than the dense layer.",
    ),
    "tensor_ring": Entry(
        "tensor_ring((2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 2), rank=2)",
        CHAINS,
        "Like a train, without a first and a last core: all legs are alike. Fits have no closed "
        "form, and a step costs more than a train's of the same rank.",
    ),
    "low_rank": Entry(
        "low_rank(16, 16, rank=4)",
        SUMS,
        "Trained weights: the nearest matrix of its rank is known in closed form, and two matrix "
        "products run it. It cannot be small and of full rank.",
    ),
    "cp": Entry(
        "cp((4, 4, 4), (4, 4, 4), rank=3)",
        SUMS,
        "Few parameters: they grow with the sum of the sizes of the legs. Fits are hard beyond "
        "small ranks, since the best one need not exist.",
    ),
    "tucker": Entry(
        "tucker((4, 4), (4, 4), 2)",
        SUMS,
        "Few legs, each with its own rank: the factors are small bases, the core joins them. The "
        "core grows with the product of all ranks, so more than four legs are too many.",
    ),
    "block_term": Entry(
        "block_term((4, 4), (4, 4), terms=2, rank=2)",
        SUMS,
        "Between CP and Tucker: several small cores instead of one large core.",
    ),
    "kronecker": Entry(
        "kronecker((4, 4, 4), (4, 4, 4), 2)",
        SUMS,
        "Full rank with very few parameters; one or a few products. Poor where the matrix has no "
        "such structure.",
    ),
    "monarch": Entry(
        "monarch((4, 4), (4, 4))",
        BLOCKS,
        "In place of dense layers that are trained from scratch: full rank, about n^1.5 "
        "parameters, and each factor is one batched product.",
    ),
    "btt": Entry(
        "btt((4, 4), (4, 4), rank=2)",
        BLOCKS,
        "Near dense in what it learns, at fewer FLOPs: a Monarch matrix with a rank. The first to "
        "try where quality matters more than size.",
    ),
    "butterfly": Entry(
        "butterfly(8)",
        BLOCKS,
        "Hadamard and other fast transforms, which it holds exactly (Fourier's up to the order of "
        "the features). Sizes are powers of two, and there is no rank to choose.",
    ),
    "blast": Entry(
        "blast(16, 16, blocks=4, rank=2)",
        BLOCKS,
        "Blocks that share their bases: low rank, block diagonal and block low rank matrices are "
        "all cases of it. Fits have no closed form.",
    ),
    "tree": Entry(
        "tree(8, 2, 2)",
        TREES,
        "Few parameters, for features with a hierarchy, such as pixels: two neighbours join, "
        "level after level. What stands on two sides of the middle meets late.",
    ),
    "augmented_tree": Entry(
        "augmented_tree(8, 2, 2)",
        TREES,
        "A tree that also sees what its first level would part, for one layer of gates more.",
    ),
    "mera": Entry(
        "mera(8, 2, 3)",
        TREES,
        "Correlations at all distances: neighbours are disentangled before they are joined. Of "
        "long chains it is richer than a tree and dearer to run.",
    ),
    "periodic_mera": Entry(
        "periodic_mera(8, 2, 4)",
        TREES,
        "A ring of sites, such as a critical spin chain; with `share=True` all tensors of a level "
        "are one. Nothing is lost where bond divides the squares of its sites' sizes.",
    ),
    "ternary_mera": Entry(
        "ternary_mera(9, 2, 2)",
        TREES,
        "Numbers of sites that are powers of three, and the smaller causal cones of three to one.",
    ),
    "mera_2d": Entry(
        "mera_2d(4, 4, 2, 2)",
        TREES,
        "Images and lattices in two dimensions, with correlations at all distances. Costly: use "
        "small bonds, and ask `tn.cost` first.",
    ),
    "peps": Entry(
        "peps(3, 3, 2, 2)",
        GRIDS,
        "Features on a grid, where neighbours in both directions matter. Rings of bonds make large "
        "grids costly.",
    ),
    "brickwall": Entry(
        "brickwall(6, 2, 3)",
        GATES,
        "Orthogonal starts and local mixing: depth says how far a feature reaches.",
    ),
    "random_circuit": Entry(
        "random_circuit(5, 2, depth=3, gates=4)",
        GATES,
        "Mixing over all distances at small depth, and parameters that do not grow with the depth, "
        "since gates are shared.",
    ),
    "quanta": Entry(
        "quanta((4, 4, 4))",
        GATES,
        "Updates of high rank for a frozen matrix (fine-tuning): gates on all pairs of axes.",
    ),
    "mps": Entry(
        "mps(6, 2, 4)",
        STATES,
        "Ground states and amplitudes of chains; `tn.energy` takes it. It has no input.",
    ),
    "peps_state": Entry(
        "peps_state(3, 4, 2, 2)",
        STATES,
        "States of small lattices. Its norm costs exponentially in the smaller side of the grid.",
    ),
    "mps_classifier": Entry(
        "mps_classifier(6, 2, 4, classes=10)",
        STATES,
        "Scores from a product of local features, such as pixels in a row. Long chains need their "
        "start near the identity, which is the default.",
    ),
    "peps_classifier": Entry(
        "peps_classifier(3, 3, 2, 2, classes=10)",
        STATES,
        "The same on a grid, which keeps neighbours of both directions together. For small grids.",
    ),
}


def gallery_pages() -> dict[str, str]:
    """Pages and pictures by file name.

    Raises:
        LookupError: a topology has no entry, or an entry no topology.
    """
    names = tn.topologies.__all__
    if set(ENTRIES) != set(names):
        msg = f"docs/pages_from_code/gallery.py: entries differ: {set(ENTRIES) ^ set(names)}"
        raise LookupError(msg)
    pages = {"index.md": _index()}
    for name, entry in ENTRIES.items():
        net = load_network(entry.call)
        pages[f"{name}.svg"] = svg(net)
        pages[f"{name}.md"] = _page(name, entry, net)
    return pages


def svg(net: tn.Network) -> str:
    """The picture that draw() makes, the same at each build."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tnlayer"}):
        figure = net.draw().get_figure(root=True)
        assert figure is not None
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _index() -> str:
    parts = [
        "# Gallery",
        "Every ready-made network: its picture, what it computes, what it costs and when to take "
        "it. All are in `tn.topologies`; your own takes a few lines, as in "
        "[a new factorization](../../notebooks/new-factorization.md).",
    ]
    for kind in (CHAINS, SUMS, BLOCKS, TREES, GRIDS, GATES, STATES):
        parts.append(f"## {kind}")
        names = [name for name, entry in ENTRIES.items() if entry.kind == kind]
        rows = [f"| [`{name}`]({name}.md) | {_first_line(name)} |" for name in names]
        parts.append("\n".join(["| topology | what it is |", "| --- | --- |", *rows]))
    toctree = "\n".join(ENTRIES)
    parts.append(f"```{{toctree}}\n:hidden:\n\n{toctree}\n```")
    return "\n\n".join(parts) + "\n"


def _first_line(name: str) -> str:
    return (inspect.getdoc(getattr(tn.topologies, name)) or "").split("\n\n")[0].replace("\n", " ")


def _section(name: str, head: str) -> str:
    """The paragraph of a topology's docstring that starts with a word."""
    text = inspect.getdoc(getattr(tn.topologies, name)) or ""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(head):
            return " ".join(paragraph.removeprefix(head).split())
    msg = f"tnlayer.topologies.{name} has no paragraph {head!r}"
    raise LookupError(msg)


def _page(name: str, entry: Entry, net: tn.Network) -> str:
    parts = [
        f"# {name}",
        _first_line(name),
        f"```python\nnet = tn.topologies.{entry.call}\n```",
        f"```{{image}} {name}.svg\n:alt: {net.label}, drawn by net.draw()\n"
        ":class: gallery-picture\n```",
        f"## When to use it\n\n{entry.when}",
        f"## What it computes\n\n```text\n{formula(net)}\n```",
        f"## What it costs\n\nParameters: {_literal(_section(name, 'Parameters:'))}",
        _costs(net),
        f"## Source\n\n{_section(name, 'Source:')}",
        "## Call",
        f"```{{eval-rst}}\n.. autofunction:: tnlayer.topologies.{name}\n   :no-index:\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _literal(text: str) -> str:
    """Text in which stars and underscores are no marks."""
    return text.replace("_", r"\_").replace("*", r"\*").replace("<", r"\<")


def formula(net: tn.Network) -> str:
    """The sum that a network computes, with its legs, or letters where it has wires."""
    graph = net.freeze()
    legs = [leg for leg, _ in graph.leg_sizes]
    short = {leg: leg for leg in legs}
    if any("." in leg for leg in legs):
        short = {leg: _letter(number) for number, leg in enumerate(legs)}

    def factor(name: str, own: tuple[str, ...], between: str = " ") -> str:
        return f"{name}[{between.join(short[leg] for leg in own)}]"

    outside = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
    inner = [short[leg] for leg in legs if leg not in graph.output]
    factors = [
        *(
            " ".join(f"{port.name}_{k}[{short[leg]}]" for k, leg in enumerate(port.legs))
            if port.product
            else factor(port.name, port.legs)
            for port in graph.inputs
        ),
        *(factor(tensor.share or tensor.name, tensor.legs) for tensor in graph.tensors),
    ]
    assert outside
    text = f"{factor('y', graph.output)} = sum over {' '.join(inner)} of {' '.join(factors)}"
    return textwrap.fill(text, 84, subsequent_indent="    ", break_long_words=False)


def _letter(number: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[number % 26] + (str(number // 26) if number > 25 else "")


def _costs(net: tn.Network) -> str:
    """Counts of the network in the picture, beside the dense layer."""
    cost = tn.cost(net, batch=64, backend="torch", effort="fast", minimize="flops")
    rows = [
        ("parameters", cost.parameters, cost.dense_parameters),
        ("FLOPs forward", cost.forward_flops, cost.dense_forward_flops),
        ("FLOPs backward", cost.backward_flops, cost.dense_backward_flops),
    ]
    table = "\n".join(f"| {what} | {own:,} | {dense:,} |" for what, own, dense in rows)
    return (
        "The network in the picture, at batch 64, in an order of few FLOPs:\n\n"
        f"| | network | dense |\n| --- | ---: | ---: |\n{table}"
    )
