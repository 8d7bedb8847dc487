"""The builder: both styles, ports, options, copies, printed text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.golden import Golden
from tests.support.graphs import everything, three_cores
from tnlayer.graph.graph import Port


def test_named_style_counts() -> None:
    """Features and parameters of the design page's example come out."""
    net = three_cores()
    assert (net.in_features, net.out_features) == (4096, 4096)
    assert net.parameter_count == net.stored_count == 20480


def test_wires_return_tuples_of_fresh_names() -> None:
    """Wires are named after their maker and axis, with a dot; one wire is a tuple as well."""
    net = tn.Network()
    assert net.input([2, 3]) == ("x.0", "x.1")
    assert net.tensor("A", ["x.0", "x.1"], out=(4,)) == ("A.2",)
    assert net.tensor("B", "A.2") == ()


def test_both_styles_build_equal_graphs() -> None:
    """Wires and named legs of one structure freeze to equal graphs with equal hashes."""
    wires = tn.Network("by wires")
    i, j = wires.input([2, 3])
    a, b = wires.tensor("A", [i], out=(4, 5))
    (c,) = wires.tensor("B", [a, j], out=(6,))
    wires.output([c, b])
    named = tn.Network("by name")
    named.tensor("B", "inner two out")
    named.output(out=6, other=5)
    named.tensor("A", "one inner other")
    named.bond(inner=4)
    named.input("x", one=2, two=3)
    assert wires.freeze() == named.freeze()
    assert hash(wires.freeze()) == hash(named.freeze())


def test_fresh_names_do_not_collide() -> None:
    """A port and a tensor of one name make wires of different names."""
    net = tn.Network()
    (first,) = net.input("x", [2])
    (second,) = net.tensor("x", "", out=(2,))
    assert first != second
    net.output([first, second])
    assert net.out_features == 4


def test_numpy_sizes_and_dims_by_name() -> None:
    """numpy integers are sizes, and input takes its dims as a mapping as well."""
    net = tn.Network()
    dims: Any = {"i": np.int64(2), "j": np.int32(3)}
    assert net.input("q", dims) == ("i", "j")
    net.output("j i")
    assert (net.in_features, net.freeze().output) == (6, ("j", "i"))
    assert all(type(size) is int for _, size in net.freeze().leg_sizes)


def test_output_takes_wires_and_named_dims() -> None:
    """The legs given come first, then those declared by size."""
    net = tn.Network()
    (i,) = net.input([2])
    net.tensor("A", "j")
    net.output([i], j=3)
    assert net.freeze().output == ("x.0", "j")


def test_pass_through_and_shared_port_legs() -> None:
    """A leg may stand in inputs and in the output at once, at one size."""
    net = tn.Network()
    net.input(i=2)
    net.input("z", i=2)
    net.output(i=2)
    graph = net.freeze()
    assert [port.legs for port in graph.inputs] == [("i",), ("i",)]
    assert graph.output == ("i",)


def test_closed_network_and_scalar_output() -> None:
    """No inputs and no output legs make a scalar y of one feature."""
    net = tn.Network()
    net.bond(a=3)
    net.tensor("A", "a")
    net.tensor("B", "a")
    net.tensor("S", "")
    net.output()
    graph = net.freeze()
    assert (graph.inputs, graph.out_features, graph.parameter_count) == ((), 1, 7)


def test_port_options_before_and_after() -> None:
    """port() may come before or after its input; dtypes are given by name, by numpy or torch."""
    net = tn.Network()
    net.port("a", product=True, dtype=torch.complex64)
    net.input("a", [2, 2])
    net.input("b", [3])
    net.port("b", batched=False, dtype=np.float64)
    net.input("c", [2])
    net.port("c", dtype=np.dtype("float32"))
    net.output(["a.0", "a.1", "b.0", "c.0"])
    a, b, c = net.freeze().inputs
    assert a == Port("a", ("a.0", "a.1"), True, True, "complex64")
    assert b == Port("b", ("b.0",), False, False, "float64")
    assert c.dtype == "float32"
    assert net.freeze().input_shape(a) == (2, 2)


def test_fix_takes_slices_out() -> None:
    """A fixed leg leaves its port and its unused slices leave the parameters."""
    net = three_cores()
    net.fix(j3=5)
    assert (net.out_features, net.parameter_count) == (256, 2048 + 16384 + 128)
    by_mapping = three_cores()
    by_mapping.fix({"j3": 5})
    assert by_mapping.freeze() == net.freeze()


