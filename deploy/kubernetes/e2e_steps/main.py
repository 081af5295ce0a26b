"""The command line, and the frame around the steps."""

import argparse
import pathlib
import shlex
import signal
import subprocess
import sys

from . import cluster, production
from . import run as running
from .drains import Drains
from .ensemble import Ensemble
from .run import OutOfTime, Run, Step, Unmet, say
from .tutorial import Tutorial
from .watch import Watch
from .writer import Writer

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
# Steps and cleaning up together end within 25 minutes.
LIMIT = 20 * 60

ABOUT = """\
Runs the acceptance table T1 to T40 of docs/spec/kubernetes.md 2, and a few steps of ours, on the cluster
that KUBECONFIG names. It needs four schedulable workers, volumes that every worker can mount, and the
image on every node. It drains workers: give it a cluster for tests. Everything it makes is removed again."""


class Interrupted(BaseException):
    """Ctrl-C or TERM."""


def arguments(words):
    parser = argparse.ArgumentParser(
        prog="e2e", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=["tutorial", "production"], default="tutorial")
    parser.add_argument(
        "--manifest", metavar="FILE", help="of the tutorial; default: tutorial/zookeeper.yaml beside this"
    )
    parser.add_argument(
        "--kustomize", metavar="DIR", help="of the production profile; default: production/base beside this"
    )
    parser.add_argument(
        "--load", metavar="COMMAND", help="run COMMAND with the image archive as its argument first"
    )
    parser.add_argument("--archive", metavar="FILE", help="default: that of the profile in target/images")
    parser.add_argument("--cluster-domain", default="cluster.local", metavar="DOMAIN")
    parser.add_argument(
        "--no-writer", dest="writer", action="store_false", help="no client that writes beside the steps"
    )
    parser.add_argument("--until", metavar="STEP", help="end after this step, for example T9")
    parser.add_argument("--report", metavar="FILE.md", help="write the table as Markdown too")
    return parser.parse_args(words)


def load(command, archive):
    """Runs the caller's command that brings the image to the nodes."""
    words = [*shlex.split(command), str(archive)]
    say(f"$ {shlex.join(words)}")
    if not pathlib.Path(archive).is_file():
        raise cluster.Refused(f"there is no image archive {archive}")
    try:
        code = subprocess.run(words, timeout=300, stdin=subprocess.DEVNULL).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise cluster.Refused(f"--load: {error}") from error
    if code != 0:
        raise cluster.Refused(f"--load: {words[0]} ended with {code}")


class Beside:
    """The writer beside the steps: started by one of them, counted after each that follows."""

    def __init__(self, run, service):
        self.run = run
        self.service = service
        self.writer = None
        self.before = -1

    def start(self, ensemble):
        container = ensemble.container()
        node = cluster.node_for_writer(ensemble.items())
        self.writer = writer = Writer(self.service)
        policy = container.get("imagePullPolicy", "IfNotPresent")
        writer.start(container["image"], policy, cluster.host_of(node), self.run)
        self.run.check("100 writes acknowledged", True, f"{len(writer.acks)}, on {node}")

    def begin(self):
        if self.writer:
            self.before = self.writer.last()

    def end(self, step, result):
        if not (self.writer and self.writer.acks and step.writer):
            return
        try:
            self.writer.goes_on(self.run)
            result.writes = self.writer.written_since(self.before, self.run)
        except (Unmet, RuntimeError) as error:
            self.run.check("the writer goes on", False, f"{error} {self.writer.last_words()}")
            return
        writes = result.writes
        seen = f"{writes.acknowledged} acknowledged, {writes.lost} lost, longest gap {writes.gap_ms} ms"
        self.run.check(
            "every acknowledged write is there", writes.acknowledged > 0 and writes.lost == 0, seen
        )

    def final(self):
        """The last look, while the ensemble is still there."""
        self.writer.goes_on(self.run)
        everything = self.writer.written_since(-1, self.run)
        seen = f"{everything.acknowledged} acknowledged, {everything.lost} lost, longest gap {everything.gap_ms} ms"
        self.run.check(
            "every acknowledged write of the run is there",
            everything.acknowledged > 0 and everything.lost == 0,
            seen,
        )
        restarts = self.writer.restarts()
        self.run.check("the writer itself was not restarted", restarts == 0, restarts)
        say("\n".join(f"  | {line}" for line in self.writer.others[-10:]))
        self.run.current.writes = everything
        self.close()

    def close(self):
        if self.writer:
            self.writer.close()


