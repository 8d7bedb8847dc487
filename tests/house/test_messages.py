"""What users are told where they go wrong: the mistake first, in their own words, then the fix.

One table. Each row is what someone wrote, how the message begins and what to do, as it stands in
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tnlayer.cli.commands import main

T = tn.topologies
CALL_END = "\n  in a call of Layer("


def layer(features: int = 16) -> tn.Layer:
    """A small one."""
    return tn.Layer(T.low_rank(features, 6, rank=2), backend="torch", effort="fast")


def product_layer() -> tn.Layer:
    """Takes one vector of two entries for each of three legs."""
    net = tn.Network("product")
    net.input([2] * 3)
    net.port("x", product=True)
    net.tensor("A", ["x.0", "x.1", "x.2"])
    net.output()
    return tn.Layer(net, backend="torch", effort="fast")


def one_tensor(legs: str) -> tn.Network:
    """A tensor with these legs beside an input leg i and an output leg j."""
    net = tn.Network()
    net.input(i=2)
    net.output(j=3)
    net.tensor("A", legs)
    return net


def two_inputs() -> tn.Network:
    """Inputs x and z of 2 and 3 features."""
    net = tn.Network("two")
    net.input("x", {"i": 2})
    net.input("z", {"k": 3})
    net.output(j=6)
    net.tensor("A", "i k j")
    return net


# What someone wrote; how the message begins; what it tells to do.
TOLD: dict[str, tuple[Callable[[], Any], str, str]] = {
    # -- x
    "a numpy array": (
        lambda: layer()(np.ones((2, 16))),
        "input 'x' must be a torch.Tensor, got a numpy array of shape (2, 16) and dtype float64;",
        "torch.as_tensor(x, dtype=torch.float32)" + CALL_END,
    ),
    "a list": (
        lambda: layer()([[1.0] * 3]),
        "input 'x' must be a torch.Tensor, got a list, [[1.0, 1.0, 1.0]];",
        "torch.as_tensor(x, dtype=torch.float32)" + CALL_END,
    ),
    "whole numbers": (
        lambda: layer()(torch.ones(2, 16, dtype=torch.int64)),
        "input 'x' must have dtype torch.float32, got torch.int64;",
        "x.to(torch.float32), or declare it with net.port('x', dtype=torch.int64)" + CALL_END,
    ),
    "another dtype": (
        lambda: layer()(torch.ones(2, 16, dtype=torch.float64)),
        "input 'x' must have dtype torch.float32, got torch.float64;",
        "x.to(torch.float32), or make the layer with dtype=torch.float64" + CALL_END,
    ),
    "too few features": (
        lambda: layer()(torch.ones(2, 15)),
        "input 'x' must have shape (..., 16), got (2, 15): expected 16 features, got 15 features;",
        "tn.fit_budget find one, which pads" + CALL_END,
    ),
    "an image": (
        lambda: layer()(torch.ones(5, 1, 4, 4)),
        "input 'x' must have shape (..., 16), got (5, 1, 4, 4): expected 16 features",
        "call it with x.flatten(1)" + CALL_END,
    ),
    "channels first": (
        lambda: layer()(torch.ones(5, 16, 7)),
        "input 'x' must have shape (..., 16), got (5, 16, 7): expected 16 features",
        "those of axis 1: call it with x.movedim(1, -1)" + CALL_END,
    ),
    "features for a product port": (
        lambda: product_layer()(torch.ones(5, 8)),
        "input 'x' must have shape (..., 3, 2), got (5, 8):",
        "one vector of 2 entries for each of 3 legs" + CALL_END,
    ),
    "one input of two": (
        lambda: tn.Layer(two_inputs(), backend="torch")(torch.ones(1, 2)),
        "expected 2 inputs (x, z), got 1",
        CALL_END,
    ),
    "two for one": (
        lambda: layer()(torch.ones(1, 16), torch.ones(1, 16)),
        "expected 1 input (x), got 2",
        CALL_END,
    ),
    "an unknown input": (
        lambda: layer()(y=torch.ones(1, 16)),
        "expected inputs named x, each once, got 0 in order and 'y' by name;",
        "the first may also be called 'input'" + CALL_END,
    ),
    "other leading dimensions": (
        lambda: tn.Layer(two_inputs(), backend="torch")(torch.ones(4, 2), torch.ones(5, 3)),
        "input 'z' has leading dimensions (5,), those before it (4,);",
        "pass equal ones",
    ),
    "x of a padded layer": (
        lambda: tn.fit_budget(T.tensor_train, 11, 7, params=60, legs=2).layer(backend="torch")(
            torch.ones(2, 12)
        ),
        "x must have shape (..., 11), got (2, 12);",
        "fit the network to other features",
    ),
    # -- networks
    "features instead of a network": (
        lambda: tn.Layer(256, 128),  # type: ignore[arg-type]
        "Layer(256, 128): a layer is made from a network, not from numbers of features.",
        "tn.Layer(tn.topologies.low_rank(256, 128, rank=8)); or let one be sized for a budget, "
        "tn.fit_budget(tn.topologies.tensor_train, 256, 128, compression=10).layer(); "
        "tn.suggest(256, 128, compression=10) says which are fast. Or describe your own with "
        "tn.Network()",
    ),
    "one number": (
        lambda: tn.Layer(256),  # type: ignore[arg-type]
        "Layer(256): a layer is made from a network",
        "tn.topologies.low_rank(256, 256, rank=8)",
    ),
    "a bias by position": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), True),  # type: ignore[arg-type]
        "Layer(<Network",
        "all options by name",
    ),
    "a sum where one network is meant": (
        lambda: tn.compile(T.low_rank(4, 4, 1) + T.cp((4,), (4,), 1)),  # type: ignore[arg-type]
        "expected one network, got a sum of 2; pass one of them, such as net[0],",
        "or ask tn.cost(net) or tn.plan(net), which take all; tn.Layer(net) runs them",
    ),
    "a picture of a sum for TeX": (
        lambda: (T.low_rank(4, 4, 1) + T.cp((4,), (4,), 1)).draw("sum.tex"),
        "draw: .tex holds the picture of one network, and this is a sum of 2;",
        "draw them one by one, net[0].draw('sum.tex'), or save an .svg",
    ),
    "no network": (
        lambda: tn.cost("net.json"),  # type: ignore[arg-type]
        "expected a network, got 'net.json' of type str;",
        "tn.topologies.tensor_train((16, 16), (16, 16), rank=4)",
    ),
    "a sum where one is wanted": (
        lambda: tn.cost(tn.Layer([T.low_rank(4, 4, rank=1), T.kronecker((2, 2), (2, 2))])),
        "expected one network, got a layer that sums 2 of them;",
        "pass one of layer.graphs",
    ),
    "nothing to compare": (
        tn.compare,
        "compare: expected networks, got none;",
        "compare(net1, net2",
    ),
    "ports of a sum": (
        lambda: tn.Layer([T.low_rank(4, 4, rank=1), T.low_rank(4, 6, rank=1)]),
        "these networks cannot be summed, for their ports differ: y: 4 features in low rank (the "
        "first), 6 features in low rank (the other).",
        "Give them the same inputs",
    ),
    "inputs of a sum": (
        lambda: tn.Layer([T.tensor_train((2, 2), (2, 3), rank=1), two_inputs()]),
        "these networks cannot be summed, for their ports differ: number of inputs: 1 in tensor "
        "train, 2 in two.",
        "Give them the same inputs",
    ),
    # -- from a model to a smaller one
    "a tolerance without its name": (
        lambda: layer().truncate(0.5),  # type: ignore[call-arg]
        "truncate: 0.5 has to be named:",
        "write layer.truncate(tol=0.01), or params= or time=",
    ),
    "no tolerance": (layer().truncate, "truncate: expected exactly one of", "tol, params, time"),
    "an option of truncate": (
        lambda: layer().truncate(toll=0.5),  # type: ignore[call-arg]
        "truncate: toll= is no argument of it (did you mean 'tol'?):",
        "write layer.truncate(tol=0.01)",
    ),
    "no bond": (layer().grow, "grow: bond is missing:", "write layer.grow(8)"),  # type: ignore
    "an option of grow": (
        lambda: layer().grow(rank=4),  # type: ignore[call-arg]
        "grow: rank= is no argument of it:",
        "write layer.grow(8)",
    ),
    "no eps": (layer().round, "round: eps is missing:", "write layer.round(0.01)"),  # type: ignore
    "a model to suggest for": (
        lambda: tn.suggest(torch.nn.ReLU()),  # type: ignore[arg-type]
        "suggest: out_features is missing:",
        "for a whole model tn.compress(model, tn.Budget(compression=4), dry_run=True)",
    ),
    "a compression without its name": (
        lambda: tn.suggest(256, 256, 4),  # type: ignore[call-arg]
        "suggest: 4 has to be named:",
        "write tn.suggest(256, 1024, compression=4)",
    ),
    "a kernel without its name": (
        lambda: tn.Conv2d(T.low_rank(9, 4, rank=1), 3),  # type: ignore[call-arg]
        "Conv2d: 3 has to be named:",
        "write tn.Conv2d(net, kernel_size=3)",
    ),
    "no kernel": (
        lambda: tn.Conv2d(T.low_rank(9, 4, rank=1)),  # type: ignore[call-arg]
        "Conv2d: kernel_size is missing:",
        "write tn.Conv2d(net, kernel_size=3)",
    ),
    "an embedding with too much": (
        lambda: tn.Embedding(T.low_rank(9, 4, rank=1), 9, 4, 0),  # type: ignore[call-arg]
        "Embedding: 0 has to be named:",
        "write tn.Embedding(net, num_embeddings, embedding_dim)",
    ),
    "no rule": (
        lambda: tn.compress(torch.nn.Linear(4, 4)),  # type: ignore[call-arg]
        "compress: rule is missing:",
        "tn.Budget(compression=4) as the rule for the whole model",
    ),
    "a number as rule": (
        lambda: tn.compress(torch.nn.Linear(4, 4), 8),
        "compress: rule=8: expected a topology",
        "tn.Budget(...)",
    ),
    "a budget without its name": (
        lambda: tn.Budget(ratio=4),  # type: ignore[call-arg]
        "Budget: ratio= is no argument of it",
        "write tn.Budget(compression=8)",
    ),
    "a model to load": (
        lambda: tn.load(torch.nn.Flatten()),  # type: ignore[arg-type]
        "Flatten(start_dim=1, end_dim=-1) is no path of a file:",
        "write tn.load('model.safetensors', into=model)",
    ),
    "into without its name": (
        lambda: tn.load("m.safetensors", torch.nn.Flatten()),  # type: ignore[call-arg]
        "load: Flatten(start_dim=1, end_dim=-1) has to be named:",
        "write tn.load('model.safetensors', into=model)",
    ),
    "nowhere to save": (
        lambda: tn.save(torch.nn.Flatten()),  # type: ignore[call-arg]
        "save: path is missing:",
        "write tn.save(model, 'model.safetensors')",
    ),
    "a model as path": (
        lambda: tn.save(torch.nn.Flatten(), torch.nn.Flatten()),  # type: ignore[arg-type]
        "Flatten(start_dim=1, end_dim=-1) is no path of a file:",
        "write tn.save(model, 'model.safetensors')",
    ),
    "nothing to make it of": (
        lambda: tn.from_linear(torch.nn.Linear(4, 4)),  # type: ignore[call-arg]
        "from_linear: net_or_topology is missing:",
        "write tn.from_linear(linear, tn.topologies.btt, compression=4)",
    ),
    "data without its name": (
        lambda: tn.from_linear(torch.nn.Linear(4, 4), T.btt, 3),  # type: ignore[call-arg]
        "from_linear: 3 has to be named:",
        "inputs by name, data=x",
    ),
    "no target": (
        lambda: tn.fit(T.low_rank(4, 4, rank=1)),  # type: ignore[call-arg]
        "fit: target is missing:",
        "write tn.fit(net, weight)",
    ),
    "a module as target": (
        lambda: tn.fit(T.low_rank(4, 4, rank=1), torch.nn.Linear(4, 4)),
        "the target is a module, Linear, and no array:",
        "pass its weight, or write tn.from_linear(linear, net)",
    ),
    "an option of a fit": (
        lambda: tn.fit(T.low_rank(4, 4, rank=1), torch.eye(4), epochs=3),  # type: ignore
        "fit: epochs= is no argument of it",
        "steps=50",
    ),
    "a batch without its name": (
        lambda: tn.summary(torch.nn.Linear(4, 4), 64),  # type: ignore[call-arg]
        "summary: 64 has to be named:",
        "write tn.summary(model, batch=64)",
    ),
    "a module for a budget": (
        lambda: tn.fit_budget(T.btt, torch.nn.Linear(4, 4)),  # type: ignore
        "fit_budget: out_features is missing:",
        "write tn.fit_budget(tn.topologies.btt, 256, 1024, compression=8)",
    ),
    "no covariance": (
        tn.Covariance,
        "Covariance: matrix is missing:",
        "tn.Covariance.of(batches)",
    ),
    "an argument given twice": (
        lambda: tn.fit(T.low_rank(4, 4, rank=1), torch.eye(4), target=1),  # type: ignore
        "fit: target is given twice, in order and by name:",
        "write tn.fit(net, weight)",
    ),
    # -- legs
    "commas between legs": (
        lambda: one_tensor("i, j"),
        "tensor 'A': legs are parted by spaces, not by commas:",
        "write 'i j'",
    ),
    "a leg without a size": (
        lambda: one_tensor("i j k").freeze(),
        "tensor 'A' has the leg 'k', which is not declared",
        "declare it with net.bond(k=SIZE)",
    ),
    "a wire of nobody": (
        lambda: one_tensor("i j B.0").freeze(),
        "tensor 'A' has the leg 'B.0', which is not declared",
        "a name with a dot is that of a wire: take it from what input() or tensor(out=...) ",
    ),
    # -- names
    "a short name": (
        lambda: T.tt,  # type: ignore[attr-defined]
        "tnlayer.topologies has no 'tt'",
        "(did you mean 'tensor_train'?)",
    ),
    "a typing mistake": (
        lambda: T.tensortrain,  # type: ignore[attr-defined]
        "tnlayer.topologies has no 'tensortrain'",
        "(did you mean 'tensor_train'?)",
    ),
    "a topology of another field": (
        lambda: T.wavelet,  # type: ignore[attr-defined]
        "tnlayer.topologies has no 'wavelet'",
        "there are: augmented_tree, blast",
    ),
    "a topology in the wrong place": (
        lambda: tn.tensor_train,  # type: ignore[attr-defined]
        "module 'tnlayer' has no attribute 'tensor_train'",
        "it is tnlayer.topologies.tensor_train",
    ),
    "a public name": (
        lambda: tn.Netwrok,  # type: ignore[attr-defined]
        "module 'tnlayer' has no attribute 'Netwrok'",
        "(did you mean 'Network'?)",
    ),
    "a tensor of the backward": (
        lambda: tn.backward_plan(T.low_rank(4, 4, rank=1), ["W"]),
        "backward_plan: there is no input or tensor 'W'",
        "(known: 'V', 'U', 'x')",
    ),
    # -- budgets
    "a budget that asks for more": (
        lambda: tn.Budget(compression=0.05),
        "Budget: compression=0.05, expected a number from 1 on",
        "8 leaves an eighth of the parameters",
    ),
    "a budget for a layer": (
        lambda: tn.Layer(1024, 1024, compression=20),  # type: ignore
        "Layer(1024, 1024): a layer is made from a network, not from numbers of features.",
        "tn.fit_budget(tn.topologies.tensor_train, 1024, 1024, compression=20).layer(); "
        "tn.suggest(1024, 1024, compression=20) says which are fast.",
    ),
    "features by name for a layer": (
        lambda: tn.Layer(in_features=64, out_features=32),  # type: ignore
        "Layer(64, 32): a layer is made from a network, not from numbers of features.",
        "tn.suggest(64, 32, compression=10)",
    ),
    "a budget for a network that has its sizes": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), params=20),  # type: ignore
        "Layer: params=20 is a budget, and the network that is given has its sizes already:",
        "tn.fit_budget(tn.topologies.btt, in_features, out_features, params=20).layer()",
    ),
    "an option misspelt": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), backnd="cpp"),  # type: ignore
        "Layer: backnd= is no argument of it (did you mean 'backend'?):",
        "write tn.Layer(net, bias=True)",
    ),
    "an option of plans": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), minimize="flops"),  # type: ignore
        "Layer: minimize= is no argument of it:",
        "it is an option of tn.plan and tn.compile",
    ),
    "a plan for a layer": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), plan=None),  # type: ignore
        "Layer: plan= is no argument of it:",
        "a layer plans itself",
    ),
    "a rank for a layer": (
        lambda: tn.Layer(T.low_rank, rank=4),  # type: ignore
        "Layer: rank= is no argument of it:",
        "tn.Layer(tn.topologies.low_rank(256, 256, rank=8))",
    ),
    "a layer of nothing": (
        lambda: tn.Layer(bias=True),  # type: ignore
        "Layer: net is missing:",
        "write tn.Layer(net, bias=True)",
    ),
    "an option misspelt of a padded layer": (
        lambda: tn.fit_budget(T.tensor_train, 11, 7, params=60, legs=2).layer(backnd="cpp"),
        "Layer: backnd= is no argument of it",
        "(did you mean 'backend'?)",
    ),
    "a budget misspelt": (
        lambda: tn.fit_budget(T.btt, 64, 64, compresion=4),
        "fit_budget: compresion= is no argument of it",
        "(did you mean 'compression'?)",
    ),
    "an option misspelt beside a budget": (
        lambda: tn.fit_budget(T.btt, 64, 64, compression=4, efort="fast"),
        "fit_budget: btt has no parameter 'efort'",
        "(did you mean 'effort'?)",
    ),
    "a topology in quotes": (
        lambda: tn.fit_budget("low_rank", 64, 64, compression=4),  # type: ignore
        "fit_budget: a topology is a function, got the text 'low_rank':",
        "write tn.topologies.low_rank",
    ),
    "a topology in quotes, shortened": (
        lambda: tn.suggest(64, 64, compression=4, topologies=["tt"]),  # type: ignore
        "suggest: a topology is a function, got the text 'tt':",
        "write tn.topologies.tensor_train",
    ),
    "a topology as the command line names it": (
        lambda: tn.suggest(64, 64, compression=4, topologies=["my.nets:two_sides"]),  # type: ignore
        "suggest: a topology is a function, got the text 'my.nets:two_sides':",
        "write two_sides, the function itself, after `from my.nets import two_sides`",
    ),
    "a topology for a model as the command line names it": (
        lambda: tn.compress(torch.nn.Linear(8, 8), "my_networks:two_sides", compression=2),
        "compress: rule='my_networks:two_sides' is text;",
        "write two_sides, the function itself, after `from my_networks import two_sides`",
    ),
    "a topology in quotes for a linear": (
        lambda: tn.from_linear(torch.nn.Linear(8, 8), "low_rank", compression=2),  # type: ignore
        "from_linear: expected a network, got 'low_rank':",
        "write tn.topologies.low_rank(...), with its sizes, or tn.topologies.low_rank where",
    ),
    "a topology in quotes for a model": (
        lambda: tn.compress(torch.nn.Linear(8, 8), "low_rank"),
        "compress: rule='low_rank' is text;",
        "write tn.topologies.low_rank",
    ),
    "a topology in quotes for a budget": (
        lambda: tn.Budget(compression=4, topologies=["low_rank"]),  # type: ignore
        "Budget: a topology is a function, got the text 'low_rank':",
        "write tn.topologies.low_rank",
    ),
    "a topology behind the sizes": (
        lambda: tn.fit_budget(64, 32, T.btt, compression=4),  # type: ignore
        "fit_budget: the topology comes first:",
        "write fit_budget(btt, 64, 32, ...)",
    ),
    # -- options
    "a limit in other words": (
        lambda: tn.cost(T.low_rank(4, 4, rank=1), memory_limit="much"),  # type: ignore
        "memory_limit='much': expected a number of bytes,",
        "such as 1000000, 512MiB or 2GB",
    ),
    "a device for costs": (
        lambda: tn.cost(T.low_rank(4, 4, rank=1), device="gpu"),
        "device='gpu' is unknown:",
        "expected cpu or cuda; did you mean cuda?",
    ),
    "a device misspelt": (
        lambda: tn.suggest(64, 64, compression=4, device="cdua"),
        "device='cdua' is unknown:",
        "expected cpu or cuda; did you mean cuda?",
    ),
    "an unknown search": (
        lambda: tn.plan(T.low_rank(4, 4, rank=1), minimize="speed"),
        "minimize='speed' is unknown;",
        "expected time, rebuild, flops, write, size, max, combo-N or limit-N",
    ),
    "an unknown dtype": (
        lambda: tn.cost(T.low_rank(4, 4, rank=1), dtype="flaot32"),
        "dtype='flaot32' is not supported (did you mean 'float32'?);",
        "expected one of float16, bfloat16, float32, float64, complex64, complex128",
    ),
    "a dtype of whole numbers": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), dtype=torch.int64),
        "dtype=torch.int64 is not supported; an input may have it: net.port('x', dtype='int64');",
        "expected one of float16",
    ),
    "a device that is not here": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), device="xla"),
        "device='xla': torch has no such device here;",
        "expected 'cpu'",
    ),
    "a device that is none": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), device="gpu"),
        "device='gpu': torch has no such device here;",
        "did you mean 'cuda'?",
    ),
    "an objective": (
        lambda: tn.plan(T.low_rank(4, 4, rank=1), objective="trian"),  # type: ignore[arg-type]
        "objective='trian' is unknown (did you mean 'train'?);",
        "expected one of train, infer",
    ),
    "a backend": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), backend="pytorch"),
        "backend='pytorch' is unknown",
        "expected one of",
    ),
    "a backend that auto takes": (
        lambda: tn.Layer(T.low_rank(4, 4, rank=1), backend="streamed"),
        "backend='streamed' cannot be asked for",
        "backend='auto' takes it where it is predicted to be the fastest",
    ),
    "another that auto takes": (
        lambda: tn.cost(T.low_rank(4, 4, rank=1), backend="mixed"),
        "backend='mixed' cannot be asked for",
        "backend='auto' takes it where it is predicted to be the fastest",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_the_mistake_first_and_then_the_fix(case: str) -> None:
    """The message begins with what is wrong, and what to do stands in it."""
    wrong, begin, fix = TOLD[case]
    with pytest.raises((tn.SpecError, AttributeError)) as caught:
        wrong()
    said = str(caught.value)
    assert said.startswith(begin), said
    assert fix in said[len(begin) - 1 :], said


# -- what people write and what is taken -----------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "torch.float64", torch.float64, np.dtype("float64")])
def test_a_dtype_may_be_written_in_any_way(dtype: Any) -> None:
    """As a name or as torch's or numpy's, wherever one is asked for."""
    net = T.low_rank(6, 4, rank=2)
    assert tn.Layer(net, dtype=dtype, backend="torch").dtype == torch.float64
    assert tn.plan(net, dtype=dtype).dtype == "float64"
    assert tn.cost(net, dtype=dtype).plan.dtype == "float64"
    assert tn.compare(net, net, dtype=dtype).costs[1].dtype == "float64"
    assert tn.compile(net, dtype=dtype, backend="torch").plan.dtype == "float64"
    fit = tn.fit_budget(T.low_rank, 6, 4, params=20, dtype=dtype)
    assert fit.layer(dtype=dtype, backend="torch").dtype == torch.float64


def test_layers_are_taken_as_their_networks() -> None:
    """tn.plan, cost, compare, compile and backward_plan take a layer, with its dtype."""
    net = T.low_rank(6, 4, rank=2)
    made = tn.Layer(net, dtype="float64", backend="torch")
    assert tn.plan(made).dtype == "float64"
    assert tn.cost(made).parameters == made.parameter_count
    both = tn.compare(made, net)
    assert [one.dtype for one in both.costs] == ["float64", "float32"]
    assert str(tn.compare([made, net])) == str(both)
    assert tn.backward_plan(net).counts == tn.backward_plan(tn.plan(net)).counts
    assert tn.compile(made, backend="torch").plan.dtype == "float64"
    padded = tn.fit_budget(T.tensor_train, 11, 7, params=60, legs=2).layer(backend="torch")
    assert tn.cost(padded).plan.dtype == "float32"


def test_gradients_are_asked_for_by_the_names_of_tensors() -> None:
    """The user's names are taken, and give the plan of those gradients alone."""
    plan = tn.plan(T.low_rank(6, 4, rank=2))
    one = tn.backward_plan(plan, ["U"])
    canonical = {user: name for name, user in plan.names}["U"]
    assert [output.name for output in one.outputs] == [f"d_{canonical}"]
    assert one.steps == tn.backward_plan(plan, [canonical]).steps


