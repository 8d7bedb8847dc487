"""Hostile documents, multigraphs, equations and arguments: a SpecError that is short and soon."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.mutations import mutated, mutated_bytes, places
from tests.support.work import Word, with_words, work_of
from tnlayer.errors import MAX_MESSAGE, TnlayerError
from tnlayer.graph import canonical
from tnlayer.graph.argument_checks import shown, suggest
from tnlayer.graph.canonical import canonicalise
from tnlayer.nn.padded import Padded
from tnlayer.support import json_text

HUGE = 10**4000
LONG = "a" * 100_000
# What no field of a document wants.
HOSTILE: tuple[Any, ...] = (
    HUGE, -HUGE, 2**63, 2**31, -1, 0, 1e308, -0.0, 5e-324, True, False, None, "", LONG, "é",
    "\ud800", "\0", "a b", "__class__", "bias", [], {}, [[]], [HUGE] * 3, [[[[1]]]],
    [10] * 5000, [0, 2**63],
    {"a": {"b": HUGE}}, {LONG: 1}, "complex64", "float16", "t0", "a", ["a"] * 3, [None], [True],
)  # fmt: skip
ODD_TEXT = (
    b'{"a":1,"a":1}', b"[" * 5000, b'{"a":' * 5000, b"NaN", b"Infinity", b"1e999", b"9" * 5000,
    b'"\\ud800"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"", b"\0", b"nul", b"1" + b"0" * 4000 + b".5",
)  # fmt: skip


def valid_documents() -> list[dict[str, Any]]:
    """Documents of networks that have all that a network may have."""
    net = tn.Network("all")
    net.input("x", a=2, b=3)
    net.input("z", c=2, d=2)
    net.port("z", batched=False, product=True, dtype="float32")
    net.output(e=2, a=2)
    net.bond(f=4, g=2)
    net.tensor("A", "b f g", isometry="b g")
    net.tensor("B", "f e c", init=0.5)
    net.tensor("C", "g d", share="D", conj=True)
    net.tensor("D", "g d")
    net.tensor("K", "f", value=np.arange(4) * 1j, trainable=False)
    net.tensor("S", "f k")
    net.bond(k=3)
    net.sum("k")
    net.fix(e=1)
    nets = [
        net,
        tn.topologies.mera(6, 2, 2, fix_first_level=True),
        tn.topologies.tensor_train((2, 3), (3, 2), rank=2),
        tn.topologies.butterfly(8),
    ]
    return [json.loads(one.to_json()) for one in nets]


def hostile(document: Any, seed: int) -> Any:
    """A document with one to three fields replaced by what no field wants."""
    chance = random.Random(seed)
    changed = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 2, 3))):
        container, key = chance.choice(list(places(changed)))
        container[key] = copy.deepcopy(chance.choice(HOSTILE))
    return changed


def check_text(text: str | bytes) -> bool:
    """A text gives a network that can be written again, or a short SpecError; whether it did."""
    try:
        net = tn.Network.from_json(text)
    except tn.SpecError as error:
        assert 10 < len(str(error)) <= MAX_MESSAGE + 100
        return False
    assert tn.Network.from_json(net.to_json()).freeze() == net.freeze()
    assert repr(net)
    return True


@pytest.mark.parametrize("number", range(4))
def test_changed_documents_are_refused_or_mean_something(number: int) -> None:
    """Whatever stands in a field: a network that survives being written, or a short SpecError."""
    document = valid_documents()[number]
    assert check_text(json.dumps(document))
    taken = 0
    for seed in range(500):
        taken += check_text(json.dumps(mutated(document, seed)))
        taken += check_text(json.dumps(hostile(document, seed)))
    assert 0 < taken < 900


@pytest.mark.full
@pytest.mark.parametrize("number", range(4))
def test_many_changed_documents(number: int) -> None:
    """The same for ten thousand changes of each."""
    document = valid_documents()[number]
    for seed in range(1000, 6000):
        check_text(json.dumps(mutated(document, seed)))
        check_text(json.dumps(hostile(document, seed)))


def test_changed_text_is_refused() -> None:
    """Damage to the bytes, and odd texts in the place of a value, give no other exception."""
    text = b""
    for number, document in enumerate(valid_documents()):
        text = json.dumps(document).encode()
        for seed in range(250):
            check_text(mutated_bytes(text, 1000 * number + seed))
    for odd in ODD_TEXT:
        assert not check_text(odd)
        assert not check_text(text.replace(b"2", odd, 1))


def test_changed_multigraphs_are_refused_or_mean_something() -> None:
    """Whatever an attribute of a multigraph is: a network or a short SpecError."""
    strange = (*HOSTILE, np.zeros(3), object(), float("nan"), (), frozenset({1}), _Unprintable())
    for document in valid_documents():
        whole = tn.Network.from_json(json.dumps(document)).to_networkx()
        chance = random.Random(len(whole))
        for _ in range(400):
            drawn = whole.copy()
            records = [d for _, d in drawn.nodes(data=True)]
            records += [d for _, _, d in drawn.edges(data=True)]
            record = chance.choice(records)
            record[chance.choice([*record, "odd"])] = chance.choice(strange)
            try:
                tn.Network.from_networkx(drawn).freeze()
            except tn.SpecError as error:
                assert len(str(error)) <= MAX_MESSAGE + 100


@pytest.mark.filterwarnings("ignore:einsum")  # of letters that could be the batch
def test_changed_equations_are_refused_or_mean_something() -> None:
    """Whatever an equation and its arguments are: a network or a short SpecError."""
    chance = random.Random(5)
    sizes = dict.fromkeys("abcdef", 2)
    for _ in range(2000):
        equation = "".join(chance.choice("abcdefgZé,,-> .\ud800") for _ in range(12))
        equation = chance.choice((equation, "ab,bc->ac", "abc,cd,de->abe"))
        changed: dict[str, Any] = {
            key: chance.choice((*HOSTILE, object(), 0))
            for key in ("sizes", "inputs", "names", "values", "batch")
            if chance.random() < 0.2
        }
        try:
            given: dict[str, Any] = {"sizes": sizes, "batch": None, **changed}
            tn.Network.from_einsum(equation, **given).freeze()
        except tn.SpecError as error:
            assert len(str(error)) <= MAX_MESSAGE + 100


class _Unprintable:
    """An object whose text and entries cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError


