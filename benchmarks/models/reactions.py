"""Chemical reactions as text: tokens, masked ones, and which atom became which.

A reaction is two lists of molecules in SMILES, ``reactants>>products``. Source of the mapping:
Schwaller et al., Extraction of organic chemistry grammar from unsupervised learning of chemical
reactions (Science Advances 2021): one attention head of a masked language model tells which atom
of the reactants each atom of the product was.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

IGNORED = -100
_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|>>|%\d\d|\S")
_ELEMENT = re.compile(r"\[?\d*([A-Z][a-z]?|[a-z][a-z]?|\*)")
_IN_TEXT = re.compile(r"[\"']([^\s\"']+>>[^\s\"'|]+)")


def tokens_of(reaction: str) -> list[str]:
    """The tokens of a reaction: atoms, bonds, brackets, rings and ``>>``.

    >>> tokens_of("BrCC>>[CH3]C")
    ['Br', 'C', 'C', '>>', '[CH3]', 'C']
    """
    return _TOKEN.findall(reaction)


def element_of(token: str) -> str:
    """The element of an atom's token, in lower case; "" for all else.

    >>> element_of("[nH]"), element_of("Cl"), element_of("="), element_of("[O-]")
    ('n', 'cl', '', 'o')
    """
    is_atom = token.startswith("[") or token[0].isalpha() or token == "*"
    found = _ELEMENT.match(token) if is_atom else None
    return "" if found is None else _short(found.group(1), token)


def _short(element: str, token: str) -> str:
    # In brackets a small letter and an H are two atoms: [nH].
    return element.lower() if token not in ("[nH]", "[sH]", "[oH]") else token[1]


def found_in(text: str) -> list[str]:
    """Reactions that a source text quotes, each once, without those that carry atom numbers or are
    longer than 200 tokens.

    >>> found_in('a = "CCO.BrC>>CCOC"; b = "[CH3:1]>>[CH3:1]"')
    ['CCO.BrC>>CCOC']
    """
    found = dict.fromkeys(_IN_TEXT.findall(text))
    return [one for one in found if ":" not in one and len(tokens_of(one)) <= 200]


# Groups of molecules: those to weight fits and heal on, and those of the scores.
SEEN = (
    ("CCCC", "CC(C)C", "C1CCCC1", "CCOCC", "c1ccccc1C", "CC(=O)NCC", "FC(F)(F)CC", "NCCCC"),
    ("c1ccncc1", "c1ccccc1", "c1ccc(F)cc1", "c1ccc(C#N)cc1", "c1cnc2ccccc2c1", "c1ccsc1"),
)
HELD_OUT = (
    ("CCC(C)C", "C1CCCCC1", "COCCC", "c1ccccc1CC"),
    ("c1cccnc1", "c1ccc(Cl)cc1", "c1ccc(OC)cc1"),
)


def made_up(groups: Sequence[str], rings: Sequence[str]) -> list[str]:
    """Ethers, amides, esters and couplings of all pairs of groups.

    Arguments:
        groups: chains in SMILES that can be bound at their ends.
        rings: aromatic ones, alike.

    >>> made_up(["CC", "CCC"], ["c1ccccc1"])[0]
    'CCO.BrCC.[Na+].[OH-]>>CCOCC'
    """
    pairs = list(itertools.product(groups, rings))
    made = [f"{a}O.Br{b}.[Na+].[OH-]>>{a}O{b}" for a, b in itertools.product(groups, groups)]
    made += [f"{a}N.ClC(=O){b}.CCN(CC)CC>>{a}NC(=O){b}" for a, b in pairs]
    made += [f"{a}O.OC(=O){b}.Cl>>{a}OC(=O){b}" for a, b in pairs]
    made += [
        f"OB(O){a}.Br{b}.[Pd].O=C([O-])[O-].[K+].[K+]>>{b}-{a}"
        for a, b in itertools.product(rings, rings)
    ]
    return made


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by number, those for padding, masks, unknown tokens, beginning and end among them.

    Arguments:
        numbers: of the tokens.
    """

    numbers: dict[str, int]

    @classmethod
    def of(cls, lines: Sequence[str]) -> Vocabulary:
        """From the lines of a vocabulary's file."""
        return cls({token: number for number, token in enumerate(lines)})

    @property
    def mask(self) -> int:
        """What a hidden token is replaced by."""
        return self.numbers["[MASK]"]

    def knows(self, reaction: str) -> bool:
        """Whether all tokens of a reaction have a number."""
        return all(token in self.numbers for token in tokens_of(reaction))

    def encode(self, reactions: Sequence[str]) -> dict[str, torch.Tensor]:
        """Reactions as numbers, padded: ``input_ids`` and ``attention_mask``, (count, length)."""
        unknown = self.numbers["[UNK]"]
        rows = [
            [self.numbers["[CLS]"]]
            + [self.numbers.get(token, unknown) for token in tokens_of(reaction)]
            + [self.numbers["[SEP]"]]
            for reaction in reactions
        ]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.numbers["[PAD]"])
        seen = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = torch.tensor(row)
            seen[k, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": seen}

    def masked(
        self, batch: dict[str, torch.Tensor], random: torch.Generator, share: float = 0.15
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """A batch with some tokens hidden, and labels: the tokens there, IGNORED elsewhere.

        Arguments:
            batch: as :meth:`encode` gives it.
            random: which tokens.
            share: of the tokens that are hidden; neither padding, beginning nor end.
        """
        ids = batch["input_ids"]
        special = [self.numbers[name] for name in ("[PAD]", "[CLS]", "[SEP]")]
        can = ~torch.isin(ids, torch.tensor(special))
        drawn = torch.rand(ids.shape, generator=random)
        hidden = can & (drawn < share)
        # In each row at least one: that which came nearest.
        nearest = torch.where(can, drawn, torch.full_like(drawn, 2.0)).argmin(-1, keepdim=True)
        hidden.scatter_(1, nearest, True)
        labels = torch.where(hidden, ids, torch.full_like(ids, IGNORED))
        shown = torch.where(hidden, torch.full_like(ids, self.mask), ids)
        return {**batch, "input_ids": shown}, labels


def masked_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the hidden tokens, in nats.

    Arguments:
        logits: (count, length, vocabulary).
        labels: (count, length), IGNORED where nothing was hidden.
    """
    flat = logits.flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED)


def atom_mapping(reaction: str, attention: torch.Tensor) -> list[int]:
    """For each atom of the products the atom of the reactants that it was, both by number.

    The two directions of attention are added, atoms of other elements are left out, and the
    strongest pairs are taken first, each atom once; -1 where no atom is left.

    Arguments:
        reaction: its text.
        attention: of one head, (tokens, tokens), beginning and end among them.

    >>> attention = torch.zeros(6, 6)
    >>> attention[4, 2] = 1.0
    >>> atom_mapping("CO>>O", attention)
    [1]
    """
    words = ["", *tokens_of(reaction), ""]
    middle = words.index(">>")
    atoms = [k for k, word in enumerate(words) if word and element_of(word)]
    before = [k for k in atoms if k < middle]
    after = [k for k in atoms if k > middle]
    both = attention + attention.mT
    pairs = [
        (float(both[p, r]), i, j)
        for i, p in enumerate(after)
        for j, r in enumerate(before)
        if element_of(words[p]) == element_of(words[r])
    ]
    found = [-1] * len(after)
    taken: set[int] = set()
    # Of pairs that are equally strong the first: the order is the same in each run.
    for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if found[i] < 0 and j not in taken:
            found[i] = j
            taken.add(j)
    return found


def agreement(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """Share of atoms that two mappings of the same reactions map alike.

    >>> agreement([[0, 1], [2]], [[0, 3], [2]])
    0.6666666666666666
    """
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=True)]
    return sum(a == b for a, b in pairs) / max(1, len(pairs))
