"""The files of a server's directory by kind, and the ways to damage one."""

import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from . import unreadable

LOG_HEADER, RECORD_HEADER = 16, 12
BLOCK, PAGE = 512, 4096
FAULTS = [
    "bit flipped",
    "4 zero bytes",
    "512 B zeroed",
    "4 KiB zeroed",
    "garbage",
    "cut anywhere",
    "cut at a border",
    "emptied",
    "deleted",
    "EIO",
]
NEWEST_LOG, OLDER_LOG, NEWEST_SNAPSHOT, OLDER_SNAPSHOT = "newest log", "older log", "newest snapshot", "older snapshot"
UNFINISHED = "unfinished file"
#: How often a cell of this kind is drawn for one of any other.
WEIGHT = {NEWEST_LOG: 5, OLDER_LOG: 2, NEWEST_SNAPSHOT: 2}
#: A server removes or renames an unfinished file unread, which a mount over it would not let it.
SENSELESS = {(UNFINISHED, "EIO")}


def by_kind(data):
    """kind -> paths of a data directory. Every file belongs to a kind; a small one is a kind of its own."""
    kinds = {}
    numbered = {"log": [], "snapshot": []}
    for path in sorted(p for p in Path(data).rglob("*") if p.is_file()):
        prefix, _, number = path.name.partition(".")
        if prefix in numbered and number:
            numbered[prefix].append((int(number.split(".")[0], 16), path))
        else:
            kind = UNFINISHED if path.name.startswith("tmp-") else path.name
            kinds.setdefault(kind, []).append(path)
    for prefix, found in numbered.items():
        paths = [path for _, path in sorted(found)]
        if paths:
            kinds[f"newest {prefix}"] = paths[-1:]
        if paths[1:]:
            kinds[f"older {prefix}"] = paths[:-1]
    return kinds


def cells(kinds):
    """Every (file kind, fault) that makes sense, as often as its weight says."""
    return [
        (kind, fault)
        for kind in sorted(kinds)
        for fault in FAULTS
        if (fault != "cut at a border" or kind.endswith("log")) and (kind, fault) not in SENSELESS
        for _ in range(WEIGHT.get(kind, 1))
    ]


def borders(path):
    """Offsets at which records of a log begin, and the end of the last one."""
    data, found = path.read_bytes(), [LOG_HEADER]
    while len(data) >= found[-1] + RECORD_HEADER:
        length = struct.unpack_from(">i", data, found[-1] + 8)[0]
        if length <= 0 or found[-1] + RECORD_HEADER + length >= len(data):
            break
        found.append(found[-1] + RECORD_HEADER + length + 1)
    return found


@dataclass
class Damage:
    """What was done, in words, and what must be closed at the end of the trial."""

    text: str
    cover: object = None


class Draw:
    """Draws a position over the written content of a file, and damages it."""

    def __init__(self, path, kind, rng: random.Random):
        self.path, self.rng = path, rng
        self.is_log = kind.endswith("log")
        self.borders = borders(path) if self.is_log else [path.stat().st_size]
        self.end = self.borders[-1]

    def position(self):
        """Half of them in the frame of a record, where the format decides; the others anywhere."""
        if self.is_log and len(self.borders) > 1 and self.rng.random() < 0.5:
            begin = self.rng.choice(self.borders[:-1])
            return max(0, begin + self.rng.randint(-1, RECORD_HEADER - 1))
        return self.rng.randrange(max(1, self.end))

    def damage(self, fault):
        return getattr(self, "do_" + fault.lower().replace(" ", "_"))()

    def overwrite(self, at, content, what):
        content = content[: max(0, self.end - at)]
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(content)
        return Damage(f"{what} at {at} of {self.end} ({len(content)} bytes)")

    def do_bit_flipped(self):
        at, bit = self.position(), self.rng.randrange(8)
        old = self.path.read_bytes()[at : at + 1]
        return self.overwrite(at, bytes(byte ^ 1 << bit for byte in old), f"bit {bit} flipped")

    def do_4_zero_bytes(self):
        return self.overwrite(self.position(), bytes(4), "zeros")

    def do_512_b_zeroed(self):
        return self.overwrite(self.position() // BLOCK * BLOCK, bytes(BLOCK), "zeros")

    def do_4_kib_zeroed(self):
        return self.overwrite(self.position() // PAGE * PAGE, bytes(PAGE), "zeros")

    def do_garbage(self):
        return self.overwrite(self.position(), self.rng.randbytes(self.rng.randint(1, PAGE)), "garbage")

    def cut(self, at):
        os.truncate(self.path, at)
        return Damage(f"cut at {at} of {self.end}")

    def do_cut_anywhere(self):
        return self.cut(self.position())

    def do_cut_at_a_border(self):
        return self.cut(self.rng.choice(self.borders[:-1] or self.borders))

    def do_emptied(self):
        return self.cut(0)

    def do_deleted(self):
        self.path.unlink()
        return Damage("deleted")

    def do_eio(self):
        first = self.position() // PAGE * PAGE
        cover = unreadable.cover(self.path, first, first + PAGE)
        return Damage(f"EIO from {first} of {self.end} on, {PAGE} bytes", cover)


def damage(data, kind, fault, rng):
    """Damages a file of this kind below `data`; None if it holds none."""
    paths = by_kind(data).get(kind)
    if not paths:
        return None
    path = rng.choice(paths)
    done = Draw(path, kind, rng).damage(fault)
    done.text = f"{path.relative_to(data)}: {done.text}"
    return done