NO_NETWORK: tuple[Any, ...] = (
    None, 5, "net", b"net", [None], ["net"], {}, 1.5, np.zeros(2), torch.zeros(2), tn.Network,
    _Unprintable(), ("a",) * 100_000,
)  # fmt: skip


@pytest.mark.parametrize(
    "made", [tn.Layer, tn.cost, tn.plan, tn.compile, lambda n: tn.compare([n])]
)
def test_what_is_no_network_is_refused(made: Callable[[Any], object]) -> None:
    """Layer(None) and its like give a SpecError that says what was expected."""
    for net in NO_NETWORK:
        with pytest.raises(tn.SpecError, match=r"expected .*[Nn]etwork|is made from a network"):
            made(net)


@pytest.mark.parametrize(
    "option", ["batch", "backend", "objective", "memory_limit", "effort", "dtype", "minimize"]
)
def test_options_of_a_wrong_kind_are_refused(option: str) -> None:
    """An option that is no word, number or dtype gives a SpecError that names it."""
    net = tn.topologies.low_rank(4, 3, rank=1)
    for value in ([], {}, np.zeros(2), -1.5, b"cpu", _Unprintable(), LONG, HUGE):
        if option == "memory_limit" and value is HUGE:
            continue  # a limit like any other
        with pytest.raises(tn.SpecError, match=option) as error:
            tn.cost(net, **cast(dict[str, Any], {option: value}))
        assert len(str(error.value)) < 1000
        if option != "minimize":
            with pytest.raises(tn.SpecError, match=option):
                tn.Layer(net, **cast(dict[str, Any], {option: value}))


def pair() -> list[tn.Network]:
    """Two networks that may be summed."""
    nets = [tn.topologies.low_rank(4, 3, rank=1), tn.Network("other")]
    nets[1].input(i=4)
    nets[1].output(j=3)
    nets[1].tensor("W", "i j")
    return nets


@pytest.mark.parametrize("option", ["bias", "tune", "log_scale", "device", "memory_limit"])
def test_options_of_layers_of_a_wrong_kind_are_refused(option: str) -> None:
    """So do those that a layer has beside its plan, whatever else is asked for."""
    nets = pair()
    values = ([], {}, np.zeros(2), torch.zeros(2), 1.5, "no such", "", _Unprintable(), LONG)
    for value in (*values, -1, HUGE, -(10**5000)):
        if option == "memory_limit" and value is HUGE:
            continue
        options = cast(dict[str, Any], {option: value})
        with pytest.raises(tn.SpecError, match=option) as error:
            tn.Layer(nets, **options)
        assert len(str(error.value)) < 1000
        if option not in ("tune", "memory_limit"):
            with pytest.raises(tn.SpecError, match=option):
                Padded(nets[0], 3, 3, **options)
    with pytest.raises(tn.SpecError, match="memory_limit"):
        tn.Layer(nets, log_scale=True, memory_limit=10**5000)
    for size in (10**5000, -(10**5000)):
        with pytest.raises(tn.SpecError, match="Padded"):
            Padded(nets[0], size, 3)


