"""A name is only a name: what a step, a value or a buffer comes from is data, never read out of its
name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tnlayer"
# Rooms in which names are those of plans and loop programs. Printers make text, and may.
ROOMS = ("ir", "passes", "planning", "lowering", "time_models")
READING = {
    "removeprefix", "removesuffix", "startswith", "endswith", "partition", "rpartition", "rsplit",
    "isdigit", "lstrip", "rstrip",
}  # fmt: skip
# Files that read text that is no name of a plan.
ALLOWED = {
    "ir/plan_document.py": "checks the names of a document before they are taken",
    "ir/loops_text.py": "a printer",
    "ir/plan_text.py": "a printer",
    "ir/table_text.py": "a printer",
    "planning/check_plan.py": "checks the names of a stored plan before they are taken",
    "planning/plan_store.py": "names of files and versions of packages",
    "planning/request.py": "the name of a device",
    "planning/contraction_order.py": "names of objectives, as the user writes them",
}


def readings(source: str) -> Iterator[tuple[int, str]]:
    """Where a text is taken apart: the line, and by what."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=method)) if method in READING:
                yield node.lineno, method
            case ast.Import(names=names) if any(name.name == "re" for name in names):
                yield node.lineno, "import re"
            case ast.Compare(left=ast.Constant(value=str()), ops=[ast.In()], comparators=[of]) if (
                ast.unparse(of).rpartition(".")[2] in ("name", "buffer")
            ):
                yield node.lineno, "a text in a name"
            case ast.Subscript(value=of) if ast.unparse(of).endswith((".name", ".buffer")):
                yield node.lineno, "a part of a name"
            case _:
                pass


def test_what_counts_as_reading_a_name() -> None:
    """The check finds the ways in which names were once read."""
    wrong = 'of = name.removeprefix("d_")\nif "_" in step.name: pass\nimport re\n'
    assert sorted(readings(wrong)) == [
        (1, "removeprefix"),
        (2, "a text in a name"),
        (3, "import re"),
    ]
    assert not list(readings('if "n0" in names and name == other: name = f"d_{name}"'))


def test_no_name_is_read() -> None:
    """Between the user's graph and the printers nothing takes a name apart."""
    found: list[str] = []
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            file = path.relative_to(PACKAGE).as_posix()
            if file not in ALLOWED:
                found += [f"{file}:{line}: {what}" for line, what in readings(path.read_text())]
    assert not found, "say it in a value (Step.origin, Buffer.value), not in a name: " + str(found)


def test_files_that_may_read_text_still_do() -> None:
    """An exception that is no longer needed goes."""
    for file in ALLOWED:
        assert list(readings((PACKAGE / file).read_text())), f"{file} needs no exception any more"
