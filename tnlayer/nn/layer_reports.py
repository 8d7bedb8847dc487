"""What a layer says of itself: what runs, what it costs, and why."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..backends.cuda_resources import Resources
from ..dispatch.build_program import program_of
from ..dispatch.programs_by_batch import RangedProgram
from ..dispatch.running import backend_at, running_now
from ..errors import SpecError
from ..graph.argument_checks import check_whole, shown
from ..graph.describe import sum_label
from ..graph.sum_of_networks import SumOfNetworks
from ..planning.request import Request
from ..report.costs import Costs
from ..report.explain import Explanation, explain
from ..report.page import layer_page
from ..report.source import SourcePart, source_text
from ..runtime.module_arrays import (
    frozen_names,
    has_array,
)
from ..support.html import block, heading, html_of
from .held_arrays import HeldArrays
from .stored_arrays import BIAS


class ReportedLayer(HeldArrays):
    """Gives ``source``, ``resources``, ``costs`` and ``explain``, and what is printed."""

    _request: Request
    _backend: str
    _log_scale: bool

    def _programs_for(
        self, dtype: torch.dtype, array: torch.Tensor | None = None
    ) -> tuple[RangedProgram, ...]:
        """The programs for a dtype and for the kind of device of an array."""
        raise NotImplementedError

    def _programs_at(self, batch: int | None) -> tuple[RangedProgram, ...]:
        """Those that a call with so many samples takes."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Features, sizes, dtype and backend: what stands between the brackets of its repr.

        >>> import tnlayer as tn
        >>> print(tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch").extra_repr())
        low rank, in_features=8, out_features=6, parameters=28, bias=False, dtype=torch.float32, \
backend='torch'
        """
        shapes = map(self.graph.input_shape, self.graph.inputs)
        features = " x ".join(str(math.prod(shape)) for shape in shapes)
        fed = f"in_features={features}" if features else "no input"
        return (
            f"{sum_label(self._graphs)}, {fed}, out_features={self.out_features}, "
            f"parameters={self.parameter_count}, bias={has_array(self, BIAS)}, "
            f"dtype={self.dtype}, backend={self._backend!r}"
            + (", log_scale=True" if self._log_scale else "")
        )

    def _repr_html_(self) -> str:
        graphs = self._graphs
        shown = graphs[0] if len(graphs) == 1 else SumOfNetworks(graphs)
        return block(heading(repr(self)), html_of(shown))

    def source(self, part: SourcePart | None = None) -> str:
        """The code that runs in training: forward and backward of each network.

        That of compiled kernels is long, and opens with a summary: what runs, the steps in order
        and their sizes, and the lines of each part. That of torch's calls opens with what its
        names stand for.

        Arguments:
            part: "summary", "forward" or "backward" for that alone.

        Raises:
            SpecError: there is no such part.

        >>> import tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> print(layer.source("forward"))  # doctest: +ELLIPSIS
        # n0 = V, n1 = U, x0 = x; e0 = i, e1 = j
        def forward(...
        """
        programs = [ranged.main for ranged in self._programs_for(self.dtype)]
        return source_text(programs, part)

    def resources(self, arch: str | None = None) -> tuple[Resources, ...]:
        """What each CUDA kernel of a training step takes: registers, spills, shared memory, ...;
        nothing where other backends run.

        Arguments:
            arch: what to build for, such as "sm_90", with a GPU or without; by default the device.

        Raises:
            BuildError: kernels cannot be built; without a GPU they need ``arch``.

        >>> import tnlayer as tn
        >>> tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch").resources()
        ()
        """
        programs = [
            ranged.main if arch is None else program_of(ranged.planned, arch)
            for ranged in self._programs_for(self.dtype)
        ]
        return tuple(one for program in programs for one in program.resources)

    def costs(self, batch: int | Sequence[int] | None = None) -> Costs:
        """The cost of each network at a batch size.

        Arguments:
            batch: samples of one call, as for :meth:`explain`.

        Raises:
            SpecError: batch is no positive whole number.

        >>> import tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> layer.costs(batch=16)[0].parameters
        28
        """
        return self.explain(batch).costs

    def explain(self, batch: int | Sequence[int] | None = None) -> Explanation:
        """What runs and why: backend, plans by batch size, costs, and whether dense is faster.

        Arguments:
            batch: samples of one call, also as ``prepare`` takes them: ``explain((64,))``. By
                default those of the last call; before any, what the layer was made for.

        Raises:
            SpecError: batch is no positive whole number, or there are several.

        >>> import tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> found = layer.explain(batch=16)  # print(found) tells all
        >>> found.backend, found.asked, "low rank" in found
        ('torch', 'torch', True)
        """
        size = self._reported(batch)
        programs, frozen = self._programs_at(size), frozen_names(self)
        found = explain(repr(self), self._backend, programs, size, frozen)
        return replace(found, memory_limit=self._request.memory_limit)

    def running(self, batch: int | Sequence[int] | None = None) -> str:
        """The backend that calls with so many samples run on now; nothing is planned or built.

        While kernels are built in the background that is "torch". Of the plan that stays
        ``explain(batch).backend`` tells, and ``explain().running`` has all batch sizes that were
        met, each with the reason.

        Arguments:
            batch: samples of one call, as for :meth:`explain`.

        Returns:
            "torch", "cpp", "cuda", "mixed" or what was registered; "" where no call had such a
            size and it was not prepared.

        Raises:
            SpecError: batch is no positive whole number, or there are several.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2))
        >>> layer.running(16)
        ''
        >>> y = layer.prepare(16)(torch.zeros(16, 8))
        >>> layer.running() == layer.explain().backend, layer.explain().batch
        (True, 16)
        """
        size = self._reported(batch)
        return backend_at(running_now(self._programs_at(size)), size)

    def _reported(self, batch: int | Sequence[int] | None) -> int:
        """The batch size that is asked about."""
        if isinstance(batch, Sequence) and not isinstance(batch, str):
            if len(batch) > 1:
                msg = f"explain: batch={shown(batch)}: one is told of at a time; pass one of them"
                raise SpecError(msg)
            batch = batch[0] if batch else None
        size = self._last_batch() or self._request.batch if batch is None else batch
        return check_whole(size, "explain: batch")

    def _last_batch(self) -> int:
        """Samples of the last call; 0 before any."""
        raise NotImplementedError

    def report(
        self, path: str | os.PathLike[str], batch: int | Sequence[int] | None = None
    ) -> Path:
        """Write one HTML page that shows the network, the plan of forward and backward, what each
        step costs, from which batch size on it beats dense, and the source of each step.

        Where the mouse rests on a step, its row, its part of the pictures and its lines of source
        light up together. The page needs no network access, and loads nothing.

        Arguments:
            path: of the page; what is there is replaced.
            batch: samples of one call, as for :meth:`explain`.

        Returns:
            the path.

        Raises:
            SpecError: batch is no positive whole number, or the file's name does not end in .html.
            OSError: the page cannot be written.

        >>> import tempfile, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = layer.report(f"{folder}/page.html", batch=16)
        ...     "low rank" in page.read_text(encoding="utf-8")
        True
        """
        file = Path(path)
        if file.suffix.lower() not in (".html", ".htm"):
            msg = f"report: the page is HTML, and {file.name!r} says it is not; name it .html"
            raise SpecError(msg)
        file.write_text(layer_page(self.explain(batch)), encoding="utf-8")
        return file
