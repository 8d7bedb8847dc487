"""The entries of networks for the matrix of a module, and the module that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import SpecError
from ..fitting.covariance import Covariance
from ..fitting.doubles import as_double
from ..fitting.fit import fit_part
from ..fitting.fitted import Fitted, or_interrupt
from ..graph.graph import Graph, count_parameters
from ..nn.conv2d import Conv2d
from ..nn.dense_modules import CONV2D, EMBEDDING, follow_gradients
from ..nn.embedding import Embedding
from ..nn.layer import Layer
from ..nn.padded import Padded
from .data import Seen
from .targets import Target


def fit_matrix(
    graphs: tuple[Graph, ...], target: Target, seen: Seen | None, **options: Any
) -> Fitted:
    """Fit networks to the matrix of a module; what they have beyond it does not count.

    Arguments:
        graphs: the networks that are summed.
        target: the module.
        seen: what it saw of data, whose covariance weights the errors, if there is one.
        options: of :func:`tnlayer.fit`.

    Raises:
        SpecError: nothing can be fitted to it, or these networks cannot.
        KeyboardInterrupt: Ctrl-C ended the fit, and with it the work on the whole model.
    """
    whole = graphs[0] if len(graphs) == 1 else graphs
    matrix, covariance = _read(target, seen)
    return or_interrupt(fit_part(whole, matrix, data=covariance, **options))


def why_unfit(target: Target, seen: Seen | None) -> str:
    """Why no network can be fitted to the matrix of a module, in words; "" where nothing is known.

    Arguments:
        target: the module.
        seen: what it saw of data.
    """
    try:
        _read(target, seen)
    except SpecError as error:
        return str(error)
    return ""


def _read(target: Target, seen: Seen | None) -> tuple[torch.Tensor, Covariance | None]:
    """The matrix of a module, and the covariance of what it saw, if it was summed."""
    matrix = as_double(target.dense.matrix(), "its weight")
    if seen is None or seen.covariance is None or not seen.total:
        return matrix, None
    if seen.spoilt:
        msg = f"its inputs, on the data, {seen.spoilt}"
        raise SpecError(msg)
    return matrix, Covariance(seen.covariance / seen.total)


def module_of(
    graphs: tuple[Graph, ...], target: Target, fitted: Fitted, options: Mapping[str, Any]
) -> Layer:
    """The factorized module with these entries, in the dtype, on the device and in the mode of the
    module that it replaces; its arrays are its own.

    Arguments:
        graphs: the networks.
        target: what it replaces.
        fitted: the entries.
        options: as for :class:`tnlayer.Layer`.
    """
    dense, old = target.dense, target.module
    kind: dict[str, Any] = {"dtype": dense.weight.dtype, "device": "meta"}
    settings: dict[str, Any] = {**options, **dense.options, **kind}
    sizes = (dense.in_features, dense.out_features)
    new: Layer
    if dense.kind == CONV2D:
        new = Conv2d(graphs, **settings)
    elif dense.kind == EMBEDDING:
        new = Embedding(graphs, **settings)
    elif sizes == (graphs[0].in_features, graphs[0].out_features):
        new = Layer(graphs, **settings)
    else:
        new = Padded(graphs, *sizes, **settings)
    new.to_empty(device=dense.weight.device)
    state = {name: array.to(dense.weight.dtype) for name, array in fitted.parameters.items()}
    if dense.has_bias:
        bias = getattr(old, "bias", None)
        assert isinstance(bias, torch.Tensor)
        state["bias"] = bias.detach()
    new.load_state_dict(state)
    follow_gradients(new, old)
    new.keep_fit(fitted.without_parameters())
    new.train(old.training)
    return new


def parameters_of(graphs: tuple[Graph, ...], target: Target) -> int:
    """Trainable entries of the factorized module, the bias too."""
    return count_parameters(graphs) + (target.dense.out_features if target.dense.has_bias else 0)
