"""kubectl as a process: every call has a limit, and none is hit by a Ctrl-C meant for us."""

import json
import os
import pty
import shlex
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

NAMESPACE = "default"


@dataclass
class Answer:
    """What a command printed, and how it ended; code None: it was stopped at its limit."""

    out: str
    err: str
    code: int | None

    @property
    def ok(self):
        return self.code == 0

    def text(self):
        """Both streams, as a reader at a terminal sees them."""
        return "\n".join(part.rstrip("\n") for part in (self.out, self.err) if part.strip("\n"))


def typed(words):
    """The command as the reader types it."""
    return "kubectl " + " ".join(word if "{{" in word else shlex.quote(word) for word in words)


def _command(words):
    # Whatever namespace the context names: the table is about this one.
    return ["kubectl", f"--namespace={NAMESPACE}", *words]


def call(words, limit, stdin=None):
    """Runs kubectl for at most `limit` seconds."""
    process = subprocess.Popen(
        _command(words),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=limit)
        return Answer(out, err, process.returncode)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Answer(out, f"{err}\n(stopped after {limit:.0f} s)", None)
    except BaseException:
        process.kill()
        process.wait()
        raise


def call_on_terminal(words, limit):
    """As `call`, with a terminal: what `-ti` asks for."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        _command(words), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True
    )
    os.close(theirs)
    timer = threading.Timer(limit, process.kill)
    timer.start()
    seen = b""
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        err = process.stderr.read()
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        os.close(ours)
    return Answer(seen.decode(errors="replace").replace("\r\n", "\n"), err.decode(errors="replace"), code)


def get(words, limit=30):
    """A look of our own at the cluster, as JSON; an empty dict if the object does not exist."""
    answer = call(["get", *words, "--ignore-not-found", "-o", "json"], limit)
    if not answer.ok:
        raise RuntimeError(f"{typed(['get', *words])}: {answer.err.strip()}")
    return json.loads(answer.out) if answer.out.strip() else {}


class Background:
    """A kubectl that keeps running; its lines arrive in `lines` as (seconds, line)."""

    def __init__(self, words):
        self.lines = []
        self.process = subprocess.Popen(
            _command(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def ended(self):
        return self.process.poll() is not None

    def interrupt(self):
        """As Ctrl-C at its terminal; returns its exit code, None if it had to be killed."""
        if not self.ended():
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def text(self):
        return "\n".join(line for _, line in list(self.lines))
