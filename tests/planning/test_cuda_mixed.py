"""Plans for CUDA devices: which steps kernels do and which torch; and a mixture that runs.

What is chosen rests on a time model of datasheet figures; that the choice is the faster one was
never measured. The tests hold what must come out whatever the exact figures are.
"""

from __future__ import annotations

import copy
import ctypes
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.emulated import emulated_gpu, launches
from tests.support.nvidia_tools import needs_nvrtc
from tests.support.small_topologies import distance, filled, results
from tnlayer import topologies
from tnlayer.backends.builtin import cuda as cuda_backend
from tnlayer.backends.cuda_program import CudaProgram
from tnlayer.backends.lowered_for_gpu import LoweredForGpu
from tnlayer.backends.mixed_program import MixedProgram
from tnlayer.dispatch import available_backends
from tnlayer.hardware.datasheets import H100, RECORDS, record_of
from tnlayer.hardware.gpu import gpu_of
from tnlayer.hardware.profile.derived import derived_profiles
from tnlayer.hardware.profile.load import load_profile, op_times
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.cuts import batched_steps
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.lowering.gpu.pipeline import schedule_backward, schedule_forward
from tnlayer.planning.planner import PlannedGraph, Request, plan_graph
from tnlayer.planning.predictions import predict_dense
from tnlayer.runtime.program import Program
from tnlayer.targets.target import target_for
from tnlayer.time_models import gpu_kernels
from tnlayer.time_models.gpu_kernels import (
    staged_bytes,
    workspace_bytes,
)

__all__ = ["emulated_gpu"]  # the fixture

T = topologies
GPU = gpu_of("sm_90")
SMALL_BONDS: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: T.mera(12, 2),
    "butterfly": lambda: T.butterfly(1024),
    "bits": lambda: T.tensor_train((2,) * 12, (2,) * 12, rank=3),
}
LARGE_BONDS: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: T.tensor_train((16, 16, 16), (16, 16, 16), rank=64),
    "btt": lambda: T.btt((64, 64), (64, 64), 4),
    "low_rank": lambda: T.low_rank(4096, 4096, rank=64),
}


@pytest.fixture(autouse=True)
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto means auto here."""
    monkeypatch.delenv("TNLAYER_BACKEND", raising=False)


def uneven(bits: int = 9, side: int = 64, depth: int = 4) -> tn.Network:
    """A circuit on legs of 2 beside a leg that one large tensor contracts."""
    net = tn.Network("uneven")
    legs = list(net.input([2] * bits + [side]))
    for layer in range(depth):
        for k in range(layer % 2, bits - 1, 2):
            pair = net.tensor(f"G{layer}_{k}", legs[k : k + 2], out=(2, 2))
            legs[k], legs[k + 1] = pair
    (wide,) = net.tensor("W", legs[-3:], out=(4 * side,))
    net.output([*legs[:-3], wide])
    return net


def planned(net: tn.Network, batch: int, backend: str, **options: object) -> PlannedGraph:
    """What a backend takes on an H100."""
    asked = Request(batch, backend=backend, device="cuda", gpu=GPU, **options)  # type: ignore[arg-type]
    return plan_graph(net, asked)


def lowered(plan: Plan, mask: tuple[bool, ...]) -> LoweredForGpu:
    """The plan as kernels."""
    return LoweredForGpu("cuda", plan, mask, target_for(plan.dtype, "cuda", gpu=GPU))


# -- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL_BONDS)
def test_steps_add_up_to_the_whole(name: str) -> None:
    """Shares of steps are not negative and sum to the prediction; more samples take longer."""
    plan = tn.plan(SMALL_BONDS[name](), batch=64, minimize="flops")
    mask = (True,) * len(plan.inputs)
    kernels = lowered(plan, mask)
    before = 0.0
    for batch in (1, 64, 4096, 65536):
        whole = kernels.own_seconds(batch)
        steps = kernels.shares(batch)
        assert sum(steps.values()) == pytest.approx(whole.total)
        assert min(steps.values()) >= 0.0
        assert whole.total >= before and whole.backward > 0.0
        before = whole.total
    assert {step.result.name for step in plan.steps} == steps.keys() - {""}
    assert lowered(plan, (False,) * len(mask)).own_seconds(64).backward == 0.0


def test_no_prediction_is_below_what_the_device_can_do() -> None:
    """MERA-2's forward at batch 4096 takes no less than its multiply-adds and bytes at the peak,
    and no more than four times that: kernels.md's roofline has 38 and 40 us."""
    plan = tn.plan(T.mera(12, 2), batch=64, minimize="flops")
    found = lowered(plan, (False,) * len(plan.inputs)).own_seconds(4096).forward
    peak = 2 * 128 * H100.multiprocessors * H100.clock
    floor = max(plan.counts.flops.at(4096) / peak, 4096 * 2 * 4096 * 4 / H100.memory_rate)
    assert floor < found < 4 * floor


