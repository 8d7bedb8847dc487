"""``python -m benchmarks.calibration``."""

import sys

from benchmarks.calibration.run import main

if __name__ == "__main__":
    sys.exit(main())