def tutorial_rows(ensemble, options, cleanup, beside):
    """The rows of the tutorial profile; the writer starts when T15 has been looked at."""
    steps = Tutorial(ensemble, options.manifest, options.cluster_domain)
    drains = Drains(steps, cleanup, beside)
    rows = steps.steps() + drains.steps()
    if options.writer:
        at = next(index for index, step in enumerate(rows) if step.name == "T16")
        write = "oxkeeper journal write --connect zk-cs:2181 --rate 100, in a pod"
        check = "oxkeeper journal check --connect zk-cs:2181"
        rows.insert(at, Step("W1", write, "a client writes from here on", lambda: beside.start(ensemble)))
        rows.insert(-1, Step("W2", check, "no acknowledged write is lost", beside.final))
    return rows


class Subject:
    """What is tested: where it comes from, and how it is told apart from everything else."""

    def __init__(self, options):
        self.production = options.profile == "production"
        self.source = ["-k", options.kustomize] if self.production else ["-f", options.manifest]
        self.plan = cluster.Plan.read(self.source)
        self.ours = cluster.Ours(self.plan.names, self.plan.app)

    def rows(self, ensemble, options, cleanup, beside):
        if self.production:
            steps = production.Production(ensemble, self.plan, options.kustomize, cleanup, beside)
            return steps.steps(options.writer)
        return tutorial_rows(ensemble, options, cleanup, beside)


def main(words=None):
    """0 if everything passed, 1 if not, 2 if the run could not begin, 130 after Ctrl-C."""
    options = arguments(sys.argv[1:] if words is None else words)
    options.manifest = options.manifest or str(HERE / "tutorial" / "zookeeper.yaml")
    options.kustomize = options.kustomize or str(HERE / "production" / "base")
    on_signals(interrupt)
    try:
        subject = Subject(options)
        cluster.refuse_if_occupied(subject.ours)
        if options.load:
            load(options.load, options.archive or archive_of(options.profile))
        cleanup = cluster.Cleanup(["delete", *subject.source], subject.plan.label, subject.ours)
    except (cluster.Refused, RuntimeError) as refusal:
        print(f"e2e: {refusal}", file=sys.stderr)
        return 2
    except Interrupted:
        return 130
    return carry_out(subject, cleanup, options)


def carry_out(subject, cleanup, options):
    """The steps, the cleaning up, and the tables."""
    run = Run(LIMIT)
    plan = subject.plan
    watch = Watch(plan.label)
    ensemble = Ensemble(run, watch, plan.name, plan.replicas, plan.label)
    beside = Beside(run, plan.service)
    rows = subject.rows(ensemble, options, cleanup, beside)
    interrupted = False
    try:
        if options.until and options.until not in [step.name for step in rows]:
            print(f"e2e: there is no step {options.until}", file=sys.stderr)
            return 2

        def before(step):
            beside.begin()
            ensemble.begin(step)

        def after(step, result):
            beside.end(step, result)
            if result.failed:
                ensemble.explain()

        run.go(rows, before, after, options.until)
    except OutOfTime:
        say(f"\nThe run has used up its {LIMIT // 60} minutes.")
    except Interrupted:
        interrupted = True
        say("\nInterrupted.")
    finally:
        on_signals(lambda *_: say("Cleaning up still; it ends by itself."))
        beside.close()
        clean = cleanup.everything()
        watch.close()
    return conclude(run, options, subject, clean, interrupted)


def on_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def archive_of(profile):
    images = ROOT / "target" / "images"
    if profile == "tutorial":
        return images / "oxkeeper-tutorial.tar"
    found = sorted(path for path in images.glob("oxkeeper-*.tar") if path.name != "oxkeeper-tutorial.tar")
    return found[-1] if found else images / "oxkeeper-<version>.tar"


def interrupt(*_):
    raise Interrupted


def conclude(run, options, subject, clean, interrupted):
    """The tables, the report, the exit code."""
    say("\n" + running.table(run.results))
    if any(result.writes for result in run.results):
        say("\n" + running.writes_table(run.results))
    passed = run.passed(options.until) and clean and not interrupted
    count = sum(result.verdict == "pass" for result in run.results)
    verdict = f"{count} of {len(run.results)} steps passed" + ("" if clean else "; not cleaned up")
    if options.report:
        try:
            facts = cluster.facts()
        except (RuntimeError, KeyError) as error:
            facts = {"cluster": str(error)}
        facts |= {"profile": options.profile, "image": subject.plan.image, "result": verdict}
        pathlib.Path(options.report).write_text(running.markdown(run.results, facts))
    say(f"\n{verdict}")
    if interrupted:
        return 130
    return 0 if passed else 1