def test_sharers_lose_a_slice_only_together() -> None:
    """A shared axis keeps all slices unless each user pins it at the same index."""
    net = tn.Network()
    net.input(i=2, k=2)
    net.output(j=3, l=3)
    net.tensor("A", "i j")
    net.tensor("B", "k l", share="A")
    net.fix(j=1)
    assert net.freeze().parameters[0].shape == (2, 3)
    net.fix(l=1)
    assert net.freeze().parameters[0].shape == (2,)


def test_share_resolves_to_the_owner() -> None:
    """A sharer of a sharer uses the owner's parameter, whatever the order of declaration."""
    net = tn.Network()
    net.input(i=2)
    net.output(l=2)
    net.bond(j=2, k=2)
    net.tensor("C", "k l", share="B", conj=True)
    net.tensor("B", "j k", share="A")
    net.tensor("A", "i j")
    assert {t.name: t.share for t in net.freeze().tensors} == {"C": "A", "B": "A", "A": None}
    assert net.parameter_count == 4


def test_sum_and_copy_leg() -> None:
    """A one-ended leg is summed on request; a wire feeds two tensors after copy_leg."""
    net = tn.Network()
    i, k = net.input([2, 3])
    net.copy_leg(i)
    (a,) = net.tensor("A", [i], out=(4,))
    (b,) = net.tensor("B", [i], out=(5,))
    net.sum(k)
    net.output([a, b, i])
    assert net.freeze().summed == frozenset({k})
    assert net.parameter_count == 8 + 10


def test_sum_of_a_leg_with_two_ends_says_nothing_new() -> None:
    """Summing a leg that is summed anyway leaves the content as it was."""
    net = three_cores()
    net.sum("a b")
    assert net.freeze() == three_cores().freeze()


def test_reorder_permutes_ports() -> None:
    """reorder gives ports their legs in a new order, by string, sequence or mapping."""
    net = three_cores()
    net.reorder(input="i3 i1 i2", output=("j2", "j1", "j3"))
    graph = net.freeze()
    assert (graph.inputs[0].legs, graph.output) == (("i3", "i1", "i2"), ("j2", "j1", "j3"))
    net.reorder(input={"x": "i1 i2 i3"}, output="j1 j2 j3")
    assert net.freeze() == three_cores().freeze()


def test_values_are_copied_and_kept_at_full_shape() -> None:
    """A value is a frozen copy; whole numbers become float64, torch tensors are detached."""
    array = np.arange(6).reshape(2, 3)
    net = tn.Network()
    net.input(i=2)
    net.output(j=3)
    net.tensor("A", "i j", value=array)
    array[:] = 0
    value = net.freeze().tensors[0].value
    assert value is not None
    assert value.array.dtype == np.float64
    assert value.array.tolist() == [[0, 1, 2], [3, 4, 5]]
    net.set_values({"A": torch.ones(2, 3, dtype=torch.complex64, requires_grad=True).mH.mT})
    value = net.freeze().tensors[0].value
    assert value is not None
    assert (value.array.dtype, value.array.shape) == (np.complex64, (2, 3))
    assert net.freeze().is_complex


def test_big_endian_values_equal_native_ones() -> None:
    """The byte order of a value is not content."""
    graphs: list[tn.Graph] = []
    for dtype in (">f8", "<f8"):
        net = tn.Network()
        net.output(j=2)
        net.tensor("A", "j", value=np.array([1.0, 2.0], dtype=dtype))
        graphs.append(net.freeze())
    assert graphs[0] == graphs[1]


def test_set_values_replaces_an_init() -> None:
    """A value that is brought in takes the place of the init, and isometries keep their flag."""
    net = everything()
    net.set_values({"A": np.zeros((2, 3, 3, 2)), "B": np.ones((2, 2, 2))})
    nodes = net.freeze().nodes
    assert nodes["A"].init is None and nodes["A"].value is not None
    assert nodes["B"].isometry == (0, 1) and nodes["B"].value is not None


def test_constants_and_frozen_tensors_are_not_counted() -> None:
    """parameter_count counts trainable entries only, stored_count all."""
    net = everything()
    assert net.parameter_count == 36 + 8
    assert net.stored_count == 36 + 8 + 8 + 2


def test_copy_is_independent() -> None:
    """Editing a copy leaves the original alone, wires included."""
    net = tn.Network()
    (i,) = net.input([2])
    other = net.copy()
    other.output(other.tensor("A", [i], out=(3,)))
    assert other.parameter_count == 6
    net.output([i])
    assert net.parameter_count == 0


