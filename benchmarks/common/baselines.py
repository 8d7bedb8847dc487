"""The methods that the tables compare, each built from the frozen Graph and the same numbers.

A method gets a Problem and returns a Runner: a callable for inference, one for training, and the
leaves that training differentiates. A method that cannot run a problem raises CannotRun with the
reason, which ends up in the table: no method is dropped silently. The packages that are compared
are imported inside the methods, since each of them is optional.
"""

from __future__ import annotations

import importlib
import string
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.krowch import build_network
from benchmarks.common.problem import Problem
from benchmarks.common.search import Candidate, Tree, rank_by_time, trees
from tnlayer.graph.graph import Graph, TensorNode


class CannotRun(Exception):
    """A method cannot run a problem; the message is the reason that the table prints."""


@dataclass(frozen=True)
class Leaf:
    """A tensor that training differentiates.

    Arguments:
        name: the parameter that it holds, or "dense" for the whole matrix.
        tensor: the leaf, which requires a gradient.
        restore: brings its gradient to the parameter's stored shape.
    """

    name: str
    tensor: Tensor
    restore: Callable[[Tensor], Tensor] = field(default=lambda gradient: gradient)


@dataclass(frozen=True)
class Runner:
    """A method, ready to run one problem.

    Arguments:
        infer: x to y, called without grad mode.
        train: x to y, called in grad mode.
        leaves: what training differentiates besides x.
        notes: facts about the method that belong in the JSON.
    """

    infer: Callable[[Tensor], Tensor]
    train: Callable[[Tensor], Tensor]
    leaves: tuple[Leaf, ...]
    notes: dict[str, Any] = field(default_factory=dict)


def _leaves(problem: Problem) -> tuple[dict[str, Tensor], tuple[Leaf, ...]]:
    """Fresh trainable copies of all parameters, by name and as leaves."""
    copies = {name: value.clone().requires_grad_() for name, value in problem.parameters.items()}
    return copies, tuple(Leaf(name, value) for name, value in copies.items())


# -- ours and dense ------------------------------------------------------------------------


def tnlayer_layer(problem: Problem, backend: str = "torch") -> Runner:
    """tn.Layer on a backend, planned for this batch; the notes say what it took."""
    import tnlayer as tn

    layer = tn.Layer(problem.graph, backend=backend, batch=problem.batch, tiers=False)
    own = dict(layer.named_parameters())
    with torch.no_grad():
        for name, value in problem.parameters.items():
            own[name].copy_(value)
    leaves = tuple(Leaf(name, own[name]) for name in problem.parameters)
    return Runner(layer, layer, leaves, {"backend": layer.explain(batch=problem.batch).backend})


def dense(problem: Problem) -> Runner:
    """nn.Linear with the matrix that the network stands for."""
    linear = torch.nn.Linear(
        problem.graph.in_features, problem.graph.out_features, bias=False, device="meta"
    )
    double = {name: value.double() for name, value in problem.parameters.items()}
    linear.weight = torch.nn.Parameter(dense_matrix(problem, double).float().contiguous())
    return Runner(linear, linear, (Leaf("dense", linear.weight),))


def dense_matrix(problem: Problem, parameters: dict[str, Tensor]) -> Tensor:
    """The (out_features, in_features) matrix of the network, in the parameters' dtype."""
    import opt_einsum

    dtype = next(iter(parameters.values())).dtype
    x_legs, y_legs = problem.terms[0][1:], problem.output_term[1:]
    on_tensors = {leg for term in problem.terms[1:] for leg in term}
    # A leg of x that y has too, or no tensor has, needs an identity to be an axis of its own.
    renamed = {leg: -leg for leg in x_legs if leg in y_legs or leg not in on_tensors}
    arguments: list[Any] = []
    for tensor, legs in zip(problem.operands(parameters), problem.terms[1:], strict=True):
        arguments += [tensor, legs]
    for leg, fresh in renamed.items():
        arguments += [torch.eye(problem.sizes[leg], dtype=dtype), (leg, fresh)]
    wanted = (*y_legs, *(renamed.get(leg, leg) for leg in x_legs))
    matrix = opt_einsum.contract(*arguments, wanted, optimize="auto-hq")
    return matrix.reshape(problem.graph.out_features, problem.graph.in_features)


# -- einsum --------------------------------------------------------------------------------


