"""Files that are damaged or made to do harm: one typed error, and nothing is allocated for them."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tnlayer as tn

T = tn.topologies


def small() -> nn.Sequential:
    """A model with a layer."""
    torch.manual_seed(0)
    return nn.Sequential(tn.Layer(T.low_rank(3, 2, 1)), nn.Linear(2, 2))


def fresh() -> nn.Sequential:
    """The same before it was compressed."""
    return nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good file."""
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    tn.save(small(), path)
    return path.read_bytes()


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    """A file of this header and this data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(path: Path, content: bytes) -> str:
    """The message of the one error that a file gives; the model is not touched."""
    path.write_bytes(content)
    model = fresh()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(tn.SpecError) as caught:
        tn.load(path, into=model)
    assert type(model[0]) is nn.Linear
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    return str(caught.value)


def test_cut_off_at_each_byte(content: bytes, tmp_path: Path) -> None:
    """A file that ends too early, wherever that is, and one that is too long."""
    for length in range(0, len(content), 7):
        refused(tmp_path / "cut.safetensors", content[:length])
    for length in (len(content) - 1, len(content) - 2, 7, 8, 9):
        refused(tmp_path / "cut.safetensors", content[:length])
    assert "bytes" in refused(tmp_path / "long.safetensors", content + b"\0")


def test_flipped_bytes(content: bytes, tmp_path: Path) -> None:
    """A changed byte anywhere in length or header loads or is a SpecError, and nothing else."""
    (length,) = struct.unpack("<Q", content[:8])
    path, draw = tmp_path / "flipped.safetensors", random.Random(0)
    for _ in range(400):
        place = draw.randrange(8 + length)
        changed = bytearray(content)
        changed[place] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            tn.load(path, into=fresh())
        except tn.SpecError:
            continue


HEADERS: dict[str, Any] = {
    "a header of 2^63 bytes": struct.pack("<Q", 2**63 - 1) + b"{}",
    "a header of 1 TB": struct.pack("<Q", 2**40) + b"{}" + b" " * 100,
    "no object": joined([1, 2], b""),
    "deep nesting": joined(b"{" + b'"a":[' * 100_000, b""),
    "not JSON": joined(b"{'a': 1}", b""),
    "a key twice": joined(b'{"a":{},"a":{}}', b""),
    "huge number": joined(b'{"a":' + b"9" * 10_000 + b"}", b""),
    "nothing at all": b"",
    "a pickle": b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_wrong_headers(name: str, tmp_path: Path) -> None:
    """Lengths, nesting, numbers and text that no header has."""
    refused(tmp_path / "header.safetensors", HEADERS[name])


def test_wrong_tensors(content: bytes, tmp_path: Path) -> None:
    """Shapes without bytes, negative ones, holes, overlaps, unknown dtypes, products that overflow:
    the error comes before memory is taken."""
    header, data = parts(content)
    path = tmp_path / "tensors.safetensors"
    for change in (
        {"shape": [2**40, 2**40]},
        {"shape": [2**63, 0, 2]},
        {"shape": [-1, -4]},
        {"shape": [2.0, 2]},
        {"shape": [1] * 65},
        {"shape": "22"},
        {"dtype": "F4"},
        {"dtype": ["F32"]},
        {"dtype": "F64"},
        {"data_offsets": [0, 2**50]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [0]},
        {"more": 1},
    ):
        wrong = json.loads(json.dumps(header))
        wrong["1.weight"].update(change)
        assert "1.weight" in refused(path, joined(wrong, data)) or "data_offsets" not in change
    twice = json.loads(json.dumps(header))
    twice["2.weight"] = twice["1.weight"]
    assert "overlap" in refused(path, joined(twice, data))
    for key in ("0.U", "1.bias"):
        without = {name: value for name, value in header.items() if name != key}
        refused(path, joined(without, data))


def changed(content: bytes, change: Any) -> bytes:
    """The file with another document in its metadata."""
    header, data = parts(content)
    document = json.loads(header["__metadata__"]["tnlayer"])
    found = change(document)
    text = found if isinstance(found, str) else json.dumps(document)
    header["__metadata__"]["tnlayer"] = text
    return joined(header, data)


def network(document: Any) -> Any:
    """The network of the document's layer."""
    return document["modules"]["0"]["networks"][0]


