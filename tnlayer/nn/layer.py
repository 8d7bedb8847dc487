"""Layer: networks as a torch.nn.Module."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from tnlayer.errors import SpecError
from tnlayer.explanation import Explanation
from tnlayer.graph import Graph, count_parameters
from tnlayer.network import Network
from tnlayer.nn.arguments import as_graphs, dtype_name, flatten_inputs, layer_dtype
from tnlayer.nn.initialise import check_initialisers, initialise
from tnlayer.nn.shared import stored_parameters
from tnlayer.nn.variance import WHOLE, Planned
from tnlayer.planning.planner import DEFAULT_BATCH, PlanOptions
from tnlayer.report import Cost
from tnlayer.runtime import gpu
from tnlayer.runtime.autograd import is_traced, run
from tnlayer.runtime.compile import check_backend, check_log_scale
from tnlayer.runtime.cuda import CudaProgram
from tnlayer.runtime.explain import explain
from tnlayer.runtime.fast_call import FastCall, fast_call_like
from tnlayer.runtime.kinds import program_of
from tnlayer.runtime.mixed import MixedProgram
from tnlayer.runtime.overflow import is_in_range, out_of_range
from tnlayer.runtime.program import Program
from tnlayer.runtime.ranged import RangedProgram
from tnlayer.runtime.resources import Resources
from tnlayer.runtime.scaled import Scaled, ScaledProgram, add_scaled, scaled
from tnlayer.runtime.tune import random_inputs

# to_dense() refuses larger matrices.
_MAX_DENSE_ENTRIES = 2**30


class Layer(nn.Module):
    """A tensor network as a linear (or multilinear) layer.

    Arguments:
        net: a network, or several with equal ports, whose results are summed.
        bias: whether to add a learned vector.
        batch: batch size to plan for; every other works too. By default each size gets the plan of
            its range, which is made at the first call with such a size.
        backend: "torch", "cpp" or "cuda" for compiled kernels, or "auto": whichever is predicted to
            be the fastest, or a mixture; ``explain()`` says which. Kernels are compiled when a call
            first needs them, which takes seconds, once on a machine; ``prepare()`` does it
            beforehand.
        objective: "train" or "infer": what the plan is chosen for.
        memory_limit: bytes a call at ``batch`` may allocate beyond x, y, their gradients, the
            parameters and theirs.
        effort: "fast", "default" or "high": how long to search for a plan.
        tune: time the few best candidate plans on the device and keep the fastest: now with
            ``batch``, else at the first call in each range of batch sizes (about a second each,
            nothing where the store has it). On the meta device not before the first real call.
        device, dtype: of the parameters; by default torch's. A complex network makes dtype complex.
            With "auto" a layer is planned for the type of device that it lies on: once it is moved
            to a GPU, its next call plans anew.
        log_scale: return (mantissa, log_scale) with y = mantissa * exp(log_scale), for networks of
            so many tensors that y itself would overflow or vanish. The scale is a power of two, one
            a sample; log_scale is float64 and has the leading dimensions only. The largest entry of
            a sample's mantissa is in [1/2, 1), or all are 0. Where something is differentiated the
            scale counts as a constant: ``mantissa.abs().log() + log_scale`` (for one feature) has
            the gradient of log|y|. It cannot be had with a memory_limit.
        shared: tensors that several networks have in common, each one parameter: their names, or
            True for all that have one name. Without it such names are an error.

    Shapes: each input is (..., in_features), or (..., n, d) for a product port, with equal leading
    dimensions (none for a port that is not batched); y is (..., out_features).

    Raises:
        SpecError: the networks or the options do not fit.
        BuildError: the backend is not available.
        PlanError: no plan fits.

    >>> import torch, tnlayer as tn
    >>> layer = tn.Layer(tn.topologies.tensor_train((4, 4), (4, 4), rank=2), bias=True)
    >>> layer(torch.zeros(7, 16)).shape
    torch.Size([7, 16])

    The norm of a long chain, 2 ** 200:

    >>> net = tn.Network("ring")
    >>> net.output()
    >>> net.bond(**{f"a{k}": 2 for k in range(200)})
    >>> for k in range(200):
    ...     net.tensor(f"A{k}", f"a{k} a{(k + 1) % 200}", init="ones")
    >>> mantissa, log_scale = tn.Layer(net, log_scale=True, backend="torch")()
    >>> round(float(mantissa.log() + log_scale), 2)
    138.63
    """

    bias: nn.Parameter | None
    # The features for which Var(y) = Var(x); set before __init__ by what pads x and cuts y.
    _part = WHOLE

    def __init__(
        self,
        net: Network | Graph | Sequence[Network | Graph],
        *,
        bias: bool = False,
        batch: int | None = None,
        backend: str = "auto",
        objective: str = "train",
        memory_limit: int | None = None,
        effort: str = "default",
        tune: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        log_scale: bool = False,
        shared: bool | str | Sequence[str] = False,
    ) -> None:
        super().__init__()
        check_backend(backend)
        check_log_scale(log_scale, memory_limit)
        graphs = as_graphs(net)
        dtype = layer_dtype(graphs, dtype)
        options = PlanOptions(
            batch=DEFAULT_BATCH if batch is None else batch,
            objective=objective,
            memory_limit=memory_limit,
            effort=effort,
            backend=backend,
        )
        self._options = options
        self._backend = backend
        self._tune = tune
        self._log_scale = log_scale
        # What a call says whose y is not finite, where the values of the user's tensors are why.
        self._told = ""
        # Of a network without tensors, which has no array to ask.
        self._empty_dtype = dtype
        self._graphs = graphs
        self._one_plan = batch is not None
        self._programs: dict[tuple[torch.dtype, str], tuple[RangedProgram, ...]] = {}
        self._fast: FastCall | None = None
        self._register_arrays(shared, device, dtype)
        self._parameters["bias"] = (
            nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype))
            if bias
            else None
        )
        self._programs_for(dtype)
        self.reset_parameters()
        if tune and batch is not None and self._device().type != "meta":
            self.tune()

    # -- what it is ------------------------------------------------------------------------

    @property
    def in_features(self) -> int:
        """Features of the (first) input."""
        return self._graphs[0].in_features

    @property
    def out_features(self) -> int:
        """Features of y."""
        return self._graphs[0].out_features

    @property
    def graph(self) -> Graph:
        """The network; the first, where several are summed."""
        return self._graphs[0]

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The networks that are summed."""
        return self._graphs

    @property
    def parameter_count(self) -> int:
        """Trainable entries of the networks, a tensor that several share counted once; no bias."""
        return count_parameters(self._graphs)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of parameters and arithmetic."""
        for group in (self._parameters, self._buffers):
            for array in group.values():
                if array is not None:
                    return array.dtype
        return self._empty_dtype

    def extra_repr(self) -> str:
        """Features, sizes, dtype and backend."""
        labels = " + ".join(graph.label or "network" for graph in self._graphs)
        shapes = map(self.graph.input_shape, self.graph.inputs)
        features = " x ".join(str(math.prod(shape)) for shape in shapes)
        return (
            f"{labels}, in_features={features or 0}, out_features={self.out_features}, "
            f"parameters={self.parameter_count}, bias={self._parameters.get('bias') is not None}, "
            f"dtype={self.dtype}, backend={self._backend!r}"
            + (", log_scale=True" if self._log_scale else "")
        )

    def source(self) -> str:
        """The code that runs in training: forward and backward of each network."""
        return "\n\n".join(program.main.source() for program in self._programs_for(self.dtype))

    def resources(self, arch: str | None = None) -> tuple[Resources, ...]:
        """What each CUDA kernel of a training step takes: registers, spills, shared memory, ...;
        nothing where other backends run.

        Arguments:
            arch: what to build for, such as "sm_90", with a GPU or without; by default the device.

        Raises:
            BuildError: kernels cannot be built; without a GPU they need ``arch``.
        """
        programs = [
            ranged.main if arch is None else program_of(ranged.planned, arch)
            for ranged in self._programs_for(self.dtype)
        ]
        found = (
            p.resources
            for p in programs
            if isinstance(p, CudaProgram | MixedProgram | ScaledProgram)
        )
        return tuple(one for resources in found for one in resources)

    def costs(self, batch: int | None = None) -> tuple[Cost, ...]:
        """The cost of each network at a batch size, by default the one planned for."""
        return self.explain(batch).costs

    def explain(self, batch: int | None = None) -> Explanation:
        """What runs and why: backend, plans by batch size, costs, and whether dense is faster.

        Arguments:
            batch: samples of one call; by default what the layer was planned for.

        Raises:
            SpecError: batch is no positive whole number.
        """
        size = self._options.batch if batch is None else batch
        return explain(repr(self), self._backend, self._programs_for(self.dtype), size)

    # -- what it does ----------------------------------------------------------------------

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Contract the networks with the inputs and add the bias.

        With log_scale=True the result is (mantissa, log_scale).

        Under torch.autocast the inputs are cast to the layer's dtype: a product of many tensors
        loses too much in half precision. For such arithmetic make the layer with that dtype.

        Raises:
            SpecError: number, shape, dtype or device of the inputs is wrong.
        """
        if self._log_scale:
            return self._forward_scaled(inputs)
        fast = self._fast
        y = None if fast is None else fast(inputs, self._parameters, self._buffers)
        if y is None:
            y = self._forward(inputs)
        if self._told and not (is_traced() or y.is_meta or is_in_range(y)):
            warnings.warn(self._told, RuntimeWarning, stacklevel=2)
        bias = self._parameters.get("bias")
        if bias is not None:
            # In place where nobody differentiates: a second y would be as large as the first.
            alone = not (torch.is_grad_enabled() or is_traced())
            y = y.add_(bias) if alone else y + bias
        return y

    def to_dense(self) -> torch.Tensor:
        """The dense matrix of a layer with one batched input, (out_features, in_features).

        Raises:
            SpecError: the layer has several inputs or a product port, or the matrix is too large.
        """
        ports = self._graphs[0].inputs
        if len(ports) != 1 or ports[0].product or not ports[0].batched:
            msg = f"{self!r} has no dense matrix: it needs one batched input that is no product"
            raise SpecError(msg)
        entries = self.in_features * self.out_features
        if entries > _MAX_DENSE_ENTRIES:
            msg = f"{self!r}: the dense matrix has {entries} entries; at most {_MAX_DENSE_ENTRIES}"
            raise SpecError(msg)
        array = next(iter(self._arrays(self._graphs[0])), torch.empty(0, dtype=self.dtype))
        identity = torch.eye(self.in_features, dtype=self.dtype, device=array.device)
        if self._log_scale:
            mantissa, log_scale = self._contract_scaled((identity,), self.dtype).pair
            return (mantissa * log_scale.exp().unsqueeze(-1)).to(self.dtype).mT
        return self._contract((identity,), self.dtype).mT

    def prepare(self, batches: Sequence[int] = ()) -> Layer:
        """Plan and build now what calls with these batch sizes will run; returns itself.

        Kernels that are compiled here, or were once before, do not hold up the first call.

        Arguments:
            batches: batch sizes; without any, the one that the layer was made for.
        """
        with gpu.on_device_of(self._first_array()):
            for ranged in self._programs_for(self.dtype):
                for program in [ranged.at(batch) for batch in batches] or [ranged.main]:
                    program.prepare()
        return self

    def tune(self, *inputs: torch.Tensor) -> Layer:
        """Time the few best plans with these inputs, and use the fastest from now on.

        It serves the range of batch sizes around that of the inputs; all sizes, if it is the
        ``batch`` that the layer was made for. A training step is timed, with gradients of those
        inputs and parameters that require one; with objective "infer" the forward alone. The winner
        is stored, so that the same layer is not timed again on this machine. Results change by
        rounding only; parameters, their gradients and random states are not touched.

        Arguments:
            inputs: as for a call; without any, random ones of ``batch`` samples, by default 256.

        Returns:
            the layer itself.

        Raises:
            SpecError: the inputs do not fit, the layer is on the meta device, or torch traces it.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 4, rank=2))
        >>> layer.tune(torch.zeros(16, 8)) is layer
        True
        """
        if is_traced():
            msg = f"{self!r}: tune() cannot run under torch's tracing or transforms; call it before"
            raise SpecError(msg)
        dtype = self.dtype
        if not inputs:
            inputs = random_inputs(self.graph, self._options.batch, dtype, self._device())
        _, flat = self._flatten(inputs, dtype)
        wanted = tuple(x.requires_grad for x in inputs)
        for ranged in self._programs_for(dtype):
            ranged.tune(flat, self._named(ranged.graph), self._batch_of(flat), wanted)
        return self

    def invalidate(self) -> None:
        """Drop what was computed from parameters; nothing is kept between calls in this version."""

    def reset_parameters(self) -> None:
        """Initialise: Var(y) = Var(x); Haar-random isometries; the bias is zero.

        A value, an isometry, an init or a deviation that the user named is kept as it is. All other
        tensors are drawn at random and scaled by one factor, so that mean |y|^2 is that of x: for
        the entries drawn (up to 1,024 features exactly, else measured with random vectors), not
        only in the mean over seeds. Of n summed networks each gives 1/n of the variance. Product
        ports take the factor for independent entries. A map that is a product of hundreds of small
        tensors is nearly of rank 1: then Var(y) = Var(x) holds over many x, and single y vary.

        Raises:
            SpecError: no scale keeps the network's values in the range of the dtype.
        """
        arrays = self._stored()
        programs = self._programs_for(self.dtype)
        if not any(array.is_meta for array in arrays.values()):
            networks = [
                Planned(ranged.graph, ranged.main.plan, ranged.main.parameter_order)
                for ranged in programs
            ]
            initialise(networks, arrays, self._part)
        self._told = ""
        for ranged in () if self._log_scale else programs:
            stored = tuple(self._array(name) for name in ranged.main.parameter_order)
            self._told = self._told or out_of_range(ranged.main, stored)
        bias = self._parameters.get("bias")
        if bias is not None:
            nn.init.zeros_(bias)

    # -- inside ----------------------------------------------------------------------------

    def _register_arrays(
        self,
        shared: bool | str | Sequence[str],
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        """Parameters and buffers under the tensors' names, past setattr: no name is outlawed."""
        for graph in self._graphs:
            check_initialisers(graph)
        for parameter in stored_parameters(self._graphs, shared):
            array = torch.empty(parameter.shape, device=device, dtype=dtype)
            node = parameter.node
            if node.value is not None and not node.trainable:
                self._buffers[parameter.name] = array
            else:
                self._parameters[parameter.name] = nn.Parameter(array, node.trainable)

    def _stored(self) -> dict[str, torch.Tensor]:
        """All stored arrays by name, each once however many networks share it."""
        return {p.name: self._array(p.name) for graph in self._graphs for p in graph.parameters}

    def _array(self, name: str) -> torch.Tensor:
        """A stored array by its tensor's name."""
        array = self._parameters.get(name)
        if array is None:
            array = self._buffers.get(name)
        return getattr(self, name) if array is None else array

    def _arrays(self, graph: Graph) -> tuple[torch.Tensor, ...]:
        return tuple(self._array(parameter.name) for parameter in graph.parameters)

    def _programs_for(self, dtype: torch.dtype) -> tuple[RangedProgram, ...]:
        """The programs for a dtype; made again if the layer was moved to another, or to a GPU."""
        key = (dtype, self._device_type())
        programs = self._programs.get(key)
        if programs is None:
            options = replace(self._options, dtype=dtype_name(dtype), device=key[1])
            programs = tuple(
                RangedProgram(graph, options, one_plan=self._one_plan, log_scale=self._log_scale)
                for graph in self._graphs
            )
            self._programs[key] = programs
        return programs

    def _device_type(self) -> str:
        """What the layer is planned for: "cuda" where its arrays are on a GPU, else "cpu"."""
        first = self._first_array()
        return "cuda" if first is not None and gpu.is_on_gpu(first) else "cpu"

    def _forward(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The result without the bias, by way of all checks; the next such call may be spared."""
        dtype = self.dtype
        leading, flat = self._flatten(inputs, dtype)
        y = self._contract(flat, dtype)
        if not is_traced():
            self._fast = self._fast_call(inputs)
        return y.reshape(*leading, self.out_features)

    def _fast_call(self, inputs: tuple[torch.Tensor, ...]) -> FastCall | None:
        ports = self.graph.inputs
        if len(ports) != 1 or not ports[0].batched or self._tune:
            return None
        (x,), dims = inputs, len(self.graph.input_shape(ports[0]))
        return fast_call_like(
            x, dims, self._programs_for(self.dtype), self._parameters, self._buffers
        )

    def _flatten(
        self, inputs: tuple[torch.Tensor, ...], dtype: torch.dtype
    ) -> tuple[tuple[int, ...], tuple[torch.Tensor, ...]]:
        """Leading dimensions, and the inputs with those merged into one."""
        array = next(iter(self._arrays(self.graph)), None)
        return flatten_inputs(self, self.graph, inputs, dtype, array)

    def _contract(self, flat: tuple[torch.Tensor, ...], dtype: torch.dtype) -> torch.Tensor:
        """Sum of the networks' results for flat inputs."""
        total: torch.Tensor | None = None
        for ranged in self._programs_for(dtype):
            program, stored = self._taken(ranged, flat)
            y = run(program, (*flat, *stored))
            total = y if total is None else total + y
        assert total is not None
        return total

    def _taken(
        self, ranged: RangedProgram, flat: tuple[torch.Tensor, ...]
    ) -> tuple[Program, tuple[torch.Tensor, ...]]:
        """The program of a network for flat inputs, and its stored arrays."""
        # What torch traces is one plan for all sizes: no graph breaks, no recompilation.
        if is_traced():
            program = ranged.main
        else:
            batch = self._batch_of(flat)
            if self._tune and not ranged.is_tuned(batch):
                ranged.tune_first(flat, self._named(ranged.graph), batch)
            program = ranged.at(batch)
        return program, tuple(self._array(name) for name in program.parameter_order)

    def _forward_scaled(
        self, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mantissa and log of the scale, the bias included."""
        dtype = self.dtype
        leading, flat = self._flatten(inputs, dtype)
        total = self._contract_scaled(flat, dtype)
        bias = self._parameters.get("bias")
        if bias is not None:
            total = add_scaled((total, scaled(bias.unsqueeze(0), kept=1)))
        mantissa, log_scale = total.pair
        return mantissa.reshape(*leading, self.out_features), log_scale.reshape(leading)

    def _contract_scaled(self, flat: tuple[torch.Tensor, ...], dtype: torch.dtype) -> Scaled:
        """The same sum at one scale a sample."""
        terms: list[Scaled] = []
        for ranged in self._programs_for(dtype):
            program, stored = self._taken(ranged, flat)
            assert isinstance(program, ScaledProgram), "the layer was made with log_scale=True"
            terms.append(program.scaled(*flat, *stored))
        return add_scaled(terms) if len(terms) > 1 else terms[0]

    def _named(self, graph: Graph) -> dict[str, torch.Tensor]:
        return {parameter.name: self._array(parameter.name) for parameter in graph.parameters}

    def _device(self) -> torch.device:
        """Where the arrays are; torch's default device if there are none."""
        first = self._first_array()
        return torch.get_default_device() if first is None else first.device

    def _first_array(self) -> torch.Tensor | None:
        """Any stored array, found without collecting all: calls ask for it."""
        named = (parameter.name for graph in self._graphs for parameter in graph.parameters)
        name = next(named, None)
        return None if name is None else self._array(name)

    def _batch_of(self, flat: tuple[torch.Tensor, ...]) -> int:
        """Samples of a call; 1 where no input is batched."""
        ports = self._graphs[0].inputs
        return next((len(x) for port, x in zip(ports, flat, strict=True) if port.batched), 1)
