"""A trained ONNX graph as a module of torch: its matrices are modules that can be replaced.

Only operations that recognisers of text have; another one is named in the error. Convolutions with
trained kernels are nn.Conv2d and products with a trained matrix nn.Linear, all else is a function
of torch on arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.common.baselines import CannotRun

Attributes = dict[str, Any]
F = nn.functional


@dataclass(frozen=True)
class Node:
    """One operation.

    Arguments:
        kind: its type in ONNX.
        inputs, output: names of arrays; "" for an input that is left out.
        attributes: by name.
        module: name of the module that it calls; "" if none.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes
    module: str = ""


class OnnxGraph(nn.Module):
    """A graph that runs in torch.

    Arguments:
        proto: an ``onnx.ModelProto`` with one input and one output.

    Raises:
        CannotRun: it has an operation that is not known here.
    """

    def __init__(self, proto: Any) -> None:
        super().__init__()
        from onnx import numpy_helper
        from onnx.helper import get_attribute_value

        graph = proto.graph
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.nodes: list[Node] = []
        self.matrices = nn.ModuleDict()
        constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        for node in graph.node:
            attributes = {one.name: get_attribute_value(one) for one in node.attribute}
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
                continue
            if node.op_type not in FUNCTIONS and node.op_type not in ("Conv", "MatMul"):
                msg = f"the graph has the operation {node.op_type}, which is not known here"
                raise CannotRun(msg)
            self.nodes.append(Node(node.op_type, tuple(node.input), node.output[0], attributes))
        arrays = {name: torch.from_numpy(array.copy()) for name, array in constants.items()}
        self.nodes = [self._with_module(node, arrays) for node in self.nodes]
        self._keep(arrays)
        self._free = self._last_uses()

    def _with_module(self, node: Node, arrays: dict[str, torch.Tensor]) -> Node:
        """The node with a module for its trained matrix, if it has one."""
        weight = arrays.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None or node.kind not in ("Conv", "MatMul"):
            return node
        bias = arrays.get(node.inputs[2]) if len(node.inputs) > 2 else None
        made = _conv(node, weight, bias) if node.kind == "Conv" else _linear(weight)
        name = f"{node.kind}_{len(self.matrices)}".lower()
        self.matrices[name] = made
        return Node(node.kind, node.inputs[:1], node.output, node.attributes, name)

    def _keep(self, arrays: dict[str, torch.Tensor]) -> None:
        """Constants that are still read, as buffers."""
        self._constants: dict[str, str] = {}
        for name in {one for node in self.nodes for one in node.inputs} & set(arrays):
            buffer = f"constant_{len(self._constants)}"
            self.register_buffer(buffer, arrays[name])
            self._constants[name] = buffer

    def _last_uses(self) -> list[list[str]]:
        """After each node the arrays that no other reads."""
        last = {name: k for k, node in enumerate(self.nodes) for name in node.inputs}
        made = {node.output for node in self.nodes} - {self.output}
        return [
            [name for name in set(node.inputs) if last[name] == k and name in made]
            for k, node in enumerate(self.nodes)
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: dict[str, Any] = {name: getattr(self, at) for name, at in self._constants.items()}
        found[self.input], found[""] = x, None
        for node, freed in zip(self.nodes, self._free, strict=True):
            inputs = [found[name] for name in node.inputs]
            if node.module:
                found[node.output] = self.matrices[node.module](*inputs)
            else:
                found[node.output] = FUNCTIONS[node.kind](inputs, node.attributes)
            for name in freed:
                del found[name]
        return found[self.output]


@torch.no_grad()
def _conv(node: Node, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    given = node.attributes
    groups = given.get("group", 1)
    pads = given.get("pads", [0, 0, 0, 0])
    if weight.dim() != 4 or pads[:2] != pads[2:]:
        msg = f"the convolution {node.output} has pads {pads} and a kernel {tuple(weight.shape)}"
        raise CannotRun(msg)
    made = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        stride=tuple(given.get("strides", [1, 1])),  # type: ignore[arg-type]
        padding=tuple(pads[:2]),  # type: ignore[arg-type]
        dilation=tuple(given.get("dilations", [1, 1])),  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
    )
    made.weight.copy_(weight)
    if made.bias is not None and bias is not None:
        made.bias.copy_(bias)
    return made


@torch.no_grad()
def _linear(weight: torch.Tensor) -> nn.Module:
    made = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    made.weight.copy_(weight.mT)
    return made


# -- operations: arrays and attributes to an array ---------------------------------------------


def _slice(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    x, starts, ends, *rest = inputs
    axes = rest[0].tolist() if rest else range(len(starts))
    steps = rest[1].tolist() if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * x.dim()
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _reshape(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    x, shape = inputs
    sizes = [x.shape[k] if n == 0 else n for k, n in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _squeeze(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    return inputs[0].squeeze(tuple(given["axes"]) if "axes" in given else None)


def _clip(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    x, *limits = inputs
    low, high = [*limits, None, None][:2]
    low = given.get("min") if low is None else low
    return x.clamp(low, given.get("max") if high is None else high)


def _norm(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    x, scale, shift, mean, variance = inputs
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, given.get("epsilon", 1e-5))


def _pool(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    if any(given.get("pads", [])) or given.get("ceil_mode", 0):
        msg = "pooling with pads or ceil_mode is not known here"
        raise CannotRun(msg)
    return F.avg_pool2d(inputs[0], given["kernel_shape"], given.get("strides", 1))


def _softmax(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    return inputs[0].softmax(given.get("axis", -1))


def _cast(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    types = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
    return inputs[0].to(types[given["to"]])


def _hard_sigmoid(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    return (given.get("alpha", 0.2) * inputs[0] + given.get("beta", 0.5)).clamp(0, 1)


def _mean(inputs: Sequence[Any], given: Attributes) -> torch.Tensor:
    return inputs[0].mean(given["axes"], keepdim=bool(given.get("keepdims", 1)))


def _elementwise(function: Callable[..., Any]) -> Callable[[Sequence[Any], Attributes], Any]:
    return lambda inputs, given: function(*inputs)


def _divide(a: Any, b: Any) -> Any:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


FUNCTIONS: dict[str, Callable[[Sequence[Any], Attributes], Any]] = {
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(_divide),
    "Pow": _elementwise(lambda a, b: a**b),
    "Sqrt": _elementwise(torch.sqrt),
    "Relu": _elementwise(torch.relu),
    "Sigmoid": _elementwise(torch.sigmoid),
    "MatMul": _elementwise(torch.matmul),
    "Shape": _elementwise(lambda x: torch.tensor(x.shape)),
    "Concat": lambda inputs, given: torch.cat([*inputs], given["axis"]),
    "Transpose": lambda inputs, given: inputs[0].permute(*given["perm"]),
    "GlobalAveragePool": _elementwise(lambda x: x.mean((2, 3), keepdim=True)),
    "AveragePool": _pool,
    "BatchNormalization": _norm,
    "Cast": _cast,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "ReduceMean": _mean,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
}
