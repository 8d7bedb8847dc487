"""The time model of a product with a matrix of two factors that is made in tiles.

What it does is counted in multiply-adds of whole vectors, as other kernels are; what bounds it is
that, for all that a tile needs lies in a cache. x, y and their gradients are moved once.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware.cpu import Cpu
from ..hardware.profile.profile import Profile
from ..ir.counts import elements
from ..ir.plan import Plan
from ..lowering.streamed.product_form import ProductForm
from ..support.dtypes import DTYPES
from .cpu_kernels import start_seconds, vector_seconds
from .torch_calls import Seconds

# In multiply-adds of vectors from registers: one of samples and a tile, and one that makes a tile
# from factors or takes it to them; trains of 4,096 features, rank 16 to 64, 16 to 1,024 samples on
# one machine.
SAMPLES, FACTORS = 1.15, 1.35
# Entries that are moved into the order of the kernels and come from memory, in multiply-adds: an
# estimate, for they take little beside the products.
MOVED = 4.0


@dataclass(frozen=True, slots=True)
class StreamedWork:
    """What the kernels do for so many samples, all threads together.

    Arguments:
        samples: multiply-adds of vectors of samples with tiles.
        factors: those of factors and tiles.
        moved: entries that are moved.
    """

    samples: float
    factors: float
    moved: float

    def __add__(self, other: StreamedWork) -> StreamedWork:
        return StreamedWork(
            self.samples + other.samples,
            self.factors + other.factors,
            self.moved + other.moved,
        )


def forward_work(sizes: tuple[int, ...], rows: int, width: int) -> StreamedWork:
    """Of y = x W.

    Arguments:
        sizes: of a1, a2, b1, b2 and s.
        rows: of x.
        width: entries of a vector.
    """
    a1, a2, b1, b2, s = sizes
    vectors = -(-b2 // width)
    columns = -(-b1 * b2 // width)
    made = a1 * b1 * s * a2 * vectors
    return StreamedWork(rows * a1 * a2 * columns, made, rows * (a1 * a2 + b1 * b2))


def gradient_work(
    sizes: tuple[int, ...], rows: int, width: int, *, left: bool, right: bool
) -> StreamedWork:
    """Of the gradients of the factors: the tiles, and what goes from them into each factor.

    Arguments:
        sizes, rows, width: as for ``forward_work``.
        left, right: which are wanted.
    """
    if not left and not right:
        return StreamedWork(0.0, 0.0, 0.0)
    a1, a2, b1, b2, s = sizes
    vectors = -(-b2 // width)
    tile = a1 * b1 * a2 * vectors
    products = tile * width * -(-s // width) if left else 0
    products += tile * s if right else 0
    return StreamedWork(rows * tile, products, rows * (a1 * a2 + b1 * b2))


def streamed_seconds(
    plan: Plan,
    form: ProductForm,
    wanted: tuple[bool, bool, bool],
    batch: int,
    profile: Profile,
    cpu: Cpu,
) -> Seconds:
    """Predicted time of the kernels, without the calls that make the factors.

    Arguments:
        plan: whose product it is.
        form: how it is divided.
        wanted: whether the gradients of x, of left and of right are.
        batch: samples of a call.
        profile: the device's rates.
        cpu: what the kernels are made for.
    """
    width = cpu.width(DTYPES[plan.dtype].arithmetic)
    rows = elements(form.rows, plan.sizes).at(batch)
    starts = start_seconds(profile)

    def seconds(work: StreamedWork) -> float:
        units = SAMPLES * work.samples + FACTORS * work.factors + MOVED * work.moved
        return units * vector_seconds(plan, profile, cpu) / profile.threads

    a1, a2, b1, b2, s = form.sizes
    forward = seconds(forward_work(form.sizes, rows, width)) + starts.forward
    to_x, to_left, to_right = wanted
    if not any(wanted):
        return Seconds(forward)
    work = gradient_work(form.sizes, rows, width, left=to_left, right=to_right)
    if to_x:
        work += forward_work((b1, b2, a1, a2, s), rows, width)
    return Seconds(forward, seconds(work) + starts.backward)