def test_a_device_that_torch_has_not_is_refused() -> None:
    """The words are torch's, the kind of error ours."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(tn.SpecError, match="device='cuda'"):
        tn.Layer(pair(), device="cuda")


def odd_tensors() -> dict[str, torch.Tensor]:
    """Tensors of two rows and columns that have no strides, or that numpy has no dtype for."""
    eye = torch.eye(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these are called prototypes
        odd = {
            "csr": eye.to_sparse_csr(),
            "coo": eye.to_sparse(),
            "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(2)]),
            "quantised": torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8),
            "float8": eye.to(torch.float8_e4m3fn),
            "half complex": torch.zeros(2, 2, dtype=torch.complex32),
        }
        if torch.backends.mkldnn.is_available():
            odd["mkldnn"] = eye.to_mkldnn()
    return odd


@pytest.mark.parametrize("kind", odd_tensors())
@pytest.mark.parametrize("log_scale", [False, True])
def test_odd_tensors_are_refused(kind: str, log_scale: bool) -> None:
    """As values, as x and as stored arrays they are named, but for what nn.Linear takes, too:
    sparse values and x are made dense, and a nested x gives a nested y."""
    odd = odd_tensors()[kind]
    net = tn.topologies.low_rank(2, 2, rank=2)
    is_sparse = kind in ("coo", "csr")
    if kind != "coo":
        with pytest.raises(tn.SpecError, match="tensor 'V'"):
            net.copy().tensor("V", "i j", value=odd)
    layer = tn.Layer(net, backend="torch", log_scale=log_scale)
    if is_sparse or (kind == "nested" and not log_scale):
        layer(odd)
    else:
        with pytest.raises(tn.SpecError, match="input 'x' must"):
            layer(odd)
    layer(torch.eye(2))
    name = next(iter(layer._parameters))
    layer._parameters[name] = odd  # type: ignore[assignment]
    with pytest.raises(tn.SpecError, match=r"tensor '\w'"):
        layer(torch.eye(2))


@pytest.mark.parametrize("dtype", [torch.complex32, torch.float8_e4m3fn, torch.int64, torch.bool])
@pytest.mark.parametrize("limit", [None, 2**20])
def test_a_layer_of_another_dtype_says_so(dtype: torch.dtype, limit: int | None) -> None:
    """Where all arrays have a dtype that no layer is made with, whatever is asked names it."""
    layer = tn.Layer(tn.topologies.low_rank(2, 2, rank=2), memory_limit=limit, backend="torch")
    for name, array in layer._parameters.items():
        if array is not None:
            layer._parameters[name] = array.detach().to(dtype)  # type: ignore[assignment]
    for ask in (
        lambda: layer(torch.zeros(2, 2, dtype=dtype)),
        layer.explain,
        layer.source,
        layer.to_dense,
        layer.reset_parameters,
        layer.prepare,
        layer.tune,
    ):
        with pytest.raises(tn.SpecError, match=f"dtype.*{str(dtype)[6:]}"):
            ask()
    assert str(dtype) in repr(layer)


def test_from_graph_takes_graphs() -> None:
    """What is no Graph is named."""
    for graph in (None, {"a"}, np.zeros(2), tn.Network()):
        with pytest.raises(tn.SpecError, match="from_graph: expected"):
            tn.Network.from_graph(cast(Any, graph))


def test_reorder_names_what_is_no_port() -> None:
    """A key that is no string is named as it is."""
    for key in (1, None, ("x",), HUGE):
        with pytest.raises(tn.SpecError, match="reorder"):
            tn.topologies.low_rank(4, 3, rank=1).reorder(input=cast(Any, {key: "i"}))


def test_calls_without_tensors_are_refused() -> None:
    """An input that is no tensor is named."""
    layer = tn.Layer(tn.topologies.low_rank(4, 3, rank=1), backend="torch")
    for x in ([1.0] * 4, np.zeros(4, dtype=np.float32), 1.0):
        with pytest.raises(tn.SpecError, match=r"input 'x' must be a torch.Tensor"):
            layer(x)
    with pytest.raises(tn.SpecError, match=r"expected 1 input \(x\), got 0"):
        layer(None)


# -- what took long --------------------------------------------------------------------------------


def document(legs: dict[str, int], output: list[str], tensors: list[dict[str, Any]]) -> str:
    """A document without inputs."""
    return json.dumps(
        {
            "format": "tnlayer.network",
            "version": 1,
            "label": "",
            "legs": [{"name": name, "size": size} for name, size in legs.items()],
            "inputs": [],
            "output": output,
            "tensors": tensors,
        }
    )


def long_names() -> str:
    """An unknown leg among many long names that are alike."""
    chance = random.Random(1)
    names = ["a" + "".join(chance.choices("ab", k=190)) for _ in range(1501)]
    return document(dict.fromkeys(names[1:], 1), [], [{"name": "A", "legs": names[:1]}])


def short_names() -> str:
    """An unknown leg among very many short names that are alike."""
    chance = random.Random(2)
    names = list(dict.fromkeys("a" + "".join(chance.choices("ab", k=12)) for _ in range(16_000)))
    return document(dict.fromkeys(names[1:], 1), [], [{"name": "A", "legs": names[:1]}])


def sharers(first: str | None) -> str:
    """Each tensor shares the one before; the first one owns the parameter or shares the last."""
    chain = [{"name": f"t{k}", "legs": ["a"], "share": f"t{k - 1}"} for k in range(1, 4000)]
    head = {"name": "t0", "legs": ["a"], **({} if first is None else {"share": first})}
    return document({"a": 2}, ["a"], [head, *chain])


def sums_beside_outputs() -> str:
    """Half of the legs are summed, half are the output's."""
    legs = [f"a{k}" for k in range(16_000)]
    half = [{"name": leg, "size": 1, "summed": k % 2 == 0} for k, leg in enumerate(legs)]
    text = json.loads(document({}, legs[1::2], [{"name": "A", "legs": legs}]))
    return json.dumps({**text, "legs": half})


