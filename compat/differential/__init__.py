"""Sends the same requests to Apache ZooKeeper and to another server and compares all they say.

    python3 -m compat.differential --target oxkeeper --seeds 1..200 --ops 200

Steps (steps.py) come from a seed (generate.py) or from a script (scenarios.py). A side
(side.py) carries them out on one server and tells what it saw, without time stamps and
session ids (normal.py). `run.py` compares two sides and shrinks what differs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