def test_the_derived_profile_is_told_as_such() -> None:
    """Without a measured profile a GPU's is computed from its datasheet, and says so; its products
    are no faster than the datasheet, dense layers as fast as the roofline."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device may have a measured profile")
    loaded = load_profile("float32", "cuda")
    assert loaded.profile.device == "cuda" and "nothing was measured" in loaded.source
    assert (
        loaded.measured is None
        and "nothing was measured"
        in tn.cost(T.low_rank(8, 8, rank=2), batch=8, device="cuda").profile
    )
    times = op_times("float32", "cuda")
    assert 2 * 4096**3 / times.mm(4096, 4096, 4096) <= dict(H100.flops)["float32"] * 1.001
    graph = T.mera(12, 2).freeze()
    dense = predict_dense(graph, 4096, times)
    assert 2000e-6 < dense.forward < 4000e-6
    assert len({profile.digest for profile in derived_profiles()}) == len(derived_profiles())
    assert {record_of(r.arch) for r in RECORDS} == set(RECORDS)


# -- the choice ----------------------------------------------------------------------------------


@pytest.mark.crossed
@pytest.mark.parametrize(("backend", "batch"), [("auto", 64), ("cuda", 4096)])
@pytest.mark.parametrize("name", SMALL_BONDS)
def test_small_bonds_are_one_fused_kernel(name: str, batch: int, backend: str) -> None:
    """Circuits of small gates run as CUDA kernels as a whole."""
    plan = planned(SMALL_BONDS[name](), batch, backend).plan
    assert plan.regions == (BackendSpan("cuda", len(batched_steps(plan))),)


@pytest.mark.parametrize("backend", ["auto", "cuda"])
@pytest.mark.parametrize("name", LARGE_BONDS)
def test_large_bonds_go_to_the_blas(name: str, backend: str) -> None:
    """Steps with large bonds are torch's, whichever backend was asked for."""
    plan = planned(LARGE_BONDS[name](), 4096, backend).plan
    assert {region.backend for region in plan.regions} <= {"torch"}
    assert plan.backend == "torch"


def test_w_is_rebuilt_where_that_is_faster() -> None:
    """Rank 64 at batch 4096: one product with W, which is made of the cores before."""
    plan = planned(LARGE_BONDS["tensor_train"](), 4096, "cuda").plan
    assert len(batched_steps(plan)) == 1 and len(plan.branch_steps) == 2
    assert plan.minimize in ("rebuild", "combo-64")  # two orders to make W in


def test_a_plan_has_kernels_and_calls_of_the_blas() -> None:
    """A circuit with one large tensor: the gates in CUDA kernels, the tensor in torch."""
    for backend in ("auto", "cuda"):
        plan = planned(uneven(), 64, backend, effort="fast").plan
        kinds = [region.backend for region in plan.regions]
        assert plan.backend == "mixed" and "cuda" in kinds and kinds.count("torch") == 1
        starts = [sum(r.steps for r in plan.regions[:n]) for n in range(len(kinds))]
        start = starts[kinds.index("torch")]
        region = plan.regions[kinds.index("torch")]
        steps = batched_steps(plan)[start : start + region.steps]
        (large,) = [value for value in plan.parameters if len(value.legs) == 4 and
                    max(plan.sizes[leg] for leg in value.legs) == 256]  # fmt: skip
        read = {operand.value.name for step in steps for operand in step.operands}
        assert large.name in read


