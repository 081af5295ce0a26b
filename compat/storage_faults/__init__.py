"""Storage faults: what an ensemble makes of damage to its members' files.

    python3 -m compat.storage_faults --trials 100            a hundred drawn trials
    python3 -m compat.storage_faults --seed 7 --trial 12     one of them again
    python3 -m compat.storage_faults --kind apache-3.9.5 --trials 40

A trial takes three directories with a history of several epochs, of which every acknowledged write is known; damages
one file of one or two of them; starts the servers in a drawn order; and reads what they serve. `trial` says what the
outcomes mean. Losing an acknowledged write, or members that differ, is the one that must not be.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
