"""A layer as one HTML page that needs nothing else: network, plan, costs, break-even and source.

What belongs to one step of a plan, its row, its part of the pictures and its lines of source, has
the same mark in ``data-steps``; a small script lights up all of them where the mouse rests on one.
All text is escaped, and the page forbids itself to load anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..dispatch.build_program import program_of
from ..errors import SpecError
from ..graph.describe import headline, rows_of
from ..graph.drawing.drawing import place_checked
from ..graph.drawing.svg import picture_svg
from ..graph.graph import Graph
from ..ir.plan import Plan
from ..ir.plan_drawing import MAX_DRAWN_STEPS
from ..ir.plan_svg import plan_svg
from ..ir.plan_text import plan_headline, plan_rows, plan_totals
from ..support.html import html_of, html_table, lines, text
from .cost import Cost
from .cost_drawing import has_times
from .curve_svg import curve_svg
from .explain import Explanation
from .page_style import SCRIPT, STYLE
from .source_steps import steps_of_lines

# Nothing is loaded, whatever a text may hold: styles and the script stand in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_WITH_FORWARD = "predicted ms of a step in the forward are those of its backward, too"

Marks = Mapping[str, str]


def layer_page(found: Explanation) -> str:
    """What runs, why, and what it costs, as a page.

    Arguments:
        found: of the layer at a batch size.

    Returns:
        HTML that is well-formed XML, too.
    """
    head = found.head()
    networks = [
        _network(number, cost, is_scaled=found.log_scale) for number, cost in enumerate(found.costs)
    ]
    body = (
        f"<h1>{text(head[0])}</h1>{_paragraphs(head[1:])}"
        f"{_paragraphs(found.verdict())}{_curve(found)}{''.join(networks)}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{text(found.costs[0].label or 'tnlayer')}</title><style>{STYLE}</style></head>\n"
        f"<body>{body}\n<script>{SCRIPT}</script></body></html>\n"
    )


def _paragraphs(several: Sequence[str]) -> str:
    return "".join(f"<p>{text(one)}</p>" for one in several)


def _curve(found: Explanation) -> str:
    """The predicted times by batch size, where one dense layer does the same."""
    ends = found.break_even()
    objective = found.costs[0].objective
    if ends is None or len(ends.points) < 2:
        return ""
    ranges = ends.inference if objective == "infer" else ends.training
    what = "a forward" if objective == "infer" else "a forward and backward"
    return (
        f"<h2>Predicted time of {what}, by batch size</h2>"
        f'<div class="wide">{curve_svg(ends.points, ranges, objective)}</div>'
    )


# -- one network -----------------------------------------------------------------------------------


def _network(number: int, cost: Cost, *, is_scaled: bool) -> str:
    """The sections of one network: at the left what it is and costs, at the right its source."""
    graph, plan, backward = cost.planned.graph, cost.plan, cost.backward_plan
    forward_marks = {step.result.name: f"{number}f-{step.result.name}" for step in plan.steps}
    backward_marks = {step.result.name: f"{number}b-{step.result.name}" for step in backward.steps}
    seconds = cost.step_seconds()
    parts = [
        f"<h2>Network {text(headline(graph))}</h2>{_picture(graph, cost, number)}",
        html_table([("", "name", "legs", ""), *rows_of(graph)]),
        f"<h2>Forward</h2>{_plan(plan, forward_marks, seconds, cost.batch)}",
    ]
    if backward is not plan:
        parts.append(f"<h2>Backward</h2>{_plan(backward, backward_marks, seconds, cost.batch)}")
        if not has_times(backward, seconds):
            parts.append(lines((_WITH_FORWARD,)))
    parts.append(f"<h2>Cost</h2>{html_of(cost)}")
    sources = program_of(cost.planned, log_scale=is_scaled).sources()
    # What a backward makes again is a step of the forward.
    marks = {"forward": forward_marks, "backward": forward_marks | backward_marks}
    shown = [
        f"<h2>Source, {part}</h2>{_source(source, marks[part])}"
        for part, source in sources.items()
        if source.strip()
    ]
    return (
        f'\n<div class="columns"><div>{"".join(parts)}</div>'
        f'<div class="source">{"".join(shown)}</div></div>'
    )


def _picture(graph: Graph, cost: Cost, number: int) -> str:
    """The network; each tensor is marked with the steps that take it."""
    try:
        placed = place_checked(graph)
    except SpecError as error:
        return _paragraphs([str(error)])
    return f'<div class="wide">{picture_svg(graph, placed, _takers(graph, cost, number))}</div>'


def _takers(graph: Graph, cost: Cost, number: int) -> dict[str, str]:
    """The marks of the steps that take a tensor, forward and backward, by its name."""
    found: dict[str, list[str]] = {}
    for letter, plan in (("f", cost.plan), ("b", cost.backward_plan)):
        names = dict(plan.names)
        for step in plan.steps:
            for operand in step.operands:
                user = names.get(operand.value.name, "")
                found.setdefault(user, []).append(f"{number}{letter}-{step.result.name}")
    return {
        tensor.name: " ".join(dict.fromkeys(found[tensor.share or tensor.name]))
        for tensor in graph.tensors
        if (tensor.share or tensor.name) in found
    }


def _plan(plan: Plan, marks: Marks, seconds: Mapping[str, float], batch: int) -> str:
    """Picture, steps and totals of a plan; times only where steps have their own."""
    is_timed = has_times(plan, seconds)
    head, *rows = plan_rows(plan, seconds if is_timed else None, batch)
    drawn = plan_svg(plan, marks, MAX_DRAWN_STEPS)
    numbers = len(head) - 4  # FLOPs, bytes, ms: they stand right
    body = "".join(
        f'<tr tabindex="0" data-steps="{text(marks[step.result.name])}">{_cells(row, numbers)}</tr>'
        for step, row in zip(plan.steps, rows, strict=True)
    )
    titles = "".join(f"<th>{text(title)}</th>" for title in head)
    return (
        f"<p>{text(plan_headline(plan))}</p>"
        f'<div class="wide">{drawn}</div><div class="wide"><table class="steps"><thead><tr>{titles}'
        f"</tr></thead><tbody>{body}</tbody></table></div>{lines(plan_totals(plan))}"
    )


def _cells(row: Sequence[str], numbers: int) -> str:
    first = len(row) - numbers
    return "".join(
        f'<td class="number">{text(cell)}</td>' if place >= first else f"<td>{text(cell)}</td>"
        for place, cell in enumerate(row)
    )


def _source(source: str, marks: Marks) -> str:
    """Generated code, each line with the steps that it belongs to."""
    rows = zip(source.splitlines(), steps_of_lines(source, marks), strict=True)
    told = (
        f'<span data-steps="{text(" ".join(steps))}">{text(line)}</span>'
        if steps
        else f"<span>{text(line)}</span>"
        for line, steps in rows
    )
    return f"<pre>{''.join(told)}</pre>"
