"""The store of chosen plans: one file a plan and batch range, found by what the plan is made for.

A plan that is read back is checked against its network. Whatever is damaged, foreign or stale is a
miss: the caller plans anew, and what it writes takes the place of what was there.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from ..errors import SpecError
from ..graph.graph import Graph
from ..ir.batch_range import BatchRange
from ..ir.plan import Plan
from ..ir.plan_document import (
    PLAN_SCHEMA,
    PlanDocumentError,
    document_from_plan,
    plan_from_document,
)
from ..support.codec import Codec, Form
from ..support.debug import debug
from ..support.file_store import Store
from ..support.json_text import canonical_json, parse_json
from .check_plan import check_plan

MAX_PLAN_BYTES = 16 * 2**20
MAX_NOTES = 64

Note = str | int | float | bool

_STORE = Store("plans", limit=MAX_PLAN_BYTES, bounded=True)
_OPEN = "open"
_RANGE = re.compile(rf"([1-9][0-9]{{0,15}})-([1-9][0-9]{{0,15}}|{_OPEN})\.json")


# -- what a plan is made for ---------------------------------------------------------------------


@lru_cache(maxsize=1)
def versions() -> tuple[tuple[str, str | None], ...]:
    """Versions of all that has a say in which plan comes out; None for what is not installed."""
    torch = _version("torch")
    return (
        ("cotengra", _version("cotengra")),
        ("cotengrust", _version("cotengrust")),
        ("schema", str(PLAN_SCHEMA)),
        ("tnlayer", _version("tnlayer")),
        ("torch", None if torch is None else ".".join(torch.split(".")[:2])),
    )


def _version(package: str) -> str | None:
    """Version of an installed package; it is not imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on but the batch.

    Arguments:
        network: key of the canonical form.
        objective: "train" or "infer".
        dtype: dtype of the arithmetic.
        device: where it will run.
        memory_limit: bytes, or None.
        effort: "fast", "default" or "high".
        minimize: the search objective.
        wanted: which inputs want a gradient, in the order of the plan's inputs; None: unknown.
        profile: digest of the device profile that times were predicted with.
        versions: of the packages that have a say, as :func:`versions` gives them.
    """

    network: str
    objective: str
    dtype: str
    device: str
    memory_limit: int | None = None
    effort: str = "default"
    minimize: str = ""
    wanted: tuple[bool, ...] | None = None
    profile: str = ""
    versions: tuple[tuple[str, str | None], ...] = field(default_factory=versions)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The key as a plain document; it stands in each file, so that one can be read alone."""
        return _CODEC.write(PlanKey, self)

    @cached_property
    def base(self) -> str:
        """SHA-256 of the document: the folder of all batch ranges."""
        return _digest(self.document)

    def of_range(self, batches: BatchRange) -> str:
        """SHA-256 of the document with a batch range."""
        return _digest({"made_for": self.document, **_ends(batches)})


def _ends(batches: BatchRange) -> dict[str, int | None]:
    """A batch range as it stands in files."""
    return {"low": batches.least, "high": batches.greatest}


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


_CODEC = Codec({(PlanKey, "versions"): Form(dict, lambda item, where: item)})


