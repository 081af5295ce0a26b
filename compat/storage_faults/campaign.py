"""Many trials side by side, and the table of what came of them."""

import json
import multiprocessing
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from . import damage, history, trial, unreadable

#: A trial ends itself long before.
LONGEST_TRIAL_S = 300


class Campaign:
    def __init__(self, kind, seed, work=None, histories=len(history.SHAPES), jobs=2, worst=False):
        self.kind, self.seed, self.histories, self.jobs, self.worst = kind, seed, histories, jobs, worst
        self.work = Path(work or tempfile.mkdtemp(prefix="storage-faults-")).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.results = []

    def run(self, numbers, seen=lambda result: None):
        """Runs the trials of these numbers; `seen` is told each result as it comes."""
        with ProcessPoolExecutor(
            self.jobs, multiprocessing.get_context("spawn"), initializer=unreadable.can_mount
        ) as pool, (self.work / "results.jsonl").open("a") as log:
            made = [pool.submit(history.make, self.kind, self.work, self.seed, at) for at in range(self.histories)]
            pasts = [future.result() for future in made]
            plans = zip(numbers, self.plans(numbers, pasts))
            running = [pool.submit(trial.run, self.kind, self.seed, *numbered, self.work) for numbered in plans]
            for future in as_completed(running, LONGEST_TRIAL_S * len(running)):
                result = future.result()
                self.results.append(result)
                log.write(json.dumps(asdict(result)) + "\n")
                log.flush()
                seen(result)
        self.results.sort(key=lambda result: result.number)
        return self

    def plans(self, numbers, pasts):
        lagging = [past.lagging for past in pasts]
        if self.worst:
            return [trial.worst(number, lagging) for number in numbers]
        kinds = {kind for past in pasts for sid in history.SIDS for kind in damage.by_kind(past.data(sid))}
        cells = damage.cells(kinds)
        return [trial.draw(self.seed, number, cells, lagging) for number in numbers]

    def failures(self):
        """What must not be, for a server that is to be trusted."""
        return [result for result in self.results if result.failed()]

    def replay(self, result):
        return (
            f"python3 -m compat.storage_faults --kind {self.kind} --seed {self.seed} --histories {self.histories}"
            f" --work {self.work} --trial {result.number}{' --worst' if self.worst else ''}"
        )

    def describe(self, result):
        plan = result.plan
        order = " ".join(str(sid) for sid in plan.order)
        delays = ", ".join(f"{delay:.2f}" for delay in plan.delays)
        lines = [
            f"trial {result.number}: {result.outcome}{' and a panic' if result.panicked else ''} at {result.stage},"
            f" {result.seconds:.1f} s: {result.detail}",
            f"   history {plan.history} ({history.SHAPES[plan.history % len(history.SHAPES)]}),"
            f" started {order} with delays {delays}",
            *(f"   {sid}: {kind}: {fault}: {text}" for (sid, kind, fault), text in zip(plan.faults, result.damage)),
            *(f"   said: {line}" for line in result.said),
            f"   replay: {self.replay(result)}",
        ]
        return "\n".join(lines + ([f"   kept: {result.kept}"] if result.kept else []))

    # The table.

    def table(self):
        lines = [self.summary(), "", "right/refused/waiting/unavailable/unsafe, one server damaged:", ""]
        counts = defaultdict(Counter)
        for result in self.results:
            if len(result.plan.faults) == 1:
                _, kind, fault = result.plan.faults[0]
                counts[kind, fault][result.outcome] += 1
        kinds = sorted({kind for kind, _ in counts})
        lines.append(_row("", damage.FAULTS))
        lines += [_row(kind, [_cell(counts[kind, fault]) for fault in damage.FAULTS]) for kind in kinds]
        two = Counter(result.outcome for result in self.results if len(result.plan.faults) == 2)
        lines += ["", f"two servers damaged: {_words(two)}"]
        needless = [result for result in self.results if result.needless()]
        lines.append(f"unavailable although only one was damaged: {len(needless)}")
        lines.append(f"panics: {sum(result.panicked for result in self.results)}")
        lines.append(f"unreadable files are: {unreadable.METHODS[unreadable.can_mount()]}")
        return "\n".join(lines)

    def summary(self):
        outcomes = Counter(result.outcome for result in self.results)
        seconds = sorted(result.seconds for result in self.results) or [0]
        return (
            f"{self.kind}, seed {self.seed}: {len(self.results)} trials: {_words(outcomes)};"
            f" median {seconds[len(seconds) // 2]:.1f} s, longest {seconds[-1]:.1f} s a trial"
        )


def _words(counts):
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in trial.OUTCOMES)


def _cell(counts):
    return "/".join(str(counts[outcome]) for outcome in trial.OUTCOMES) if counts else "-"


def _row(head, cells):
    return f"{head:16}" + "".join(f"{cell:>16}" for cell in cells)
