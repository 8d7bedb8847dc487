"""rxnmapper's ALBERT with its trained weights: masked tokens, and which atom became which."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common.baselines import CannotRun

from .reactions import (
    HELD_OUT,
    SEEN,
    Vocabulary,
    agreement,
    atom_mapping,
    found_in,
    made_up,
    masked_loss,
    tokens_of,
)
from .wheels import unpacked
from .workload import SAME, Workload

VERSION = "0.4.3"
# The head that rxnmapper reads, counted from 0.
LAYER, HEAD = 10, 5
STEPS, BATCH, RATE = 20, 8, 5e-4
# Tokens of reactions whose hidden ones are scored, at least, and of those whose time is measured.
LEAST_TOKENS, TOKENS = 25, 16


def workload() -> Workload:
    """The trained model and the reactions in its wheel's tests and description.

    Raises:
        CannotRun: the wheel or transformers cannot be had.
    """
    folder = unpacked("rxnmapper", VERSION)
    place = folder / "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
    model = load(place)
    vocabulary = Vocabulary.of((place / "vocab.txt").read_text(encoding="utf-8").splitlines())
    sources = (*sorted((folder / "tests").glob("*.py")), *folder.glob("*.dist-info/METADATA"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    # Some of the tests' are no chemistry, and have atoms that the model does not know.
    quoted = [one for one in found_in(text) if vocabulary.knows(one)]
    reactions = [*quoted, *made_up(*HELD_OUT)]
    random = torch.Generator().manual_seed(0)
    ours = made_up(*SEEN)
    order = torch.randperm(len(ours), generator=random).tolist()
    batches = [vocabulary.encode([ours[k] for k in order[at : at + 64]]) for at in (0, 64)]
    # Of short ones even the trained model cannot tell a hidden token: many would do.
    long = [one for one in reactions if len(tokens_of(one)) >= LEAST_TOKENS]
    held_out = vocabulary.masked(vocabulary.encode(long * 2), random)
    mapped = mapping(model, vocabulary, reactions)
    lessons = _lessons(model, vocabulary, ours, random)

    def scores(compressed: nn.Module) -> dict[str, float]:
        compressed.eval()
        with torch.no_grad():
            loss = masked_loss(compressed(**held_out[0]).logits, held_out[1])
        same = agreement(mapping(compressed, vocabulary, reactions), mapped)
        return {"masked loss": float(loss), "mapping agreement": same}

    def inputs(count: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(15, 40, (count, TOKENS), generator=torch.Generator().manual_seed(2))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def step(compressed: Any) -> None:
        _distance(compressed, lessons[0]).backward()

    return Workload(
        name="rxnmapper",
        title=f"the ALBERT of rxnmapper {VERSION}, 12 layers that share one set of weights",
        sample="reaction",
        model=model,
        data=batches,
        is_matrix=lambda module, name: isinstance(module, nn.Linear) and "albert_layers" in name,
        scores=scores,
        heal=lambda compressed: _heal(compressed, lessons),
        inputs=inputs,
        step=step,
        call=lambda compressed, x: compressed(**x).logits,
        notes={
            "reactions": len(reactions),
            "reactions_of_the_package": len(quoted),
            "reactions_with_hidden_tokens": len(long),
            "atoms": sum(map(len, mapped)),
            "tokens": sum(len(tokens_of(one)) for one in reactions),
            "healing_steps": STEPS,
            "healing_batch": BATCH,
            "healing_rate": RATE,
            "reactions_made_up": len(ours),
            "timed_tokens_a_reaction": TOKENS,
        },
    )


def load(place: Path) -> nn.Module:
    """The model from its folder: a config and a legacy pickle, of which only arrays are read."""
    try:
        from transformers import AlbertConfig, AlbertForMaskedLM
    except ImportError as error:
        msg = f"transformers is not installed: pip install 'tnlayer[hf]' ({error})"
        raise CannotRun(msg) from error
    given = json.loads((place / "config.json").read_text(encoding="utf-8"))
    names = (
        *("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_hidden_groups"),
        *("num_attention_heads", "intermediate_size", "inner_group_num", "hidden_act"),
        *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id"),
    )
    make: Any = AlbertConfig
    config = make(
        **{name: given[name] for name in names},
        # Attention is read: the plain implementation gives it. Nothing is dropped, so that runs
        # with and without a compression are comparable.
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = AlbertForMaskedLM(config)
    state = torch.load(place / "pytorch_model.bin", map_location="cpu", weights_only=True)
    kept = {name: array for name, array in state.items() if name in model.state_dict()}
    missing = set(model.state_dict()) - set(kept)
    # Numbers of positions are made, not trained; the head's bias is kept under two names.
    made = {name for name in missing if name.endswith(("position_ids", "decoder.bias"))}
    if missing - made:
        msg = f"the file has no {', '.join(sorted(missing - made))}: transformers names them anew"
        raise CannotRun(msg)
    model.load_state_dict(kept, strict=False)
    return model.eval()


@torch.no_grad()
def mapping(model: Any, vocabulary: Vocabulary, reactions: list[str]) -> list[list[int]]:
    """The atom mapping that a model's attention gives."""
    model.eval()
    found: list[list[int]] = []
    for reaction in reactions:
        out = model(**vocabulary.encode([reaction]), output_attentions=True)
        found.append(atom_mapping(reaction, out.attentions[LAYER][0, HEAD]))
    return found


@dataclass(frozen=True)
class Lesson:
    """A batch, and what the original model made of it.

    Arguments:
        batch: reactions with hidden tokens.
        logits: (count, length, vocabulary).
        attention: of the head that is read, (count, length, length).
    """

    batch: dict[str, torch.Tensor]
    logits: torch.Tensor
    attention: torch.Tensor


@torch.no_grad()
def _lessons(
    model: Any, vocabulary: Vocabulary, reactions: list[str], random: torch.Generator
) -> list[Lesson]:
    found: list[Lesson] = []
    for _ in range(STEPS):
        chosen = torch.randint(len(reactions), (BATCH,), generator=random).tolist()
        batch, _ = vocabulary.masked(vocabulary.encode([reactions[k] for k in chosen]), random)
        out = model(**batch, output_attentions=True)
        found.append(Lesson(batch, out.logits, out.attentions[LAYER][:, HEAD]))
    return found


def _distance(model: Any, lesson: Lesson) -> torch.Tensor:
    """How far a model is from the original: divergence of the tokens that it expects, and of the
    attention that is read, each a mean over tokens."""
    out = model(**lesson.batch, output_attentions=True)
    seen = lesson.batch["attention_mask"].bool()
    expected, wanted = out.logits.log_softmax(-1)[seen], lesson.logits.log_softmax(-1)[seen]
    near = out.attentions[LAYER][:, HEAD].clamp_min(1e-9).log()[seen]
    exact = lesson.attention.clamp_min(1e-9).log()[seen]
    divergence = nn.functional.kl_div
    return divergence(expected, wanted, reduction="batchmean", log_target=True) + divergence(
        near, exact, reduction="batchmean", log_target=True
    )


def _heal(model: Any, lessons: list[Lesson]) -> None:
    """Training to give what the original gave, on reactions that are not those of the scores."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    model.train()
    for step, lesson in enumerate(lessons):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 4, (STEPS - step) / (STEPS / 2))
        optimizer.zero_grad(set_to_none=True)
        distance = _distance(model, lesson)
        if float(distance.detach()) < SAME:
            break
        distance.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
