"""Both shells: how they are called, and what is left out of a comparison."""

import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
COMMANDS = HERE / "commands.txt"
EXPECTED = HERE / "expected.txt"

CONNECTED = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n"
CLOSED = CONNECTED.replace("SyncConnected", "Closed")


def lines():
    """The command lines of the table."""
    return [line for line in COMMANDS.read_text().splitlines() if line and not line.startswith("#")]


def split(line):
    """The words of a one-shot command and None, or no words and a script."""
    if line.startswith("|"):
        return [], line[1:].replace("\\n", "\n")
    return shlex.split(line), None


def ours(address, words=(), script=None, options=(), environment=(), seconds=30):
    """Our shell, called by the name that scripts know."""
    link = Path(tempfile.mkdtemp(prefix="zkcli-")) / "zkCli.sh"
    link.symlink_to(harness.binary().resolve())
    server = ["-server", address] if address else []
    try:
        return run([str(link), *server, *options, *words], script, environment, seconds)
    finally:
        link.unlink()
        link.parent.rmdir()


class Conversation:
    """Our shell with commands typed one by one through a pipe; all it says, in one text."""

    def __init__(self, address, directory):
        self.said = directory / "said"
        self.link = directory / "zkCli.sh"
        self.link.symlink_to(harness.binary().resolve())
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                [str(self.link), "-server", address], stdin=subprocess.PIPE, stdout=out, stderr=out, text=True
            )

    def type(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self, text, times=1, seconds=20):
        """Waits until it has said this text so often."""
        harness.until(lambda: self.said.read_text().count(text) >= times, seconds, lambda: self.said.read_text())

    def end(self):
        """Ends the input; returns the exit code."""
        self.process.stdin.close()
        return self.process.wait(20)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)


def reference(address, words=(), script=None, seconds=60):
    """The shell of Apache ZooKeeper 3.9.5, its log turned off."""
    java = ["java", *harness.JVM_FLAGS, f"-Dlogback.configurationFile={HERE / 'quiet.xml'}"]
    main = ["-cp", f"{harness.CACHE / 'zookeeper-3.9.5'}/*", "org.apache.zookeeper.ZooKeeperMain"]
    return run([*java, *main, "-server", address, *words], script, (), seconds)


def run(command, script, environment, seconds):
    clean = {k: v for k, v in os.environ.items() if k not in ("OXKEEPER_CLI_COMPAT", "CLIENT_JVMFLAGS", "JVMFLAGS")}
    return subprocess.run(
        command,
        input=script,
        stdin=subprocess.DEVNULL if script is None else None,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**clean, "TZ": "UTC", **dict(environment)},
    )


def normal(text, address):
    """The text without what differs from run to run; the connect notification comes at any time in the reference."""
    for event in (CONNECTED, CLOSED):
        text = text.replace(event, "")
    text = text.replace(address, "SERVER").replace("(CONNECTING)", "(CONNECTED)")
    text = re.sub(r"^\tat .*\n", "", text, flags=re.M)
    text = re.sub(r"^.* org\.jline\.utils\.Log logr\nWARNING: .*\n", "", text, flags=re.M)
    text = re.sub(r"\b([cmp]Zxid) = 0x[0-9a-f]+", r"\1 = ZXID", text)
    text = re.sub(r"\b([cm]time) = .*", r"\1 = DATE", text)
    text = re.sub(r"ephemeralOwner = 0x[0-9a-f]{6,}", "ephemeralOwner = SESSION", text)
    text = re.sub(r"zxid: \d+", "zxid: ZXID", text)
    return re.sub(r"CLI version: .*", "CLI version: VERSION", text)


def ordered(text):
    """The text with its notifications behind the rest, for they come between at any time, and identities sorted."""
    events = re.findall(r"\nWATCHER::\n\n(WatchedEvent .*\n)", text)
    rest = re.sub(r"\nWATCHER::\n\nWatchedEvent .*\n", "", text)
    rest = re.sub(r"(?:^(?:digest|ip): .*\n)+", lambda ids: "".join(sorted(ids[0].splitlines(True))), rest, flags=re.M)
    return rest, "".join(events)


def shown(line, result, address):
    """One entry of the expectations."""
    parts = [f"=== {line}\n--- exit {result.returncode}\n"]
    out, events = ordered(normal(result.stdout, address))
    for name, text in (("stdout", out), ("events", events), ("stderr", normal(result.stderr, address))):
        if name == "events" and not text:
            continue
        end = "" if not text or text.endswith("\n") else "\\\n"
        parts.append(f"--- {name}\n{text}{end}")
    return "".join(parts)


def entries(text):
    """The entries of the expectations by their number; lines may repeat."""
    return [f"=== {part}" for part in text.split("=== ")[1:]]
