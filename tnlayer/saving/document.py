"""What a file says beside its tensors: which modules are layers, and which tensors are one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..support.json_text import canonical_json, parse_json
from .module_records import ModuleRecord, read_record, write_record

FORMAT = "tnlayer.model"
VERSION = 1
# The key of the metadata under which the document stands.
KEY = "tnlayer"


@dataclass(frozen=True, slots=True)
class ModelDocument:
    """What stands in the metadata of a file.

    Arguments:
        modules: records of the layers by the modules' names; "" is the model itself.
        tied: tensors that are one with another, with its name.
        complex_names: tensors that stand as pairs of real numbers.
    """

    modules: Mapping[str, ModuleRecord]
    tied: Mapping[str, str]
    complex_names: tuple[str, ...]

    def to_text(self) -> str:
        """Canonical JSON.

        Raises:
            SpecError: a network has values that JSON cannot hold.
        """
        return canonical_json(
            {
                "format": FORMAT,
                "version": VERSION,
                "modules": {name: write_record(one) for name, one in self.modules.items()},
                "tied": dict(self.tied),
                "complex": list(self.complex_names),
            }
        )


def read_document(metadata: Mapping[str, str], where: str) -> ModelDocument:
    """The document of a file.

    Raises:
        SpecError: there is none, or it is wrong; names the place.
    """
    text = metadata.get(KEY)
    if text is None:
        msg = f"{where} was not written by tn.save: its metadata has no {KEY!r}"
        raise SpecError(msg)
    document: Any = parse_json(text)
    keys = {"format", "version", "modules", "tied", "complex"}
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f"{where}: expected an object with the format {FORMAT!r}"
        raise SpecError(msg)
    fields = cast("dict[str, Any]", document)
    version = fields.get("version")
    if type(version) is not int or version != VERSION:
        msg = f"{where}: version {shown(version)}; this release reads {VERSION} only"
        raise SpecError(msg)
    if fields.keys() != keys:
        msg = f"{where}: expected the keys {', '.join(sorted(keys))}, got {shown(list(fields))}"
        raise SpecError(msg)
    modules, tied, names = fields["modules"], fields["tied"], fields["complex"]
    if not isinstance(modules, dict):
        msg = f"{where}: modules: expected an object"
        raise SpecError(msg)
    if not isinstance(tied, dict) or not all(isinstance(one, str) for one in tied.values()):
        msg = f"{where}: tied: expected an object of names"
        raise SpecError(msg)
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        msg = f"{where}: complex: expected a list of names"
        raise SpecError(msg)
    records = {
        name: read_record(item, f"{where}: module {shown(name)}") for name, item in modules.items()
    }
    return ModelDocument(records, tied, tuple(names))
