"""What the watch's judges accept and refuse: python3 -m unittest discover -s deploy/kubernetes -t deploy/kubernetes"""

import unittest

from .watch import LINE, Event, contains_in_order, ordered_start, rolling, states

PODS = ["zk-0", "zk-1", "zk-2"]


def events(*lines):
    """Events from `pod ready status restarts [kind]`, one second apart unless `@seconds` says when."""
    result, now = [], 0.0
    for line in lines:
        words = line.split()
        now = float(words.pop()[1:]) if words[-1].startswith("@") else now + 1
        pod, ready, status, restarts, *kind = words
        result.append(Event(now, kind[0] if kind else "MODIFIED", pod, ready, status, int(restarts)))
    return result


def start(pod, at, ready=20):
    return [
        f"{pod} 0/1 Pending 0 ADDED @{at}",
        f"{pod} 0/1 ContainerCreating 0 @{at + 1}",
        f"{pod} 0/1 Running 0 @{at + 2}",
        f"{pod} 1/1 Running 0 @{at + 2 + ready}",
    ]


def replaced(pod):
    return [
        f"{pod} 1/1 Terminating 0",
        f"{pod} 0/1 Error 0",
        f"{pod} 0/1 Error 0 DELETED",
        f"{pod} 0/1 Pending 0 ADDED",
        f"{pod} 0/1 Running 0",
        f"{pod} 1/1 Running 0",
    ]


def broken(checks):
    return [required for required, holds, _ in checks if not holds]


class Judges(unittest.TestCase):
    def test_a_line_is_read_with_and_without_the_age_of_a_restart(self):
        for line, wanted in (
            ("ADDED      zk-0   0/1   Pending   0     3s", ("ADDED", "zk-0", "0/1", "Pending", "0")),
            (
                "MODIFIED   zk-0   1/1   Running   1 (15s ago)   2m",
                ("MODIFIED", "zk-0", "1/1", "Running", "1"),
            ),
        ):
            self.assertEqual(LINE.match(line).groups(), wanted)
        self.assertIsNone(LINE.match("EVENT      NAME   READY   STATUS    RESTARTS   AGE"))

    def test_an_ordered_start_is_accepted(self):
        found = events(*start("zk-0", 0), *start("zk-1", 23), *start("zk-2", 46))
        self.assertEqual(broken(ordered_start(found, PODS)), [])

    def test_a_pod_that_appears_too_early_is_found(self):
        found = events(*start("zk-0", 0)[:3], *start("zk-1", 10), *start("zk-0", 0)[3:], *start("zk-2", 46))
        self.assertEqual(broken(ordered_start(found, PODS)), ["zk-0 is 1/1 before zk-1 appears"])

    def test_a_restart_during_the_start_is_found(self):
        found = events(*start("zk-0", 0), "zk-0 0/1 Error 0", *start("zk-1", 25), *start("zk-2", 48))
        self.assertEqual(
            broken(ordered_start(found, PODS)), ["zk-0: Pending, ContainerCreating, Running 0/1, 1/1"]
        )

    def test_a_start_that_is_too_quick_or_too_slow_is_found(self):
        for ready in (5, 40):
            found = events(*start("zk-0", 0, ready), *start("zk-1", 50), *start("zk-2", 80))
            self.assertEqual(
                broken(ordered_start(found, PODS)), ["about 20 s (10 to 30) from Running to Ready"]
            )

    def test_a_rolling_replacement_is_accepted_in_its_order_only(self):
        found = events(*replaced("zk-2"), *replaced("zk-1"), *replaced("zk-0"))
        self.assertEqual(broken(rolling(found, PODS[::-1])), [])
        self.assertEqual(len(broken(rolling(found, PODS))), 2)

    def test_two_pods_away_at_once_are_found(self):
        two = replaced("zk-2")
        found = events(*two[:5], "zk-1 1/1 Terminating 0", two[5], *replaced("zk-1")[1:], *replaced("zk-0"))
        self.assertEqual(
            broken(rolling(found, PODS[::-1])),
            ["zk-2 is Ready before zk-1 goes", "never more than one pod not Ready"],
        )

    def test_a_pod_that_never_went_is_found(self):
        found = events(*replaced("zk-2"), *replaced("zk-1"))
        self.assertIn("zk-0 is replaced: Terminating, gone, 1/1 Running", broken(rolling(found, PODS[::-1])))

    def test_states_are_told_once_each(self):
        found = events(
            "zk-0 1/1 Running 0", "zk-0 1/1 Running 0", "zk-1 0/1 Error 0", "zk-0 0/1 Error 0 DELETED"
        )
        self.assertEqual(states(found, "zk-0"), ["1/1 Running 0", "gone"])
        self.assertTrue(contains_in_order(["a", "b", "c"], ["a", "c"]))
        self.assertFalse(contains_in_order(["c", "a"], ["a", "c"]))


if __name__ == "__main__":
    unittest.main()
