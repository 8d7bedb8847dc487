"""layer.report: one page that is whole, escaped and connected, and that a browser runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tnlayer as tn
from tnlayer.graph.drawing import drawing
from tnlayer.ir.batch_probes import PROBES
from tnlayer.report.source_steps import steps_of_lines

T = tn.topologies
LABEL = '<script>alert("x")</script> & ]]> \ud800'
SVG = "{http://www.w3.org/2000/svg}"
GOLDEN = Path(__file__).parents[1] / "golden" / "cuda_kernels"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def labelled() -> tn.Network:
    """Two cores whose label is markup."""
    net = T.tensor_train((4, 4), (4, 4), rank=2)
    net.label = LABEL
    return net


def permuted() -> tn.Network:
    """No tensor and no step: y is x with its legs in another order."""
    net = tn.Network("permuted")
    net.input(i=2, j=3)
    net.output("j i")
    return net


LAYERS: dict[str, Callable[[], tn.Layer]] = {
    "torch": lambda: tn.Layer(T.mera(6, 2, 2), backend="torch", batch=16),
    "cpp": lambda: tn.Layer(T.tensor_train((4,) * 3, (4,) * 3, rank=3), backend="cpp", batch=16),
    "label": lambda: tn.Layer(labelled(), backend="torch", batch=16),
    "sum": lambda: tn.Layer([T.low_rank(8, 6, 2), T.low_rank(8, 6, 1).renamed(prefix="b_")],
                            backend="torch", batch=16),
    "no dense": lambda: tn.Layer(T.mps_classifier(4, 2, 3, classes=3), backend="torch", batch=16),
    "no steps": lambda: tn.Layer(permuted(), backend="torch", batch=16),
    "infer": lambda: tn.Layer(T.low_rank(8, 6, 2), backend="torch", objective="infer", batch=16),
    "log_scale": lambda: tn.Layer(T.low_rank(8, 6, 2), backend="torch", log_scale=True, batch=16),
}  # fmt: skip


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[[str], str]:
    """The text of the page of one of the layers above."""

    def made(name: str) -> str:
        path = tmp_path / "page.html"
        assert LAYERS[name]().report(path) == path
        return path.read_text(encoding="utf-8")

    return made


@pytest.mark.parametrize("name", LAYERS)
def test_whole_escaped_and_alone(name: str, page_of: Callable[[str], str]) -> None:
    """Well-formed, nothing of the user's is markup, and nothing is loaded from anywhere."""
    text = page_of(name)
    page = ElementTree.fromstring(text)
    assert len(page.findall(".//script")) == 1 and len(page.findall(".//style")) == 1
    assert "<script>alert" not in text
    assert not {tag.tag for tag in page.iter()} & {"link", "img", "iframe", "object", "embed"}
    for tag in page.iter():
        assert not {"src", "href", "action"} & {key.rpartition("}")[2] for key in tag.attrib}
        assert not any(key.startswith("on") for key in tag.attrib)
    assert set(re.findall(r"https?://[^\"' ]*", text)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in text and "@import" not in text
    policy = page.find(".//meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None and policy.get("content", "").startswith("default-src 'none'")
    if name == "label":
        assert 'alert("x")' in "".join(page.itertext())


def marked(page: ElementTree.Element, tag: str) -> list[str]:
    """The marks of all elements of a kind, or within one."""
    return [
        mark
        for outer in page.iter(tag)
        for one in outer.iter()
        for mark in (one.get("data-steps") or "").split()
    ]


@pytest.mark.parametrize("name", ["torch", "cpp", "sum"])
def test_each_step_is_connected(name: str, page_of: Callable[[str], str]) -> None:
    """Each step of forward and backward has one row, a part of a picture, and lines of source."""
    page = ElementTree.fromstring(page_of(name))
    wanted = [
        f"{number}{letter}-{step.result.name}"
        for number, cost in enumerate(LAYERS[name]().costs())
        for letter, plan in (("f", cost.plan), ("b", cost.backward_plan))
        for step in plan.steps
    ]
    assert len(set(wanted)) == len(wanted) > 3
    assert sorted(marked(page, "tr")) == sorted(wanted)
    assert set(marked(page, f"{SVG}svg")) == set(wanted)
    assert set(marked(page, "pre")) == set(wanted)


def test_lines_of_source_belong_to_their_steps(page_of: Callable[[str], str]) -> None:
    """The line that makes a step's result is marked with that step, and the lines are the code's;
    a tensor of the picture is marked with the steps that take it."""
    page = ElementTree.fromstring(page_of("torch"))
    layer = LAYERS["torch"]()
    forward, backward = page.findall(".//pre")
    spans = [*forward, *backward]
    code = layer.source("forward").splitlines()  # below the legend
    assert [span.text or "" for span in forward] == [one for one in code if one[:2] != "# "]
    for span in spans:
        makes = re.match(r"    (d_)?(t\d+) = ", span.text or "")
        if makes is not None:
            letter = "b" if makes[1] else "f"
            assert span.get("data-steps") == f"0{letter}-{makes[1] or ''}{makes[2]}"
    (cost,) = layer.costs()
    user = dict(cost.plan.names)
    takers = {
        f"0f-{step.result.name}"
        for step in cost.plan.steps
        if any(user.get(operand.value.name) == "top" for operand in step.operands)
    }
    picture = page.find(f".//{SVG}svg[@aria-label='MERA']")
    assert picture is not None
    (top,) = [g for g in picture.iter(f"{SVG}g") if g.get("data-steps") and "top:" in text_of(g)]
    assert takers <= set((top.get("data-steps") or "").split())


def text_of(element: ElementTree.Element) -> list[str]:
    """The words of an element."""
    return "".join(element.itertext()).split()


def test_kernels_are_read_by_their_comments() -> None:
    """Functions, their calls, parts of fused kernels and what sums partial results."""
    source = "\n".join(
        (
            "STEP helper(int n) {", "}",
            "// t0 = a x b, sum e1; t2 = t0 x c", "STEP f_t0(int i) {", "  work();", "}",
            "// n5 to lanes e9", "STEP g(int i) {", "}",
            "// segment 0 forward: t1, t3", "  more();", "}",
            "// t1 summed up", "}",
            "  f_t0(0);", "  g(1);",
        )
    )  # fmt: skip
    found = steps_of_lines(source, {"t0": "A", "t1": "B", "t2": "C", "t3": "D"})
    none, both = (), ("A", "C")
    assert found == [
        none, none, both, both, both, both, none, none, none,
        ("B", "D"), ("B", "D"), ("B", "D"), ("B",), ("B",), both, none,
    ]  # fmt: skip


def test_lines_of_torch_calls_and_of_cuda_kernels() -> None:
    """What is copied or summed up to a result belongs to its step; so do the lines of a kernel that
    follow its comment, and those before the next."""
    calls = "def f(x):\n    t1_k = bmm(x)\n    t1 = sum(t1_k)\n    t1_p1 = copy(t1)\n    del t1"
    assert steps_of_lines(calls, {"t1": "A"}) == [(), ("A",), ("A",), ("A",), ()]
    source = (GOLDEN / "test_golden_cuda-steps.cu").read_text(encoding="utf-8")
    lines = source.splitlines()
    found = steps_of_lines(source, {"t0": "A", "t1": "B"})
    first = lines.index("  // t0 = n2 x n3")
    second = next(k for k in range(first, len(lines)) if lines[k].startswith("  // t1 = "))
    assert found[first:second] == [("A",)] * (second - first)
    assert found[second] == ("B",) and found[first - 1] == ()


def test_times_are_those_of_the_cost(page_of: Callable[[str], str]) -> None:
    """The predicted ms of the rows and the ends of the curves are the numbers that tn.cost has."""
    page = ElementTree.fromstring(page_of("torch"))
    (cost,) = LAYERS["torch"]().costs()
    seconds = cost.step_seconds()
    rows = {row.get("data-steps"): row for row in page.iter("tr") if row.get("data-steps")}
    for step in cost.plan.steps:
        told = (rows[f"0f-{step.result.name}"].findall("td")[-1].text or "").replace(",", "")
        assert float(told) == pytest.approx(1e3 * seconds[step.result.name], rel=0.01)
    ends = cost.break_even()
    assert ends is not None
    assert {point.batch for point in ends.points} >= set(PROBES)
    for point in ends.points:
        same = tn.cost(LAYERS["torch"]().graph, batch=point.batch, backend="torch")
        dense = same.predicted("dense")
        assert dense is not None
        assert point.dense.training == pytest.approx(dense.training)
        if point.batch == 16:
            assert point.ours is not None
            assert point.ours.training == pytest.approx(cost.fastest.training)
    curve = page.find(f".//{SVG}svg[@aria-label='predicted time by batch size']")
    assert curve is not None
    lines = [line.get("points", "").split() for line in curve.iter(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [len(ends.points)] * 2
    for line in lines:
        xs = [float(place.split(",")[0]) for place in line]
        assert xs == sorted(xs) and xs[0] < xs[-1]


@pytest.mark.parametrize("name", ["no dense", "no steps", "torch"])
def test_what_cannot_be_drawn_is_left_out(name: str, page_of: Callable[[str], str]) -> None:
    """No curve without a dense layer, no picture of a plan without steps."""
    page = ElementTree.fromstring(page_of(name))
    curve = page.find(f".//{SVG}svg[@aria-label='predicted time by batch size']")
    assert (curve is None) == (name == "no dense")
    plan = page.find(f".//{SVG}svg[@aria-label='contraction order']")
    assert (plan is None) == (name == "no steps")


def test_a_large_network_has_no_picture(
    page_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says why, and has the rest."""
    monkeypatch.setattr(drawing, "MAX_DRAWN_NODES", 5)
    page = ElementTree.fromstring(page_of("torch"))
    assert page.find(f".//{SVG}svg[@aria-label='MERA']") is None
    assert "a drawing holds at most 5" in "".join(page.itertext())
    assert page.findall(".//pre") and page.find(f".//{SVG}svg[@aria-label='contraction order']")


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    """The error is the system's; a wrong batch is named."""
    layer = LAYERS["infer"]()
    with pytest.raises(OSError, match="none"):
        layer.report(tmp_path / "none" / "page.html")
    with pytest.raises(tn.SpecError, match="batch=0"):
        layer.report(tmp_path / "page.html", batch=0)


# -- in a browser ----------------------------------------------------------------------------------

# Rests the mouse on a row, then leaves it; clicks a line of source; what was lit is the title.
PROBE = """
var told = {};
function over(node) { node.dispatchEvent(new MouseEvent("mouseover", {bubbles: true})); }
function lit(inside) { return document.querySelectorAll(inside + ".lit").length; }
var row = document.querySelector("tr[data-steps]");
told.mark = row.getAttribute("data-steps");
over(row);
told.rows = lit("tr"); told.pictures = lit("svg "); told.lines = lit("pre ");
told.others = Array.from(document.querySelectorAll(".lit")).filter(function (part) {
  return part.getAttribute("data-steps").split(" ").indexOf(told.mark) === -1; }).length;
over(document.querySelector("h1"));
told.left = lit("");
var line = document.querySelector("pre [data-steps]");
line.dispatchEvent(new MouseEvent("click", {bubbles: true}));
over(document.querySelector("h1"));
told.kept = lit("tr");
told.columns = getComputedStyle(document.querySelector(".columns")).display;
document.title = JSON.stringify(told);
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("name", ["torch", "cpp"])
def test_hover_connects_in_a_browser(
    name: str, page_of: Callable[[str], str], tmp_path: Path
) -> None:
    """A row lights its own row, pictures and lines, and nothing else; a click keeps them lit."""
    text = page_of(name)
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"), "utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--virtual-time-budget=2000", "--window-size=1400,900", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    told: dict[str, Any] = json.loads(title[1])
    page = ElementTree.fromstring(text)
    assert told["mark"] in marked(page, "tr")
    assert (told["rows"], told["others"], told["left"]) == (1, 0, 0)
    assert told["pictures"] >= 2 and told["lines"] >= 1
    assert told["kept"] >= 1
    assert told["columns"] == "grid"
