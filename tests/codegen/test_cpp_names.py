"""Names and labels of the user never reach generated C++, whatever they are."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler, programs_of
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.ir.plan import Plan

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

NAMES = 10_000
NAMES_A_NETWORK = 8
COMPILED_EVERY = 100
# Words of C++, of the printer and of what it includes, and the canonical names themselves.
_TEXT = (
    "alignas and asm auto bool break case catch char class const default delete do double "
    "else enum explicit extern false float for friend goto if inline int long namespace new "
    "noexcept nullptr operator private public register return short signed sizeof static "
    "struct switch template this throw true try typedef typename union unsigned using virtual "
    "void volatile while NULL INFINITY EOF errno stdin main memset memcpy free "
    "omp_in_parallel vec entry load store splat scalar sum gather transpose STEP INLINE W "
    "READ_ANEW forward backward batch threads arguments whole team partials own f block valid "
    "room n0 n1 e0 e1 t0 x0 out_y d_n0 g __LINE__ __restrict _exit __attribute__ linux unix "
    "i386"
)
WORDS = tuple(_TEXT.split())
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
# What could end a comment, a line or a string, and what a name may not be.
NASTY = (
    "*/", "/*", "//", "\\", "\\\n", "\n", "\r", "\0", "\"", "'", "%s", "%n", "{0}", "{x!r}",
    "??/", "??/\n", "R\"(", ")\"", "#include </etc/passwd>", "#define W 1",
    "\u202e", "\u2028", "\u00e9", "\U0001f600", "\ud800",
    "a b", "a;b", "a-b", "1a", "", " ", "$(id)", "`id`", "*/ int main(){} /*", "?" * 40,
)  # fmt: skip


def draw_words(generator: torch.Generator, number: int) -> list[str]:
    """Valid names, all different: reserved words, canonical names and random ones."""
    found: list[str] = []
    for k in range(NAMES_A_NETWORK):
        drawn = torch.randint(len(LETTERS), (6,), generator=generator).tolist()
        word = "".join(LETTERS[at] for at in drawn)
        known = WORDS[(number * NAMES_A_NETWORK + k) % len(WORDS)]
        found.append((f"{known}", f"_{word}{number}x{k}", f"{known}_{word}{k}")[(number + k) % 3])
    return found


def named(words: list[str], label: str) -> tn.Network:
    """Two inputs features, a bond and two tensors under these names."""
    x, a, b, i, j, bond, k, m = words
    net = tn.Network(label)
    net.input(x, {i: 4, k: 3})
    net.output(**{j: 4, k: 3})
    net.bond(**{bond: 3, m: 2})
    net.sum(m)
    net.tensor(a, [i, bond, m])
    net.tensor(b, [bond, j])
    return net


def nameless(net: tn.Network) -> Plan:
    """The plan that the kernels are made of, without the table of names beside it."""
    return replace(tn.plan(net, minimize="combo-4"), names=())


def test_ten_thousand_names_change_nothing() -> None:
    """Whatever the names, and whatever text the label is, the plan and the source are the same."""
    plain = named(["x", "A", "B", "i", "j", "a", "k", "m"], "plain")
    program = tn.compile(plain, backend="cpp")
    source, plan = program.source(), nameless(plain)
    generator = torch.Generator().manual_seed(5)
    seen = 0
    for number in range(NAMES // NAMES_A_NETWORK):
        words = draw_words(generator, number)
        seen += len(set(words))
        net = named(words, NASTY[number % len(NASTY)] + words[0])
        if number % COMPILED_EVERY == 0:
            assert tn.compile(net, backend="cpp").source() == source, words
        assert nameless(net) == plan, words
    assert seen == NAMES


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_what_is_no_name_is_refused(name: str) -> None:
    """Text that could do harm is no name at all, for legs, tensors and ports."""
    for declare in (
        lambda net: net.bond(**{name: 2}),
        lambda net: net.input(name, {"i": 2}),
        lambda net: net.tensor(name, ["i"]),
    ):
        net = tn.Network()
        with pytest.raises(tn.SpecError):
            declare(net)
            net.output()
            net.freeze()


def test_comments_hold_canonical_names_only() -> None:
    """Every word in a comment of a kernel is the printer's or a canonical name."""
    layer = tn.Layer(named([f"quokka{k}" for k in range(8)], "*/ quokka"), backend="cpp")
    (program,) = programs_of(layer)
    text = "".join(map(print_cpp, program.programs()))
    assert "quokka" not in text
    steps = re.findall(r"\n// (.*)\nSTEP [fb]", text)
    assert steps
    canonical = (
        r"(d_)?[netx]\d+(_[a-z]+)*|y|g|b|d_\w+|out_\w+|x|sum|up|summed|to|lanes|leaves|diagonal|of"
    )
    for step in steps:
        for word in re.findall(r"\w+", step):
            assert re.fullmatch(canonical, word), step
