"""Canonical JSON, the schema, arrays as numbers."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tnlayer as tn
from tests.support.graphs import everything, three_cores
from tests.support.strategies import networks
from tnlayer.support import json_text


@given(networks(is_complex=True))
@settings(max_examples=60)
def test_json_gives_back_equal_graphs(net: tn.Network) -> None:
    """to_json and from_json are inverse, values included, and the text is canonical."""
    text = net.to_json()
    other = tn.Network.from_json(text)
    assert other.freeze() == net.freeze()
    assert other.to_json() == text


def test_json_keeps_the_label_and_every_flag() -> None:
    """Label, ports' options, init, isometry, pins and sums survive; bytes are read as well."""
    net = everything()
    other = tn.Network.from_json(net.to_json().encode())
    assert str(other) == str(net)
    assert other.freeze() == net.freeze()
    assert other.label == "everything"


def test_json_text_is_plain_and_leaves_defaults_out() -> None:
    """The schema's keys are what is documented; what is default is not written."""
    document = json.loads(three_cores().to_json())
    assert sorted(document) == [
        "format", "inputs", "label", "legs", "output", "tensors", "version",
    ]  # fmt: skip
    assert (document["format"], document["version"]) == ("tnlayer.network", 1)
    assert document["tensors"][0] == {"name": "A", "legs": ["i1", "j1", "a"]}
    assert document["inputs"] == [{"name": "x", "legs": ["i1", "i2", "i3"]}]
    assert document["legs"][0] == {"name": "i1", "size": 16}


def test_canonical_json_is_one_text_for_one_value() -> None:
    """Key order does not matter, text is ASCII and without blanks."""
    assert json_text.canonical_json({"b": 1, "a": [True, None, "ü"]}) == json_text.canonical_json(
        {"a": [True, None, "ü"], "b": 1}
    )
    assert json_text.canonical_json(["ü", 0.1]) == '["\\u00fc",0.1]'


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"x", 1j, "\ud800"])
def test_canonical_json_refuses_what_json_has_not(value: object) -> None:
    """Numbers that are not finite, sets, bytes, complex numbers and half pairs of surrogates are
    refused."""
    with pytest.raises(tn.SpecError, match="cannot be written as JSON"):
        json_text.canonical_json([value])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ('{"a":1,"a":2}', "key 'a' twice"),
        ("[NaN]", "number NaN"),
        ("[1e999]", "number 1e999"),
        ("[-Infinity]", "number -Infinity"),
        ("[" * 100_000, "not valid JSON"),
        ("9" * 10_000, "not valid JSON"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        ('["\\ud800"]', "not valid JSON"),
        ('{"\\uDFFF":1}', "not valid JSON"),
        ('["\ud800"]', "not valid JSON"),
        (b'["\xed\xa0\x80"]', "not valid JSON"),
    ],
    ids=[
        "cut",
        "twice",
        "nan",
        "huge",
        "infinity",
        "deep",
        "digits",
        "bytes",
        "half a pair",
        "half a pair in a key",
        "half a pair as it is",
        "half a pair in bytes",
    ],
)
def test_hostile_text_is_refused(text: str | bytes, said: str) -> None:
    """Broken, ambiguous, deep or endless text gives a SpecError, not a crash."""
    with pytest.raises(tn.SpecError, match=said):
        json_text.parse_json(text)


def test_whole_pairs_of_surrogates_are_text() -> None:
    """A character beyond 16 bits is read and written however it is escaped."""
    for text in ('["\\ud83d\\ude00"]', '["😀"]', '["😀"]'.encode(), '["😀"]'.encode("utf-16")):
        assert json_text.parse_json(text) == ["😀"]
    assert json_text.canonical_json(["😀"]) == '["\\ud83d\\ude00"]'
    assert json_text.parse_json(r'["\\ud800"]') == [r"\ud800"]