def test_auto_on_a_gpu_needs_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NVRTC auto is torch on a CUDA device, and says what to install."""

    def none() -> None:
        msg = "NVRTC is missing: pip install 'tnlayer[cuda]'"
        raise tn.BuildError(msg)

    assert available_backends.taken_backend("auto", "cuda")[0] in ("auto", "torch")
    monkeypatch.setattr(cuda_backend, "find_nvrtc", none)
    taken, why = available_backends.taken_backend("auto", "cuda")
    assert taken == "torch" and "pip install" in why
    options = available_backends.request_for(Request(64, backend="auto", device="cuda"))
    assert options.gpu is None and options.cpu is None and options.backend == "torch"


# -- states that shared memory does not hold -----------------------------------------------------


def wide(bits: int) -> tn.Network:
    """A circuit on a state of 2^bits entries: a gate on each pair of neighbours."""
    return T.brickwall(bits, dim=2, depth=1)


@pytest.mark.parametrize("bits", [16, 18])
def test_large_states_go_through_l2(bits: int) -> None:
    """A state of more than 2^15 entries is not refused: it has a place for each block in global
    memory, no more than the blocks of the grid need, whatever the batch."""
    plan = tn.plan(wide(bits), batch=64, minimize="flops", effort="fast")
    wanted = [value.name for value in plan.inputs]
    for scheduled in (schedule_forward(plan, GPU), schedule_backward(plan, wanted, GPU)):
        assert scheduled.layout.block * 4 <= GPU.shared_bytes
        assert staged_bytes(scheduled) >= 4 * 2**bits
        blocks = scheduled.together * H100.multiprocessors
        assert (
            workspace_bytes(scheduled, GPU) <= blocks * 4 * 2**bits * 12 + scheduled.layout.call * 4
        )
        assert scheduled.segments > 1


def test_cost_tells_of_staged_states() -> None:
    """The workspace of the kernels, the same at every batch size, and that states go through L2."""
    costs = [
        tn.cost(wide(16), batch=batch, backend="cuda", minimize="flops", effort="fast")
        for batch in (1, 1024)
    ]
    assert {cost.backend for cost in costs} == {"cuda"}
    plan = costs[0].plan
    one, many = (cost.kernel_bytes() for cost in costs)
    assert one == many == lowered(plan, (True,) * len(plan.inputs)).workspace > 4 * 2**16
    text = costs[0].steps_text()
    assert "go through L2" in text and "bytes of workspace at any batch" in text


@pytest.mark.parametrize("bits", [16, 18])
def test_large_states_are_exact(emulated_gpu: ctypes.CDLL, bits: int) -> None:
    """Value and gradients of a circuit on so many entries."""
    net = T.brickwall(bits, dim=2, depth=1)
    program = tn.compile(net, backend="cuda", arch="sm_90", minimize="flops", effort="fast")
    assert isinstance(program, CudaProgram)
    exact = tn.compile(net, backend="torch", dtype="float64", minimize="flops", effort="fast")
    torch.manual_seed(0)
    batch = 5 if bits == 16 else 1
    x = torch.randn(batch, 2**bits, requires_grad=True)
    slope = torch.randn(batch, 2**bits)
    gates = {p.name: torch.randn(p.shape, requires_grad=True) for p in net.freeze().parameters}
    y = program(x, parameters=gates)
    found = [y, *torch.autograd.grad(y, [x, *gates.values()], slope)]
    grids = [one.grid for one in launches() if one.name in ("forward", "backward")]
    assert len(grids) == 2 and max(grids) <= batch
    double = {name: gate.detach().double().requires_grad_() for name, gate in gates.items()}
    again = x.detach().double().requires_grad_()
    right = exact(again, parameters=double)
    expected = [right, *torch.autograd.grad(right, [again, *double.values()], slope.double())]
    for one, other in zip(found, expected, strict=True):
        assert distance(one.detach(), other.detach()) < 1e-5


def test_states_stay_in_shared_memory_where_a_tree_lets_them() -> None:
    """Where one order of two tensors makes a state of 2^16 entries and the other one of 2^8, all
    states of the plan that is taken fit shared memory."""
    net = tn.Network("bulge")
    a, b = net.input([64, 64])
    # First the tensor that makes the state large, or first the one that makes it small.
    (wide_leg,) = net.tensor("A", [a], out=(1024,))
    (narrow,) = net.tensor("B", [b], out=(4,))
    net.output([wide_leg, narrow])
    found = planned(net, 64, "cuda").plan
    largest = max(found.bytes_of(s.result).at(1) for s in batched_steps(found)) // 4
    assert 4 * largest <= GPU.shared_bytes and largest <= 2**12


def test_staged_states_cost_more() -> None:
    """The model charges the way through L2: a sample of 2^16 entries takes more than twice as long
    as one of 2^15, of which it has twice as much work."""
    spent: list[float] = []
    for bits in (14, 16):
        plan = tn.plan(wide(bits), batch=64, minimize="flops", effort="fast")
        mask = (True,) * len(plan.inputs)
        spent.append(lowered(plan, mask).own_seconds(4096).total)
    assert spent[1] > 6 * spent[0]


def test_states_beyond_l2_come_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """States of a full grid that L2 does not hold take the time of memory; those of a few blocks do
    not."""
    plan = tn.plan(wide(18), batch=64, minimize="flops", effort="fast")
    mask = (True,) * len(plan.inputs)

    def spent(batch: int, cache: int) -> float:
        record = replace(H100, cache_bytes=cache)
        monkeypatch.setattr(gpu_kernels, "record_of", lambda arch: record)
        return lowered(plan, mask).own_seconds(batch).forward

    assert spent(4096, H100.cache_bytes) > 1.5 * spent(4096, 2**40)
    assert spent(4, H100.cache_bytes) == spent(4, 2**40)


# -- a mixture that runs -------------------------------------------------------------------------


def mixed(net: tn.Network, dtype: torch.dtype = torch.float32) -> tuple[tn.Layer, MixedProgram]:
    """A layer with a mixture that is put there, whatever the planner would take."""
    layer = filled(net, "cuda", dtype)
    (ranged,) = layer._programs_for(dtype)
    plan = tn.compile(net, backend="torch", minimize="flops", batch=64,
                      dtype=str(dtype).removeprefix("torch.")).plan  # fmt: skip
    total = len(batched_steps(plan))
    third = total // 3
    regions = (
        BackendSpan("cuda", third),
        BackendSpan("torch", 1),
        BackendSpan("cuda", total - third - 1),
    )
    program = MixedProgram(
        ranged.graph, replace(plan, regions=regions).verify(), ranged.main.tensor_names
    )
    ranged.replace_range(BatchRange(), program)
    return layer, program


def exact_results(net: tn.Network, layer: tn.Layer, x: torch.Tensor, slope: torch.Tensor
                  ) -> list[torch.Tensor]:  # fmt: skip
    """In double precision by torch."""
    exact = filled(net, "torch", torch.float64)
    exact.load_state_dict({key: value.double() for key, value in layer.state_dict().items()})
    return results(exact, x.double(), slope.double())


@pytest.mark.parametrize("batch", [0, 37])
def test_kernels_and_torch_together_are_exact(emulated_gpu: ctypes.CDLL, batch: int) -> None:
    """Two regions of CUDA kernels around one of torch: value and all gradients."""
    net = T.mera(6, 2, 2)
    layer, program = mixed(net)
    x, slope = torch.randn(batch, layer.in_features), torch.randn(batch, layer.out_features)
    found = results(layer, x, slope)
    seen = [one.name for one in launches()]
    assert seen.count("forward") == seen.count("backward") == 2
    for one, expected in zip(found, exact_results(net, layer, x, slope), strict=True):
        assert one.shape == expected.shape
        assert torch.allclose(one.double(), expected, rtol=1e-4, atol=1e-5)
    assert len(program.regions) == 3


def test_the_planners_own_mixture_is_exact(emulated_gpu: ctypes.CDLL) -> None:
    """What the planner takes for a circuit with a large tensor, in a layer, batch size and all."""
    net = uneven(bits=6, side=256, depth=2)
    layer = tn.Layer(net, backend="cuda", batch=256)
    (ranged,) = layer._programs_for(torch.float32)
    assert ranged.main.backend == "mixed"
    x, slope = torch.randn(5, layer.in_features), torch.randn(5, layer.out_features)
    for one, expected in zip(
        results(layer, x, slope), exact_results(net, layer, x, slope), strict=True
    ):
        assert distance(one, expected) < 2e-6
    text = str(layer.explain())
    assert "backend: mixed" in text and "cuda:" in text and "torch calls" in text
    assert "none was ever measured" in text


def test_auto_layers_follow_their_device(
    emulated_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Auto on a GPU takes CUDA kernels; moved to the CPU it plans for that, and back."""
    from tnlayer.runtime import cuda_devices

    net = T.mera(6, 2, 2)
    layer = tn.Layer(net, batch=64)
    (ranged,) = layer._programs_for(torch.float32)
    assert isinstance(ranged.main, CudaProgram) and layer.explain().backend == "cuda"
    x, slope = torch.randn(9, layer.in_features), torch.randn(9, layer.out_features)
    found = results(layer, x, slope)
    assert launches()
    for one, expected in zip(found, exact_results(net, layer, x, slope), strict=True):
        assert distance(one, expected) < 2e-6
    monkeypatch.setattr(cuda_devices, "is_on_gpu", lambda array: False)
    (other,) = layer._programs_for(torch.float32)
    assert not isinstance(other.main, CudaProgram) and other.main.backend in ("cpp", "torch")
    monkeypatch.undo()


