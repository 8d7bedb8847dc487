"""The benchmark of models: its GPT learns, its table has each cell, and what it reads of wheels is
tried on small models made here: nothing is downloaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.common.baselines import CannotRun
from benchmarks.models import cases, gpt, rapidocr, reactions, run, rxnmapper, wheels
from benchmarks.models.cases import Case
from benchmarks.models.gpt import Gpt, Size, train, validation_loss
from benchmarks.models.measures import Times, in_turns
from benchmarks.models.onnx_graph import OnnxGraph
from benchmarks.models.text import Text

SIZE = Size(width=16, layers=1, heads=2, length=8, batch=4, steps=30, rate=1e-2)


def made() -> Text:
    """A text of one sentence again and again."""
    sentence = "the cat sat on the mat. "
    alphabet = "".join(sorted(set(sentence)))
    data = torch.tensor([alphabet.index(c) for c in sentence * 600])
    return Text(data[:-6000], data[-6000:], alphabet)


def test_training_lowers_the_loss() -> None:
    """A few steps on such a text are enough."""
    text = made()
    model = Gpt(SIZE, len(text.alphabet))
    held_out = text.held_out(32, SIZE.length)
    before = validation_loss(model, held_out)
    train(model, text, SIZE, SIZE.steps, rate=SIZE.rate, seed=0, shown=False)
    assert validation_loss(model, held_out) < 0.6 * before


def test_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells of a topology, whitened and not, and of plain torch; what cannot be had says why."""
    monkeypatch.setattr(gpt, "load_text", made)
    monkeypatch.setattr(run, "MODELS", {"gpt": lambda: gpt.workload(SIZE)})
    monkeypatch.setattr(run, "times", lambda *_: (Times(1.0, 2.0), Times(3.0, 3.0)))  # type: ignore[misc]
    monkeypatch.setattr(run, "training_memory", lambda *_: 1000)  # type: ignore[misc]
    names = f"low rank;{cases.SVD}"
    words = ["--model", "gpt", "--backend", "torch", "--only", names]
    run.main([*words, "--levels", "4", "--output", str(tmp_path)])
    document = json.loads((tmp_path / "models-gpt.json").read_text())
    found = {(c["name"], c["level"], c["whitened"]): c for c in document["cells"]}
    plain, ours = found[(cases.SVD, 4.0, False)], found[("low rank", 4.0, False)]
    assert plain["replaced"] == ours["replaced"] == 4
    assert plain["before"]["loss"] == pytest.approx(ours["before"]["loss"], rel=1e-4)
    assert ours["parameters"] < document["dense"]["parameters"]
    assert ours["faster_1"] == 2.0 and ours["training_bytes"] == 1000
    assert found[("low rank", 4.0, True)]["whitened_residual"] > 0
    assert "processor times" in document["how"]
    assert capsys.readouterr().out.count("low rank") >= 4
    nothing = replace(gpt.workload(replace(SIZE, steps=0)), is_matrix=lambda *_: False)
    cell = run.run_case(Case("tensorly-torch cp", 4.0, False), nothing, {})
    assert "takes nn.Linear" in cell.error and cell.before is None


def test_turns_are_medians_of_processor_time() -> None:
    """A call that does more takes longer."""
    x = torch.ones(400, 400)
    found = in_turns({"one": lambda: x @ x, "ten": lambda: [x @ x for _ in range(10)]}, 0.05)
    assert found["ten"] > 3 * found["one"]


def test_two_linears_have_no_more_parameters_than_asked() -> None:
    """And are the best of their rank, of a linear module and of a convolution of 1 x 1."""
    linear, conv = nn.Linear(24, 16), nn.Conv2d(24, 16, 1)
    for module in (linear, conv):
        found = cases._two_linears(module, Case(cases.SVD, 3.0, False))
        assert found is not None
        entries = sum(part.weight.numel() for part in found)  # type: ignore[misc]
        assert entries <= module.weight.numel() / 3
        values = torch.linalg.svdvals(module.weight.detach().reshape(16, 24))
        least = float(values[3:].norm() / values.norm())
        assert cases._error(module, found) == pytest.approx(least, rel=1e-4)


# -- reactions -------------------------------------------------------------------------------------

LINES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "C", "O", "Br", ">>", ".", "[O-]"]


def test_only_hidden_tokens_count() -> None:
    """Labels are the hidden tokens, one a row at least; the loss is of these alone."""
    words = reactions.Vocabulary.of(LINES)
    batch = words.encode(["CO.BrC>>COC", "CC>>C"])
    assert batch["attention_mask"].sum(-1).tolist() == [11, 6]
    shown, labels = words.masked(batch, torch.Generator().manual_seed(0), share=0.3)
    hidden = labels != reactions.IGNORED
    assert bool(hidden.any(-1).all())
    assert bool((shown["input_ids"][hidden] == words.mask).all())
    assert torch.equal(shown["input_ids"][~hidden], batch["input_ids"][~hidden])
    assert bool((labels[hidden] > words.mask).all())
    logits = torch.zeros(*labels.shape, len(LINES))
    logits[hidden] = 20 * nn.functional.one_hot(labels[hidden], len(LINES)).float()
    assert float(reactions.masked_loss(logits, labels)) < 1e-6
    assert words.knows("CO>>C") and not words.knows("CN>>C")


