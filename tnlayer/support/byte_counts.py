"""Numbers of bytes as people write them: 512MiB, 2GB."""

from __future__ import annotations

import re

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
EXAMPLES = "1000000, 512MiB or 2GB"


def byte_count(text: str) -> int | None:
    """A number of bytes, with a unit or without; None where it is none.

    >>> byte_count("512MiB"), byte_count("2G"), byte_count("1000"), byte_count("much")
    (536870912, 2000000000, 1000, None)
    """
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmg]i?|)b?", text.strip().lower())
    if found is None:
        return None
    unit = _UNITS[found[2]]
    # Whole numbers stay exact, however many digits they have.
    return int(found[1]) * unit if "." not in found[1] else int(float(found[1]) * unit)
