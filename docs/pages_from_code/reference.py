"""The reference: every public name with its docstring, by what it is for."""

from __future__ import annotations

import inspect

import tnlayer as tn

# What plug-ins for backends are made of, and users never call: documented in targets/backend.py.
OF_BACKENDS = {
    name
    for name in dir(tn.Program)
    if name not in ("batch_range", "prepare", "resources", "source", "sources")
}

# What other parts of the package ask a layer for, and users never do.
OF_LAYERS = {
    "has_log_scale",
    "keep_fit",
    "named_arrays",
    "networks_for_ranks",
    "replace_networks",
    "split_along",
    "without_entries",
}

# Pages: file, title, names.
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "networks.md": ("Networks", ("Network", "Graph", "SumOfNetworks", "energy")),
    "layers.md": (
        "Layers",
        ("Layer", "Conv2d", "Embedding", "LegParallel", "near_identity", "register_initialiser",
         "retract_"),
    ),
    "plans.md": (
        "Plans, programs and costs",
        ("plan", "backward_plan", "Plan", "cost", "Cost", "Costs", "compare", "Comparison",
         "compile", "Program", "search_workers"),
    ),
    "budgets.md": (
        "Budgets and sweeps",
        ("fit_budget", "Fit", "suggest", "sweep", "Sweep"),
    ),
    "fitting.md": ("From trained weights", ("from_linear", "fit", "Fitted", "Covariance")),
    "models.md": ("Models and files", ("compress", "Budget", "summary", "save", "load")),
    "errors.md": ("Errors", ("TnlayerError", "SpecError", "PlanError", "BuildError")),
}  # fmt: skip


def reference_pages() -> dict[str, str]:
    """Pages by file name.

    Raises:
        LookupError: a public name stands on no page, or on two.
    """
    listed = sorted(name for _, names in PAGES.values() for name in names)
    wanted = sorted(set(tn.__all__) - {"topologies"})
    if listed != wanted:
        msg = f"docs/pages_from_code/reference.py: {sorted(set(listed) ^ set(wanted))}"
        raise LookupError(msg)
    pages = {file: _page(title, names) for file, (title, names) in PAGES.items()}
    functions = "\n".join(
        f".. autofunction:: tnlayer.topologies.{name}" for name in tn.topologies.__all__
    )
    pages["topologies.md"] = f"# Topologies\n\n```{{eval-rst}}\n{functions}\n```\n"
    files = "\n".join(name.removesuffix(".md") for name in pages)
    pages["index.md"] = (
        "# Reference\n\nEvery public name, with its arguments, what it raises, and an example "
        f"that a test runs. `help(tn.Layer)` shows the same.\n\n```{{toctree}}\n{files}\n```\n"
    )
    return pages


def _page(title: str, names: tuple[str, ...]) -> str:
    entries = "\n".join(_entry(name) for name in names)
    return f"# {title}\n\n```{{eval-rst}}\n{entries}\n```\n"


def _entry(name: str) -> str:
    thing = getattr(tn, name)
    if not inspect.isclass(thing):
        return f".. autofunction:: tnlayer.{name}"
    lines = [f".. autoclass:: tnlayer.{name}"]
    if not issubclass(thing, Exception):
        hidden = OF_BACKENDS if thing is tn.Program else OF_LAYERS
        skipped = sorted(n for n in hidden if not n.startswith("_"))
        lines += [
            "   :members:",
            "   :inherited-members: Module, object, tuple",
            f"   :exclude-members: {', '.join(skipped)}",
        ]
    return "\n".join(lines)