def torch_einsum(problem: Problem) -> Runner:
    """One n-ary torch.einsum, whose order opt_einsum finds anew at each call."""
    if not torch.backends.opt_einsum.is_available():
        raise CannotRun("opt_einsum is not installed")
    legs = {leg for term in problem.terms for leg in term}
    if len(legs) > len(string.ascii_letters):
        return _opt_einsum_expression(problem)
    letters = dict(zip(sorted(legs), string.ascii_letters, strict=False))
    words = ["".join(letters[leg] for leg in term) for term in problem.terms]
    equation = ",".join(words) + "->" + "".join(letters[leg] for leg in problem.output_term)
    copies, leaves = _leaves(problem)

    def run(x: Tensor) -> Tensor:
        operands = problem.operands(copies)
        y = torch.einsum(equation, x.reshape(problem.x_shape), *operands)
        return y.reshape(len(x), -1)

    notes = {"strategy": torch.backends.opt_einsum.strategy, "equation": equation}
    return Runner(run, run, leaves, notes)


def _opt_einsum_expression(problem: Problem) -> Runner:
    """opt_einsum's own expression: for networks with more legs than torch.einsum has letters."""
    import opt_einsum

    words = ["".join(map(opt_einsum.get_symbol, term)) for term in problem.terms]
    equation = ",".join(words) + "->" + "".join(map(opt_einsum.get_symbol, problem.output_term))
    shapes = [tuple(problem.sizes[leg] for leg in term) for term in problem.terms]
    expression = opt_einsum.contract_expression(equation, *shapes, optimize="auto-hq")
    copies, leaves = _leaves(problem)

    def run(x: Tensor) -> Tensor:
        y = expression(x.reshape(problem.x_shape), *problem.operands(copies))
        return y.reshape(len(x), -1)

    notes = {"strategy": "contract_expression, auto-hq: more legs than torch.einsum has letters"}
    return Runner(run, run, leaves, notes)


# -- cotengra ------------------------------------------------------------------------------


def cotengra_expression(problem: Problem) -> Runner:
    """cotengra's expression on the tree that is fastest here; one for each of infer and train."""
    ranked = ranked_trees(problem)
    runner = chain_of(problem, ranked["infer"][0].tree, ranked["train"][0].tree)
    notes = {mode: [asdict(candidate) for candidate in ranked[mode]] for mode in ranked}
    return replace(runner, notes=notes)


def ranked_trees(problem: Problem) -> dict[str, tuple[Candidate, ...]]:
    """cotengra's trees by measured time, the fastest first, for "infer" and for "train".

    Found once a problem: TensorKrowch follows the same trees.
    """
    if "ranked" not in problem.memo:
        candidates = trees(problem.terms, problem.output_term, problem.sizes, problem.stored)
        problem.memo["ranked"] = rank_trees(problem, candidates)
    return problem.memo["ranked"]


def rank_trees(problem: Problem, candidates: Sequence[Tree]) -> dict[str, tuple[Candidate, ...]]:
    """Trees by measured time of cotengra's expression, for "infer" and for "train"."""
    x = problem.x.clone().requires_grad_()

    def infer(tree: Tree) -> Callable[[], object]:
        runner = chain_of(problem, tree, tree)

        def call() -> object:
            with torch.no_grad():
                return runner.infer(problem.x)

        return call

    def train(tree: Tree) -> Callable[[], object]:
        runner = chain_of(problem, tree, tree)
        wanted = [x, *(leaf.tensor for leaf in runner.leaves)]
        return lambda: torch.autograd.grad(runner.train(x), wanted, problem.grad)

    return {
        "infer": rank_by_time(candidates, infer),
        "train": rank_by_time(candidates, train),
    }


def chain_of(problem: Problem, infer: Tree, train: Tree) -> Runner:
    """cotengra's expressions on two given trees."""
    copies, leaves = _leaves(problem)
    runs = expression_of(problem, infer), expression_of(problem, train)
    return Runner(lambda x: runs[0](x, copies), lambda x: runs[1](x, copies), leaves)


