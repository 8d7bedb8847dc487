"""``python -m benchmarks.models``: a character-level GPT, trained here, compressed and healed."""

from __future__ import annotations

from .run import main

if __name__ == "__main__":
    main()
