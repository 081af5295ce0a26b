"""A fresh follower joins an ensemble with a large tree while writes go on: how long it takes, and what writers notice.

    python3 -m compat.large_join --gib 3 --data-root /dev/shm

Three servers with the default limits (tickTime 2000, initLimit 10, syncLimit 5). The tree is made, one follower is
stopped and its directory emptied, and it is started again under writes at a steady pace. Each server holds the tree,
and so does each directory; below /dev/shm that is memory too: six times the tree in all.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