def test_attention_says_which_atom_was_which() -> None:
    """The strongest pairs first, each atom once, other elements never."""
    reaction = "CCO.Br>>OC"  # tokens 1 to 8: C C O . Br >> O C
    attention = torch.zeros(10, 10)
    attention[8, 2], attention[1, 8] = 0.9, 0.8  # the carbon: its own look, and that of another
    attention[7, 5] = 1.0  # to another element
    assert reactions.atom_mapping(reaction, attention) == [2, 1]
    attention[1, 8] = 0.95
    assert reactions.atom_mapping(reaction, attention) == [2, 0]
    assert reactions.agreement([[2, 1]], [[2, 0]]) == 0.5
    assert reactions.atom_mapping("C>>CC", torch.zeros(6, 6)) == [0, -1]


def test_reactions_of_the_scores_are_not_those_of_healing() -> None:
    """Made-up ones come from other groups."""
    seen, held_out = reactions.made_up(*reactions.SEEN), reactions.made_up(*reactions.HELD_OUT)
    assert len(seen) > 100 and not set(seen) & set(held_out)


def test_a_wheel_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so, with what to do."""
    monkeypatch.setattr(wheels, "user_cache_path", lambda _: tmp_path)
    with pytest.raises(CannotRun, match="python -m benchmarks"):
        wheels.unpacked("rxnmapper", "0.0", download=False)


def test_the_trained_model_maps_as_its_package_does() -> None:
    """The mapping in rxnmapper's own description, where the wheel was unpacked before."""
    try:
        folder = wheels.unpacked("rxnmapper", rxnmapper.VERSION, download=False)
    except CannotRun as error:
        pytest.skip(str(error))
    place = folder / "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
    lines = (place / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = reactions.Vocabulary.of(lines)
    reaction = "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F"
    (found,) = rxnmapper.mapping(rxnmapper.load(place), vocabulary, [reaction])
    assert found == [0, 1, 2, 3, 15, 14, 13, 12, 11, 10, 9]


# -- an ONNX graph ---------------------------------------------------------------------------------


def graph() -> Any:
    """A convolution, a norm, a pool and a product with a trained matrix."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)

    def array(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(random.random(shape, dtype=np.float32), name)

    weights = [array("k", 6, 4, 1, 1), array("kb", 6), array("w", 6, 5), array("half", 1)]
    weights += [array(name, 6) for name in ("scale", "shift", "mean", "var")]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "k", "kb"], ["a"]),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"], epsilon=1e-3),
        node("HardSigmoid", ["b"], ["c"], alpha=0.3, beta=0.4),
        node("GlobalAveragePool", ["c"], ["d"]),
        node("Squeeze", ["d"], ["e"], axes=[2, 3]),
        node("MatMul", ["e", "w"], ["f"]),
        node("Mul", ["f", "half"], ["g"]),
        node("Softmax", ["g"], ["y"], axis=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    opset = [helper.make_opsetid("", 12)]
    made = helper.make_graph(nodes, "small", [x], [y], weights)
    return helper.make_model(made, opset_imports=opset, ir_version=8)


def test_a_graph_gives_what_onnxruntime_gives() -> None:
    """Its trained matrices are modules, and a compression of full rank changes nothing."""
    import onnxruntime

    import tnlayer as tn

    proto = graph()
    model = OnnxGraph(proto)
    kinds = [type(one) for one in model.matrices.values()]
    assert kinds == [nn.Conv2d, nn.Linear]
    x = torch.rand(2, 4, 3, 3)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    results: list[Any] = [*session.run(None, {"x": x.numpy()})]
    expected = np.asarray(results[0], dtype=np.float32)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)

    def full(module: Any, name: str) -> Any:
        del name
        outputs, features = module.weight.shape[:2]
        return tn.topologies.low_rank(features, outputs, rank=min(features, outputs))

    report = tn.compress(model, full, backend="torch")
    assert len(report.replaced) == 2
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_operation_that_is_not_known() -> None:
    """Is named."""
    proto = graph()
    proto.graph.node[2].op_type = "Mish"
    with pytest.raises(CannotRun, match="Mish"):
        OnnxGraph(proto)


def test_words_are_drawn_and_read() -> None:
    """An image in the model's range; repeats and blanks are left out of what is read."""
    image = rapidocr.drawn("Word")
    assert image.shape == (1, 3, rapidocr.HEIGHT, rapidocr.WIDTH)
    assert float(image.min()) < -0.9 and float(image.max()) == 1.0
    places = torch.eye(3)[torch.tensor([[0, 1, 1, 0, 1, 2]])]
    assert rapidocr.decode(places, ["", "a", "b"]) == ["aab"]
    assert float(rapidocr.distance(places, places)) == pytest.approx(0.0, abs=1e-6)
