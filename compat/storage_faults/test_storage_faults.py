"""A short part of the storage-fault trials for every change: the most harmful ones, and new ones.

    python3 -m pytest compat/storage_faults --kinds oxkeeper
"""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from compat.storage_faults import campaign  # noqa: E402

FIXED_SEED = 1
TRIALS, HISTORIES = 10, 2


@pytest.mark.parametrize("worst", [True, False], ids=["a damaged log beside a late member", "drawn"])
def test_no_damage_loses_what_was_acknowledged(kind, worst, tmp_path):
    """FIRST_SEED chooses what the new seed would be."""
    new = int(os.environ.get("FIRST_SEED", random.SystemRandom().randrange(10**6)))
    runs = campaign.Campaign(kind, FIXED_SEED if worst else new, tmp_path, HISTORIES, worst=worst)
    print(f"seed {runs.seed}")
    runs.run(range(TRIALS))
    failed = "\n".join(runs.describe(result) for result in runs.failures())
    assert not failed, f"\n{failed}\n{runs.table()}"
    print(runs.summary())
