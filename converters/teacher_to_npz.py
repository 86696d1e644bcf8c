"""The door to `occjax convert-teacher` from a checkout; --help says what it does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from occjax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["convert-teacher", *sys.argv[1:]]))
