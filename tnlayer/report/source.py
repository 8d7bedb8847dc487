"""The generated source of a layer's programs, with a summary before what is compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Literal, get_args

from ..graph.argument_checks import check_option
from ..graph.describe import headline
from ..ir.plan import Plan
from ..ir.plan_text import plan_text
from ..runtime.program import Program
from ..support.wording import counted
from ..targets.backend import backend_of

SourcePart = Literal["summary", "forward", "backward"]
SUMMARY = "summary"
# What may be a name in generated source; so many lines of names are shown.
_WORD = re.compile(r"\b[a-z]+[0-9]+\b")
_LEGEND_LINES = 12


def source_text(programs: Sequence[Program], part: SourcePart | None = None) -> str:
    """The code of the programs, one below the other.

    Arguments:
        programs: of the networks whose results a layer adds.
        part: "summary", "forward" or "backward" for that alone; None: all, and the summary where
            kernels are compiled.

    Raises:
        SpecError: there is no such part.
    """
    if part is not None:
        check_option(part, "source: part", get_args(SourcePart))
    return "\n\n".join(_one(program, part) for program in programs)


def _one(program: Program, part: SourcePart | None) -> str:
    sources = program.sources()
    if part == SUMMARY:
        return summary(program)
    if not backend_of(program.backend).is_compiled:
        code = program.source() if part is None else sources[part]
        return f"{legend(program.plan, code)}{code}"
    if part is not None:
        return sources[part]
    # Each language of kernels has these comments.
    lines = summary(program, is_named=False).splitlines()
    head = "\n".join(f"// {line}".rstrip() for line in lines)
    return f"{head}\n\n{program.source()}"


def legend(plan: Plan, code: str) -> str:
    """Comments that say what the names in the code of torch's calls stand for, to be shown above
    it: what runs has no text of the user. Nothing where no name is known.

    Arguments:
        plan: that has the user's names.
        code: generated from it.
    """
    used = dict.fromkeys(_WORD.findall(code))
    names = {name: text for name, text in plan.names if name in used and text != name}
    arrays = [name for name in names if name not in plan.sizes]
    legs = [name for name in names if name in plan.sizes]
    told = (", ".join(f"{name} = {names[name]}" for name in kind) for kind in (arrays, legs))
    text = "; ".join(kind for kind in told if kind)
    lines = wrap(text, 97, break_long_words=False, break_on_hyphens=False)
    more = ["..."] if len(lines) > _LEGEND_LINES else []
    return "".join(f"# {line}\n" for line in (*lines[:_LEGEND_LINES], *more))


def summary(program: Program, *, is_named: bool = True) -> str:
    """What a program runs, in some lines: the network, its parts, its steps and their sizes.

    Arguments:
        program: what runs.
        is_named: whether tensors and legs have the user's names; else those in the source, which
            holds no text of the user.
    """
    plan = program.plan if is_named else replace(program.plan, names=())
    network = program.graph if is_named else replace(program.graph, label="")
    lengths = {name: len(text.splitlines()) for name, text in program.sources().items()}
    parts = ", ".join(f"{name} {counted(lines, 'line')}" for name, lines in lengths.items())
    spans = [f"  {counted(span.steps, 'step')} in {span.backend}" for span in program.plan.regions]
    return "\n".join(
        (
            headline(network).removeprefix("'': "),
            f"runs as {program.backend}; source: {parts}; layer.source(PART) shows one",
            *(["regions, in order:", *spans] if len(spans) > 1 else []),
            plan_text(plan),
        )
    )
