"""save: a model or a layer as a safetensors file."""

from __future__ import annotations

import os

from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.told_calls import told
from ..nn.dense_modules import unwrapped
from ..nn.layer import Layer
from .document import KEY, ModelDocument
from .module_records import ModuleRecord, is_recorded, record_of
from .safetensors_file import as_path, write_file
from .state import plain_state


@told("tn.save(model, 'model.safetensors')")
def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a layer, or a model that has layers, as a safetensors file.

    The tensors are those of ``state_dict()``; other libraries read them. The networks stand in the
    metadata as canonical JSON, so that :func:`tnlayer.load` rebuilds the layers without any code
    from the file. The same model gives the same bytes. The file appears whole or not at all.

    Arguments:
        module: a layer, or a model; within torch.compile and nn.DataParallel the model is taken.
        path: of the file; what is there is replaced.

    Raises:
        SpecError: a tensor has no entries (meta) or is no plain dense one, a network has values
            that JSON cannot hold, or a layer is pruned or parametrized.
        OSError: the file cannot be written.

    >>> import tempfile, torch, tnlayer as tn
    >>> layer = tn.Layer(tn.topologies.low_rank(8, 4, rank=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tn.save(layer, f"{folder}/layer.safetensors")
    ...     twin = tn.load(f"{folder}/layer.safetensors")
    >>> torch.equal(twin(torch.ones(8)), layer(torch.ones(8)))
    True
    """
    if not isinstance(module, nn.Module):
        msg = f"save: expected a torch.nn.Module, got {shown(module)}"
        raise SpecError(msg)
    file = as_path(path, "tn.save(model, 'model.safetensors')")
    model = unwrapped(module)
    tensors, tied, complex_names = plain_state(model)
    document = ModelDocument(records_of(model), tied, complex_names)
    write_file(file, tensors, {"format": "pt", KEY: document.to_text()})


def records_of(model: nn.Module) -> dict[str, ModuleRecord]:
    """The records of all layers of a model, by the modules' names; one that stands in several
    places under the first.

    Raises:
        SpecError: a layer has other arrays than its networks', as a pruned one has.
    """
    found: dict[str, ModuleRecord] = {}
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inside or not is_recorded(module):
            continue
        assert isinstance(module, Layer)
        inside.update(id(inner) for inner in module.modules())
        names = {one.name for graph in module.graphs for one in graph.parameters}
        own = set(module.state_dict()) - {"bias"}
        if own != names:
            msg = (
                f"{shown(name)} has the arrays {shown(sorted(own))} where its networks have "
                f"{shown(sorted(names))}; make pruning permanent (torch.nn.utils.prune.remove) and "
                "remove what was added before saving"
            )
            raise SpecError(msg)
        found[name] = record_of(module)
    return found