def expression_of(problem: Problem, tree: Tree) -> Callable[[Tensor, dict[str, Tensor]], Tensor]:
    """cotengra's expression on a tree, as a function of x and the parameters."""
    cotengra: Any = importlib.import_module("cotengra")
    expression = cotengra.array_contract_expression(
        list(problem.terms), problem.output_term, size_dict=problem.sizes, optimize=tree.path
    )

    def run(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        y = expression(x.reshape(problem.x_shape), *problem.operands(parameters))
        return y.reshape(len(x), -1)

    return run


# -- tensorly-torch ------------------------------------------------------------------------


def tltorch_factorized(problem: Problem) -> Runner:
    """tensorly-torch's BlockTT layer, contracted with x: one n-ary einsum."""
    return _tltorch(problem, "factorized")


def tltorch_reconstructed(problem: Problem) -> Runner:
    """tensorly-torch's BlockTT layer, which rebuilds the matrix at each call."""
    return _tltorch(problem, "reconstructed")


def _tltorch(problem: Problem, implementation: str) -> Runner:
    cores = train_cores(problem.graph)
    if cores is None:
        raise CannotRun("tensorly-torch has CP, Tucker and BlockTT; this network is none of them")
    tltorch = _import("tltorch", "tensorly-torch")
    graph = problem.graph
    in_shape, out_shape = graph.shape_of(graph.inputs[0].legs), graph.shape_of(graph.output)
    ranks = [1 if leg is None else graph.sizes[leg] for leg in [core.left for core in cores]] + [1]
    layer = tltorch.FactorizedLinear(
        in_shape,
        out_shape,
        bias=False,
        factorization="blocktt",
        rank=tuple(ranks),
        implementation=implementation,
    )
    leaves = []
    for core, factor in zip(cores, layer.weight.factors, strict=True):
        value = problem.parameters[core.node.name]
        with torch.no_grad():
            factor.copy_(value.permute(core.axes).reshape(factor.shape))
        leaves.append(Leaf(core.node.name, factor, core.restore))
    return Runner(layer, layer, tuple(leaves), {"implementation": implementation})


@dataclass(frozen=True, slots=True)
class Core:
    """A core of a tensor train: its node, its left bond, and its axes in the train's order."""

    node: TensorNode
    left: str | None
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def restore(self, gradient: Tensor) -> Tensor:
        """Bring a gradient of shape (left, out, in, right) to the node's axes."""
        ordered = gradient.reshape([self.shape[axis] for axis in self.axes])
        return ordered.permute([self.axes.index(axis) for axis in range(len(self.axes))])


def train_cores(graph: Graph) -> list[Core] | None:
    """The cores of a tensor train, left to right; None if the network is no tensor train.

    Core k carries in leg k, out leg k and one bond to each neighbour.
    """
    ins, outs = graph.inputs[0].legs, graph.output
    if graph.fixed or len(ins) != len(outs) or len(graph.tensors) != len(ins):
        return None
    ordered = [[node for node in graph.tensors if leg in node.legs] for leg in ins]
    if any(len(nodes) != 1 or nodes[0].share for nodes in ordered):
        return None
    nodes = [found[0] for found in ordered]
    cores, left = [], None
    for position, node in enumerate(nodes):
        following = nodes[position + 1].legs if position + 1 < len(nodes) else ()
        bonds = [leg for leg in node.legs if leg in following]
        if len(bonds) != (position + 1 < len(nodes)):
            return None
        right = bonds[0] if bonds else None
        legs = [leg for leg in (left, outs[position], ins[position], right) if leg is not None]
        if sorted(legs) != sorted(node.legs):
            return None
        axes = tuple(node.legs.index(leg) for leg in legs)
        cores.append(Core(node, left, axes, graph.shape_of(node.legs)))
        left = right
    return cores


# -- TensorKrowch --------------------------------------------------------------------------


def tensorkrowch_traced(problem: Problem) -> Runner:
    """A TensorKrowch network, traced, contracted pairwise along cotengra's fastest tree."""
    for leg, number in problem.leg_numbers.items():
        ends = sum(term.count(number) for term in (*problem.terms, problem.output_term))
        if ends > 2:
            raise CannotRun(f"leg {leg} has {ends} ends; TensorKrowch's edges join two nodes")
    if problem.graph.fixed or any(node.share for node in problem.graph.tensors):
        raise CannotRun("fixed legs and shared tensors are not built for this baseline")
    _import("tensorkrowch", "tensorkrowch")
    ranked = ranked_trees(problem)
    infer_tree, train_tree = ranked["infer"][0].tree, ranked["train"][0].tree
    infer, _ = build_network(problem, infer_tree.path)
    train, tensors = build_network(problem, train_tree.path)
    leaves = tuple(map(Leaf, problem.parameters, tensors))
    notes = {"infer_tree": infer_tree.objective, "train_tree": train_tree.objective}
    return Runner(infer, train, leaves, notes)


def _import(module: str, package: str) -> Any:
    """Import an optional rival."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = f"{package} is not installed (pip install 'tnlayer[bench]'): {error}"
        raise CannotRun(reason) from error


OURS = "tnlayer"
METHODS: dict[str, Callable[[Problem], Runner]] = {
    "dense": dense,
    OURS: tnlayer_layer,
    "torch.einsum": torch_einsum,
    "cotengra": cotengra_expression,
    "tltorch fact.": tltorch_factorized,
    "tltorch recon.": tltorch_reconstructed,
    "tensorkrowch": tensorkrowch_traced,
}
