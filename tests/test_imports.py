"""The order of the house: a file imports only from what stands above it (by ast, no import run)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tnlayer"

# Data flows down this list of rooms; a room imports from those above it and from itself. Inside a
# room, too, no circle: test_no_cycles. A new room has to be given a place here.
ROOMS: tuple[str, ...] = (
    "errors",
    "support",
    "graph",
    "topologies",
    "ir",
    "passes",
    "hardware",
    "lowering",
    "codegen",
    "time_models",
    "targets",
    "planning",
    "runtime",
    "backends",
    "measure",
    "dispatch",
    "report",
    "nn",
    "budget",
    "cli",
    "__init__",
    "__main__",
)
LEVEL_OF = {room: level for level, room in enumerate(ROOMS)}

# Other packages that a file may import when it is loaded. What drawing, progress bars and tests
# need is imported inside the function that needs it, or not at all.
RUNTIME_DEPENDENCIES = {"numpy", "torch", "networkx", "cotengra", "platformdirs"}
OPTIONAL = ("matplotlib", "tqdm", "sklearn", "scipy", "hypothesis", "cotengrust", "pytest")


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
    """`from tnlayer.plan import steps` means the file steps if there is one, else the folder."""
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


IMPORTS = [found for name in MODULES for found in imports_of(name)]
INTERNAL = [found for found in IMPORTS if found.imported.startswith("tnlayer.")]


def part(module: str) -> str:
    """The name in ROOMS that a module of the package belongs to."""
    return module.split(".")[1]


def external(found: Import) -> str:
    """The top-level package that an import names."""
    return found.imported.partition(".")[0]


def test_every_file_has_a_place() -> None:
    """Each file or folder of the package stands in ROOMS."""
    unplaced = sorted({part(name) for name in MODULES} - set(LEVEL_OF))
    assert not unplaced, f"give {unplaced} a place in ROOMS of {Path(__file__).name}"


def test_imports_go_up_only() -> None:
    """No file imports from below its own level, not even inside a function or for types."""
    wrong = [
        str(found)
        for found in INTERNAL
        if LEVEL_OF[part(found.imported)] > LEVEL_OF[part(found.importer)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles() -> None:
    """No circle of imports, those inside functions and for types as well."""
    edges: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in INTERNAL:
        if found.imported in MODULES and found.imported != found.importer:
            edges[found.importer].add(found.imported)
    while edges:
        leaves = {name for name, needed in edges.items() if not needed & edges.keys()}
        assert leaves, f"a cycle of imports runs through some of {sorted(edges)}"
        edges = {name: needed for name, needed in edges.items() if name not in leaves}


def test_only_search_imports_cotengra() -> None:
    """planning/search.py is the one file that imports cotengra."""
    importers = {found.importer for found in IMPORTS if external(found) == "cotengra"}
    assert importers == {"tnlayer.planning.search"}


def test_topologies_use_the_public_builder_only() -> None:
    """A topology imports network and errors, or another topology, and nothing else of ours."""
    public = ("tnlayer.graph.network", "tnlayer.graph.near_identity", "tnlayer.errors")
    topologies = [found for found in INTERNAL if part(found.importer) == "topologies"]
    assert any(found.imported == public[0] for found in topologies)
    wrong = [
        str(found)
        for found in topologies
        if found.imported not in public and part(found.imported) != "topologies"
    ]
    assert not wrong, "\n".join(wrong)


def test_loading_needs_runtime_dependencies_only() -> None:
    """At load a file imports the standard library and the five runtime dependencies only."""
    allowed = RUNTIME_DEPENDENCIES | sys.stdlib_module_names | {"tnlayer"}
    wrong = [str(found) for found in IMPORTS if found.at_load and external(found) not in allowed]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "statement", ["import tnlayer", "import tnlayer.topologies, tnlayer.cli.commands"]
)
def test_imports_without_the_extras(statement: str) -> None:
    """The package loads where matplotlib, tqdm, scikit-learn and the rest are not installed.

    They are blocked instead of looked for in sys.modules: torch itself loads tqdm if it is there.
    """
    program = f"import sys\nfor name in {OPTIONAL}: sys.modules[name] = None\n{statement}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_loads_no_extras() -> None:
    """Importing tnlayer loads nothing of the extras that its dependencies do not load already."""
    program = (
        "import sys, numpy, torch, networkx, cotengra\n"
        "before = set(sys.modules)\nimport tnlayer\n"
        f"print(*sorted((set(sys.modules) - before) & set({OPTIONAL})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
