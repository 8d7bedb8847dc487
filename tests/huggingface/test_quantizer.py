"""Models of transformers: compressed, saved, loaded again, trained a step, generating, compiled."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import tnlayer as tn
from tests.support.package_imports import ROOT

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

T = tn.topologies
SIZES: dict[str, Any] = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> Any:
    """Conv1D, and a head that is tied to the table."""
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, **SIZES)
    return transformers.GPT2LMHeadModel(config)


def bert() -> Any:
    """Linear modules, a pooler, a classifier."""
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        **SIZES,
    )
    return transformers.BertForSequenceClassification(config)


def llama() -> Any:
    """Linear modules without bias, an untied head, rotary buffers in no state_dict."""
    config = transformers.LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        **SIZES,
    )
    return transformers.LlamaForCausalLM(config)


MODELS = {"gpt2": gpt2, "bert": bert, "llama": llama}
AUTO = {
    "gpt2": transformers.AutoModelForCausalLM,
    "bert": transformers.AutoModelForSequenceClassification,
    "llama": transformers.AutoModelForCausalLM,
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])


def compressed(name: str) -> Any:
    """A model whose matrices are networks, small tables too."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    rules = {"*embed*": None, "*wte": None, "*wpe": None, "*": T.low_rank}
    rules = {key: rule for key, rule in rules.items() if key == "*" or name in ("gpt2", "llama")}
    if name == "gpt2":
        rules.pop("*embed*")
    if name == "llama":
        rules = {"*embed*": T.tensor_train, "*": T.low_rank}
    tn.compress(model, rules, compression=1.5, backend="torch", effort="fast", progress=False)
    return model


def layers_of(model: Any) -> set[str]:
    """Names of the layers that took the place of linear modules."""
    tables = [one for one in model.modules() if isinstance(one, tn.Embedding)]
    inside = {id(inner) for table in tables for inner in table.modules()}
    layers = model.named_modules()
    return {key for key, one in layers if isinstance(one, tn.Layer) and id(one) not in inside}


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    """config.json has a record for each layer; from_pretrained gives the same logits, in another
    dtype too; and saving again writes the same files."""
    model = compressed(name)
    layers = layers_of(model)
    assert layers
    model.save_pretrained(tmp_path / "one")
    config = json.loads((tmp_path / "one" / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "tnlayer"
    assert layers <= set(config["modules"])
    twin = AUTO[name].from_pretrained(tmp_path / "one").eval()
    torch.testing.assert_close(twin(IDS).logits, model(IDS).logits)
    state = model.state_dict()
    assert all(torch.equal(array, state[key]) for key, array in twin.state_dict().items())
    assert layers_of(twin) == layers
    twin.save_pretrained(tmp_path / "two")
    for file in ("config.json", "model.safetensors"):
        one, two = ((tmp_path / folder / file).read_bytes() for folder in ("one", "two"))
        assert one == two
    with safe_open(tmp_path / "one" / "model.safetensors", "pt") as file:
        assert not any(f"{layer}.weight" in file.keys() for layer in layers)  # noqa: SIM118
    half = AUTO[name].from_pretrained(tmp_path / "one", dtype=torch.bfloat16)
    assert {array.dtype for array in half.parameters()} == {torch.bfloat16}
    assert torch.isfinite(half(IDS).logits).all()


@pytest.mark.parametrize("name", MODELS)
def test_trains_and_generates(name: str, tmp_path: Path) -> None:
    """After loading: a training step moves all trainable arrays, and generate gives tokens."""
    compressed(name).save_pretrained(tmp_path)
    model = AUTO[name].from_pretrained(tmp_path)
    before = {key: array.detach().clone() for key, array in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    labels = {"labels": IDS if name != "bert" else torch.tensor([0, 1])}
    first = model.train()(IDS, **labels).loss
    first.backward()
    optimizer.step()
    for key, one in model.named_modules():
        if key in layers_of(model):
            for tensor, array in one.named_parameters():
                assert not torch.equal(array, before[f"{key}.{tensor}"]), (key, tensor)
    if name != "bert":
        tokens = model.eval().generate(
            IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=3, min_new_tokens=3
        )
        assert tokens.shape == (2, 7)


@pytest.mark.parametrize(
    "name", ["llama", *(pytest.param(name, marks=pytest.mark.full) for name in ("gpt2", "bert"))]
)
def test_compiles(name: str) -> None:
    """torch.compile gives the same logits."""
    model = compressed(name)
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(IDS).logits, model(IDS).logits)


def test_another_process(tmp_path: Path) -> None:
    """A fresh process loads it after one import."""
    compressed("gpt2").save_pretrained(tmp_path)
    program = (
        "import torch, tnlayer.huggingface, transformers\n"
        f"model = transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})\n"
        "print(type(model.transformer.h[0].attn.c_attn).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "Layer", done.stderr


def test_wrong_records(tmp_path: Path) -> None:
    """A config.json that does not fit the model is a SpecError."""
    compressed("gpt2").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    good = path.read_text()
    for change in (
        lambda modules: modules.update({"transformer.nowhere": next(iter(modules.values()))}),
        lambda modules: next(iter(modules.values())).update(kind="os.system"),
        lambda modules: modules.update({"transformer.ln_f": next(iter(modules.values()))}),
        lambda modules: next(iter(modules.values())).update(networks=[]),
    ):
        document = json.loads(good)
        change(document["quantization_config"]["modules"])
        path.write_text(json.dumps(document))
        with pytest.raises(tn.SpecError):
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    document = json.loads(good)
    document["quantization_config"]["version"] = 2
    path.write_text(json.dumps(document))
    with pytest.raises(tn.SpecError, match="version 2"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
