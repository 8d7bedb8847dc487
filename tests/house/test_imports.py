"""The order of the house: a file imports only from what stands above it (by ast, no import run)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.package_imports import MODULES, ROOT, Import, imports_of
from tests.support.rooms import READS, ROOMS

LEVEL_OF = {room: level for level, room in enumerate(ROOMS)}

# Other packages that a file may import when it is loaded. What drawing, progress bars and tests
# need is imported inside the function that needs it, or not at all.
RUNTIME_DEPENDENCIES = {"numpy", "torch", "networkx", "cotengra", "platformdirs"}
OPTIONAL = ("matplotlib", "tqdm", "sklearn", "scipy", "hypothesis", "cotengrust", "pytest")


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
    assert not unplaced, f"give {unplaced} a place in ROOMS of tests/support/rooms.py"


def test_imports_go_up_only() -> None:
    """No file imports from below its own level, not even inside a function or for types."""
    wrong = [
        str(found)
        for found in INTERNAL
        if LEVEL_OF[part(found.imported)] > LEVEL_OF[part(found.importer)]
    ]
    assert not wrong, "\n".join(wrong)


def test_printers_read_the_loop_program_only() -> None:
    """Text is made of values: a printer that imported a pass could decide something."""
    wrong = [
        str(found)
        for found in INTERNAL
        if (room := part(found.importer)) in READS
        and part(found.imported) not in (room, *READS[room])
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


def test_two_files_import_cotengra() -> None:
    """planning/contraction_order.py, and search_workers.py for its executors."""
    importers = {found.importer for found in IMPORTS if external(found) == "cotengra"}
    assert importers == {
        "tnlayer.planning.contraction_order",
        "tnlayer.planning.search_workers",
    }


def test_topologies_use_the_public_builder_only() -> None:
    """A topology imports network and errors, how a value is shown in one, or another topology, and
    nothing else of ours."""
    graph = (
        f"tnlayer.graph.{name}"
        for name in ("network", "near_identity", "argument_checks", "topology_names")
    )
    public = (*graph, "tnlayer.errors")
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
