"""A quantization config and a quantizer of transformers for models with layers of this package.

config.json gets one record a layer, canonical JSON of its networks and its options; the arrays lie
beside those of the rest of the model. ``from_pretrained`` makes the model on the meta device, where
each record puts its layer in place of the dense module, and transformers loads the arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..nn.dense_modules import replace_module
from ..nn.layer import Layer
from ..saving.load import check_place, dtype_beside
from ..saving.module_records import read_record, write_record
from ..saving.save import records_of

METHOD = "tnlayer"
VERSION = 1


@lru_cache(maxsize=1)
def register() -> tuple[Any, Any]:
    """Register the config and the quantizer, once; returns both classes.

    Raises:
        ImportError: transformers is not installed.
    """
    try:
        from transformers.quantizers.auto import register_quantization_config, register_quantizer
        from transformers.quantizers.base import HfQuantizer
        from transformers.utils.quantization_config import QuantizationConfigMixin
    except ImportError as error:
        msg = f"tnlayer.huggingface needs transformers: pip install 'tnlayer[hf]' ({error})"
        raise ImportError(msg) from error

    @register_quantization_config(METHOD)
    class TnlayerConfig(QuantizationConfigMixin):  # pyright: ignore
        """What config.json says of the layers: ``modules`` has a record for each by its name."""

        def __init__(
            self, modules: Mapping[str, Any] | None = None, version: int = VERSION, **_: Any
        ) -> None:
            if type(version) is not int or version != VERSION:
                msg = f"quantization_config: version {shown(version)}; this release reads {VERSION}"
                raise SpecError(msg)
            self.quant_method: Any = METHOD
            self.version = version
            self.modules = dict(modules or {})

    @register_quantizer(METHOD)
    class TnlayerQuantizer(HfQuantizer):  # pyright: ignore
        """Puts layers in place of dense modules before transformers loads the arrays."""

        quantization_config: Any
        requires_calibration = True  # only models that were compressed before can be loaded

        def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
            swap_in(model, self.quantization_config.modules)
            return model

        def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[None, dict[str, str]]:
            # save_pretrained asks before it writes config.json: layers may have changed since.
            self.quantization_config.modules = records_as_json(model)
            return None, {}

        def is_serializable(self) -> bool:  # pyright: ignore
            return True

        @property
        def is_trainable(self) -> bool:  # pyright: ignore
            return True

        @property
        def is_qat_trainable(self) -> bool:
            return True

        @property
        def is_compileable(self) -> bool:
            return True

    return TnlayerConfig, TnlayerQuantizer


def attach(model: nn.Module) -> None:
    """Let ``save_pretrained`` of a model of transformers write its layers to config.json.

    :func:`tnlayer.compress` does that; it is for models whose layers were put there by hand.

    Arguments:
        model: of transformers; others are left alone.
    """
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        return
    config_class, quantizer_class = register()
    config = config_class(records_as_json(model))
    holder: Any = model
    holder.config.quantization_config = config
    holder.hf_quantizer = quantizer_class(config, pre_quantized=True)


def records_as_json(model: nn.Module) -> dict[str, Any]:
    """The records of a model's layers as plain values, by name."""
    return {name: write_record(record) for name, record in records_of(model).items()}


def swap_in(model: nn.Module, modules: Mapping[str, Any]) -> None:
    """Put the layers of some records in place of a model's modules, on the meta device and in the
    dtype of what they replace.

    Arguments:
        model: freshly made, on the meta device.
        modules: records as plain values, by name.

    Raises:
        SpecError: a record is wrong, or the model has no such module; then nothing is swapped.
    """
    swaps: list[tuple[nn.Module, Layer]] = []
    found = dict(model.named_modules(remove_duplicate=False))
    for name, item in modules.items():
        where = f"config.json: quantization_config: module {shown(name)}"
        record = read_record(item, where)
        if not name or name not in found:
            msg = f"{where}: the model has no such module"
            raise SpecError(msg)
        layer = record.build(**dtype_beside(found[name], record))
        check_place(name, record, layer, found[name])
        swaps.append((found[name], layer))
    for old, new in swaps:
        new.train(old.training)
        replace_module(model, old, new)
