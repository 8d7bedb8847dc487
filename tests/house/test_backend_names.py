"""No code outside backends/ and targets/ asks which backend something is for: by ast."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tnlayer"
ALLOWED = ("backends", "targets")
CONSTANTS = {"TORCH", "CPP", "CUDA", "MIXED", "AUTO"}
# "cpu" and "cuda" are types of devices as well, which are torch's words.
NAMES = {"torch", "cpp", "mixed", "auto"}
DEVICES = {"cuda", "cpu"}


def named(node: ast.AST) -> Iterator[str]:
    """Names of backends that an operand of a comparison has, also inside a tuple or a set."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        for inner in node.elts:
            yield from named(inner)
    elif isinstance(node, ast.Name) and node.id in CONSTANTS:
        yield node.id
    elif isinstance(node, ast.Attribute) and node.attr in CONSTANTS:
        yield node.attr
    elif isinstance(node, ast.Constant) and node.value in NAMES | DEVICES:
        yield str(node.value)


def comparisons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each comparison, case or lookup by the name of a backend."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            found = {name for operand in operands for name in named(operand)}
            asks_device = any("device" in ast.unparse(operand) for operand in operands)
            if found and not (asks_device and found <= DEVICES):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.match_case):
            values = [n for n in ast.walk(node.pattern) if isinstance(n, ast.MatchValue)]
            if any(name for value in values for name in named(value.value)):
                yield node.pattern.lineno, ast.unparse(node.pattern)
        elif isinstance(node, ast.Dict):
            keys = {name for key in node.keys if key is not None for name in named(key)}
            if len(keys & (CONSTANTS | NAMES)) > 1:
                yield node.lineno, "a table by the names of backends"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            kinds = ast.unparse(node.args[1])
            if any(kind in kinds for kind in ("CppProgram", "CudaProgram", "MixedProgram")):
                yield node.lineno, ast.unparse(node)


def test_nobody_compares_with_the_name_of_a_backend() -> None:
    """What a backend does differently it says itself, by methods and attributes."""
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ALLOWED
        for line, text in comparisons(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def test_the_test_sees_what_it_looks_for() -> None:
    """Each kind of question is found, and one about a device is none."""
    seen = [
        "plan.backend == CUDA",
        "name != 'torch'",
        "kind in (CPP, names.CUDA)",
        "match name:\n    case 'cpp':\n        pass",
        "{TORCH: 1.0, CPP: 1.1}",
        "isinstance(program, CudaProgram | MixedProgram)",
        "name == 'cuda'",
    ]
    assert all(list(comparisons(ast.parse(text))) for text in seen)
    assert not list(comparisons(ast.parse("array.device.type == 'cuda'")))
    assert not list(comparisons(ast.parse("first.backend == second.backend")))