def test_from_graph_can_be_edited() -> None:
    """from_graph keeps the content, and its wires still refuse a second consumer."""
    net = tn.Network("wires")
    (i,) = net.input([2])
    net.output(net.tensor("A", [i], out=(3,)))
    other = tn.Network.from_graph(net.freeze())
    assert other.freeze() == net.freeze()
    with pytest.raises(tn.SpecError, match=r"'x\.0' is consumed twice: by tensor 'A' and by"):
        other.tensor("B", "x.0")
    other.copy_leg("x.0")
    other.tensor("B", "x.0")
    assert other.parameter_count == 8


def test_freeze_keeps_no_link_to_the_builder() -> None:
    """A graph does not change when its builder does."""
    net = three_cores()
    graph = net.freeze()
    net.fix(j1=0)
    assert graph.pinned == {}


def test_builder_is_not_hashable() -> None:
    """A builder can change, so it has no hash."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(three_cores())


def test_a_failed_call_changes_nothing() -> None:
    """An error leaves the builder as it was, so that the corrected call works."""
    net = tn.Network()
    net.input(i=2)
    with pytest.raises(tn.SpecError):
        net.bond(a=3, i=4)
    net.bond(a=3)
    with pytest.raises(tn.SpecError):
        net.tensor("A", "i a", out=(2, 0))
    (out,) = net.tensor("A", "i a", out=(2,))
    with pytest.raises(tn.SpecError):
        net.output([out], j=0)
    net.tensor("B", "a")
    net.output([out])
    assert net.parameter_count == 15


@pytest.mark.parametrize("build", [three_cores, everything], ids=["three-cores", "everything"])
def test_printed_network(build: Callable[[], tn.Network], golden: Golden) -> None:
    """str() prints a table of ports, tensors, sums and pins (golden file)."""
    golden.check(str(build()))


def test_printed_unfinished_network() -> None:
    """An unfinished network prints what is missing instead of raising."""
    net = tn.Network("half")
    net.input(i=2)
    assert "not finished" in repr(net)
    assert "no output" in str(net)


def test_repr_is_one_line() -> None:
    """repr says label, features, tensors and parameters."""
    expected = "'three cores': 4096 -> 4096, 3 tensors, 20,480 parameters (819x fewer than dense)"
    assert repr(three_cores()) == f"<Network {expected}>"


@pytest.mark.parametrize(
    "value", [np.broadcast_to(1.0, (10**9,)), range(10**9)], ids=["repeated", "range"]
)
def test_values_that_would_be_copied_into_gigabytes(value: object) -> None:
    """What is small where it lies is refused before it is large, with the tensor's name."""
    net = tn.Network("net")
    net.bond(i=2)
    with pytest.raises(tn.SpecError, match=r"'A'.*1000000000") as caught:
        net.tensor("A", "i", value=value)
    assert len(str(caught.value)) < 400


def test_legs_of_any_port_and_bonds_by_a_mapping() -> None:
    """input, output and bond take sizes by names that a program makes."""
    net = tn.Network("grown")
    net.input({f"i{k}": 2 for k in range(2)})
    net.bond({"a": 3}, b=4)
    net.output({f"j{k}": 5 for k in range(2)})
    net.tensor("A", "i0 i1 a b")
    net.tensor("B", "a b j0 j1")
    assert (net.in_features, net.out_features) == (4, 25)
    with pytest.raises(tn.SpecError, match=r"bond\(\): leg 'c' stands in the mapping and by name"):
        net.bond({"c": 3}, c=3)
    with pytest.raises(tn.SpecError, match=r"bond\(\): expected a mapping of sizes by leg name"):
        net.bond(["c"])  # type: ignore[arg-type]


def test_sizes_of_an_output_are_not_dropped() -> None:
    """A mapping was taken for names, and its sizes for nothing."""
    net = tn.Network("clash")
    net.bond(j=8)
    with pytest.raises(tn.SpecError, match="'j'"):
        net.output({"j": 4})


def test_json_from_a_file(tmp_path: Path) -> None:
    """A path is read; its name as a text is no JSON, and told as what it is."""
    file = tmp_path / "net.json"
    net = three_cores()
    file.write_text(net.to_json())
    assert tn.Network.from_json(file).freeze() == net.freeze()
    with pytest.raises(tn.SpecError, match=r"'net.json' names a file and is no JSON; pass Path"):
        tn.Network.from_json("net.json")