def test_pickles_and_copies_of_a_mixture(emulated_gpu: ctypes.CDLL) -> None:
    """The same bits; the architecture comes along."""
    layer, program = mixed(T.mera(6, 2, 2))
    x = torch.randn(4, layer.in_features)
    parameters = {name: layer.get_parameter(name).detach() for name in program.parameter_order}

    def call(one: Program) -> torch.Tensor:
        with torch.no_grad():
            return one(x, parameters=parameters)

    for other in (pickle.loads(pickle.dumps(program)), copy.deepcopy(program)):
        assert other.plan.regions == program.plan.regions and other.arch == program.arch
        assert torch.equal(call(other), call(program))


# -- building without a GPU ----------------------------------------------------------------------


@needs_nvrtc
def test_a_mixture_builds_without_a_gpu() -> None:
    """Cubins and resources of its CUDA regions; its source has both kinds; torch alone has none."""
    program = tn.compile(uneven(6, 256, 2), backend="cuda", arch="sm_80", batch=256)
    assert isinstance(program, MixedProgram) and program.arch == "sm_80"
    kinds = [region.backend for region in program.plan.regions]
    assert len(program.binary) == 2 * kinds.count("cuda")
    assert all(binary[:4] == b"\x7fELF" for binary in program.binary.values())
    assert {kernel.name for kernel in program.resources} >= {"forward", "backward"}
    assert "__global__" in program.source() and "def forward" in program.source()
    alone = tn.compile(LARGE_BONDS["low_rank"](), backend="cuda", arch="sm_90", batch=4096)
    assert isinstance(alone, MixedProgram)
    assert dict(alone.binary) == {} and alone.resources == () and "def forward" in alone.source()


@needs_nvrtc
def test_resources_of_a_layer_need_no_gpu() -> None:
    """With an architecture they are those of the program that compile() gives."""
    net = T.mera(6, 2, 2)
    layer = tn.Layer(net, backend="cuda")
    program = tn.compile(net, backend="cuda", arch="sm_90")
    assert isinstance(program, CudaProgram)
    assert layer.resources("sm_90") == program.resources and len(program.resources) >= 2
    assert tn.Layer(net, backend="torch").resources("sm_90") == ()
    if not torch.cuda.is_available():
        with pytest.raises(tn.BuildError, match="arch="):
            layer.resources()


@needs_nvrtc
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_a_layer_on_the_cpu_is_planned_for_it() -> None:
    """Auto without a GPU is as it was."""
    layer = tn.Layer(T.mera(6, 2, 2), batch=64)
    assert layer.explain().backend in ("cpp", "torch")
    plan: Plan = layer.explain().costs[0].plan
    assert "cuda" not in {region.backend for region in plan.regions}
