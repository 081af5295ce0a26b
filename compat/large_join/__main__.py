"""python3 -m compat.large_join: see the package."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

from . import paced

DEFAULT_LIMITS = {"tickTime": 2000, "initLimit": 10, "syncLimit": 5, "preAllocSize": 65536}
GIB = 1 << 30
MAKING_CONNECTIONS = 8
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def arguments():
    parser = argparse.ArgumentParser(prog="compat.large_join", description=__doc__)
    parser.add_argument("--kind", default="oxkeeper", choices=harness.KINDS)
    parser.add_argument("--gib", type=float, default=3, help="size of the tree")
    parser.add_argument("--value-size", type=int, default=100_000, help="bytes of data of a znode of it")
    parser.add_argument("--rate", type=int, default=5000, help="writes a second while the follower joins")
    parser.add_argument("--baseline", type=float, default=5, help="seconds of writes before it is started")
    parser.add_argument("--limit", type=float, default=600, help="seconds it may take to join")
    parser.add_argument("--data-root", help="where the directories are, for example /dev/shm")
    return parser.parse_args()


def make_tree(group, args):
    """The tree, by `oxkeeper bench`, which leaves it there."""
    count = max(1, round(args.gib * GIB / args.value_size))
    words = ["--workload", "read", "--duration", "0s", "--keep", "--root", "/big", "--connections", MAKING_CONNECTIONS]
    sizes = ["--size", args.value_size, "--znodes", count, "--timeout", "60s"]
    command = [harness.binary(), "bench", "--connect", group.leader().address, *words, *sizes]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return count


def peak_mib(server):
    """The most memory that the process ever had."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return 0


def join(server, limit_s):
    """Starts it on an empty directory; returns when that was and when it served."""
    server.wipe()
    began = time.monotonic()
    server.start()
    server.wait_serving(limit_s)
    return began, time.monotonic()


def figures(answers, first, last):
    """A line on the writes answered in this time."""
    within = [(at, late) for at, late in answers if first <= at <= last]
    if not within:
        return "no write was answered"
    late = sorted(late for _, late in within)
    times = [first, *sorted(at for at, _ in within), last]
    gap = max(after - before for before, after in zip(times, times[1:]))
    at = {name: late[min(len(late) - 1, int(len(late) * share))] for name, share in SHARES.items()}
    at |= {"longest": late[-1], "longest gap": gap}
    shown = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in at.items())
    return f"{len(within) / (last - first):.0f} /s, {shown}"


def run(args, directory):
    group = harness.Ensemble([args.kind] * 3, directory, DEFAULT_LIMITS).start()
    began = time.monotonic()
    count = make_tree(group, args)
    print(f"tree: {count} znodes of {args.value_size} bytes, made in {time.monotonic() - began:.1f} s", flush=True)
    late = group.followers()[0]
    late.stop(60)
    others = [server for server in group if server is not late]
    paced.prepare(group.leader().client_port)
    writes = paced.Paced([server.client_port for server in others], args.rate)
    time.sleep(args.baseline)
    start, served = join(late, args.limit)
    time.sleep(args.baseline)
    answers, lost = writes.stop()
    print(f"the follower served after {served - start:.2f} s")
    windows = {
        "before": (start - args.baseline, start),
        "while it joined": (start, served),
        "after": (served, served + args.baseline),
    }
    for name, (first, last) in windows.items():
        print(f"writes {name}: {figures(answers, first, last)}")
    print(f"writes without an answer: {lost}")
    for server in group:
        shown = server.srvr()
        print(f"server {server.sid}: {shown['Mode']}, {shown['Node count']} znodes, at most {peak_mib(server)} MiB")
    return 0 if len({server.srvr().get("Node count") for server in group}) == 1 else 1


def main():
    args = arguments()
    if reason := harness.unavailable(args.kind) or harness.unavailable("oxkeeper"):
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="large-join-", dir=args.data_root) as directory:
        try:
            return run(args, directory)
        finally:
            harness.end_all()


if __name__ == "__main__":
    sys.exit(main())
