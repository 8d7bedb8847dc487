"""Memory that calls reuse: nobody's array is overwritten, and little is kept."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tnlayer.runtime import scratch
from tnlayer.runtime.scratch import SCRATCH, Scratch

ROW = torch.empty(0)
MEBI = 2**20
SHAPE = (1024, 512)


@pytest.fixture(autouse=True)
def empty_scratch() -> None:
    """Each test starts without blocks."""
    SCRATCH.clear()


def take(pool: Scratch, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """An array that comes from a block."""
    array = pool.take(shape, ROW)
    assert array is not None
    return array


def test_a_block_serves_again_when_nothing_refers_to_it() -> None:
    """The second array lies where the first one lay, once that is gone with all its views."""
    pool = Scratch()
    first = take(pool)
    place, view = first.data_ptr(), first.reshape(-1)[5:9]
    del first
    assert take(pool).data_ptr() != place
    del view
    assert take(pool).data_ptr() in (place, pool._blocks[1].array.data_ptr())
    assert pool.kept_bytes == 2 * 2 * MEBI


@pytest.mark.parametrize("keep", ["numpy", "detach", "saved"])
def test_whatever_keeps_an_array_keeps_its_block(keep: str) -> None:
    """A numpy array, a detached tensor and what autograd saved hold a block as a tensor does."""
    pool = Scratch()
    array = take(pool)
    if keep == "numpy":
        held: object = array.numpy()
    elif keep == "detach":
        held = array.detach()
    else:
        held = (torch.ones(SHAPE, requires_grad=True) * array).sum()
    place = array.data_ptr()
    del array
    other = take(pool)
    assert other.data_ptr() != place
    del held, other


def test_small_arrays_and_other_devices_are_not_served() -> None:
    """Below a megabyte, above the limit and off the CPU a fresh array is as good."""
    pool = Scratch()
    assert pool.take((100,), ROW) is None
    assert pool.take((MEBI,), torch.empty(0, device="meta")) is None
    pool.limit = MEBI
    assert pool.take(SHAPE, ROW) is None


def test_the_limit_holds() -> None:
    """Free blocks go before the limit is passed, and blocks in use are never taken away."""
    pool = Scratch()
    pool.limit = 5 * MEBI
    first = take(pool)
    second = take(pool)
    assert pool.take(SHAPE, ROW) is None
    del second
    larger = pool.take((3 * MEBI // 4,), ROW)
    assert larger is not None and pool.kept_bytes == 5 * MEBI
    first.fill_(1.0)
    larger.fill_(2.0)
    assert bool((first == 1).all())


@pytest.mark.parametrize("text", ["-1", "much", "1.5"])
def test_the_switch_is_checked(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TNLAYER_SCRATCH is a whole number of MiB; 0 keeps nothing."""
    monkeypatch.setenv("TNLAYER_SCRATCH", text)
    with pytest.raises(tn.SpecError, match="whole number of MiB"):
        scratch.scratch_limit()
    monkeypatch.setenv("TNLAYER_SCRATCH", "0")
    assert scratch.scratch_limit() == 0


def large_layer() -> tn.Layer:
    """A layer whose intermediates at batch 300 are larger than a megabyte."""
    return tn.Layer(tn.topologies.tensor_train((8,) * 3, (8,) * 3, 8), batch=300)


def test_results_and_gradients_are_not_overwritten() -> None:
    """y, the gradients and what a retained graph saved stay as they are while calls go on."""
    layer = large_layer()
    x = torch.randn(900, 512, requires_grad=True)
    weights = [x, *layer.parameters()]
    y = layer(x)
    kept = y.detach().clone()
    once = [g.clone() for g in torch.autograd.grad(y.sum(), weights, retain_graph=True)]
    others = [layer(torch.randn(900, 512, requires_grad=True)) for _ in range(3)]
    sum(other.sum() for other in others).backward()  # type: ignore[union-attr]
    assert SCRATCH.kept_bytes > 0
    assert torch.equal(y, kept)
    again = torch.autograd.grad(y.sum(), weights)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_saved_tensor_hooks_may_keep_what_they_get() -> None:
    """A hook that keeps the saved arrays themselves finds them as they were."""
    layer, kept = large_layer(), []
    x = torch.randn(900, 512, requires_grad=True)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append((tensor, tensor.clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    y.sum().backward()
    del y
    layer(x).sum().backward()
    assert kept and all(torch.equal(tensor, copy) for tensor, copy in kept)


def test_inference_mode_and_training_share_blocks() -> None:
    """Blocks made in inference mode serve training, and the other way round."""
    layer, x = large_layer(), torch.randn(900, 512)
    with torch.inference_mode():
        inferred = layer(x).clone()
    trained = layer(x)
    trained.sum().backward()
    with torch.inference_mode():
        assert torch.equal(layer(x), inferred)
    assert torch.allclose(trained.detach(), inferred.clone(), atol=1e-5)


def test_threads_do_not_share_an_array() -> None:
    """Sixteen threads that call one layer get what one thread gets."""
    layer = large_layer()
    inputs = [torch.randn(700, 512) for _ in range(16)]
    with torch.no_grad():
        expected = [layer(x) for x in inputs]
    found: list[torch.Tensor | None] = [None] * len(inputs)

    def call(number: int) -> None:
        with torch.no_grad():
            for _ in range(3):
                found[number] = layer(inputs[number])

    threads = [threading.Thread(target=call, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True) if b is not None)
    assert None not in found


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("shape", [(64, 64, 128), (2, 1024, 1024), (3, 2, 2), (1, 512, 512)])
def test_products_with_one_column(shape: tuple[int, int, int], is_transposed: bool) -> None:
    """Large ones run as rows times transposes, with the same result, shape and FLOPs as bmm's."""
    batch, rows, summed = shape
    generator = torch.Generator().manual_seed(5)
    left = torch.randn(batch, rows, summed, generator=generator)
    left = left.mT.contiguous().mT if is_transposed else left
    for right in (
        torch.randn(batch, summed, 1, generator=generator),
        torch.randn(summed, batch, 1, generator=generator).transpose(0, 1),
    ):
        with FlopCounterMode(display=False) as ours:
            found = scratch.bmm(left, right)
        with FlopCounterMode(display=False) as theirs:
            torch.bmm(left, right)
        assert found.shape == (batch, rows, 1) and found.is_contiguous()
        expected = torch.bmm(left.double(), right.double())
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
        assert ours.get_total_flops() == theirs.get_total_flops()
