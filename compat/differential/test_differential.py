"""A short differential run, bounded in time, for every change.

    python3 -m pytest compat/differential --kinds oxkeeper
"""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from compat.differential import generate, run, scenarios  # noqa: E402

BOUND_S = 25
OPS = 150
#: The scripts that say most in little time; `python3 -m compat.differential` runs all.
CHOSEN = ["s7_stat_after_each_change", "s7_sequential_names", "s8_get_ephemerals", "s9_multi",
          "s9_multi_headers", "s10_watches_side_by_side", "s10_watches_and_acls", "s10_set_watches",
          "s11_digest_ids", "s14_quota_0", "s2_sessions", "s3_xids", "s4_unknown_operations"]


@pytest.mark.parametrize("name", CHOSEN)
def test_says_what_the_reference_says_in_scenario(kind, name):
    scenario = scenarios.ALL[name]
    difference = run.fails(kind, scenario.settings, scenario.steps)
    assert difference is None, f"\n{difference}"


def test_says_what_the_reference_says_to_random_requests(kind):
    """As many seeds as fit in the time; FIRST_SEED chooses where to begin."""
    seed, end = int(os.environ.get("FIRST_SEED", "1")), time.monotonic() + BOUND_S
    with run.Pair(kind) as pair:
        while time.monotonic() < end:
            difference = pair.compare(generate.steps(seed, OPS))
            again = f"python3 -m compat.differential --target {kind} --seeds {seed} --ops {OPS}"
            assert difference is None, f"\n{difference}\nreplay: {again}"
            seed += 1
