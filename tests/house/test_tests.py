"""The tests' own house: rooms as the package has them, and what they share in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "tnlayer"
# Rooms of tests that the package does not have.
OWN_ROOMS = {"benchmarks", "house", "whole"}
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
