"""The examples run end to end, on small sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from examples import demo, million, mps_digits, new_factorization

PNG = b"\x89PNG\r\n\x1a\n"


def test_demo_prints_one_line_a_layer_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make demo` in small: four lines with accuracies that training made, and two pictures."""
    demo.main(["--legs", "8", "--epochs", "3", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    rows = {words[0]: words for words in lines if words and words[0] in demo.networks(8)}
    assert list(rows) == ["dense", "TT", "tree", "MERA"]
    assert rows["dense"][1:3] == [f"{2**16:,}", "1x"]
    for row in rows.values():
        accuracy = float(row[5].removesuffix("%"))
        assert accuracy > 80, printed
    for name in ("mera_network.png", "mera_contraction_tree.png"):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 10_000


def test_demo_compares_layers_of_one_size() -> None:
    """The four networks map 4096 features to 4096, and the dense one has all the entries."""
    networks = demo.networks(12)
    assert {(net.in_features, net.out_features) for net in networks.values()} == {(4096, 4096)}
    assert networks["dense"].parameter_count == 4096**2
    assert all(networks[name].parameter_count < 2000 for name in ("TT", "tree", "MERA"))


def test_digits_are_split_the_same_way_every_time() -> None:
    """Loading twice gives the same 1437 and 360 images."""
    first, second = demo.load(), demo.load()
    assert first.train_x.shape == (1437, 64)
    assert first.test_x.shape == (360, 64)
    assert torch.equal(first.train_x, second.train_x)
    assert torch.equal(first.test_y, second.test_y)


def test_ladder_is_the_product_of_its_cores() -> None:
    """The ladder layer equals an einsum over its cores, written out by hand."""
    net = new_factorization.ladder((2, 3), (4, 5), rail=2, rung=3)
    layer = tn.Layer(net, dtype=torch.float64)
    cores = dict(layer.named_parameters())
    x = torch.randn(7, 6, dtype=torch.float64)
    y = torch.einsum(
        "zab,acr,bdr,ecs,fds->zef",
        x.reshape(7, 2, 3),
        cores["A0"],
        cores["A1"],
        cores["B0"],
        cores["B1"],
    )
    assert torch.allclose(layer(x), y.reshape(7, 20))


def test_new_factorization_trains(capsys: pytest.CaptureFixture[str]) -> None:
    """The example learns the digits well within its few seconds."""
    new_factorization.main(["--epochs", "8"])
    printed = capsys.readouterr().out
    accuracy = float(printed.rpartition("accuracy ")[2].partition("%")[0])
    assert accuracy > 90, printed


def test_a_matrix_product_state_learns_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """The example in small: a few epochs are enough to read most of the digits. The test images are
    read once, at the end."""
    before = torch.get_num_threads()
    try:
        mps_digits.main(["--bond", "6", "--epochs", "6"])
    finally:
        torch.set_num_threads(before)
    printed = capsys.readouterr().out
    *_, last, size, best, test = printed.splitlines()
    assert last.startswith("epoch 6: train")
    assert size.startswith("64 cores, bond 6")
    assert "best on validation" in best
    assert printed.count("test") == 1
    assert float(test.rpartition(" ")[2].removesuffix("%")) > 45, printed


def test_digits_have_a_part_to_choose_by() -> None:
    """All 1797 images once: to train with, to choose by, to test with; the same ones every time."""
    digits, again = mps_digits.load(), mps_digits.load()
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part.y) for part in parts] == [1149, 288, 360]
    images = torch.cat([part.x.flatten(1) for part in parts])
    assert len({tuple(image.tolist()) for image in images}) == 1797
    assert torch.equal(digits.validation.x, again.validation.x)
    assert torch.equal(digits.test.x, again.test.x)
    assert all(part.y.bincount().min() >= 0.09 * len(part.y) for part in parts)


def test_training_and_the_search_see_no_test_image(capsys: pytest.CaptureFixture[str]) -> None:
    """The layer is the one that is best on validation, whatever the test images are."""
    digits = mps_digits.load()
    few = mps_digits.Images(digits.train.x[:64], digits.train.y[:64])
    unseen = mps_digits.Images(torch.full((1, 8, 8), torch.nan), torch.zeros(1, dtype=torch.int64))
    small = replace(digits, train=few, test=unseen)
    setting = mps_digits.Setting(bond=3)
    results: list[dict[str, torch.Tensor]] = []
    for part in (small, replace(small, test=digits.test)):
        torch.manual_seed(3)
        layer, epoch = mps_digits.train(part, setting, epochs=2, shows=False)
        assert 1 <= epoch <= 2
        results.append(layer.state_dict())
    assert all(torch.equal(results[0][name], array) for name, array in results[1].items())
    mps_digits.search(small, [setting], epochs=1, seed=0)
    assert "validation" in capsys.readouterr().out


def test_million_in_small(capsys: pytest.CaptureFixture[str]) -> None:
    """On 2^6 features both layers get below their start, and neither below the best filter."""
    million.main(["--legs", "6", "--steps", "80", "--batch", "64"])
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.startswith(("MERA-2 ", "TT "))]
    assert [row[0] for row in rows] == ["MERA-2", "TT"]
    floor = million.wiener_error(64)
    for _, parameters, start, trained, _ in rows:
        assert 100 < int(parameters) < 300
        assert floor - 0.1 < float(trained) < 0.7 * float(start), printed


def test_million_starts_near_the_identity() -> None:
    """Without noise both networks are the identity: the outputs' order undoes MERA's."""
    for net in (million.mera(6, 2), million.mera(5, 3), million.tensor_train(6, 200)):
        layer = tn.Layer(net)
        million.start_near_identity(layer, noise=0.0)
        assert torch.allclose(layer.to_dense(), torch.eye(net.in_features), atol=1e-6)


def test_million_task_has_the_best_error_that_it_tells() -> None:
    """Wiener's filter, applied to drawn signals, reaches the error that the formula gives."""
    x, y = million.draw(512, 400, torch.Generator().manual_seed(3))
    power = million.spectrum(512)
    filtered = torch.fft.irfft(torch.fft.rfft(x) * (power / (power + 1)).float(), n=512)
    assert float((filtered - y).square().mean()) == pytest.approx(
        million.wiener_error(512), rel=0.02
    )
    assert float(y.square().mean()) == pytest.approx(1, rel=0.1)
