"""Drawing of plans: all steps, legs and sizes are in the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

import tnlayer as tn
from tnlayer.ir.plan_drawing import MAX_DRAWN_STEPS, names_text, shape_text


def texts(figure: Figure) -> list[str]:
    """All texts of a picture."""
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_tensor_and_each_step_is_drawn() -> None:
    """A forward plan shows its inputs by the user's names, its steps' sums, and y."""
    net = tn.topologies.tensor_train((2, 3, 5), (2, 3, 5), rank=4)
    plan = tn.plan(net, batch=8)
    found = texts(plan.draw())
    for name, shape in (("core_0", "2²·4"), ("core_1", "4²·3²"), ("core_2", "4·5²")):
        assert any(text.split() == [name, shape] for text in found), found
    assert any(text.split() == ["x", "B·2·3·5"] for text in found)
    assert any(text.split() == ["y", "B·2·3·5"] for text in found)
    shares = [text for text in found if text.endswith("%")]
    assert len(shares) == len(plan.steps)
    assert any("3 steps" in text for text in found)


def test_backward_plans_are_drawn(tmp_path: Path) -> None:
    """A backward plan, where values are used twice, shows one result for each gradient."""
    plan = tn.backward_plan(tn.plan(tn.topologies.mera(6, dim=2, bond=2), batch=4))
    path = tmp_path / "backward.png"
    found = texts(plan.draw(str(path)))
    assert path.read_bytes().startswith(b"\x89PNG")
    shares = [text for text in found if text.endswith("%")]
    assert len(shares) == len(plan.steps)
    results = [text for text in found if text.startswith("d_")]
    assert len(results) == len(plan.outputs)


def test_sizes_of_legs_are_written_as_powers() -> None:
    """Equal sizes become a power, the batch is B, no legs are 1."""
    plan = tn.plan(tn.topologies.tensor_train((2, 2), (3, 3), rank=4), batch=8)
    sizes = {size: leg for leg, size in plan.sizes.items()}
    two, three = sizes[2], sizes[3]
    assert shape_text(plan, ()) == "1"
    assert shape_text(plan, ("b", two, three, two)) == "B·2²·3"
    assert shape_text(plan, (two,) * 12) == "2¹²"


def test_long_lists_of_legs_are_cut() -> None:
    """Leg names that do not fit are counted; one name is always shown."""
    plan = tn.plan(tn.topologies.tree(16, dim=2, bond=2), batch=8)
    text = names_text(plan, tuple(plan.sizes))
    assert text.endswith(f"and {len(plan.sizes) - text.count('=')} more")
    assert len(text) < 70
    assert names_text(plan, ("b",)) == "batch"


def test_too_many_steps_are_refused() -> None:
    """A plan that makes no readable picture is refused with the number of its steps."""
    net = tn.topologies.tensor_train((2,) * (MAX_DRAWN_STEPS + 1), (1,) * (MAX_DRAWN_STEPS + 1), 1)
    net.fix({f"i{k}": 0 for k in range(20, MAX_DRAWN_STEPS + 1)})
    plan = tn.plan(net, batch=2)
    with pytest.raises(tn.PlanError, match=f"{len(plan.steps)} steps"):
        plan.draw()
