"""``python -m benchmarks.planner.run``."""

import sys

from benchmarks.planner.run import main

if __name__ == "__main__":
    sys.exit(main())
