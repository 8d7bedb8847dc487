"""Tests whose parameters cross: each value of each in every run, all pairs behind the marker.

A test of 17 topologies, 3 dtypes and 2 backends has 102 cases. Marked as ``crossed`` a run takes 17
of them, in which each topology, dtype and backend is; ``-m full`` takes them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest


def each_value_once(cases: Sequence[Mapping[str, int]]) -> list[int]:
    """Places of cases in which each value of each parameter is, as few as a greedy choice finds.

    Arguments:
        cases: for each what tells the value of each parameter.

    >>> each_value_once([{"a": 0, "b": 0}, {"a": 0, "b": 1}, {"a": 1, "b": 0}, {"a": 1, "b": 1}])
    [0, 3]
    """
    left = {item for case in cases for item in case.items()}
    uses = dict.fromkeys(left, 0)
    taken: list[int] = []
    while left:
        # Where several cases have as many new values, the one with the least used others.
        place = max(
            range(len(cases)),
            key=lambda k: (
                len(left & cases[k].items()),
                -sum(uses[item] for item in cases[k].items()),
            ),
        )
        taken.append(place)
        left -= cases[place].items()
        for item in cases[place].items():
            uses[item] += 1
    return sorted(taken)


def mark_crossed(items: Sequence[pytest.Item]) -> None:
    """Mark as ``full`` what a run leaves out of the tests that are marked as ``crossed``."""
    families: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("crossed"):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for family in families.values():
        # Cases share the objects that they were parametrized with.
        cases = [{n: id(v) for n, v in item.callspec.params.items()} for item in family]
        taken = set(each_value_once(cases))
        for place, item in enumerate(family):
            if place not in taken:
                item.add_marker(pytest.mark.full)
