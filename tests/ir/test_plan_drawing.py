"""Drawing of plans: all steps, legs and sizes are in the picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import tnlayer as tn
from tnlayer.ir.plan_drawing import (
    COLOURS,
    MAX_DRAWN_STEPS,
    changed,
    lay_out,
    names_text,
    shape_text,
)
from tnlayer.ir.plan_svg import plan_svg
from tnlayer.ir.plan_text import EACH, ONCE, plan_rows


def texts(axes: Axes) -> list[str]:
    """All texts of a picture."""
    return [text.get_text() for text in axes.texts]


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
    assert any(text.split()[0] == "d_top" for text in results)
    moved = lay_out(plan).steps["d_x0"].result.name
    by_user = changed(lay_out(plan), {"d_x": (-3.0, 1.5)}, "all", None)
    assert by_user.places == changed(lay_out(plan), {moved: (-3.0, 1.5)}, "all", None).places


def closed() -> tn.Network:
    """A norm: no samples at all."""
    net = tn.Network("norm")
    net.output()
    net.bond(a=3, b=3)
    for name in ("A", "B"):
        net.tensor(name, "a b")
    return net


PLANS = {
    "peps": lambda: tn.topologies.peps(2, 2, 2, 2),
    "tensor train": lambda: tn.topologies.tensor_train((2, 2, 2), (2, 2, 2), rank=2),
    "mera": lambda: tn.topologies.mera(6, dim=2, bond=2),
    "closed": closed,
}


@pytest.mark.parametrize("minimize", ["rebuild", "flops"])
@pytest.mark.parametrize("name", PLANS)
def test_colours_say_how_often_steps_run_as_the_printed_plan_does(name: str, minimize: str) -> None:
    """Forward and backward, in all three pictures; the legend has each kind that is shown."""
    forward = tn.plan(PLANS[name](), batch=8, minimize=minimize)  # type: ignore[arg-type]
    for plan in (forward, tn.backward_plan(forward)):
        printed = {result: runs for runs, result, *_ in plan_rows(plan)[1:]}
        layout = lay_out(plan)
        words = {"once": ONCE, "each": EACH}
        users = dict(plan.names)
        results = [step.result.name for step in plan.steps]
        drawn = {users.get(name, name): words[layout.kinds[name]] for name in results}
        assert drawn == printed
        shown, svg = texts(plan.draw()), plan_svg(plan)
        for kind, runs in words.items():
            count = list(printed.values()).count(runs)
            assert svg.count(f'r="5.5" fill="{COLOURS[kind]}"') == count
            assert any(text.startswith(runs) for text in shown) == (count > 0)
            assert (f">{runs}" in svg) == (count > 0)


def test_a_backward_that_rebuilds_w_has_both_kinds_of_steps() -> None:
    """Only what meets samples runs for each of them: two of its steps, as in each backward."""
    forward = tn.plan(tn.topologies.peps(2, 2, 2, 2), batch=8, minimize="rebuild")
    plan = tn.backward_plan(forward)
    kinds = [lay_out(plan).kinds[step.result.name] for step in plan.steps]
    assert kinds.count("each") == 2 and kinds.count("once") == len(plan.steps) - 2 > 0


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


def test_places_labels_and_colours_of_plans(tmp_path: Path) -> None:
    """Steps stand where they are told to, boxes have what is wanted, colours go by meaning."""
    plan = tn.plan(tn.topologies.tensor_train((2, 3), (2, 3), rank=4), batch=8)
    first = plan.steps[0].result.name
    layout = changed(lay_out(plan), {first: (-3.0, 1.5)}, "names", {"parameter": "#123456"})
    was = lay_out(plan)
    assert layout.places[first] == (-3.0, 1.5)
    assert {k: v for k, v in layout.places.items() if k != first} == {
        k: v for k, v in was.places.items() if k != first
    }
    style = {"parameter": "#123456"}
    axes = plan.draw(positions={first: (-3.0, 1.5)}, labels="names", style=style)
    shown = texts(axes)
    assert "core_0" in shown and not any(text.startswith("core_0 ") for text in shown)
    boxes = {text.get_text(): text.get_bbox_patch() for text in axes.texts}
    box = boxes["core_0"]
    assert box is not None and to_hex(box.get_facecolor()) == "#123456"
    assert "core_0" not in texts(plan.draw(labels="sizes"))
    for wrong, told in (
        ({"positions": {"t99": (0, 0)}}, "there is no step 't99'"),
        ({"style": {"stem": "#123456"}}, "no kind and no name 'stem'"),
        ({"labels": "some"}, "expected one of all"),
    ):
        with pytest.raises(tn.SpecError, match=told):
            plan.draw(**wrong)  # type: ignore[arg-type]


def test_plans_without_title_and_legend(tmp_path: Path) -> None:
    """Each by itself, and the picture is less high; TeX has a legend and no title."""
    plan = tn.plan(tn.topologies.tensor_train((2, 3), (2, 3), rank=4), batch=8)
    whole, bare = plan.draw(), plan.draw(title=False, legend=False)
    words = {"title": "Contraction order", "legend": "parameter"}

    def has(axes: Axes) -> dict[str, bool]:
        return {one: any(t.startswith(word) for t in texts(axes)) for one, word in words.items()}

    assert has(whole) == {"title": True, "legend": True}
    assert has(bare) == {"title": False, "legend": False}
    assert has(plan.draw(title=False)) == {"title": False, "legend": True}
    assert has(plan.draw(legend=False)) == {"title": True, "legend": False}
    heights = [one.figure.bbox.height for one in (bare, plan.draw(title=False), whole)]
    assert heights == sorted(set(heights))
    plan.draw(tmp_path / "a.tikz")
    plan.draw(tmp_path / "b.tikz", legend=False)
    assert "each sample" in (tmp_path / "a.tikz").read_text(encoding="utf-8")
    assert "each sample" not in (tmp_path / "b.tikz").read_text(encoding="utf-8")
    with pytest.raises(tn.SpecError, match="draw: title=1: expected True or False"):
        plan.draw(title=1)  # type: ignore[arg-type]


def test_plans_on_axes_of_the_users(tmp_path: Path) -> None:
    """Beside the network, in one figure, which is what is saved."""
    net = tn.topologies.tensor_train((2, 3), (2, 3), rank=4)
    first, second = Figure(figsize=(16, 5)).subplots(1, 2)
    assert net.draw(ax=first) is first
    plan = tn.plan(net, batch=8)
    assert plan.draw(tmp_path / "both.svg", ax=second) is second
    assert set(texts(plan.draw())) == set(texts(second))
    assert (tmp_path / "both.svg").read_text().startswith("<?xml")


def test_plans_for_tex(tmp_path: Path) -> None:
    """A node a mark, a line an edge, and every step's sizes; .tex is a document around it."""
    plan = tn.backward_plan(tn.plan(tn.topologies.mera(6, dim=2, bond=2), batch=4))
    plan.draw(tmp_path / "plan.tikz")
    plan.draw(str(tmp_path / "plan.tex"))
    text = (tmp_path / "plan.tikz").read_text(encoding="utf-8")
    document = (tmp_path / "plan.tex").read_text(encoding="utf-8")
    assert text in document and document.startswith(r"\documentclass")
    layout = lay_out(plan)
    assert text.count(r"\node[circle") == len(plan.steps)
    assert len(re.findall(r"\\node\[.*?\] \(n\d+\) at", text)) == len(layout.places)
    assert text.count(r"\draw[") == len(layout.edges) + len(layout.reused)
    assert text.count("{") == text.count("}")
    assert "²" not in text and r"\_" in text


def test_pictures_of_plans_can_be_marked() -> None:
    """Every step, what goes into it and its edges carry its mark; without marks there are none."""
    plan = tn.plan(tn.topologies.tensor_train((2, 3, 2), (2, 3, 2), rank=4), batch=8)
    marks = {step.result.name: f"m-{step.result.name}" for step in plan.steps}
    svg = plan_svg(plan, marks)
    found = re.findall(r'data-steps="([^"]*)"', svg)
    assert {one for told in found for one in told.split()} == set(marks.values())
    layout = lay_out(plan)
    assert len(found) == len(layout.places) + len(layout.edges) + len(layout.reused)
    assert "data-steps" not in plan_svg(plan)
    assert plan_svg(plan, marks, most=1) == ""