def isometry() -> str:
    """An isometry over very many axes."""
    legs = [f"a{k}" for k in range(16_000)]
    tensor = {"name": "A", "legs": legs, "isometry": list(range(16_000))}
    return document(dict.fromkeys(legs, 1), legs, [tensor])


def huge_shape() -> str:
    """A value whose shape is a list of numbers of thousands of digits."""
    value = {"dtype": "float64", "shape": [HUGE] * 200, "entries": []}
    return document({"a": 2}, ["a"], [{"name": "A", "legs": ["a"], "value": value}])


@pytest.mark.parametrize(
    "make",
    [
        long_names,
        short_names,
        lambda: sharers(None),
        lambda: sharers("t3999"),
        lambda: sharers("t2"),
        sums_beside_outputs,
        isometry,
        huge_shape,
    ],
)
def test_small_documents_are_little_work(
    make: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document of up to a megabyte is judged with a few calls, comparisons and bytes for each of
    its letters, whatever it says; the message stays short."""
    text = make()

    def judge() -> None:
        try:
            tn.Network.from_json(text).freeze()
        except TnlayerError as error:
            assert len(str(error)) < 1000

    work = work_of(judge)
    assert work.calls < 10 * len(text)
    assert work.peak < 25 * len(text)
    words = with_words(json_text.parse_json(text))
    monkeypatch.setattr(json_text, "parse_json", lambda text: words)
    monkeypatch.setattr(Word, "comparisons", 0)
    judge()
    assert Word.comparisons < 2 * len(text)


def test_isometry_by_names_is_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder looks each leg up once, too."""
    net = tn.Network()
    legs = [Word(leg) for leg in net.input([1] * 16_000)]
    monkeypatch.setattr(Word, "comparisons", 0)
    assert work_of(lambda: net.tensor("A", legs, isometry=legs)).calls < 25 * len(legs)
    assert Word.comparisons < 6 * len(legs)


def test_canonical_form_of_many_axes_is_little_work() -> None:
    """The bound on the search counts axes: few tensors with very many legs are no way around it."""
    legs = {f"a{k}": 1 for k in range(1000)}
    tensors = [{"name": f"t{k}", "legs": list(legs)} for k in range(64)]
    graph = tn.Network.from_json(document(legs, [], tensors)).freeze()
    assert work_of(lambda: canonicalise(graph)).calls < 3 * canonical.MAX_COLOUR_UPDATES
    assert not canonicalise(graph).exact


# -- messages --------------------------------------------------------------------------------------


def test_messages_are_cut() -> None:
    """Long words and long texts are cut, whoever wrote them; where and what to do stay."""
    text = str(tn.SpecError(f"tensor {LONG!r} is unlike {LONG!r}; rename it"))
    assert text.startswith("tensor 'aaa")
    assert text.endswith("; rename it")
    assert len(text) < 400
    text = str(tn.BuildError("begin " + "word " * 10_000 + "end"))
    assert text.startswith("begin word")
    assert text.endswith("word end")
    assert len(text) < MAX_MESSAGE + 100


def test_shown_bounds_every_value() -> None:
    """No value makes a long text or an error of its own."""
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (*HOSTILE, *NO_NETWORK, cycle, {HUGE: HUGE}, [[HUGE]], range(10**9), b"x" * 10**6):
        assert 0 < len(shown(value)) < 200


def test_suggestions_look_at_near_names() -> None:
    """The nearest of many is found; where names are long only some are compared."""
    names = [f"leg_{k}" for k in range(5000)]
    assert suggest("lag_4711", names) == " (did you mean 'leg_4711'?)"
    assert suggest("zzz", names).startswith(" (known: 'leg_0'")
    assert suggest("zzz", []) == ""
