"""The store of what a machine is beside that of a shipped profile: one small file a machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from ...support.codec import Codec, CodecError, Form, number
from ...support.debug import debug
from ...support.file_store import Store
from ...support.json_text import canonical_json, parse_json
from .profile import CALLS
from .scaling import LEAST, MOST, Factors
from .stored import checked_note, major_minor

_STORE = Store("profiles", limit=2**12)
SCHEMA = 3


@dataclass(frozen=True, slots=True)
class ScaledTo:
    """Factors, and what they are for.

    Arguments:
        processor: of this machine.
        reference: of the machine whose profiles they scale.
        torch: version of torch, major.minor.
        factors: measured here.
        measured: when, as YYYY-MM-DD HH:MM in local time.
        note: what ran beside it; "": nothing.
        schema: of what is stored.
    """

    processor: str
    reference: str
    torch: str
    factors: Factors
    measured: str
    note: str = ""
    schema: int = SCHEMA


def read_factors(processor: str, reference: str) -> ScaledTo | None:
    """What was measured on this machine; None, and a line in the log, if damaged."""
    entry = _entry(processor, reference)
    payload = _STORE.read(entry)
    if payload is None:
        return None
    try:
        found = _CODEC.read(ScaledTo, parse_json(payload), "factors")
        if _entry(found.processor, found.reference, found.torch, found.schema) != entry:
            raise CodecError("factors", "those of this machine")
        checked_note(found.note)
        if {kind for kind, _ in found.factors.calls} != set(CALLS):
            raise CodecError("factors.calls", f"each of {', '.join(CALLS)}")
    except ValueError as error:
        debug(1, f"stored {entry} is not used: {error}")
        return None
    return found


def write_factors(scaled: ScaledTo) -> ScaledTo:
    """Store what was measured; what cannot be stored is not.

    Returns:
        what holds from now on: where another process was quicker, what it stored, unless that was
        measured beside other programs and this was not. Plans are found by their profile, so all
        processes have to have the same.
    """
    known = read_factors(scaled.processor, scaled.reference)
    if known is not None and (scaled.note or not known.note):
        return known
    document = _CODEC.write(ScaledTo, scaled)
    _STORE.write(_entry(scaled.processor, scaled.reference), canonical_json(document).encode())
    # Factors are rounded when they are written.
    return _CODEC.read(ScaledTo, document, "factors")


def _entry(processor: str, reference: str, version: str | None = None, schema: int = SCHEMA) -> str:
    key = {
        "processor": processor,
        "reference": reference,
        "torch": version or major_minor(torch.__version__),
        "schema": schema,
    }
    return f"factors-{hashlib.sha256(canonical_json(key).encode()).hexdigest()[:32]}.json"


def _factor(item: object, where: str) -> float:
    factor = number(item, where)
    if not LEAST <= factor <= MOST:
        raise CodecError(where, f"a factor from {LEAST} to {MOST}")
    return factor


# More digits than these mean nothing.
_CODEC = Codec({float: Form(lambda factor: float(f"{factor:.3g}"), _factor)})
