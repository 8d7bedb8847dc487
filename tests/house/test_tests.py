"""The tests' own house: rooms as the package has them, and what they share in tests/support."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "tnlayer"
# Rooms of tests that the package does not have.
OWN_ROOMS = {"benchmarks", "house", "whole"}
# Where tests wait for other processes.
WAITS = Path("support", "waiting.py")
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
CODE = re.compile(r"(?:from|import) ((?:tnlayer|tests|benchmarks|examples)[.\w]*)")
FILES = {path.relative_to(TESTS): ast.parse(path.read_text()) for path in TESTS.rglob("*.py")}


def imported(tree: ast.Module) -> set[str]:
    """All modules that a file imports, and all names that it imports from them."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = f"tests.{node.module}" if node.level else node.module
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_rooms_are_those_of_the_package() -> None:
    """Each room of the package has its tests, and each test lies in a room."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    tested = {path.parts[0] for path in FILES if path.name.startswith("test_")}
    assert tested == rooms | OWN_ROOMS
    assert all((TESTS / room / "__init__.py").exists() for room in tested)


def test_no_test_file_imports_another() -> None:
    """What two of them need lies in tests/support, so that each can be read and run alone."""
    wrong = sorted(
        f"{path} imports {name}"
        for path, tree in FILES.items()
        for name in imported(tree)
        if name.startswith("tests.") and ".test_" in name
    )
    assert not wrong, "\n".join(wrong)


def clocks(tree: ast.Module) -> Iterator[int]:
    """Lines where a file reads a clock."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name("time"), name) if name.removesuffix("_ns") in CLOCKS:
                yield node.lineno
            case ast.Import(names) if any(alias.name == "timeit" for alias in names):
                yield node.lineno
            case ast.ImportFrom("time" | "timeit", names):
                if any(alias.name != "sleep" for alias in names):
                    yield node.lineno
            case _:
                pass


def test_no_test_reads_a_clock() -> None:
    """A machine may be busy: tests count calls, comparisons and bytes (tests/support/work.py), and
    times are looked at by benchmarks."""
    found = {path: [*clocks(tree)] for path, tree in FILES.items()}
    assert found.pop(WAITS), "the place that may does not, or no clock is found anywhere"
    assert not any(found.values()), {str(path): lines for path, lines in found.items() if lines}


def test_code_in_texts_imports_what_is_there() -> None:
    """Programs that tests write as text and run elsewhere name modules that exist."""

    def is_there(module: str) -> bool:
        path = TESTS.parent / module.replace(".", "/")
        return path.with_suffix(".py").exists() or (path / "__init__.py").exists()

    wrong = sorted(
        f"{path}:{node.lineno} {found[0]}"
        for path, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for found in CODE.finditer(node.value)
        if not is_there(found[1])
    )
    assert not wrong, "\n".join(wrong)
