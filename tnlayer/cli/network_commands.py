"""Commands that look at a network: show, draw, plan, cost, compare, code and report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..graph.drawing.drawing import place_checked
from ..graph.drawing.options import adjusted
from ..graph.drawing.svg import picture_svg
from ..graph.graph import Graph
from ..graph.network import Network
from ..ir.plan_document import document_from_plan
from ..nn.layer import Layer
from ..planning.planner import backward_plan
from ..report.compare import compare
from ..report.cost_of_network import cost
from ..support.json_text import canonical_json
from .networks import load_network
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
    """The network as text, or as the JSON that Network.from_json reads."""
    net = load_network(options.network)
    return net.to_json() if options.json else str(net)


def run_draw(options: argparse.Namespace) -> str:
    """Writes the picture; an SVG of the network needs no other library."""
    net, path = load_network(options.network), options.output
    if options.plan:
        cost(net, **planning(options)).plan.draw(path, labels=options.labels)
    elif path.suffix == ".svg":
        graph = net.freeze()
        picture = adjusted(place_checked(graph), None, options.labels)
        path.write_text(picture_svg(graph, picture), encoding="utf-8")
    else:
        net.draw(path, labels=options.labels)
    return canonical_json({"file": str(path)}) if options.json else f"wrote {path}"


def run_plan(options: argparse.Namespace) -> str:
    """The steps, forward or backward."""
    plan = cost(load_network(options.network), **planning(options)).plan
    found = backward_plan(plan) if options.backward else plan
    return canonical_json(document_from_plan(found)) if options.json else str(found)


def run_cost(options: argparse.Namespace) -> str:
    """Counts and predictions."""
    counted = cost(load_network(options.network), **planning(options))
    if options.json:
        return canonical_json(counted.numbers(break_even=True))
    return f"{counted}\n\n{counted.steps_text()}" if options.plan else str(counted)


def run_compare(options: argparse.Namespace) -> str:
    """Counts and predictions of several."""
    nets = [load_network(text) for text in options.network]
    compared = compare(nets, **planning(options))
    return canonical_json(compared.numbers()) if options.json else str(compared)


def run_code(options: argparse.Namespace) -> str:
    """The source of a layer."""
    layer = layer_of(load_network(options.network), options, options.batch)
    source = layer.source(options.part).rstrip()
    return (
        canonical_json({"backend": layer.explain().backend, "source": source})
        if (options.json)
        else source
    )


def run_report(options: argparse.Namespace) -> str:
    """Writes the page of a layer."""
    layer = layer_of(load_network(options.network), options, options.batch)
    path = layer.report(options.output)
    return canonical_json({"file": str(path)}) if options.json else f"wrote {path}"


def layer_of(net: Network | Graph, options: argparse.Namespace, batch: int) -> Layer:
    """The layer of a network with the options that planning has."""
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
        tiers=False,
    )
