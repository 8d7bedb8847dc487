"""What each file of the package imports, read by ast: no import is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tnlayer"


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, where, and whether loading the file runs it."""

    importer: str
    imported: str
    line: int
    at_load: bool

    def __str__(self) -> str:
        return f"{self.importer.replace('.', '/')}.py:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    """Dotted name; a folder's __init__ has the folder's name, the package's own keeps __init__."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 2:
        parts = parts[:-1]
    return ".".join(parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def only_for_types(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node: ast.AST, at_load: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """All import statements below a node, with whether loading the file runs them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_load
        deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from statements(child, at_load and not deferred and not only_for_types(child))


def resolve(module: str, name: str) -> str:
    """`from tnlayer.ir import steps` means the file steps if there is one, else the folder."""
    inner = f"{module}.{name}"
    if inner in MODULES:
        return inner
    return f"{module}.__init__" if module == "tnlayer" else module


def imports_of(name: str) -> list[Import]:
    """All imports of a file of the package, inside functions and for types as well."""
    path = MODULES[name]
    found: list[Import] = []
    for node, at_load in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [
                "tnlayer.__init__" if alias.name == "tnlayer" else alias.name
                for alias in node.names
            ]
        else:
            assert isinstance(node, ast.ImportFrom)
            folder = path.relative_to(ROOT).parts[:-1]
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join((*above, *((node.module,) if node.module else ())))
            targets = [resolve(module, alias.name) for alias in node.names]
        found += [Import(name, target, node.lineno, at_load) for target in targets]
    return found