def test_a_limit_may_be_written_as_on_the_command_line() -> None:
    """With a unit, wherever one is asked for."""
    net = T.low_rank(6, 4, rank=2)
    assert tn.Layer(net, memory_limit="1MB", backend="torch").options["memory_limit"] == 10**6
    limit: Any = "1MiB"
    assert tn.plan(net, memory_limit=limit) == tn.plan(net, memory_limit=2**20)
    assert tn.cost(net, memory_limit=limit).plan == tn.cost(net, memory_limit=2**20).plan
    assert tn.compare(net, net, memory_limit=limit).costs[0].parameters == 20
    assert tn.compile(net, memory_limit="1MiB", backend="torch").plan.batch == 256


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "tt"], "(did you mean 'tensor_train'?)"),
        (["cost", "tensortrain"], "(did you mean 'tensor_train'?)"),
        (["show", "tnlayer.topologies:tt"], "(did you mean 'tensor_train'?)"),
        (["cost", "mera", "--dtype", "float23"], "(did you mean 'float32'?)"),
        (["cost", "mera", "--device", "gpu"], "expected cpu or cuda; did you mean cuda?"),
        (["sugest", "8", "8"], "there is no command 'sugest' (did you mean 'suggest'?)"),
        (["fit", "btt", "8", "8"], "fit: expected exactly one of --params, --flops,"),
        (["compress", "torch.nn:Linear(8, 8)"], "compress: expected exactly one of --compression"),
        (["fit", "no_such:star", "8", "8", "--params", "9"], "looked in the current folder, "),
    ],
)
def test_commands_know_what_was_meant(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr, no traceback."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
