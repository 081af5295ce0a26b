"""python3 -m compat.storage_faults: see the package."""

import argparse
import random
import sys

import harness

from . import campaign, history


def arguments():
    parser = argparse.ArgumentParser(prog="compat.storage_faults", description=__doc__)
    parser.add_argument("--kind", default="oxkeeper", choices=harness.KINDS)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--jobs", type=int, default=2, help="trials side by side")
    parser.add_argument("--trial", type=int, action="append", help="only this trial; may be repeated")
    parser.add_argument("--histories", type=int, default=len(history.SHAPES), help="how many different ones to damage")
    parser.add_argument("--work", help="folder of histories, results and kept directories; may be used again")
    parser.add_argument("--worst", action="store_true", help="a damaged newest log beside a late member, always")
    parser.add_argument("--all", action="store_true", help="describe every trial, not only those that must not be")
    return parser.parse_args()


def main():
    args = arguments()
    if reason := harness.unavailable(args.kind):
        sys.exit(reason)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    runs = campaign.Campaign(args.kind, seed, args.work, args.histories, args.jobs, args.worst)
    numbers = args.trial or range(args.first, args.first + args.trials)
    print(f"seed {seed}, {len(numbers)} trials, in {runs.work}", flush=True)

    def seen(result):
        print(f"{len(runs.results)}: trial {result.number} {result.outcome} {result.seconds:.1f} s", file=sys.stderr)

    runs.run(numbers, seen)
    failures = runs.failures()
    for result in runs.results if args.all or args.trial else failures:
        print(runs.describe(result))
    print(runs.table())
    print(f"{len(failures)} trials that must not be: {[result.number for result in failures]}")
    return 1 if failures and args.kind == "oxkeeper" else 0


if __name__ == "__main__":
    sys.exit(main())