def set_option(**options: Any) -> Any:
    """A change of the layer's options."""
    return lambda document: document["modules"]["0"]["options"].update(options)


def rename(old: str, new: str) -> Any:
    """A change of a module's name."""

    def change(document: Any) -> None:
        document["modules"][new] = document["modules"].pop(old)

    return change


def larger(document: Any) -> None:
    """A network of 2^60 entries."""
    for leg in network(document)["legs"]:
        leg["size"] = 2**30


CHANGES: dict[str, Any] = {
    "no document": lambda _: "",
    "another format": lambda document: document.update(format="tnlayer.network"),
    "version 2": lambda document: document.update(version=2),
    "version true": lambda document: document.update(version=True),
    "unknown key": lambda document: document.update(code="import os"),
    "a list": lambda _: "[]",
    "modules is a list": lambda document: document.update(modules=[]),
    "no modules": lambda document: document.update(modules={}),
    "foreign module": rename("0", "5.attention"),
    "another module": rename("0", "1"),
    "the model itself": rename("0", ""),
    "unknown kind": lambda document: document["modules"]["0"].update(kind="os.system"),
    "another kind": lambda document: document["modules"]["0"].update(kind="Embedding"),
    "dtype": lambda document: document["modules"]["0"].update(dtype="object"),
    "unknown option": set_option(hook="os.system"),
    "device": set_option(device="cuda:7"),
    "nested option": set_option(batch={"a": 1}),
    "batch": set_option(batch="8"),
    "bias": set_option(bias="yes"),
    "another bias": set_option(bias=True),
    "backend": set_option(backend="os"),
    "shared": set_option(shared=[1, 2]),
    "limit": set_option(memory_limit="x"),
    "small limit": set_option(memory_limit=1),
    "effort": set_option(effort=None),
    "log scale": set_option(log_scale=3),
    "no networks": lambda document: document["modules"]["0"].update(networks=[]),
    "code in a network": lambda document: network(document).update(code="x"),
    "a huge network": larger,
    "a foreign tensor": lambda document: network(document)["tensors"][0].update(name="weight"),
    "a path": lambda document: network(document)["tensors"][0].update(name="../../x"),
    "an init": lambda document: network(document)["tensors"][0].update(init="os.system"),
    "tied to nothing": lambda document: document.update(tied={"1.bias": "2.bias"}),
    "tied to itself": lambda document: document.update(tied={"1.bias": "1.bias"}),
    "tied is a list": lambda document: document.update(tied=["a"]),
    "complex": lambda document: document.update(complex=["0.U"]),
    "complex is text": lambda document: document.update(complex="0.U"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_documents(name: str, content: bytes, tmp_path: Path) -> None:
    """Descriptions that do not fit the tensors, the model or the schema."""
    refused(tmp_path / "document.safetensors", changed(content, CHANGES[name]))


def test_files_of_others(content: bytes, tmp_path: Path) -> None:
    """A file without our metadata is said to be none of ours."""
    header, data = parts(content)
    for metadata in ({}, {"format": "pt"}, {"tnlayer": 3}, [1]):
        refused(tmp_path / "other.safetensors", joined({**header, "__metadata__": metadata}, data))
    with pytest.raises(OSError):
        tn.load(tmp_path / "none.safetensors")
    for options in ({"into": 3}, {"device": "nowhere"}):
        tn.save(tn.Layer(T.low_rank(3, 2, 1)), tmp_path / "layer.safetensors")
        with pytest.raises(tn.SpecError):
            tn.load(tmp_path / "layer.safetensors", **options)  # type: ignore[arg-type]