def test_text_beyond_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and writing stop at MAX_TEXT_BYTES, naming both lengths."""
    net = three_cores()
    text = net.to_json()
    monkeypatch.setattr(json_text, "MAX_TEXT_BYTES", 100)
    with pytest.raises(tn.SpecError, match=f"{len(text)} bytes long, at most 100"):
        tn.Network.from_json(text)
    with pytest.raises(tn.SpecError, match="too many for a JSON text of 100"):
        net.to_json()
    net.set_values({"A": np.ones((16, 16, 8))})
    with pytest.raises(tn.SpecError, match="tensor 'A': value has 2048 entries"):
        net.to_json()


def _edited(path: tuple[str | int, ...], value: object) -> str:
    """The document of everything() with one place changed; ... removes it."""
    document: Any = copy.deepcopy(json.loads(everything().to_json()))
    place = document
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("colour",), 1, r"network: unknown keys 'colour'"),
        (("tensors", 0, "rank"), 1, r"network\.tensors\[0\]: unknown keys 'rank'"),
        (("inputs", 1, "size"), 1, r"network\.inputs\[1\]: unknown keys 'size'"),
        (("legs", 2, "dim"), 1, r"network\.legs\[2\]: unknown keys 'dim'"),
        (("tensors", 4, "value", "pickle"), "", r"tensors\[4\]\.value: unknown keys 'pickle'"),
        (("label",), ..., r"network: missing keys 'label'"),
        (("tensors", 0, "legs"), ..., r"network\.tensors\[0\]: missing keys 'legs'"),
        (("format",), "other", r"expected 'tnlayer\.network', got 'other'"),
        (("version",), 2, r"expected 1, got 2"),
        (("version",), True, r"expected 1, got True"),
        (("legs", 0, "size"), 2.0, r"legs\[0\]\.size: expected a whole number, got float"),
        (("legs", 0, "size"), True, r"legs\[0\]\.size: expected a whole number, got bool"),
        (("legs", 0, "size"), -2, r"leg 'i': the size of a leg must be from 1 .* got -2"),
        (("legs", 0, "name"), "a b", r"leg name 'a b' is not valid"),
        (("tensors",), {}, r"network\.tensors: expected a list, got dict"),
        (("tensors", 0), [], r"network\.tensors\[0\]: expected an object, got list"),
        (("tensors", 0, "legs"), ["i", 3], r"tensors\[0\]\.legs\[1\]: expected a string, got int"),
        (("tensors", 0, "name"), "B", r"tensor 'B' stands twice"),
        (("tensors", 0, "init"), -1.0, r"tensor 'A': init must be .* got -1\.0"),
        (("tensors", 1, "isometry"), [7], r"tensor 'B': isometry axes must be .* below 3, got"),
        (("tensors", 2, "share"), "Q", r"tensor 'B2' shares 'Q', and there is no tensor"),
        (("tensors", 4, "value", "dtype"), "object", r"'K': dtype must be one of .*'object'"),
        (("tensors", 4, "value", "entries"), [1], r"'K': expected 2 entries for .*, got 1"),
        (("tensors", 4, "value", "entries"), [1, "2"], r"'K': entry 1 must be a number, got str"),
        (("tensors", 4, "value", "entries"), [1, 10**400], r"'K': an entry does not fit"),
        (("tensors", 4, "value", "shape"), [-1, -2], r"'K': expected 2 entries for shape"),
    ],
)
def test_wrong_documents_name_the_place(
    path: tuple[str | int, ...], value: object, said: str
) -> None:
    """A wrong, missing or unknown key gives a SpecError that names the place and the values."""
    with pytest.raises(tn.SpecError, match=said):
        tn.Network.from_json(_edited(path, value))


@pytest.mark.parametrize("text", ["[]", "3", "null", '"net"'])
def test_a_document_is_an_object(text: str) -> None:
    """Text that holds no object is refused."""
    with pytest.raises(tn.SpecError, match="network: expected an object"):
        tn.Network.from_json(text)


def test_callables_are_refused() -> None:
    """A callable init has no text; the error names the tensor and what to use instead."""
    net = tn.Network()
    net.output(j=2)
    net.tensor("A", "j", init=lambda tensor: None)
    with pytest.raises(tn.SpecError, match=r"tensor 'A' has a callable init .* registered init"):
        net.to_json()


@pytest.mark.parametrize("dtype", list(json_text.ARRAY_PARTS))
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_arrays_survive_exactly(dtype: str, seed: int) -> None:
    """Every dtype comes back bit by bit, through text, also with empty and scalar shapes."""
    random = np.random.default_rng(seed)
    for shape in ((), (0, 3), (2, 1, 3)):
        array = (random.standard_normal(shape) * 10.0 ** random.integers(-4, 4)).astype(dtype)
        if array.dtype.kind == "c":
            array = (array * (1 - 2j)).astype(dtype)
        text = json_text.canonical_json(json_text.encode_array(np.asarray(array), "tensor 'A'"))
        back = json_text.decode_array(json_text.parse_json(text), "tensor 'A'")
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == np.asarray(array).tobytes()


def test_negative_zero_and_extremes_survive() -> None:
    """The sign of zero, the least and the largest numbers come back."""
    array = np.array([-0.0, np.finfo(np.float64).tiny, np.finfo(np.float64).max, 5e-324])
    text = json_text.canonical_json(json_text.encode_array(array, "A"))
    assert json_text.decode_array(json_text.parse_json(text), "A").tobytes() == array.tobytes()


def test_values_that_are_not_finite_are_refused() -> None:
    """JSON has no NaN; the error names the tensor."""
    net = tn.Network()
    net.output(j=2)
    net.tensor("A", "j", value=[1.0, math.nan])
    with pytest.raises(tn.SpecError, match="tensor 'A': value has entries that are not finite"):
        net.to_json()


def test_float32_overflow_is_refused() -> None:
    """An entry that the dtype cannot hold is refused instead of becoming infinite."""
    document = {"dtype": "float32", "shape": [1], "entries": [1e300]}
    with pytest.raises(tn.SpecError, match="does not fit the dtype float32"):
        json_text.decode_array(document, "tensor 'A'")
