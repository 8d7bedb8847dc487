"""Which step of a plan each line of generated source belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Kernels say what follows: "// t1 = x0 x t0, sum e0; t2 = t1 x n3", "// t1 to lanes e8",
# "// d_t9 summed up". Calls of torch are assignments: "t1 = mm(...)"; t1_p1 is t1 in other rows,
# t1_k what is summed up to it.
_COMMENT = re.compile(r"\s*// (.*)")
_ASSIGNMENT = re.compile(r"\s+(\w+?)(?:_p\d+|_k)? = ")
_FUNCTION = re.compile(r"\S.*?\b(\w+)\([^()]*\) *\{$")
_CALL = re.compile(r"\s+(\w+)\(")

Marks = tuple[str, ...]


def steps_of_lines(source: str, marks: Mapping[str, str]) -> list[Marks]:
    """For each line of a source what marks its steps; nothing for what belongs to none.

    In kernels a comment tells of what follows, up to the next or to the end of the function; a line
    that calls such a function belongs to its steps, too.

    Arguments:
        source: as ``layer.source("forward")`` or ``"backward"`` gives it.
        marks: of each step, by the name of its result.

    >>> steps_of_lines("// t0 = a x b\\nSTEP f(int i) {\\n  go();\\n}\\n  f(1);", {"t0": "0"})
    [('0',), ('0',), ('0',), ('0',), ('0',)]
    >>> steps_of_lines("def forward(x):\\n    t0 = mm(x, n0)\\n    return (t0,)", {"t0": "0"})
    [(), ('0',), ()]
    """
    lines = source.splitlines()
    found: list[Marks] = []
    functions: dict[str, Marks] = {}
    current: Marks = ()
    for line in lines:
        comment = _COMMENT.match(line)
        if comment is not None:
            current = _told(comment[1], marks)
        found.append(current or _assigned(line, marks))
        function = _FUNCTION.match(line)
        if current and function is not None:
            functions[function[1]] = current
        if line == "}":
            current = ()
    for number, line in enumerate(lines):
        call = _CALL.match(line)
        if not found[number] and call is not None:
            found[number] = functions.get(call[1], ())
    return found


def _told(comment: str, marks: Mapping[str, str]) -> Marks:
    """The steps that a comment of a kernel tells of: parted by semicolons, names first."""
    parts = (part.strip() for part in comment.split("; "))
    # "segment 0 forward: t0, t1" lists what a part of a kernel makes.
    listed = (one for part in parts for one in part.rpartition(": ")[2].split(", "))
    names = (one.split(maxsplit=1)[0] for one in listed if one)
    return tuple(dict.fromkeys(marks[name] for name in names if name in marks))


def _assigned(line: str, marks: Mapping[str, str]) -> Marks:
    """The step whose result a call of torch makes."""
    assignment = _ASSIGNMENT.match(line)
    if assignment is None or assignment[1] not in marks:
        return ()
    return (marks[assignment[1]],)
