"""The door to the command line from a checkout: `python main.py …` is `occjax …`; see occjax/__main__.py.

python main.py --config=configs/kd.py --workdir=runs/kd
python main.py --help
"""

import sys

# Loader processes import this file again, and with it what the command line sets up for them.
from occjax.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
