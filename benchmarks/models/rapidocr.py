"""rapidocr's recogniser of text (PP-OCRv4) with its trained weights: words that are drawn here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common.baselines import CannotRun

from .onnx_graph import OnnxGraph
from .text import load_text
from .wheels import unpacked
from .workload import SAME, Workload

NAME, VERSION = "rapidocr-onnxruntime", "1.4.4"
HEIGHT, WIDTH, SIZE = 48, 128, 32
# Of images whose time is measured.
TIMED_WIDTH = 32
HELD_OUT, SEEN = 96, 32
STEPS, BATCH, RATE = 12, 8, 1e-4
# Matrices with fewer entries stay: there is nothing to save.
LEAST = 50_000


def workload() -> Workload:
    """The trained recogniser and drawn words.

    Raises:
        CannotRun: the wheel, onnx or Pillow cannot be had.
    """
    folder = unpacked(NAME, VERSION)
    path = folder / "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
    try:
        import onnx
    except ImportError as error:
        msg = f"onnx is not installed: pip install 'tnlayer[bench]' ({error})"
        raise CannotRun(msg) from error
    proto = onnx.load(path)
    model = OnnxGraph(proto).eval()
    listed = next(one.value for one in proto.metadata_props if one.key == "character")
    characters = ["", *listed.splitlines(), " "]
    words = chosen_words(HELD_OUT + SEEN + STEPS * BATCH)
    test, seen, rest = words[:HELD_OUT], words[HELD_OUT:][:SEEN], words[HELD_OUT + SEEN :]
    images = torch.cat([drawn(word) for word in test])
    lessons = [torch.cat([drawn(w) for w in rest[k::STEPS]]) for k in range(STEPS)]
    with torch.no_grad():
        targets = [model(batch) for batch in lessons]

    @torch.no_grad()
    def scores(compressed: nn.Module) -> dict[str, float]:
        compressed.eval()
        found = (decode(compressed(part), characters) for part in images.split(64))
        # A blank at the end is no error of reading.
        read = [word.strip() for words in found for word in words]
        return {"words read": sum(map(str.__eq__, read, test)) / len(test)}

    def step(compressed: Any) -> None:
        compressed.eval()  # the graph has no dropout; its norms keep their statistics
        distance(compressed(lessons[0]), targets[0]).backward()

    return Workload(
        name="rapidocr",
        title=f"the recogniser of {NAME} {VERSION} (PP-OCRv4), run by torch",
        sample="word",
        model=model,
        data=[torch.cat([drawn(word) for word in part]) for part in (seen[::2], seen[1::2])],
        is_matrix=is_matrix,
        scores=scores,
        heal=lambda compressed: _heal(compressed, lessons, targets),
        inputs=lambda count: images[:1, :, :, :TIMED_WIDTH].repeat(count, 1, 1, 1),
        step=step,
        call=lambda compressed, x: compressed(x),
        notes={
            "words": len(test),
            "image": [HEIGHT, WIDTH],
            "timed_image": [HEIGHT, TIMED_WIDTH],
            "healing_steps": STEPS,
            "healing_batch": BATCH,
            "healing_rate": RATE,
            "matrices": sum(is_matrix(m, n) for n, m in model.named_modules()),
        },
    )


def is_matrix(module: nn.Module, name: str) -> bool:
    """Convolutions of 1 x 1 and products that have at least LEAST entries."""
    if isinstance(module, nn.Conv2d):
        is_plain = module.kernel_size == (1, 1) and module.groups == 1
        return is_plain and module.weight.numel() >= LEAST
    return isinstance(module, nn.Linear) and module.weight.numel() >= LEAST


def chosen_words(count: int) -> list[str]:
    """Different words of 3 to 7 letters, and numbers, in an order that is always the same."""
    text = load_text()
    letters = "".join(text.alphabet[k] for k in text.train[:1_500_000].tolist())
    found = sorted(set(re.findall(r"\b[A-Za-z]{3,7}\b", letters)))
    random = np.random.default_rng(0)
    numbers = [str(n) for n in random.integers(100, 10**6, count // 8)]
    order = random.permutation(len(found))[: count - len(numbers)]
    words = [*(found[k] for k in order), *numbers]
    return [words[k] for k in random.permutation(len(words))]


def drawn(word: str) -> torch.Tensor:
    """A word in dark on light, (1, 3, HEIGHT, WIDTH) in -1 to 1, by Pillow's own font."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        msg = f"Pillow is not installed: pip install 'tnlayer[bench]' ({error})"
        raise CannotRun(msg) from error
    size = SIZE
    while True:
        font: Any = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(word)
        if right - left + 12 <= WIDTH:
            break
        size -= 2
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    at = (6 - left, (HEIGHT - (bottom - top)) / 2 - top)
    ImageDraw.Draw(image).text(at, word, fill=0, font=font)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).copy()) / 127.5 - 1
    return pixels.expand(1, 3, HEIGHT, WIDTH)


def decode(probabilities: torch.Tensor, characters: Sequence[str]) -> list[str]:
    """Texts of (count, places, characters): the likeliest at each place, repeats and blanks left
    out (the best path of connectionist temporal classification; Graves et al. 2006, section 3.2).

    >>> p = torch.eye(3)[torch.tensor([[1, 1, 0, 1, 2]])]
    >>> decode(p, ["", "a", "b"])
    ['aab']
    """
    found: list[str] = []
    rows: list[list[int]] = probabilities.argmax(-1).tolist()
    for row in rows:
        kept = [k for before, k in zip([0, *row], row, strict=False) if k and k != before]
        found.append("".join([str(characters[k]) for k in kept]))
    return found


def distance(probabilities: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean divergence from the characters that the original model gave.

    Arguments:
        probabilities, wanted: (count, places, characters).
    """
    near, exact = (one.clamp_min(1e-9).log() for one in (probabilities, wanted))
    return (wanted * (exact - near)).sum(-1).mean()


def _heal(model: nn.Module, lessons: list[torch.Tensor], targets: list[torch.Tensor]) -> None:
    """Training to give what the original gave, on words that are not those of the scores."""
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for step, (x, wanted) in enumerate(zip(lessons, targets, strict=True)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 4, (STEPS - step) / (STEPS / 2))
        optimizer.zero_grad(set_to_none=True)
        loss = distance(model(x), wanted)
        if float(loss.detach()) < SAME:
            break
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
