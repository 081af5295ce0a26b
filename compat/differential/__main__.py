"""python3 -m compat.differential: see the package."""

import argparse
import sys
import time

from . import generate, run, scenarios, steps


def seeds(text):
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def arguments():
    parser = argparse.ArgumentParser(prog="compat.differential", description=__doc__)
    parser.add_argument("--target", default="oxkeeper", help="kind of server to compare")
    parser.add_argument("--seeds", type=seeds, default=None, help="A..B, random runs")
    parser.add_argument("--ops", type=int, default=200, help="requests in a run")
    parser.add_argument("--scenario", action="append", help="a scripted run by name, or 'all'")
    parser.add_argument("--replay", help="a file of steps")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a difference")
    return parser.parse_args()


def report(args, name, settings, difference, again):
    """Prints a difference, made small if that works, and how to see it again."""
    print(f"DIFFERENCE in {name}")
    smaller = None if args.no_shrink else run.shrink(args.target, settings, difference)
    if smaller is None and not args.no_shrink:
        print("(not seen again with new servers; this is the whole run)")
    shown = smaller or difference
    print(shown)
    path = run.save(shown.steps, name.replace(" ", "-"))
    print(f"replay: python3 -m compat.differential --target {args.target} {again}")
    print(f"   the small one: python3 -m compat.differential --target {args.target} "
          f"--replay {path}")
    sys.stdout.flush()


def random_runs(args):
    """Seeds on one pair of servers, for as long as they agree."""
    failed, todo = 0, list(args.seeds)
    while todo:
        with run.Pair(args.target) as pair:
            difference = None
            while todo and difference is None and pair.alive():
                seed = todo.pop(0)
                difference = pair.compare(generate.steps(seed, args.ops))
            if difference is None and not pair.alive():
                print(f"seed {seed} ended both servers")
        if difference:
            failed += 1
            report(args, f"seed {seed}", None, difference,
                   f"--seeds {seed}..{seed} --ops {args.ops}")
            if not args.keep_going:
                break
    return failed


def scripted_runs(args, names):
    failed = 0
    for name in names:
        scenario = scenarios.ALL[name]
        difference = run.fails(args.target, scenario.settings, scenario.steps)
        if difference:
            failed += 1
            report(args, name, scenario.settings, difference, f"--scenario {name}")
    return failed


def main():
    args = arguments()
    started = time.monotonic()
    if args.replay:
        with open(args.replay) as file:
            difference = run.fails(args.target, None, steps.load(file.read()))
        print(difference or "no difference")
        return 1 if difference else 0
    if args.seeds is None and not args.scenario:
        args.seeds, args.scenario = range(1, 21), ["all"]
    names = args.scenario or []
    names = list(scenarios.ALL) if "all" in names else names
    failed = scripted_runs(args, names)
    if args.seeds is not None:
        failed += random_runs(args)
    runs = len(names) + len(args.seeds or ())
    print(f"{runs} runs, {failed} with a difference, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
