"""The store of measured profiles: one file for a processor, dtype, number of threads and torch.

Whatever is damaged, foreign or of another schema is a miss: a shipped profile serves then.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import torch

from ...errors import SpecError
from ...support.debug import debug
from ...support.file_store import Store
from ...support.json_text import canonical_json, parse_json
from .profile import READABLE, SCHEMA, Profile

_STORE = Store("profiles", limit=2**20)
_FIELDS = {"made_for", "measured", "profile"}
# Beside these, where something is to be told of the measurement.
_NOTE = "note"


def major_minor(version: str) -> str:
    """What counts of torch's version, whose libraries make the rates.

    >>> major_minor("2.13.0+cpu")
    '2.13'
    """
    return ".".join(version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile was measured for.

    Arguments:
        device: "cpu" or "cuda".
        name: name of the processor.
        dtype: dtype of the arithmetic.
        threads: threads of torch; 1 for a GPU.
        torch: version of torch, major.minor.
        schema: of what is stored.
    """

    device: str
    name: str
    dtype: str
    threads: int
    torch: str = major_minor(torch.__version__)
    schema: int = SCHEMA

    @property
    def document(self) -> dict[str, Any]:
        """The key as plain values."""
        return {
            "device": self.device,
            "name": self.name,
            "dtype": self.dtype,
            "threads": self.threads,
            "torch": self.torch,
            "schema": self.schema,
        }

    @property
    def entry(self) -> str:
        """Name of the file."""
        digest = hashlib.sha256(canonical_json(self.document).encode()).hexdigest()
        return f"{self.device}-{self.dtype}-{self.threads}-{digest[:32]}.json"


@dataclass(frozen=True, slots=True)
class MeasuredProfile:
    """A profile that was measured on this machine.

    Arguments:
        profile: the rates.
        measured: when, as YYYY-MM-DD HH:MM in local time.
        note: what is to be told of it; "" for nothing.
    """

    profile: Profile
    measured: str
    note: str = ""


def key_of(profile: Profile) -> ProfileKey:
    """What a profile was measured for."""
    version = major_minor(dict(profile.versions).get("torch", ""))
    return ProfileKey(profile.device, profile.name, profile.dtype, profile.threads, version)


def read_profile(key: ProfileKey) -> MeasuredProfile | None:
    """The profile that was measured for exactly this; None, and a line in the log, if damaged.

    One that an older version measured serves until this one measures.
    """
    for schema in READABLE:
        written = replace(key, schema=schema)
        payload = _STORE.read(written.entry)
        if payload is None:
            continue
        try:
            return _checked(parse_json(payload), written)
        except (SpecError, ValueError) as error:
            debug(1, f"stored profile {written.entry} is not used: {error}")
    return None


def write_profile(profile: Profile, note: str = "") -> MeasuredProfile:
    """Store a profile that was measured just now; what cannot be stored is not.

    Arguments:
        profile: what was measured.
        note: what is to be told of the measurement.

    Returns:
        the profile as it reads back, with the time.
    """
    document = profile.document()
    measured = f"{datetime.now():%Y-%m-%d %H:%M}"
    key = key_of(profile)
    record = {"made_for": key.document, "measured": measured, "profile": document}
    record |= {_NOTE: note} if note else {}
    _STORE.write(key.entry, canonical_json(record).encode())
    # Seconds are rounded when they are written: the digest must be that of later processes.
    return MeasuredProfile(Profile.from_document(document), measured, note)


def clear_profiles() -> None:
    """Forget all measured profiles, and the factors to which shipped ones are scaled."""
    _STORE.clear()


def _checked(document: object, key: ProfileKey) -> MeasuredProfile:
    """The profile of a document.

    Raises:
        SpecError, ValueError: it is none, or one for something else.
    """
    if not isinstance(document, dict) or set(document) - {_NOTE} != _FIELDS:
        msg = f"expected an object with the keys {', '.join(sorted(_FIELDS))}"
        raise ValueError(msg)
    record = cast("dict[str, Any]", document)
    profile = Profile.from_document(record["profile"])
    same = canonical_json(record["made_for"]) == canonical_json(key.document)
    if not same or replace(key_of(profile), schema=key.schema) != key:
        msg = "it was measured for something else"
        raise ValueError(msg)
    measured = record["measured"]
    if not isinstance(measured, str) or not re.fullmatch(r"[0-9 :-]{16}", measured):
        msg = f"measured: {measured!r} is no time"
        raise ValueError(msg)
    note = record.get(_NOTE, "")
    return MeasuredProfile(profile, measured, checked_note(note))


def checked_note(note: object) -> str:
    """What is to be told of a measurement, as it was stored.

    Raises:
        ValueError: it is no line of text.
    """
    if not isinstance(note, str) or not re.fullmatch(r"[ -~]{0,200}", note):
        msg = f"note: {note!r} is no line of text"
        raise ValueError(msg)
    return note
