"""The run: its steps, its time, what was required and seen, and the table at the end."""

import time
from dataclasses import dataclass, field

from . import kubectl

# Of a command's output: lines, and characters of each.
SHOWN = 40
WIDTH = 240


class Unmet(Exception):
    """A step cannot go on: something did not happen within its limit."""


class OutOfTime(Exception):
    """The whole run has used up its time."""


@dataclass
class Step:
    """One row of the table. `vital`: without it the later ones make no sense."""

    name: str
    command: str
    observation: str
    action: object
    vital: bool = False
    writer: bool = False


@dataclass
class Result:
    """What came of a step."""

    step: Step
    seconds: float = 0.0
    failed: list = field(default_factory=list)
    checks: int = 0
    writes: object = None
    ran: bool = False

    @property
    def verdict(self):
        if not self.ran:
            return "not run"
        return "FAIL" if self.failed or not self.checks else "pass"


class Run:
    """Runs steps one after another, and prints what happens as it happens."""

    def __init__(self, limit):
        self.end = time.monotonic() + limit
        self.results = []
        self.current = None

    def remaining(self, limit):
        left = self.end - time.monotonic()
        if left <= 0:
            raise OutOfTime
        return min(limit, left)

    # What a step does.

    def type(self, *words, limit=60, stdin=None, show=SHOWN):
        """Types a command: it and its output are shown."""
        self.show_typed(words)
        answer = kubectl.call(list(words), self.remaining(limit), stdin)
        self.show(answer.text(), show)
        return answer

    def type_on_terminal(self, *words, limit=60):
        self.show_typed(words)
        answer = kubectl.call_on_terminal(list(words), self.remaining(limit))
        self.show(answer.text(), SHOWN)
        return answer

    def show_typed(self, words):
        say(f"  $ {kubectl.typed(words)}")

    def show(self, text, most=SHOWN):
        lines = text.split("\n") if text else []
        for line in lines[:most]:
            say(f"  | {clip(line, WIDTH)}")
        if len(lines) > most:
            say(f"  | … {len(lines) - most} more lines")

    def check(self, required, holds, seen=""):
        """One observation."""
        self.current.checks += 1
        seen = " / ".join(str(seen).strip().split("\n"))
        if holds:
            say(f"  ok    {required}" + (f" [{clip(seen)}]" if seen else ""))
        else:
            say(f"  FAIL  {required}\n        seen: {seen or 'nothing'}")
            self.current.failed.append(f"{required}; seen: {clip(seen) or 'nothing'}")
        return holds

    def checks(self, several):
        for required, holds, seen in several:
            self.check(required, holds, seen)

    def wait(self, what, limit, holds, seen=lambda: ""):
        """Waits until `holds()`; a failed check and the end of the step if it does not in time."""
        start = time.monotonic()
        end = start + self.remaining(limit)
        while True:
            result = holds()
            if result:
                return result
            if time.monotonic() > end:
                self.remaining(1)
                self.check(f"{what} within {limit} s", False, seen())
                raise Unmet(what)
            time.sleep(0.2)

    # The steps.

    def go(self, steps, before, after, until=None):
        """Runs the steps; `before(step)` and `after(step, result)` are called around each."""
        self.results = [Result(step) for step in steps]
        for result in self.results:
            step = result.step
            self.current = result
            say(f"\n{step.name}  {step.command}\n  required: {step.observation}")
            start = time.monotonic()
            result.ran = True
            before(step)
            unmet = False
            try:
                step.action()
            except Unmet:
                unmet = True
            except (RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
                self.check("the step can be carried out", False, f"{type(error).__name__}: {error}")
                unmet = True
            except BaseException as error:
                why = "the time of the run is used up" if isinstance(error, OutOfTime) else "interrupted"
                result.seconds = time.monotonic() - start
                self.check("the step ends", False, why)
                raise
            result.seconds = time.monotonic() - start
            after(step, result)
            say(f"  {result.verdict}  {result.seconds:.1f} s")
            if until == step.name:
                return
            if unmet and step.vital:
                say("\nThe later steps stand on this one: they are not run.")
                return

    def passed(self, until=None):
        results = self.results
        if until:
            names = [result.step.name for result in results]
            results = results[: names.index(until) + 1]
        return bool(results) and all(result.verdict == "pass" for result in results)


def say(text):
    """Prints. A reader that has gone away must not keep the run from cleaning up."""
    try:
        print(text, flush=True)
    except OSError:
        pass


def clip(text, most=160):
    return text if len(text) <= most else text[: most - 1] + "…"


def table(results):
    """The table for the terminal."""
    lines = []
    for result in results:
        step = result.step
        lines.append(
            f"{step.name:<4} {result.verdict:<8} {result.seconds:>6.1f} s  {clip(step.command, 60):<60}  "
            f"{clip(step.observation, 90)}"
        )
        lines += [f"{'':<24}{failure}" for failure in result.failed]
    return "\n".join(lines)


def writes_table(results):
    lines = [f"{'step':<5}{'acknowledged':>13}{'lost':>6}{'longest gap':>14}"]
    lines += [
        f"{result.step.name:<5}{result.writes.acknowledged:>13}{result.writes.lost:>6}{result.writes.gap_ms:>11} ms"
        for result in results
        if result.writes
    ]
    return "\n".join(lines)


def markdown(results, facts):
    """The same as Markdown, with what the run stood on."""

    def cell(text):
        return str(text).replace("|", "\\|").replace("\n", " ")

    lines = ["# End-to-end run on Kubernetes", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    lines += ["", "| # | Command | Required | s | |", "|---|---|---|---|---|"]
    for result in results:
        step = result.step
        verdict = "<br>".join([result.verdict, *map(cell, result.failed)])
        lines.append(
            f"| {step.name} | `{cell(step.command)}` | {cell(step.observation)} | {result.seconds:.1f} | {verdict} |"
        )
    if any(result.writes for result in results):
        lines += ["", "Writes through the client Service meanwhile:", ""]
        lines += ["| Step | Acknowledged | Lost | Longest gap, ms |", "|---|---|---|---|"]
        lines += [
            f"| {result.step.name} | {result.writes.acknowledged} | {result.writes.lost} | {result.writes.gap_ms} |"
            for result in results
            if result.writes
        ]
    return "\n".join(lines) + "\n"
