"""``python -m benchmarks.models``: trained models, compressed and healed, a table each."""

from __future__ import annotations

from .run import main

if __name__ == "__main__":
    main()