# -- plans of batch ranges -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan and the batch sizes that it was chosen for.

    Arguments:
        batches: those batch sizes.
        plan: a forward plan; its own batch size is in the range or at its edge.
        notes: what is worth telling of the choice, such as the predicted times.
    """

    batches: BatchRange
    plan: Plan
    notes: Mapping[str, Note] = field(default_factory=dict[str, Note], hash=False)

    def __post_init__(self) -> None:
        batch = self.plan.batch
        # A plan may be made for the first size above, where it was found to win.
        fits = batch in self.batches or batch - 1 in self.batches
        if not (1 <= self.batches.least <= batch and fits):
            msg = f"a plan for batch {batch} is no plan for {self.batches}"
            raise ValueError(msg)
        problem = _wrong_notes(dict(self.notes))
        if problem:
            raise ValueError(problem)
        object.__setattr__(self, "notes", dict(self.notes))


def read_plans(key: PlanKey, graph: Graph) -> tuple[StoredPlan, ...]:
    """The stored plans of a network, by batch range, each checked against the network.

    Of two ranges that overlap, which an interrupted write can leave, the lower one counts.

    Arguments:
        key: what the plans are made for.
        graph: the canonical graph of the network.
    """
    found: list[StoredPlan] = []
    for batches in _ranges(key):
        if any(plan.batches.common(batches) for plan in found):
            continue
        plan = _read(key, graph, batches)
        if plan is not None:
            found.append(plan)
    return tuple(found)


def find_plan(key: PlanKey, graph: Graph, batch: int) -> StoredPlan | None:
    """The stored plan for a batch size, or None; only the files that may hold it are read."""
    for batches in _ranges(key):
        if batch in batches:
            plan = _read(key, graph, batches)
            if plan is not None:
                return plan
    return None


def write_plan(key: PlanKey, stored: StoredPlan) -> None:
    """Store a plan in place of those whose ranges it overlaps; what cannot be stored is not.

    What planning that was cut short came to is not stored: the next one may have time.

    Arguments:
        key: what the plan is made for.
        stored: the plan with its range.
    """
    batches = stored.batches
    if stored.plan.aborted:
        debug(1, f"the plan for batch {batches} is not stored: planning was cut short")
        return
    document = {
        **_made_for(key, batches),
        "notes": dict(stored.notes),
        "plan": document_from_plan(stored.plan),
    }
    _STORE.write(_entry(key, batches), canonical_json(document).encode())
    for other in _ranges(key):
        if other != batches and other.common(batches):
            _STORE.remove(_entry(key, other))


def clear_plans() -> None:
    """Forget all stored plans."""
    _STORE.clear()


# -- files ---------------------------------------------------------------------------------------


def _entry(key: PlanKey, batches: BatchRange) -> str:
    """Where the plan of a range is stored."""
    end = _OPEN if batches.greatest is None else batches.greatest
    return f"{key.base}/{batches.least}-{end}.json"


def _ranges(key: PlanKey) -> list[BatchRange]:
    """The ranges that there are files for, sorted; an open one last."""
    names = (entry.rpartition("/")[2] for entry in _STORE.entries(key.base))
    matches = (match for match in map(_RANGE.fullmatch, names) if match is not None)
    ends = ((int(m[1]), None if m[2] == _OPEN else int(m[2])) for m in matches)
    # Anyone can name a file: what is no range is no file of ours.
    found = [BatchRange(low, high) for low, high in ends if high is None or low <= high]
    return sorted(found, key=lambda one: (one.least, one.greatest or math.inf))


def _read(key: PlanKey, graph: Graph, batches: BatchRange) -> StoredPlan | None:
    """The plan of a range; None, and a line in the log, for whatever is not right with it."""
    entry = _entry(key, batches)
    payload = _STORE.read(entry)
    if payload is None:
        return None
    try:
        return _checked(parse_json(payload), key, graph, batches)
    except (PlanDocumentError, SpecError) as error:
        debug(1, f"stored plan {entry} is not used: {error}")
        return None


def _made_for(key: PlanKey, batches: BatchRange) -> dict[str, Any]:
    """What a file says of its plan beside the plan itself."""
    return {"key": key.of_range(batches), "made_for": key.document, **_ends(batches)}


def _checked(document: object, key: PlanKey, graph: Graph, batches: BatchRange) -> StoredPlan:
    """The plan of a document.

    Raises:
        PlanDocumentError: it is no plan, one for something else, or a wrong one.
    """
    if not isinstance(document, dict):
        raise PlanDocumentError("expected an object")
    record = dict(cast("dict[str, Any]", document))
    notes, plan_document = record.pop("notes", None), record.pop("plan", None)
    # By text, where true is no 1.
    if canonical_json(record) != canonical_json(_made_for(key, batches)):
        raise PlanDocumentError("it was made for something else")
    problem = _wrong_notes(notes)
    if problem:
        raise PlanDocumentError(problem)
    plan = plan_from_document(plan_document)
    if plan.dtype != key.dtype or plan.aborted:
        msg = f"dtype {plan.dtype}, aborted {plan.aborted}: such a plan is not stored here"
        raise PlanDocumentError(msg)
    problem = check_plan(plan, graph)
    if problem:
        msg = f"it does not compute this network: {problem}"
        raise PlanDocumentError(msg)
    try:
        return StoredPlan(batches, plan, cast("dict[str, Note]", notes))
    except ValueError as error:
        raise PlanDocumentError(str(error)) from None


def _wrong_notes(notes: object) -> str:
    """What is wrong with notes, or an empty text."""
    if not isinstance(notes, dict) or len(notes) > MAX_NOTES:
        return f"notes: expected an object with at most {MAX_NOTES} keys"
    for name, note in cast("dict[object, object]", notes).items():
        if not isinstance(name, str) or not isinstance(note, str | int | float):
            return f"notes: {name!r} is {note!r}, expected a string, a number or a boolean"
        if isinstance(note, float) and not math.isfinite(note):
            return f"notes: {name!r} is {note}, expected a finite number"
    return ""
