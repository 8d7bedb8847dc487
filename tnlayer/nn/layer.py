"""Layer: networks as a torch.nn.Module."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Never

import torch
from torch import nn
from torch.profiler import record_function

from ..backends.log_scale_program import Scaled, ScaledProgram, add_scaled, scaled
from ..dispatch.available_backends import auto_stands_for
from ..dispatch.compile import check_backend, check_log_scale
from ..dispatch.fast_call import FastCall, fast_call_like
from ..dispatch.overflow import is_in_range, out_of_range
from ..dispatch.programs_by_batch import RangedProgram
from ..dispatch.tune import random_inputs
from ..errors import SpecError
from ..graph.argument_checks import check_flag, check_option, check_whole, shown
from ..graph.as_graph import AnyNetwork
from ..graph.cancel_isometries import can_be_kept, cancel_isometries
from ..graph.graph import Graph
from ..graph.told_calls import told
from ..ir.counts import Amount
from ..planning.memory_limit import LimitError
from ..planning.request import DEFAULT_BATCH, OBJECTIVES, Request, memory_option
from ..runtime import cuda_devices
from ..runtime.autograd import (
    autocast_result,
    is_traced,
    profiler_is_on,
    run,
    with_leading,
)
from ..runtime.available_memory import check_bytes
from ..runtime.module_arrays import (
    check_can_be_set,
    has_array,
    has_no_entries,
    home_of,
    maker_of,
    set_array,
)
from ..runtime.program import Program
from ..support.fresh_thread import in_fresh_thread
from ..support.option_words import Backend, Device, Dtype, Effort, Objective
from ..targets.backend import is_free
from .compiled_call import compiled_call, is_compiled_call
from .export_c import export_c
from .initialisation.initialise import draw_cancelled, initialise
from .initialisation.measure_variance import WHOLE, Planned
from .layer_inputs import (
    all_inputs,
    as_graphs,
    device_of,
    flatten_inputs,
    layer_dtype,
    meant_of_layer,
)
from .layer_reports import ReportedLayer
from .nested_inputs import is_nested, nested_call
from .programs import ALONE, NOTHING, LayerPrograms
from .sharded_arrays import is_sharded, scatter_whole, whole_arrays
from .stored_arrays import BIAS, StoredArrays, arrays_for, first_of
from .symbolic import as_leaf, proxy_in, recorded

# What tune= may be beside True and False.
CALLS = "calls"
# What isometries= may be.
FREE, KEEP = "free", "keep"
# to_dense() refuses larger matrices.
_MAX_DENSE_ENTRIES = 2**30


class Layer(ReportedLayer):
    """A tensor network as a linear (or multilinear) layer.

    Arguments:
        net: a network, or several with equal ports, whose results are summed.
        bias: whether to add a learned vector.
        batch: batch size to plan for; every other works too. By default each size gets the plan of
            its range, which is made at the first call with such a size.
        backend: "torch", "cpp" or "cuda" for compiled kernels, or "auto": whichever is predicted to
            be the fastest, or a mixture; ``explain()`` says which. Kernels are compiled once on a
            machine, which takes seconds and for 50 tensors and more up to a minute: with "auto" in
            the background (see ``tiers``), else when a call first needs them; ``prepare()`` does it
            beforehand.
        objective: "train" or "infer": what the plan is chosen for.
        memory_limit: bytes a call at ``batch`` may allocate beyond x, y, their gradients, the
            parameters and theirs, as a number or as text, "512MiB".
        effort: "fast", "default" or "high": how long to search for a plan.
        tune: "calls": where predictions are within a factor of two, first calls of a loop run one
            plan and another, three times each at most, and the fastest stays. It is stored, so that
            another process begins with it. Only with ``tiers``, and not under
            ``torch.use_deterministic_algorithms(True)``. False: predictions decide alone. True:
            time the few best candidate plans on the device and keep the fastest: now with
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
        tiers: whether first calls may run as torch's calls, while plans are searched and kernels
            are compiled in the background; between two calls these take over, so that results
            change by rounding once. ``prepare()`` waits for them, and so does every call under
            ``torch.use_deterministic_algorithms(True)``. Only with backend "auto" on a CPU, without
            a memory_limit, log_scale or tune.
        autocast: whether y has autocast's dtype under torch.autocast, as that of nn.Linear; False:
            it keeps the layer's. Arithmetic is the layer's in any case.
        isometries: "free": tensors with ``isometry=`` start isometric, and training may leave that.
            "keep": each is a function of a free parameter (the Cayley transform), and stays
            isometric to rounding whatever the optimiser does. Then a tensor and its conjugate that
            make the identity are no part of the plan: norms and energies cost what the light cone
            costs. ``layer.NAME`` is the tensor, ``layer.isometries.free`` has the parameters. A
            tensor with a value starts there; the value has to be an isometry.

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
    >>> layer.in_features, layer.out_features, layer.parameter_count, layer.dtype
    (16, 16, 64, torch.float32)
    >>> print(layer.graph)
    Network 'tensor train': 16 -> 16, 2 tensors, 64 parameters (4x fewer than dense)
      input   x       i0=4 i1=4       16 features
      output          j0=4 j1=4       16 features
      tensor  core_0  i0=4 j0=4 b0=2  32 parameters
      tensor  core_1  b0=2 i1=4 j1=4  32 parameters
    >>> [name for name, _ in layer.named_parameters()], len(layer.graphs)
    (['core_0', 'core_1', 'bias'], 1)
    >>> layer.to_dense().shape, layer.weight.shape
    (torch.Size([16, 16]), torch.Size([16, 16]))

    The trace of the 200th power of a matrix of ones, 2 ** 200:

    >>> net = tn.Network("ring")
    >>> net.output()
    >>> net.bond(**{f"a{k}": 2 for k in range(200)})
    >>> for k in range(200):
    ...     made = net.tensor(f"A{k}", [f"a{k}", f"a{(k + 1) % 200}"], init="ones")
    >>> mantissa, log_scale = tn.Layer(net, log_scale=True, backend="torch", effort="fast")()
    >>> round(float(mantissa.log().detach() + log_scale), 2)
    138.63
    """

    bias: nn.Parameter | None
    # The features for which Var(y) = Var(x), and what a memory limit has to count beside the layer;
    # set before __init__ by what pads x and cuts y.
    _part, _beside = WHOLE, ALONE
    # Whether the bias is added to what the networks give; not where y is cut before.
    _adds_bias = True
    # Samples of the last call that went the long way and had any; 0 before.
    _ran = 0

    @told("tn.Layer(net, bias=True), and all else by name", "Layer", meant_of_layer)
    def __init__(
        self,
        net: AnyNetwork | Sequence[AnyNetwork],
        *others: Never,
        bias: bool = False,
        batch: int | None = None,
        backend: Backend = "auto",
        objective: Objective = "train",
        memory_limit: int | str | None = None,
        effort: Effort = "default",
        tune: bool | Literal["calls"] = "calls",
        device: Device | None = None,
        dtype: Dtype | None = None,
        log_scale: bool = False,
        shared: bool | str | Sequence[str] = False,
        tiers: bool = True,
        autocast: bool = True,
        isometries: Literal["free", "keep"] = FREE,
    ) -> None:
        super().__init__()
        check_backend(backend)
        check_option(objective, "objective", OBJECTIVES)
        check_flag(bias, "bias")
        if not isinstance(tune, str) or tune != CALLS:
            check_flag(tune, "tune", f"True, False or {CALLS!r}")
        check_flag(tiers, "tiers")
        check_flag(autocast, "autocast")
        check_option(isometries, "isometries", (FREE, KEEP))
        check_log_scale(log_scale, memory_limit)
        if is_free(backend):
            auto_stands_for()
        graphs = as_graphs(net, others)
        dtype = layer_dtype(graphs, dtype)
        request = Request(
            batch=DEFAULT_BATCH if batch is None else batch,
            objective=objective,
            memory_limit=memory_option(memory_limit),
            effort=effort,
            backend=backend,
        )
        request.checked(graphs[0])
        self._request = request
        self._backend = backend
        self._tune = tune is True
        self._made_with = {"tune": tune, "tiers": tiers}
        self._log_scale = log_scale
        self._autocast = autocast
        # What a call says whose y is not finite, where the values of the user's tensors are why.
        self._told = ""
        # Of a network without tensors, which has no array to ask.
        self._empty = (dtype, device_of(device))
        self._graphs = graphs
        keeps = isometries == KEEP
        planned = tuple(map(cancel_isometries, graphs)) if keeps else graphs
        if keeps and not any(can_be_kept(node) for graph in graphs for node in graph.tensors):
            msg = (
                f"isometries={KEEP!r}: no trained tensor of {graphs[0].label or 'the network'!r} "
                'was declared with isometry=; name the legs of one side, as in net.tensor("U", '
                f'"i j", isometry="i"), or leave {KEEP!r} out'
            )
            raise SpecError(msg)
        self._one_plan = batch is not None
        self._programs = LayerPrograms(
            planned,
            request,
            one_plan=self._one_plan,
            log_scale=log_scale,
            beside=self._beside,
            has_tiers=tiers and tune is not True,
            has_trials=tune == CALLS,
        )
        self._fast: FastCall | None = None
        # Calls this layer where its tensors lie on several processes.
        self._split: Callable[[Layer, Sequence[torch.Tensor]], torch.Tensor] | None = None
        self._stored = StoredArrays(graphs, has_bias=self._adds_bias)
        self._register_arrays(shared, device, dtype, keeps=keeps)
        made = torch.empty(self.out_features, device=device, dtype=dtype) if bias else None
        self.register_parameter(BIAS, None if made is None else nn.Parameter(made))
        try:
            self._programs_for(dtype)
        except LimitError as error:
            if self._one_plan:
                raise
            told = (
                f"{error} The layer is planned for batch {request.batch} where none is named; name "
                "the largest of your calls with batch="
            )
            raise LimitError(told, error.needed) from None
        self.reset_parameters()
        if self._tune and batch is not None and self._kind()[1].type != "meta":
            self.tune()

    # -- what it is ------------------------------------------------------------------------

    @property
    def options(self) -> dict[str, Any]:
        """The options, beside dtype and device, that make such a layer again.

        >>> import tnlayer as tn
        >>> tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch").options["backend"]
        'torch'
        """
        request = self._request
        uses = Counter(one.name for graph in self._graphs for one in graph.parameters)
        return {
            "bias": has_array(self, BIAS),
            "batch": request.batch if self._one_plan else None,
            "backend": self._backend,
            "objective": request.objective,
            "memory_limit": request.memory_limit,
            "effort": request.effort,
            "log_scale": self._log_scale,
            "shared": [name for name, count in uses.items() if count > 1],
            **self._made_with,
            "autocast": self._autocast,
            **({} if maker_of(self) is None else {"isometries": KEEP}),
        }

    @property
    def has_log_scale(self) -> bool:
        """Whether a result is a mantissa and the log of its scale."""
        return self._log_scale

    def without_entries(self, net: AnyNetwork) -> Layer:
        """A layer of another network with the options of this one, on the meta device; no bias."""
        changes: dict[str, Any] = {"bias": False, "shared": False, "tune": False}
        return Layer(net, device="meta", dtype=self.dtype, **{**self.options, **changes})

    def split_along(self, call: Callable[[Layer, Sequence[torch.Tensor]], torch.Tensor]) -> None:
        """Let something else call this layer: its tensors lie on several processes now."""
        self._split, self._fast = call, None

    # -- what it does ----------------------------------------------------------------------

    def forward(
        self, input: Any = None, *others: Any, **named: Any
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Contract the networks with the inputs and add the bias.

        Inputs come in the order of the ports, or by the ports' names; the first is also called
        ``input``, as that of nn.Linear. With log_scale=True the result is (mantissa, log_scale).

        Under torch.autocast the inputs are cast to the layer's dtype, for a product of many tensors
        loses too much in half precision, and y to autocast's. For arithmetic in half precision make
        the layer with that dtype.

        Arguments:
            input: the first input, (..., in_features), or (..., n, d) for a product port.
            others: the other inputs, with equal leading dimensions.
            named: inputs by the names of their ports.

        Returns:
            y, (..., out_features); 1 feature where the network has no output leg.

        Raises:
            SpecError: number, shape, dtype or device of the inputs is wrong, or of a stored array.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> layer(torch.zeros(5, 7, 8)).shape, layer(x=torch.zeros(8)).shape
        (torch.Size([5, 7, 6]), torch.Size([6]))
        """
        inputs = (input,)
        if input is None or type(others) is not tuple or others or named:
            inputs = all_inputs(self, self.graph, input, others, named)
        if self._log_scale:
            return self._forward_scaled(inputs)
        if self._split is not None:
            return self._split(self, inputs)
        if is_compiled_call():
            y = compiled_call(
                self,
                self._programs,
                inputs,
                autocast=self._autocast,
                has_bias=self._adds_bias,
            )
            return self._forward(inputs) if y is None else y
        if profiler_is_on():
            with record_function(f"tnlayer::{self.graph.label}"):
                return self._run(inputs)
        return self._run(inputs)

    def _run(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The result of a call, by the short way if it is like the one before."""
        fast = self._fast
        y = None if fast is None else fast(self, inputs)
        if y is None:
            y = self._forward(inputs)
        if self._told and not (is_traced() or y.is_meta or y.is_nested or is_in_range(y)):
            warnings.warn(self._told, RuntimeWarning, stacklevel=3)
        return y

    def to_dense(self) -> torch.Tensor:
        """The dense matrix of a layer with one batched input, (out_features, in_features).

        It is a call with the identity, of ``in_features`` samples: ``explain()`` lists the batch
        sizes around that as met, too.

        Raises:
            SpecError: the layer has several inputs or a product port, or the matrix is too large.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> x = torch.randn(5, 8)
        >>> torch.allclose(layer(x), x @ layer.to_dense().T, atol=1e-5)
        True
        """
        ports = self._graphs[0].inputs
        if len(ports) != 1 or ports[0].product or not ports[0].batched:
            msg = f"{self!r} has no dense matrix: it needs one batched input that is no product"
            raise SpecError(msg)
        features = self.graph.in_features
        entries = features * self.graph.out_features
        if entries > _MAX_DENSE_ENTRIES:
            msg = f"{self!r}: the dense matrix has {entries} entries; at most {_MAX_DENSE_ENTRIES}"
            raise SpecError(msg)
        arrays = self._stored.of(self)
        dtype, device = self._kind(first_of(arrays))
        size = features**2 * dtype.itemsize
        what = f"{self!r}: to_dense() needs the identity, whose entries"
        check_bytes(size, what, device, SpecError)
        identity = torch.eye(features, dtype=dtype, device=device)
        if self._log_scale:
            mantissa, log_scale = self._contract_scaled((identity,), arrays).pair
            return (mantissa * log_scale.exp().unsqueeze(-1)).to(dtype).mT
        tensors = {name: array for name, array in arrays.items() if name != BIAS}
        return self._contract((identity,), tensors).mT

    def networks_for_ranks(self) -> tuple[Sequence[Graph], tuple[int, int] | None, int]:
        """What truncate and grow change."""
        part = self._part
        graph = self.graph
        whole = (graph.out_features, graph.in_features if graph.inputs else 0)
        cut = (part.out_features or whole[0], part.in_features or whole[1])
        return self._graphs, None if part == WHOLE or cut == whole else cut, self._request.batch

    def replace_networks(self, graphs: Sequence[Graph], arrays: Mapping[str, torch.Tensor]) -> None:
        """Take other networks with equal ports, and the arrays that changed; plan anew."""
        self._graphs = tuple(graphs)
        programs = self._programs
        self._programs = LayerPrograms(
            self._graphs,
            self._request,
            one_plan=self._one_plan,
            log_scale=self._log_scale,
            beside=self._beside,
            has_tiers=programs.has_tiers,
            has_trials=programs.has_trials,
        )
        self._fast, self._told = None, ""
        self._stored = StoredArrays(self._graphs, has_bias=self._adds_bias)
        for name, array in arrays.items():
            home = home_of(self, name)
            assert home is not None
            home[name] = array
        # As __init__ does: what torch traces has a plan.
        self._programs_for(self.dtype)

    def export_c(self, folder: str | os.PathLike[str], *, batch: int | None = None) -> None:
        """Write the compiled forward as C++ source, header, weights and CMake file: a library that
        needs neither torch nor Python, on the CPU.

        Arguments:
            folder: is made; files that are there are written anew.
            batch: samples of a usual call; by default what the layer was planned for.

        Raises:
            SpecError: half precision, or log_scale=True.
            BuildError: kernels cannot do it, or there is no C++ compiler to ask.

        >>> import tempfile, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     layer.export_c(folder)  # doctest: +SKIP
        """
        if self._log_scale:
            msg = f"{self!r}: export_c has no log_scale; make the layer without it"
            raise SpecError(msg)
        size = self._request.batch if batch is None else check_whole(batch, "export_c: batch")
        export_c(repr(self), self._graphs, self._stored.of(self), Path(folder), size)

    def prepare(self, batches: int | Sequence[int] = ()) -> Layer:
        """Plan and build now all that calls with these batch sizes will run; returns itself.

        In training and in inference, whether inputs want gradients or not. No call compiles then;
        the last batch of an epoch may be another size: ``layer.prepare((256, 7))``.

        Arguments:
            batches: one batch size or several; without any, the one that the layer was made for.

        Raises:
            SpecError: a batch size is no whole number.
            BuildError: kernels that were asked for by name cannot be built.

        >>> import tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> layer.prepare((256, 7)) is layer
        True
        """
        if isinstance(batches, str | bytes):
            check_whole(batches, "prepare: a batch")  # or its letters were looked at
        sizes = batches if isinstance(batches, Sequence) else (batches,)
        if any(check_whole(n, "prepare: a batch") < 0 for n in sizes):
            msg = f"prepare: expected batch sizes of at least 0, got {shown(batches)}"
            raise SpecError(msg)
        with cuda_devices.on_device_of(self._stored.any_of(self)):
            for batch in sizes or (None,):
                for ranged in self._programs_at(batch):
                    ranged.prepare(self._request.batch if batch is None else batch)
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
        arrays = self._stored.of(self)
        first = first_of(arrays)
        dtype, device = self._kind(first)
        if not inputs:
            inputs = random_inputs(self.graph, self._request.batch, dtype, device)
        _, flat = flatten_inputs(self, self.graph, inputs, dtype, first)
        wanted = tuple(x.requires_grad for x in inputs)
        batch = self._batch_of(flat)
        for ranged in self._programs_at(batch):
            ranged.tune(flat, arrays_for(ranged.graph, arrays), batch, wanted)
        self._programs.stand_apart()
        return self

    def invalidate(self) -> None:
        """Drop what was computed from parameters; nothing is kept between calls in this version.

        >>> import tnlayer as tn
        >>> tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch").invalidate()
        """

    def reset_parameters(self) -> None:
        """Initialise: Var(y) = Var(x); Haar-random isometries; the bias is zero.

        A value, an isometry, an init or a deviation that the user named is kept as it is. All other
        tensors are drawn at random and scaled by one factor, so that mean ``|y|^2`` is that of x:
        for the entries drawn (up to 1,024 features exactly, else measured with random vectors), not
        only in the mean over seeds. Of n summed networks each gives 1/n of the variance. On product
        ports x is a random vector of norm 1 a leg, and mean ``|y|^2`` is 1 for such local features.
        A map that is a product of hundreds of small tensors is nearly of rank 1: then this holds
        over many x, and single y vary; init="identity" starts long chains otherwise.
        Where an array is made from others (parametrized, pruned, normalised), those are set.

        Raises:
            SpecError: no scale keeps the network's values in the range of the dtype, or a
                parametrization has no right_inverse.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> before = layer.to_dense()
        >>> layer.reset_parameters()
        >>> torch.equal(before, layer.to_dense())
        False
        """
        check_can_be_set(self, self._stored.names)
        stored = self._stored.to_set(self)
        first = first_of(stored)
        programs = self._programs_for(self._kind(first)[0], first)
        arrays = whole_arrays(stored)
        if not any(map(has_no_entries, stored.values())):
            for ranged in programs:  # before anything is measured
                ranged.known.check_room(1, ranged.known.plan, self._kind(first)[1])
        in_fresh_thread(lambda: self._fill(programs, arrays))
        scatter_whole(stored, arrays)
        for name, array in stored.items():
            set_array(self, name, array)

    # -- inside ----------------------------------------------------------------------------

    def _fill(self, programs: Sequence[RangedProgram], arrays: Mapping[str, torch.Tensor]) -> None:
        """Draw all entries, and find what a call says whose y is not finite."""
        if not any(map(has_no_entries, arrays.values())):
            networks = [
                Planned(ranged.graph, ranged.first.plan, ranged.first.parameter_order)
                for ranged in programs
            ]
            own = {name: array for name, array in arrays.items() if name != BIAS}
            draw_cancelled(self._graphs, networks, own)
            initialise(networks, own, self._part, is_scaled=self._log_scale)
        self._told = ""
        known = not any(map(has_no_entries, arrays.values()))
        for ranged in programs if known and not self._log_scale else ():
            given = tuple(arrays[name] for name in ranged.first.parameter_order)
            self._told = self._told or out_of_range(ranged.first, given)
        if BIAS in arrays:
            nn.init.zeros_(arrays[BIAS])

    def _programs_for(
        self, dtype: torch.dtype, array: torch.Tensor | None = None
    ) -> tuple[RangedProgram, ...]:
        """The programs for a dtype and for the kind of device that an array of the layer lies on,
        by default any; made again if the layer was moved to another."""
        array = self._stored.any_of(self) if array is None else array
        return self._programs.plain(dtype, self._device_type(array))

    def _programs_at(self, batch: int | None) -> tuple[RangedProgram, ...]:
        """Those that a call with so many samples takes; by default what was planned for."""
        array = self._stored.any_of(self)
        dtype, _ = self._kind(array)
        return self._programs.of(dtype, self._device_type(array), batch=batch)

    def _device_type(self, array: torch.Tensor | None) -> str:
        """What the layer is planned for: "cuda" where its arrays are on a GPU, else "cpu"."""
        _, device = self._empty
        on_gpu = device.type == "cuda" if array is None else cuda_devices.is_on_gpu(array)
        return "cuda" if on_gpu else "cpu"

    def _forward(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The result by way of all checks; the next such call may be spared."""
        if proxy_in(inputs) is not None:
            return self._recorded(inputs)
        if is_nested(inputs):
            return nested_call(self, self, inputs)
        arrays: Mapping[str, torch.Tensor] = self._stored.of(self)
        shards = None
        if any(map(is_sharded, inputs)):
            from .sharded_call import shards_of  # torch.distributed takes a second to import

            shards = shards_of(repr(self), self.graph, inputs, arrays)
            if shards is not None:
                inputs, arrays = shards.inputs, shards.arrays
        first = first_of(arrays)
        dtype, _ = self._kind(first)
        leading, flat = flatten_inputs(self, self.graph, inputs, dtype, first)
        traced = is_traced()
        copied = NOTHING
        if self._request.memory_limit is not None and not traced:
            # One copy that is counted, not one wherever the code reads x in other rows.
            flat = tuple(x.resolve_conj().resolve_neg().contiguous() for x in flat)
            copied = self._programs.copied(self.graph, inputs, flat)
        y = self._contract(flat, arrays, copied)
        if len(leading) != 1:
            y = with_leading(y, leading, traced=traced)
        if not traced:
            self._note_call(flat)
            if shards is None:
                self._fast = self._fast_call(inputs, arrays)
        y = autocast_result(y) if self._autocast else y
        return y if shards is None else shards.whole(y)

    def _recorded(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """A call that torch.fx.symbolic_trace looks at."""
        node = as_leaf(self, inputs)
        if node is not None:
            return node
        if self._log_scale:
            msg = (
                f"{self!r}: torch.fx.symbolic_trace cannot look into log_scale=True; trace the "
                "module that holds the layer, which is one node there, or use torch.export"
            )
            raise SpecError(msg)
        names = [name for name in self._stored.names if has_array(self, name)]
        return recorded(self, names, self._programs_for(self.dtype), inputs)

    def _fast_call(
        self, inputs: tuple[torch.Tensor, ...], arrays: Mapping[str, torch.Tensor]
    ) -> FastCall | None:
        ports = self.graph.inputs
        if len(ports) != 1 or not ports[0].batched or self._tune:
            return None
        if not self._programs.is_limited_alone:
            return None
        first = first_of(arrays)
        programs = self._programs_for(self._kind(first)[0], first)
        ranged = self._programs.summed(programs, has_bias=BIAS in arrays)
        (x,), dims = inputs, len(self.graph.input_shape(ports[0]))
        return fast_call_like(x, dims, ranged, self, arrays, casts=self._autocast)

    def _contract(
        self,
        flat: tuple[torch.Tensor, ...],
        arrays: Mapping[str, torch.Tensor],
        copied: Amount = NOTHING,
    ) -> torch.Tensor:
        """Sum of the networks' results for flat inputs, and of the bias if there is one."""
        if _is_one_plan(flat):
            first, total = first_of(arrays), arrays.get(BIAS)
            for ranged in self._programs_for(self._kind(first)[0], first):
                own = (arrays[name] for name in ranged.main.parameter_order)
                y = run(ranged.main, (*flat, *own))
                total = y if total is None else total + y
            assert total is not None
            return total
        programs = self._ranged(flat, arrays, copied)
        summed = self._programs.summed(programs, has_bias=BIAS in arrays)
        program = summed.at(self._batch_of(flat))
        own = (arrays[name] for name in program.parameter_order)
        return run(program, (*flat, *own))  # pyright: ignore[reportArgumentType]

    def _ranged(
        self,
        flat: tuple[torch.Tensor, ...],
        arrays: Mapping[str, torch.Tensor],
        copied: Amount = NOTHING,
    ) -> tuple[RangedProgram, ...]:
        """The programs of the networks for a call, tuned if that was asked for."""
        first, batch = first_of(arrays), self._batch_of(flat)
        wanted = any(array.requires_grad for array in (*flat, *arrays.values()))
        programs = self._programs.of(
            self._kind(first)[0],
            self._device_type(first),
            batch=batch,
            copied=copied,
            trains=wanted and torch.is_grad_enabled(),
        )
        for ranged in programs if self._tune else ():
            if not ranged.is_tuned(batch):
                ranged.tune_first(flat, arrays_for(ranged.graph, arrays), batch)
                self._programs.stand_apart()
        return programs

    def _taken(
        self, flat: tuple[torch.Tensor, ...], arrays: Mapping[str, torch.Tensor]
    ) -> list[Program]:
        """The program of each network for flat inputs."""
        if _is_one_plan(flat):
            first = first_of(arrays)
            return [r.main for r in self._programs_for(self._kind(first)[0], first)]
        batch = self._batch_of(flat)
        return [ranged.at(batch) for ranged in self._ranged(flat, arrays)]

    def _forward_scaled(
        self, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mantissa and log of the scale, the bias included."""
        if proxy_in(inputs) is not None:
            return self._recorded(inputs)
        arrays = self._stored.of(self)
        first = first_of(arrays)
        dtype, _ = self._kind(first)
        leading, flat = flatten_inputs(self, self.graph, inputs, dtype, first)
        total = self._contract_scaled(flat, arrays)
        if not is_traced():
            self._note_call(flat)
        if BIAS in arrays:
            total = add_scaled((total, scaled(arrays[BIAS].unsqueeze(0), kept=1)))
        mantissa, log_scale = total.pair
        return mantissa.reshape(*leading, self.out_features), log_scale.reshape(leading)

    def _contract_scaled(
        self, flat: tuple[torch.Tensor, ...], arrays: Mapping[str, torch.Tensor]
    ) -> Scaled:
        """The same sum at one scale a sample."""
        terms: list[Scaled] = []
        for program in self._taken(flat, arrays):
            assert isinstance(program, ScaledProgram), "the layer was made with log_scale=True"
            terms.append(program.scaled(*flat, *(arrays[n] for n in program.parameter_order)))
        return add_scaled(terms) if len(terms) > 1 else terms[0]

    def _note_call(self, flat: tuple[torch.Tensor, ...]) -> None:
        """Remember the batch size: reports are about the last one."""
        if not any(x.is_meta for x in flat):
            self._ran, self._fast = self._batch_of(flat) or self._last_batch(), None

    def _last_batch(self) -> int:
        """Samples of the last call; 0 before any."""
        return self._ran if self._fast is None else self._fast.batch or self._ran

    def _batch_of(self, flat: tuple[torch.Tensor, ...]) -> int:
        """Samples of a call; 1 where no input is batched."""
        ports = self._graphs[0].inputs
        return next((len(x) for port, x in zip(ports, flat, strict=True) if port.batched), 1)


def _is_one_plan(flat: Sequence[torch.Tensor]) -> bool:
    """Whether one plan serves all sizes: where torch traces, without graph breaks or recompilation,
    and on the meta device, where nothing has bytes."""
    return is_traced() or any(x.is_meta for x in flat)
