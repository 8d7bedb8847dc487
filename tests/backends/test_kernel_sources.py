"""The key of a stored kernel covers the code that made it: no older kernel is found after a change
of a pass or a printer, wherever its file lies."""

from __future__ import annotations

from tests.support.package_imports import MODULES, PACKAGE, imports_of
from tnlayer.backends.toolchains.kernel_store import kernel_sources

# What turns a plan into source begins here: the passes and the printer.
BEGINNINGS = (
    "tnlayer.lowering.cpu.pipeline",
    "tnlayer.backends.toolchains.translation_units",
)
# Files that these need and that shape no kernel: a plan draws and prints itself.
PICTURES = (
    "tnlayer.graph.argument_checks",
    "tnlayer.graph.drawing.colours",
    "tnlayer.graph.drawing.figures",
    "tnlayer.graph.drawing.options",
    "tnlayer.graph.drawing.picture",
    "tnlayer.graph.graph_values",
    "tnlayer.graph.near_identity",
    "tnlayer.support.html",
    "tnlayer.support.option_words",
    "tnlayer.support.tex",
    "tnlayer.support.wording",
)
SHAPE_NOTHING = {
    "tnlayer.errors": "says what cannot be made",
    "tnlayer.support.debug": "shows what was made",
    "tnlayer.support.markdown": "shows tables",
    **dict.fromkeys(PICTURES, "shows plans"),
}


def needed(beginnings: tuple[str, ...]) -> set[str]:
    """All files of the package that some files import, and those that these import."""
    found: set[str] = set()
    waiting = list(beginnings)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [one.imported for one in imports_of(name) if one.imported in MODULES]
    return found


def test_kernel_keys_cover_all_that_shapes_a_kernel() -> None:
    """Each file that the passes and the printer need is in the digest, or shapes nothing."""
    covered = set(kernel_sources(PACKAGE))
    shaping = needed(BEGINNINGS)
    missing = {name for name in shaping if MODULES[name] not in covered}
    assert missing == set(SHAPE_NOTHING), "kernel_sources() misses files, or covers more by now"
    assert len(shaping) > 20, "the walk over imports finds nothing"
