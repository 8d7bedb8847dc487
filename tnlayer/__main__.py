"""``python -m tnlayer``."""

import sys

from tnlayer.cli import main

if __name__ == "__main__":
    sys.exit(main())
