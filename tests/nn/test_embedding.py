"""Embedding: rows of the transposed matrix, looked up without it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import tnlayer as tn
from tests.support import oracle

F64 = torch.float64
T = tn.topologies


def passing() -> tn.Network:
    """A leg goes through from x to y, another is used by two tensors, and one is fixed."""
    net = tn.Network("passing")
    net.input(p=2, i=3, k=2, f=3)
    net.output("j p")
    net.bond(a=2, j=4)
    net.tensor("A", "i a f")
    net.tensor("B", "a i j")
    net.tensor("C", "k")
    net.fix(f=1)
    return net


def shared() -> tn.Network:
    """One array for two places, once fixed there and not here, and once conjugated."""
    net = tn.Network("shared")
    net.input(i=3, k=3)
    net.output(j=2)
    net.bond(a=3, b=3)
    net.tensor("A", "i a")
    net.tensor("B", "k b", share="A", conj=True)
    net.tensor("C", "a b j")
    return net


NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "train": lambda: T.tensor_train((3, 4), (2, 3), rank=2),
    "btt": lambda: T.btt((3, 4), (2, 3), rank=2),
    "monarch": lambda: T.monarch((3, 4), (2, 3)),
    "kronecker": lambda: T.kronecker((3, 4), (2, 3), rank=2),
    "low rank": lambda: T.low_rank(12, 6, rank=3),
    "tree": lambda: T.tree(4, 2, 2),
    "tucker": lambda: T.tucker((3, 4), (2, 3), rank=2),
    "passing": passing,
    "shared": shared,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_are_those_of_the_matrix(name: str) -> None:
    """Each row is the column of the network's matrix, which the oracle gives, with gradients."""
    net = NETWORKS[name]()
    dtype = torch.complex128 if name == "shared" else F64
    table = tn.Embedding(net, dtype=dtype)
    graph = net.freeze()
    stored = {key: value.detach().numpy() for key, value in table.named_parameters()}
    eye = torch.eye(graph.in_features, dtype=F64).numpy()
    expected = torch.as_tensor(oracle.evaluate(graph, [eye], stored))
    index = torch.randint(graph.in_features, (2, 5))
    y = table(index)
    torch.testing.assert_close(y, expected.to(dtype)[index])
    assert table.weight.shape == (graph.in_features, graph.out_features)
    names, values = zip(*table.named_parameters(), strict=True)

    def run(*arrays: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, arrays, strict=True))
        return torch.func.functional_call(table, state, (index,))

    assert torch.autograd.gradcheck(run, values)


class Largest(TorchDispatchMode):
    """The most entries that a tensor has which an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        for one in y if isinstance(y, tuple | list) else (y,):
            if isinstance(one, torch.Tensor):
                self.entries = max(self.entries, one.numel())
        return y


def test_the_table_is_never_built() -> None:
    """However many rows are asked for, no array is as large as a tenth of the table or a one-hot
    input, in forward and backward."""
    table = tn.Embedding(T.tensor_train((40, 40, 40), (4, 4, 4), rank=4), 60_000, 64)
    index = torch.randint(60_000, (600,))
    with Largest() as largest:
        table(index).square().sum().backward()
    assert largest.entries < 60_000 * 64 // 10


def test_padding() -> None:
    """Rows beyond num_embeddings are refused, and padding_idx is 0 without a gradient."""
    net = T.tensor_train((3, 4), (2, 3), rank=2)
    table = tn.Embedding(net, 11, 5, padding_idx=-1)
    assert (table.num_embeddings, table.embedding_dim, table.padding_idx) == (11, 5, 10)
    y = table(torch.tensor([10, 1]))
    assert y.shape == (2, 5)
    assert torch.equal(y[0], torch.zeros(5))
    assert y[1].abs().min() > 0
    y[0].sum().backward()
    assert all(not array.grad.any() for array in table.parameters() if array.grad is not None)
    assert torch.equal(table.weight[10], torch.zeros(5))
    for wrong in (11, -1):
        with pytest.raises(tn.SpecError, match=rf"{wrong} is no row"):
            table(torch.tensor([0, wrong]))
    for wrong, said in ((torch.zeros(2), "dtype"), (None, "torch.Tensor")):
        with pytest.raises(tn.SpecError, match=said):
            table(wrong)
    for options, said in (
        ({"padding_idx": 12}, "padding_idx"),
        ({"num_embeddings": 13}, "at least"),
        ({"bias": True}, "bias"),
    ):
        with pytest.raises(tn.SpecError, match=said):
            tn.Embedding(net, **options)


def test_starts_as_nn_embedding() -> None:
    """Entries of the table have variance 1."""
    table = tn.Embedding(T.tensor_train((8, 8, 8), (4, 4, 4), rank=8), 500)
    assert float(table.weight.detach().square().mean()) == pytest.approx(1, rel=0.02)


def test_it_is_a_module() -> None:
    """State, copies, dtypes, empty inputs, autocast and compiled graphs behave."""
    net = T.tensor_train((3, 4), (2, 3), rank=2)
    table = tn.Embedding(net, 11, 5)
    assert list(table.state_dict()) == ["core_0", "core_1"]
    index = torch.randint(11, (3, 2))
    twin = copy.deepcopy(table)
    assert torch.equal(twin(index), table(index))
    assert table(index.int()).dtype == torch.float32
    assert table(torch.zeros(0, 2, dtype=torch.long)).shape == (0, 2, 5)
    assert table(torch.tensor(3)).shape == (5,)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert table(index).dtype == nn.Embedding(11, 5)(index).dtype
    compiled: Any = torch.compile(twin, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(index), twin(index))
    assert table.double()(index).dtype == F64
    empty = tn.Embedding(net, 11, 5, device="meta")
    assert empty(index.to("meta")).shape == (3, 2, 5)
    empty.to_empty(device="cpu").load_state_dict(twin.state_dict())
    assert torch.equal(empty(index), twin(index))
    assert "batch" in str(table.explain(7))


def test_its_text_is_that_of_a_table() -> None:
    """One line with the sizes of the table: neither padding that is none nor the layers within."""
    layer = tn.Embedding(T.tensor_train((3, 4), (2, 3), 2), 12, 5)
    text = repr(layer)
    assert text.startswith("Embedding(12, 5, tensor train, in_features=12, out_features=5 (+1), ")
    assert "\n" not in text and "_rows" not in text
