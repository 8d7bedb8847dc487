"""Arrays whose legs stand twice, seen in another order than they are stored in."""

from __future__ import annotations

import numpy as np
import pytest

from tnlayer.ir.plan_values import Value
from tnlayer.lowering.calls.lower import _permuted  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (("a", "a", "b"), ("a", "b", "a")),
        (("b", "a", "a"), ("a", "b", "a")),
        (("a", "a"), ("a", "a")),
    ],
)
def test_a_copy_has_the_same_diagonal(stored: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Of an array that is read on its diagonal only; the search may store it in any order."""
    view = _permuted(Value("n1", stored), wanted)
    assert view.axes == tuple((leg,) for leg in wanted)
    sizes = {"a": 3, "b": 4}
    array = np.random.default_rng(0).standard_normal([sizes[leg] for leg in stored])
    copy = array.transpose(view.order)
    result = "".join(sorted(set(stored)))
    np.testing.assert_array_equal(
        np.einsum(f"{''.join(wanted)}->{result}", copy),
        np.einsum(f"{''.join(stored)}->{result}", array),
    )
