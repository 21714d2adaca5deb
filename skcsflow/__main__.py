"""``python -m skcsflow`` does what ``skcsflow`` does."""

import sys

from skcsflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
