"""Commands that look at a network: show, draw, plan, cost, compare, code and report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..graph.drawing.drawing import place_checked
from ..graph.drawing.options import adjusted
from ..graph.drawing.svg import picture_svg
from ..graph.network import Network
from ..graph.sum_of_networks import SumOfNetworks
from ..ir.plan import Plan
from ..ir.plan_document import document_from_plan
from ..nn.layer import Layer
from ..planning.planner import backward_plan
from ..report.compare import compare
from ..report.cost_of_network import cost
from ..report.costs import Costs
from ..support.json_text import canonical_json
from ..support.wording import counted
from .networks import load_networks
from .shared_options import add_json, add_network, add_planning, planning


def add_network_commands(commands: Any) -> None:
    """Add them to those of the command line."""
    show = _command(commands, "show", "print the network", run_show)
    add_network(show)
    add_json(show)
    draw = _command(commands, "draw", "draw the network, or its contraction order", run_draw)
    add_network(draw)
    draw.add_argument("output", type=Path, help="a file: .svg, .png, .pdf, .tikz, .tex, ...")
    draw.add_argument("--plan", action="store_true", help="the contraction order instead")
    words = ("all", "names", "sizes", "none")
    draw.add_argument("--labels", choices=words, default="all", help="what stands beside legs")
    add_planning(draw)
    plan = _command(commands, "plan", "print in which order it is contracted", run_plan)
    add_network(plan)
    plan.add_argument("--backward", action="store_true", help="the plan of the gradients")
    add_planning(plan)
    costs = _command(commands, "cost", "print what it costs", run_cost)
    add_network(costs)
    costs.add_argument("--plan", action="store_true", help="print the steps too")
    add_planning(costs)
    several = _command(commands, "compare", "print what several cost, side by side", run_compare)
    add_network(several, several=True)
    add_planning(several)
    code = _command(commands, "code", "print the generated source", run_code)
    add_network(code)
    parts = ("summary", "forward", "backward")
    code.add_argument("--part", choices=parts, default=None, help="that part alone")
    add_planning(code)
    report = _command(commands, "report", "write a page: picture, plan, costs, source", run_report)
    add_network(report)
    report.add_argument("output", type=Path, help="a file: page.html")
    add_planning(report)


def _command(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def run_show(options: argparse.Namespace) -> str:
    """The network as text, or as the JSON that Network.from_json reads; of a sum a list of them."""
    net = load_networks(options.network)
    if isinstance(net, SumOfNetworks):
        if options.json:
            return canonical_json(
                [json.loads(one.to_json()) for one in map(Network.from_graph, net)]
            )
        head = f"the sum of {counted(len(net), 'network')}: {net}"
        return "\n\n".join((head, *map(str, net)))
    return net.to_json() if options.json else str(net)


def run_draw(options: argparse.Namespace) -> str:
    """Writes the picture; an SVG of one network needs no other library."""
    net, path = load_networks(options.network), options.output
    if options.plan:
        found = cost(net, **planning(options))
        drawn = found if isinstance(found, Costs) else found.plan
        drawn.draw(path, labels=options.labels)
    elif path.suffix == ".svg" and not isinstance(net, SumOfNetworks):
        graph = net.freeze()
        picture = adjusted(place_checked(graph), None, options.labels)
        path.write_text(picture_svg(graph, picture), encoding="utf-8")
    else:
        net.draw(path, labels=options.labels)
    return canonical_json({"file": str(path)}) if options.json else f"wrote {path}"


def run_plan(options: argparse.Namespace) -> str:
    """The steps, forward or backward; of a sum those of each network."""
    found = cost(load_networks(options.network), **planning(options))
    several = [one.plan for one in (found if isinstance(found, Costs) else (found,))]
    if options.backward:
        several = list(map(backward_plan, several))
    if options.json:
        documents = list(map(_plan_document, several))
        return canonical_json(documents if isinstance(found, Costs) else documents[0])
    if not isinstance(found, Costs):
        return str(several[0])
    heads = (f"network {number}, {one.label or 'no label'}" for number, one in enumerate(found))
    return "\n\n".join(f"{head}\n{one}" for head, one in zip(heads, several, strict=True))


def _plan_document(plan: Plan) -> dict[str, Any]:
    """The plan in canonical names, with the user's beside them, and the counts of its steps."""
    return {**document_from_plan(plan), "names": dict(plan.names), "counts": plan.numbers()}


def run_cost(options: argparse.Namespace) -> str:
    """Counts and predictions."""
    found = cost(load_networks(options.network), **planning(options))
    if options.json:
        return canonical_json(found.numbers(break_even=True))
    several = found if isinstance(found, Costs) else (found,)
    steps = (one.steps_text() for one in several) if options.plan else ()
    return "\n\n".join((str(found), *steps))


def run_compare(options: argparse.Namespace) -> str:
    """Counts and predictions of several."""
    nets = [load_networks(text) for text in options.network]
    compared = compare(*nets, **planning(options))
    return canonical_json(compared.numbers()) if options.json else str(compared)


def run_code(options: argparse.Namespace) -> str:
    """The source of a layer."""
    layer = layer_of(load_networks(options.network), options, options.batch)
    source = layer.source(options.part).rstrip()
    return (
        canonical_json({"backend": layer.explain().backend, "source": source})
        if (options.json)
        else source
    )


def run_report(options: argparse.Namespace) -> str:
    """Writes the page of a layer."""
    layer = layer_of(load_networks(options.network), options, options.batch)
    path = layer.report(options.output)
    return canonical_json({"file": str(path)}) if options.json else f"wrote {path}"


def layer_of(net: Network | SumOfNetworks, options: argparse.Namespace, batch: int) -> Layer:
    """The layer of a network, or of a sum, with the options that planning has."""
    if batch < 1:
        msg = f"--batch {batch}: expected a positive number of samples"
        raise SpecError(msg)
    return Layer(
        net,
        batch=batch,
        backend=options.backend,
        device=options.device,
        dtype=options.dtype,
        memory_limit=options.memory_limit,
        objective=options.objective,
        effort=options.effort,
        # Tensors of one name in two networks of a sum are one, as tn.cost counts them.
        shared=isinstance(net, SumOfNetworks),
        tiers=False,
    )
