"""Scripted runs: a paragraph of docs/spec/client-protocol.md each, by section number."""

from collections import namedtuple

from rawclient import ops
from rawclient.jute import Out
from rawclient.client import connect_request, frame, request
from rawclient.ops import ACL, OPEN_ACL

from .generate import BAD_LISTS, BAD_PATHS, BEN, SCHEME_LISTS, TTLS, UNKNOWN_OPS

Scenario = namedtuple("Scenario", "settings steps")
ALL = {}
LIMIT = 1048575
A, B = ("connect", "a", {}), ("connect", "b", {})


def scenario(function=None, **settings):
    """Registers a script under the name of its function."""
    def add(function):
        steps = []
        for step in function():
            # A bare request is sent alone on connection a.
            steps.append(step if step[0] in KINDS else ("call", "a", [step]))
        ALL[function.__name__] = Scenario(settings, steps)
        return function
    return add(function) if function else add


KINDS = {"connect", "call", "close", "drop", "raw", "bytes", "word", "gone", "pause"}


def world(perms):
    return [ACL(perms, "world", "anyone")]


def both(*requests):
    """Requests of connection b, one by one."""
    return [("call", "b", [req]) for req in requests]


def look(path):
    return [("exists", path), ("get_data", path), ("get_children2", path), ("get_acl", path)]


# Section 7: the data model


@scenario
def s7_stat_after_each_change():
    yield A
    for req in (("create2", "/t/n", b"x"), ("create", "/t/n/a", None), ("create", "/t/n/b", b""),
                ("delete", "/t/n/a"), ("set_data", "/t/n", b"yy"), ("set_data", "/t/n", None),
                ("set_acl", "/t/n", world(31)), ("set_acl", "/t/n", world(31), 1),
                ("set_acl", "/t/n", world(31), 1), ("delete", "/t/n/b"), ("sync", "/t/n"),
                ("multi", [("check", "/t/n"), ("create", "/t/n/c"), ("delete", "/t/n/c"),
                           ("create", "/t/n/c"), ("set_data", "/t/n", b"1", 2),
                           ("set_data", "/t/n", b"2", 3)])):
        yield req
        for path in ("/t", "/t/n"):
            yield from look(path)


@scenario
def s7_versions():
    yield A
    yield ("create", "/t/n")
    for version in (0, 0, 1, -1, -2, 2, 3, 2**31 - 1, -2**31):
        yield ("set_data", "/t/n", b"", version)
        yield ("set_acl", "/t/n", OPEN_ACL, version)
        yield ("multi", [("check", "/t/n", version)])
    for version in (7, -2, 4, -1, 0):
        yield ("delete", "/t/n", version)


@scenario
def s7_create_modes():
    yield A
    yield ("create", "/t/e", b"", OPEN_ACL, 1)
    for op in ("create", "create2", "create_container"):
        for flags in (*range(-2, 9), 255, 2**31 - 1, -2**31):
            yield (op, f"/t/{op}{flags}", b"", OPEN_ACL, flags)
            yield ("multi", [(op, f"/t/multi-{op}{flags}", b"", OPEN_ACL, flags)])
            yield (op, "/t/e/below", b"", OPEN_ACL, flags)
    for ttl in TTLS:
        for flags in range(-1, 8):
            if flags in (5, 6) or ttl >= 0:
                yield ("create_ttl", f"/t/ttl{ttl}-{flags}", ttl, b"", OPEN_ACL, flags)
                yield ("multi", [("create_ttl", f"/t/m{ttl}-{flags}", ttl, b"", OPEN_ACL, flags)])
    yield ("get_children", "/t")


@scenario(extendedTypesEnabled="false")
def s7_create_modes_without_extended_types():
    yield A
    for op in ("create", "create2", "create_container"):
        for flags in (4, 5, 6, 7):
            yield (op, f"/t/{op}{flags}", b"", OPEN_ACL, flags)
            yield ("multi", [("check", "/t"), (op, f"/t/m{op}{flags}", b"", OPEN_ACL, flags)])
    for flags in range(-1, 8):
        yield ("create_ttl", f"/t/ttl{flags}", 1000, b"", OPEN_ACL, flags)
        yield ("create_ttl", "none", 0, b"", [], flags)
        yield ("multi", [("check", "/t"), ("create_ttl", f"/t/m{flags}", 1000, b"", OPEN_ACL, flags)])


@scenario
def s7_sequential_names():
    yield A
    for path in ("/t/s", "/t/", "/t/.", "/t/..", "/t/s0000000000", "/t//", "/t/a/b", "/", "", "t"):
        for flags in (2, 3, 6):
            if flags == 6:
                yield ("create_ttl", path, 1000, b"", OPEN_ACL, 6)
            else:
                yield ("create2", path, b"", OPEN_ACL, flags)
    yield ("multi", [("create", "/t/s", b"", OPEN_ACL, 2), ("create2", "/t/s", b"", OPEN_ACL, 2),
                     ("create", "/t/p"), ("create", "/t/p/s", b"", OPEN_ACL, 2),
                     ("create", "/t/s", b"", OPEN_ACL, 3)])
    yield ("multi", [("create", "/t/s", b"", OPEN_ACL, 2), ("delete", "/t/none")])
    yield ("create", "/t/s", b"", OPEN_ACL, 2)
    yield ("call", "a", [("create", "/t/pipelined", b"", OPEN_ACL, 2)] * 20)
    yield ("get_children2", "/t")


@scenario
def s7_paths():
    yield A
    yield ("create", "/t/a")
    chars = [0x1, 0x1f, 0x20, 0x7f, 0x80, 0x9f, 0xa0, 0x2028, 0xd7ff, 0xe000, 0xf8ff, 0xf900,
             0xfdd0, 0xfeff, 0xffef, 0xfff0, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x10ffff]
    paths = BAD_PATHS + [f"/t/{chr(char)}" for char in chars] + [
        "/t/...", "/t/a./b", "/t/a//b", "/t/a/", "/t/a/./b", "/t/a/../b", "/t/a\0", "\0", "a", "//t",
        "/t/a/b/", "/none/", "/none/x/", "/none//x", "none/x", "/t/\0/x", b"/t/\xc0\x80", b"/t/\x80",
        b"/t/\xf0\x9f\x98\x80", b"/t/\xed\xa0\xbd\xed\xb8\x80", b"/t/\xe2\x82", b"\xff"]
    for path in paths:
        yield ("create", path)
        yield ("create2", path, b"", OPEN_ACL, 2)
        yield ("set_data", path)
        yield ("exists", path, True)
        yield ("get_data", path)
        yield ("get_children", path)
        yield ("get_children2", path)
        yield ("get_acl", path)
        yield ("set_acl", path)
        yield ("sync", path)
        yield ("add_watch", path, 1)
        yield ("remove_watches", path, 3)
        yield ("check_watches", path, 2)
        yield ("get_ephemerals", path)
        yield ("get_all_children_number", path)
        yield ("multi", [("check", path)])
        yield ("multi_read", [("get_data", path), ("get_children", path)])
        yield ("set_watches", 0, [path], [path], [path])
        yield ("multi", [("delete", path)])
        yield ("delete", path)


@scenario
def s7_built_in_nodes():
    yield A
    for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/none"):
        yield from look(path)
        for req in (("delete", path), ("delete", path, 99), ("set_data", path, b"", 77),
                    ("set_acl", path, OPEN_ACL, 77), ("create", path), ("get_all_children_number", path),
                    ("multi", [("check", path, -1)]), ("multi", [("delete", path)]),
                    ("create", f"{path}/x"), ("create", f"{path.rstrip('/')}/zoo", b"x")):
            yield req


# Section 8: which error comes first


@scenario
def s8_order_of_checks():
    yield A
    yield ("connect", "b", {})
    yield ("create", "/t/open")
    yield ("create", "/t/shut", b"12345", [ACL(31, "digest", BEN)])
    yield ("create", "/t/full", b"")
    yield ("create", "/t/full/child", b"")
    yield ("create", "/t/e", b"", OPEN_ACL, 1)
    yield ("create", "/t/look", b"", world(1))
    for parent in ("/t/open", "/t/shut", "/t/full", "/t/e", "/t/look", "/t/none"):
        for name in ("", "x", "child", ".", "x\x01", "x\0"):
            for acl in (OPEN_ACL, []):
                yield ("create", f"{parent}/{name}", b"", acl)
                yield ("create", f"{parent}/{name}", b"", acl, 2)
                yield ("create", f"{parent}/{name}", b"", acl, 9)
            for version in (-1, 0, 5):
                yield ("set_data", f"{parent}/{name}", b"", version)
                yield ("set_acl", f"{parent}/{name}", OPEN_ACL, version)
                yield ("set_acl", f"{parent}/{name}", [], version)
                yield ("multi", [("check", f"{parent}/{name}", version)])
                yield ("delete", f"{parent}/{name}", version)
        for version in (-1, 0, 5):
            yield ("multi", [("check", parent, version)])
            yield ("set_data", parent, b"", version)
            yield ("set_acl", parent, OPEN_ACL if parent == "/t/open" else [], version)
        yield from look(parent)
        yield ("get_all_children_number", parent)
        yield ("delete", parent, 5)
    yield ("delete", "/t/full")


@scenario
def s8_get_ephemerals():
    yield A
    yield B
    for path in ("/t/ab", "/t/abc", "/t/x"):
        yield ("create", path, b"", OPEN_ACL, 1)
        yield ("call", "b", [("create", f"{path}b", b"", OPEN_ACL, 1)])
    for prefix in ("/", "", " ", "\t", None, "/t", "/t/ab", "/t/abc", "/t/abcd", "t", "/t/", "\0",
                   "\u2003", "\xa0"):
        yield ("get_ephemerals", prefix)
        yield ("call", "b", [("get_ephemerals", prefix)])
    yield ("set_acl", "/t/ab", world(16))
    yield ("get_ephemerals", "/")
    yield ("connect", "a", {"of": "a"})
    yield ("get_ephemerals", "/")
    yield ("close", "a")


@scenario
def s8_numbers_of_descendants():
    yield A
    for path in ("/t/a", "/t/a/b", "/t/a/b/c", "/t/ab"):
        yield ("create", path)
        for where in ("/", "/t", "/t/a", "/t/a/b/c", "/t/ab", "/zookeeper"):
            yield ("get_all_children_number", where)
    yield ("set_acl", "/t/a/b", world(16))
    yield ("get_all_children_number", "/t/a")
    yield ("get_all_children_number", "/t/a/b")


# Section 9: multi and multiRead


@scenario
def s9_multi():
    yield A
    yield ("add_watch", "/t", 1)
    yield ("multi", [])
    yield ("multi", [("create", "/t/a"), ("create", "/t/a/b"), ("set_data", "/t/a", b"x", 0),
                     ("delete", "/t/a/b", 0), ("create", "/t/a/b"), ("check", "/t/a", 1)])
    yield ("multi", [("set_data", "/t/a", b"y", 1), ("check", "/t/a", 1), ("delete", "/t/a")])
    yield ("multi", [("create", "/t/c"), ("delete", "/t/c"), ("create", "/t/c"), ("delete", "/t/c")])
    yield ("multi", [("delete", "/t/a/b"), ("delete", "/t/a")])
    yield ("multi", [("create", "/t/e", b"", OPEN_ACL, 1), ("create", "/t/e/x")])
    yield ("multi", [("create", "/t/e", b"", OPEN_ACL, 1), ("delete", "/t/e")])
    yield ("multi", [("create_container", "/t/c"), ("create", "/t/c/x"), ("delete", "/t/c/x")])
    yield ("multi", [("create_ttl", "/t/ttl", 99999), ("create_ttl", "/t/ttl", 99999)])
    yield ("multi", [("create", "/t/acl", b"", world(1)), ("create", "/t/acl/x"), ("set_data", "/t/acl")])
    yield ("multi", [("create", "/t/x", b"", [])])
    yield ("multi", [("check", "/t"), ("set_acl", "/t")])
    for part in (("get_data", "/t"), ("get_children", "/t"), ("exists", "/t"), ("sync", "/"),
                 ("set_acl", "/t"), ("reconfig",), ("who_am_i",), ("get_acl", "/t"), ("ping",),
                 ("get_children2", "/t"), ("multi", []), ("auth", "digest", b"a:b")):
        yield ("multi", [part])
        yield ("multi", [("check", "/t"), part])
        yield ("multi", [part, ("check", "/t")])
        yield ("multi_read", [part])
        yield ("multi_read", [("get_data", "/t"), part])
    yield ("multi", [("check", None)])
    yield ("multi", [("create", None)])
    yield ("multi", [("check", "/t"), ("create", "/t/q", None, None)])
    yield ("multi", [("check", "/t/none")] * 3)
    yield ("exists", "/t")


@scenario
def s9_multi_null_paths():
    """One null path refuses the whole multi, wherever it stands: no part is tried."""
    yield A
    for null in (("create", None), ("create", None, b"", OPEN_ACL, 2), ("create2", None),
                 ("create_container", None), ("create_ttl", None, 1000), ("delete", None),
                 ("set_data", None), ("check", None)):
        for parts in ([null], [("check", "/none"), null], [("create", "/t/x"), null],
                      [null, ("check", "/none")], [("check", "/none"), ("check", "/t"), null]):
            yield ("multi", parts)
    no_acl, read = ("create2", "/t/x", b"", None, 0), ("get_data", "/t")
    for parts in ([no_acl], [read, no_acl], [read, read], [read, ("check", "/t"), no_acl],
                  [("check", "/t"), read, no_acl], [("get_children", None), no_acl],
                  [("check", None), no_acl], [no_acl, ("check", None)]):
        yield ("multi", parts)
        yield ("exists", "/t")
    for flags in (-1, 0, 1, 2, 3, 4, 5, 6, 7):
        for part in (("create", "/t/x", b"", None, flags), ("create2", "/t/x", b"", None, flags),
                     ("create_container", "/t/x", b"", None, flags),
                     ("create_ttl", "/t/x", 1000, b"", None, flags), ("create_ttl", "/t/x", -5, b"", None, flags)):
            yield ("multi", [part])
            yield ("exists", "/t")
    yield ("multi_read", [("get_data", "/none"), ("get_data", None)])
    yield ("multi_read", [("get_children", None), ("get_data", "/t")])


@scenario
def s9_multi_headers():
    yield A
    header = Out().int(13).bool(False).int(-1).string("/t").int(-1).bytes()
    end = Out().int(-1).bool(True).int(-1).bytes()
    for body in (b"", end, header, header + end, header + end[:8], end + header, header * 2 + end,
                 header + Out().int(-1).bool(False).int(-1).bytes() + end,
                 header + Out().int(13).bool(True).int(-1).bytes(),
                 Out().int(13).bool(False).int(55).string("/t").int(-1).bytes() + end,
                 Out().int(13).bool(False).int(-1).string("/t").bytes() + end,
                 Out().int(99).bool(False).int(-1).bytes() + end,
                 Out().int(0).bool(False).int(-1).bytes() + end,
                 Out().int(-1).bool(False).int(-1).int(0).bytes() + end,
                 header + Out().int(99).bool(True).int(7).bytes(), end + b"tail",
                 Out().int(4).bool(False).int(-1).string("/t").bool(True).bytes() + end):
        for op in (ops.MULTI, ops.MULTI_READ):
            yield ("body", op, body)
            yield ("exists", "/t")


@scenario
def s9_multi_read():
    yield A
    yield ("create", "/t/shut", b"x", [ACL(31, "digest", BEN)])
    yield ("multi_read", [])
    yield ("multi_read", [("get_data", "/t", True), ("get_children", "/t", True), ("get_data", "/none"),
                          ("get_data", "/t/shut"), ("get_children", "/t/shut"), ("get_data", "/")])
    yield ("set_data", "/t", b"y")
    yield ("create", "/t/y")
    yield ("auth", "digest", b"ben:passwd")
    yield ("multi_read", [("get_data", "/t/shut"), ("get_children", "/t/shut")])


# Section 10: watches

SETTERS = [("get_data", "/t/n", True), ("exists", "/t/n", True), ("get_children", "/t/n", True),
           ("get_children2", "/t/n", True), ("add_watch", "/t/n", 0), ("add_watch", "/t/n", 1),
           ("get_children", "/t", True), ("add_watch", "/t", 0), ("add_watch", "/t", 1),
           ("add_watch", "/", 1), ("exists", "/t/n/c", True), ("exists", "/t", True)]
CHANGES = [("create", "/t/n"), ("set_data", "/t/n", b"x"), ("create", "/t/n/c"),
           ("set_data", "/t/n/c", b""), ("set_acl", "/t/n"), ("delete", "/t/n/c"), ("delete", "/t/n"),
           ("create", "/t/n"), ("delete", "/t/n")]


@scenario
def s10_each_watch_sees_each_change():
    yield B
    for setter in SETTERS:
        yield ("connect", "a", {})
        for change in CHANGES:
            yield setter
            yield from both(change)
        yield ("close", "a")


@scenario
def s10_watches_side_by_side():
    yield A
    yield B
    for setter in SETTERS:
        yield setter
    for change in CHANGES:
        yield from both(change)
    for setter in SETTERS:
        yield setter
    yield from both(("multi", CHANGES[:4] + CHANGES[5:]))
    yield ("call", "b", CHANGES)


@scenario
def s10_own_changes_and_order():
    yield A
    yield ("call", "a", [("exists", "/t/n", True), ("create", "/t/n"), ("get_data", "/t/n", True),
                         ("set_data", "/t/n", b"1"), ("get_data", "/t/n", True), ("delete", "/t/n"),
                         ("exists", "/t/n")])
    yield ("call", "a", [("get_children", "/t", True), ("create", "/t/s", b"", OPEN_ACL, 2),
                         ("get_children", "/t", True), ("create", "/t/s", b"", OPEN_ACL, 2)])
    yield ("call", "a", [("get_data", "/t", True)] * 3 + [("set_data", "/t", b"")] * 3)


@scenario
def s10_watches_and_acls():
    yield ("connect", "a", {})
    yield B
    yield ("call", "b", [("auth", "digest", b"ben:passwd")])
    mine = [ACL(31, "digest", BEN)]
    yield from both(("create", "/t/n"), ("create", "/t/n/c"))
    for setter in SETTERS:
        yield setter
    yield from both(("set_acl", "/t/n", mine), ("set_data", "/t/n", b"x"), ("create", "/t/n/d"),
                    ("create", "/t/n/e", b"", mine), ("set_data", "/t/n/e"), ("delete", "/t/n/c"),
                    ("set_acl", "/t", mine), ("create", "/t/q"), ("delete", "/t/q"))
    for setter in SETTERS:
        yield setter
    yield from both(("set_acl", "/t", OPEN_ACL), ("delete", "/t/n/e"), ("delete", "/t/n/d"),
                    ("delete", "/t/n"), ("create", "/t/n", b"", mine))
    yield ("auth", "digest", b"ben:passwd")
    yield from both(("set_data", "/t/n"), ("multi", [("create", "/t/z"), ("delete", "/t/z")]))


@scenario
def s10_watch_left_by_a_refused_exists():
    yield A
    yield B
    yield from both(("create", "/t/n", b"", world(16)))
    yield ("exists", "/t/n", True)
    yield ("get_data", "/t/n", True)
    yield ("check_watches", "/t/n", 2)
    yield from both(("set_acl", "/t/n", OPEN_ACL), ("set_data", "/t/n", b"x"))


@scenario
def s10_set_watches():
    yield A
    yield ("create", "/t/old")
    yield ("create", "/t/new")
    for zxid in (0, 1, 2, 3, 4, 10**6, "=0", "=-1"):
        for op in ("set_watches", "set_watches2"):
            lists = [["/t/old", "/t/none"], ["/t/new", "/t/none"], ["/t", "/t/none", "/t/old"]]
            if op == "set_watches2":
                lists += [["/t/p", "/t/old"], ["/t/r"]]
            yield ("connect", "a", {})
            yield (op, zxid, *lists)
            for req in (("create", "/t/none"), ("set_data", "/t/old", b""), ("create", "/t/p"),
                        ("create", "/t/r"), ("create", "/t/r/x"), ("set_data", "/t/p"),
                        ("delete", "/t/p"), ("delete", "/t/r/x"), ("delete", "/t/r"),
                        ("delete", "/t/none")):
                yield req
            yield ("close", "a")
    yield A
    yield ("set_watches", 0, ["/t/none"] * 3, ["/t"] * 2, ["/t/none"])
    yield ("set_watches2", 0, [], [], [], ["/t", "/t"], ["/t", "/"])
    yield ("set_data", "/t", b"x")
    yield ("set_watches", 0, [None])
    for body in (Out().long(0).int(-2).bytes(), Out().long(0).int(9).bytes(), b"",
                 Out().long(0).strings([]).bytes(), Out().long(0).strings([]).strings([]).bytes()):
        yield ("body", ops.SET_WATCHES, body)
        yield ("body", ops.SET_WATCHES2, body)


@scenario
def s10_null_paths_in_set_watches():
    """A null path ends the request with an error; what came before it has been done, and stays.
    Persistent watches alone may be set on no path."""
    yield A
    yield ("create", "/t/b")
    for number, lists in enumerate((
            (["/t/b"], [], ["/t/x", None, "/t/c"]), (["/t/b"], ["/t/b", None, "/t/c"], []),
            (["/t/b", "/t/x", None, "/t/c"], [], []), ([], [], [], ["/t/b", None, "/t/x"], ["/t/c", None]),
            ([None], [], [], ["/t/b"], []))):
        for zxid in (10**6, 0):
            yield ("connect", "a", {})
            yield ("set_watches2", zxid, *lists)
            yield ("set_data", "/t/b", b"1")
            yield ("create", "/t/b/1")
            yield ("delete", "/t/b/1")
            if number < 3:
                yield ("set_watches", zxid, *lists)
                yield ("set_data", "/t/b", b"2")
    yield ("set_watches2", 0, [], [], [], [None], [None])
    for query in ("check_watches", "remove_watches", "check_watches"):
        for kind in (4, 5):
            yield (query, None, kind)


@scenario
def s10_check_and_remove():
    for add in SETTERS[:6]:
        for kind in (1, 2, 3, 4, 5):
            yield ("connect", "a", {})
            yield ("call", "a", [("create", "/t/n")])
            for other in (add, ("add_watch", "/t/n", 1) if kind == 5 else ("add_watch", "/t/n", 0)):
                yield other
            for query in ("check_watches", "remove_watches", "remove_watches"):
                yield (query, "/t/n", kind)
            for left in (1, 2, 3, 4, 5):
                yield ("check_watches", "/t/n", left)
            yield ("set_data", "/t/n", b"")
            yield ("create", "/t/n/c")
            yield ("delete", "/t/n/c")
            yield ("delete", "/t/n")
            yield ("close", "a")
    yield A
    for kind in (0, 6, 7, -1, 2**31 - 1):
        yield ("check_watches", "/t/n", kind)
        yield ("remove_watches", "/t/n", kind)
        yield ("add_watch", "/t/n", kind)
    yield ("add_watch", None, 0)
    yield ("check_watches", None, 3)
    yield ("remove_watches", None, 3)


# Section 11: ACLs and authentication


@scenario
def s11_acl_lists():
    yield A
    for auths in ([], [("digest", b"ben:passwd")], [("digest", b"a:b"), ("ip", b"")]):
        for scheme, data in auths:
            yield ("auth", scheme, data)
        for acl in SCHEME_LISTS + BAD_LISTS + [[ACL(31, "auth", ""), ACL(1, "auth", "")],
                                               [ACL(31, "world", "anyone"), ACL(31, "auth", "")],
                                               [ACL(31, "digest", ":b")], [ACL(31, "ip", "")]]:
            yield ("create", "/t/n", b"", acl)
            yield ("get_acl", "/t/n")
            yield ("set_acl", "/t", acl + OPEN_ACL if acl else acl)
            yield ("get_acl", "/t")
            yield ("set_acl", "/t", OPEN_ACL)
            yield ("multi", [("create", "/t/m", b"", acl), ("delete", "/t/m")])
            yield ("delete", "/t/n")


@scenario
def s11_order_of_acl_entries():
    """Lists that a client wrote out come back in its order, also around what `auth` becomes."""
    yield A
    yield ("auth", "digest", b"ben:passwd")
    written = [ACL(1, "digest", "z:hash"), ACL(2, "digest", BEN), ACL(31, "world", "anyone"),
               ACL(4, "digest", "m:hash"), ACL(31, "ip", "127.0.0.1"), ACL(31, "ip", "10.0.0.1")]
    for acl in (written, written[::-1], [*written[:3], ACL(9, "auth", ""), *written[3:]],
                [ACL(31, "auth", ""), *written, ACL(8, "auth", "")], written + written,
                [ACL(31, "digest", BEN), ACL(31, "auth", ""), *written, ACL(31, "digest", BEN)]):
        yield ("create", "/t/n", b"", acl)
        yield ("get_acl", "/t/n")
        yield ("delete", "/t/n")


@scenario
def s11_ip_ids():
    yield A
    for text in ("127.0.0.1", "127.0.0.1/32", "127.0.0.0/8", "0.0.0.0/0", "128.0.0.0/1", "127.0.0.2/31",
                 "127.0.0.1/33", "127.0.0.1/-1", "127.0.0.1/", "127.0.0.1/8/8", "127.0.0", "127.0.0.256",
                 "127.0.0.-1", "127.0.0.1.1", "127.0.0.01", " 127.0.0.1", "", "/", "/8", "localhost",
                 "::1", "::1/128", "::1/129", "::/0", "0:0:0:0:0:0:0:1", "fe80::/10", "::ffff:127.0.0.1",
                 "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":::", "::", "12345::", "g::", "1:2", None,
                 "127.0.0.1/+8", "127.0.0.1/ 8", "127.0.0.1/08", "+127.0.0.1", "[::1]", "::1%lo"):
        yield ("create", "/t/n", b"", [ACL(31, "ip", text)])
        yield ("get_data", "/t/n")
        yield ("get_acl", "/t/n")
        yield ("delete", "/t/n")


@scenario
def s11_digest_ids():
    yield A
    for text in ("a:b", ":b", "a:", "a:b:c", "a", "", ":", "::", " : ", "a:b:", "\u00e9:x"):
        yield ("create", "/t/n", b"", [ACL(31, "digest", text), ACL(1, "world", "anyone")])
        yield ("get_acl", "/t/n")
        yield ("delete", "/t/n")
    for data in (b"ben:passwd", b"a:b:c", b":", b"", b"x", b"\xff:\xfe", b"\xc3\xa9:x", b"a" * 2000):
        yield ("connect", "b", {})
        yield ("call", "b", [("auth", "digest", data)])
        yield ("call", "b", [("who_am_i",)])
        yield ("call", "b", [("create", "/t/n", b"", [ACL(31, "auth", "")])])
        yield ("call", "b", [("get_acl", "/t/n")])
        yield ("delete", "/t/n")
        yield ("close", "b")


@scenario
def s11_permissions():
    yield A
    yield ("call", "a", [("auth", "digest", b"ben:passwd")])
    yield B
    for perms in list(range(33)) + [-1, 64, 2**31 - 1]:
        yield ("create", "/t/n", b"", [ACL(perms, "world", "anyone"), ACL(31, "digest", BEN)])
        yield from both(*look("/t/n"), ("set_data", "/t/n", b"x"), ("create", "/t/n/c"),
                        ("delete", "/t/n/c"), ("multi", [("check", "/t/n")]),
                        ("multi_read", [("get_data", "/t/n"), ("get_children", "/t/n")]),
                        ("set_acl", "/t/n", OPEN_ACL))
        yield ("delete", "/t/n/c")
        yield ("delete", "/t/n")


@scenario
def s11_auth():
    for scheme in ("digest", "ip", "world", "auth", "super", "sasl", "x509", "ensemble", "", "nosuch",
                   "Digest", None):
        for data in (b"ben:passwd", b"", None):
            yield ("connect", "a", {})
            yield ("auth", scheme, data)
            yield ("who_am_i",)
    yield ("connect", "a", {})
    for data in (b"ben:passwd", b"ben:passwd", ops.SUPER_PASSWORD, b"a:b"):
        yield ("auth", "digest", data)
        yield ("who_am_i",)
    yield ("create", "/t/n", b"", world(0))
    yield from look("/t/n")
    yield ("create", "/t/m", b"", [ACL(31, "auth", "")])
    yield ("get_acl", "/t/m")
    yield ("set_data", "/zookeeper/config", b"x", 99)
    yield ("connect", "a", {"of": "a"})
    yield ("who_am_i",)
    yield ("xid", 7, ("auth", "digest", b"ben:passwd"))
    yield ("xid", -4, ("exists", "/t"))
    yield ("body", ops.AUTH, b"")
    yield ("connect", "b", {})
    yield ("call", "b", [("body", ops.AUTH, b"\0\0\0\0\0\0\0\x06digest\x7f\xff\xff\xff")])
    for token in (b"", b"x", None):
        yield ("connect", "a", {})
        yield ("sasl", token)
        yield ("who_am_i",)


# Section 14: quotas


def under_quota(limits):
    yield A
    for req in (("set_data", "/t", b"123"), ("create", "/t/a", b"45"),
                ("create", "/zookeeper/quota/t", None),
                ("create", "/zookeeper/quota/t/zookeeper_limits", limits),
                ("get_data", "/zookeeper/quota/t/zookeeper_limits"),
                ("create", "/zookeeper/quota/t/zookeeper_stats", b"junk"),
                ("get_data", "/zookeeper/quota/t/zookeeper_stats", True)):
        yield req
    for req in (("create", "/t/b", b"6789"), ("create", "/t/a/c", None), ("set_data", "/t/a", b""),
                ("set_data", "/t/a", b"x" * 30, 9), ("set_data", "/t/a", b"x" * 30), ("delete", "/t/a/c"),
                ("create", "/t/tail", b"", OPEN_ACL, 2), ("create", "/t/e", b"e", OPEN_ACL, 1),
                ("create", "/t/d", b"x" * 20), ("create_container", "/t/cont"), ("set_data", "/t/a", None),
                ("multi", [("create", "/t/m1", b"1"), ("create", "/t/m2", b"2"), ("create", "/t/m3")]),
                ("multi", [("set_data", "/t/a", b"y" * 10), ("set_data", "/t/b", b"y" * 10)]),
                ("delete", "/t/b"), ("set_data", "/t", b"z"),
                ("set_data", "/zookeeper/quota/t/zookeeper_limits", b"count=1,bytes=1=;byteHardLimit=1"),
                ("create", "/t/more", b"1"), ("set_data", "/t", b"zz"),
                ("delete", "/zookeeper/quota/t/zookeeper_limits"), ("create", "/t/free", b"x" * 50)):
        yield req
        yield ("get_data", "/zookeeper/quota/t/zookeeper_stats")
    yield ("close", "a")
    yield A
    yield ("get_data", "/zookeeper/quota/t/zookeeper_stats")


LIMIT_TEXTS = [b"count=-1,bytes=-1=;byteHardLimit=30;countHardLimit=6", b"count=-1,bytes=-1=;byteHardLimit=30",
               b"countHardLimit=5", b"byteHardLimit=10,countHardLimit=4", b"count=2,bytes=5", b"", None, b"junk",
               b"count=,bytes=", b"count=-1,bytes=-1=;byteHardLimit=0;countHardLimit=0", b"count=x",
               b"byteHardLimit = 20", b"byteHardLimit=20=;countHardLimit=9"]
for _index, _limits in enumerate(LIMIT_TEXTS):
    def _quota(_limits=_limits):
        return under_quota(_limits)
    _quota.__name__ = f"s14_quota_{_index}"
    scenario(_quota)


@scenario(enforceQuota="false")
def s14_quota_not_enforced():
    return under_quota(LIMIT_TEXTS[0])


@scenario
def s14_quota_without_usage():
    """Without a usage node nothing is enforced."""
    yield A
    yield ("create", "/zookeeper/quota/t", None)
    yield ("create", "/zookeeper/quota/t/zookeeper_limits", b"byteHardLimit=5,countHardLimit=2")
    for path in ("/t/a", "/t/b", "/t/c"):
        yield ("create", path, b"123456")
        yield ("set_data", path, b"1234567890")
    yield ("create", "/zookeeper/quota/t/zookeeper_stats", b"")
    yield ("create", "/t/d")
    yield ("set_data", "/t/a", b"123456789012345")
    yield ("delete", "/zookeeper/quota/t/zookeeper_stats")
    yield ("create", "/t/d")


@scenario
def s14_texts_of_quota_nodes():
    """How limits and usage are read; what usage becomes that a client wrote."""
    yield A
    usage = "/zookeeper/quota/t/zookeeper_stats"
    yield ("create", "/zookeeper/quota/t", None)
    yield ("create", "/zookeeper/quota/t/zookeeper_limits", b"countHardLimit=9,,byteHardLimit=+40")
    yield ("create", usage, b"")
    yield ("create", "/t/n")
    for limits in (b"countHardLimit=9,,byteHardLimit=+40", b"countHardLimit=9;,;", b",countHardLimit=9", b";",
                   b"countHardLimit=-5,byteHardLimit=-1", b"countHardLimit=0", b"=5,countHardLimit=50",
                   b"countHardLimit=1,countHardLimit=99", b"countHardLimit=99,countHardLimit=1"):
        yield ("set_data", "/zookeeper/quota/t/zookeeper_limits", limits)
        yield ("set_data", "/t/n", b"x" * 50)
        yield ("create", "/t/s", b"", OPEN_ACL, 2)
        yield ("set_data", "/t/n", b"")
    yield ("set_data", "/zookeeper/quota/t/zookeeper_limits", b"countHardLimit=9")
    for text in (b"count=2", b"bytes=7", b"zoo=7,count=2=3,abc=5", b"", b"count=9223372036854775807,bytes=5"):
        yield ("set_data", usage, text)
        yield ("create", "/t/s", b"123", OPEN_ACL, 2)
        yield ("get_data", usage)


@scenario
def s14_nested_and_odd_quotas():
    yield A
    for req in (("create", "/zookeeper/quota/t", None), ("create", "/zookeeper/quota/t/a", None),
                ("create", "/zookeeper/quota/t/a/zookeeper_limits", b"count=5,bytes=5=;countHardLimit=2"),
                ("create", "/zookeeper/quota/t/a/zookeeper_stats", b""),
                ("create", "/t/a", b"x"), ("create", "/t/ab", b"y"), ("create", "/t/a/b", b"z"),
                ("create", "/t/a/c", b"z"), ("create", "/t/a/b/d", b"z"),
                ("get_data", "/zookeeper/quota/t/a/zookeeper_stats"),
                ("create", "/zookeeper/quota/t/zookeeper_limits", b"countHardLimit=4"),
                ("create", "/zookeeper/quota/t/zookeeper_stats", b""),
                ("get_data", "/zookeeper/quota/t/zookeeper_stats"),
                ("get_data", "/zookeeper/quota/t/a/zookeeper_stats"),
                ("create", "/t/q", b""), ("create", "/t/q2", b""), ("create", "/t/a/q", b""),
                ("set_data", "/zookeeper/quota/t/zookeeper_stats", b"own"),
                ("get_data", "/zookeeper/quota/t/zookeeper_stats"), ("set_data", "/t/a", b"xx"),
                ("get_data", "/zookeeper/quota/t/zookeeper_stats"),
                ("delete", "/zookeeper/quota/t/zookeeper_stats"), ("set_data", "/t/a", b"xxx")):
        yield req


# Sections 1 to 4: framing, handshake, malformed requests


@scenario
def s1_sizes():
    yield A
    overhead = len(request(*ops.create("/t/n", b""), 1)) - 4
    for size in (LIMIT - 1, LIMIT):
        yield ("create", "/t/n", b"x" * (size - overhead))
        yield ("get_data", "/t/n")
        yield ("delete", "/t/n")
    yield ("create", "/t/n", b"x" * (LIMIT + 1 - overhead))
    yield ("connect", "a", {})
    yield ("set_data", "/t", b"x" * LIMIT)
    for length in (LIMIT + 1, 2**31 - 1, -1, -2**31):
        yield ("connect", "a", {})
        yield ("bytes", "a", Out().int(length).bytes())
    for length in range(0, 8):
        yield ("connect", "a", {})
        yield ("bytes", "a", frame(b"\0" * length))


@scenario
def s1_malformed_bodies():
    yield A
    samples = {
        "create": ops.create("/t/n", b"abc"), "delete": ops.delete("/t/n"), "exists": ops.exists("/t"),
        "getData": ops.get_data("/t"), "setData": ops.set_data("/t", b"abc"), "getACL": ops.get_acl("/t"),
        "setACL": ops.set_acl("/t"), "children": ops.get_children("/t"), "sync": ops.sync("/t"),
        "children2": ops.get_children2("/t"), "multi": ops.multi([ops.check("/t")]),
        "create2": ops.create2("/t/n"), "checkWatches": ops.check_watches("/t", 1),
        "removeWatches": ops.remove_watches("/t", 1), "container": ops.create_container("/t/n"),
        "ttl": ops.create_ttl("/t/n", 99999), "multiRead": ops.multi_read([ops.get_data("/t")]),
        "ephemerals": ops.get_ephemerals("/t"), "number": ops.get_all_children_number("/t"),
        "addWatch": ops.add_watch("/t"), "reconfig": ops.reconfig("a", "b", "c"),
        "setWatches": ops.set_watches(0, ["/t"]), "setWatches2": ops.set_watches2(0, ["/t"]),
        "sync2": ops.sync(None),
    }
    for op, body in samples.values():
        for cut in range(len(body)):
            yield ("body", op, body[:cut])
        for at in range(0, len(body) - 3):
            for wrong in (-1, -2, 2**31 - 1, LIMIT, LIMIT + 1025):
                if op != ops.CREATE_TTL or at < len(body) - 12:
                    yield ("body", op, body[:at] + wrong.to_bytes(4, "big", signed=True) + body[at + 4:])
        yield ("delete", "/t/n")
    yield ("exists", "/t")


@scenario
def s2_handshakes():
    yield A
    for timeout in (0, 1, -1, -2**31, 2**31 - 1, 14999, 15000, 15001, 39999, 40000, 40001):
        yield ("connect", "b", {"timeout": timeout})
        yield ("connect", "b", {"of": "b", "timeout": timeout + 1 if timeout < 10**9 else 0})
        yield ("close", "b")
    for version in (0, 1, -1, 2**31 - 1):
        yield ("connect", "b", {"version": version})
    for read_only in (None, False, True):
        yield ("connect", "b", {"read_only": read_only})
        yield ("connect", "b", {"of": "b", "read_only": read_only})
        yield ("connect", "b", {"of": "b", "read_only": read_only, "passwd": b"x" * 16})
    for passwd in (b"", None, b"x", b"x" * 15, b"x" * 17, bytes(16)):
        yield ("connect", "b", {"passwd": passwd})
        yield ("connect", "b", {"of": "b", "passwd": passwd})
    for last in (0, "=-1", "=-9223372036854775808", "=9223372036854775807", 10**6, -1):
        yield ("connect", "b", {"last": last})
        yield ("connect", "b", {"of": "b", "last": last})
    for session in (1, -1, 2**62, -2**63):
        yield ("connect", "b", {"session": session, "passwd": ops.password(session)})
    for cut in range(0, 45):
        yield ("connect", "b", {"cut": cut})
    yield ("connect", "b", {"tail": b"x" * 1000})
    yield ("connect", "b", {"read_only": None, "tail": b"\x07"})
    yield ("connect", "b", {"of": "a"})
    yield ("connect", "b", {"of": "b", "then": [("exists", "/t"), ("create", "/t/x"), ("ping",)]})


@scenario
def s2_raw_bytes():
    yield A
    good = frame(connect_request(timeout_ms=20000))
    # What makes the server close must not follow the ConnectRequest in the same write: the
    # reference then sometimes closes before it has written the ConnectResponse.
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\0", b"\0\0\0\x01x", b"\xff\xff\xff\xff", b"\0", b"ruo",
                 frame(b"\0" * 8), frame(b"\xff" * 45), frame(b"\0" * 200), good[:20], b"abcd", b"RUOK",
                 b"ruok\n", b"\0\0\0\x2c" + b"\0" * 44, good + good, good + frame(b"\0\0\0\x01\0\0\0\x0b") * 3, b"\x16\x03\x01\x02\0"):
        yield ("raw", data)
    for word in ("ruok", "isro", "gtmk", "quit", "kill"):
        yield ("raw", word.encode(), True)
    yield ("raw", b"", True)
    yield ("raw", good[:10], True)


@scenario
def s2_words():
    # Of `mntr` only the base block is compared: see BASE_METRICS in normal.py. The counters and
    # summaries after it (zk_commit_count, zk_avg_*, zk_p99_* and so on) are not compared yet.
    yield A
    yield ("create", "/t/e", b"", OPEN_ACL, 1)
    for word in ("ruok", "isro", "srvr", "stat", "mntr", "envi", "conf", "none", "crst", "srst"):
        yield ("word", word)
    yield ("add_watch", "/t/a", 1)
    yield ("exists", "/t/b", True)
    yield ("get_children", "/t", True)
    yield ("word", "wchs")
    yield ("word", "mntr")
    yield ("create", "/t/b")
    for req in (("get_data", "/t/b"), ("auth", "digest", b"ben:passwd"), ("ping",)):
        yield req
        yield ("word", "mntr")
    yield ("word", "srst")
    yield ("word", "mntr")


@scenario
def s2_sessions():
    yield A
    yield B
    yield ("create", "/t/e", b"", OPEN_ACL, 1)
    yield ("call", "b", [("exists", "/t/e", True)])
    yield ("drop", "a")
    yield ("call", "b", [("exists", "/t/e")])
    yield A
    yield ("create", "/t/f", b"", OPEN_ACL, 1)
    yield ("exists", "/t/f", True)
    yield ("connect", "a", {"of": "a"})
    yield ("call", "b", [("set_data", "/t/f", b"x")])
    yield ("connect", "c", {"of": "a"})
    yield ("call", "c", [("exists", "/t/f", True), ("get_ephemerals", "/")])
    yield ("call", "b", [("add_watch", "/t", 1)])
    yield ("close", "c")
    yield ("connect", "c", {"of": "a"})
    for count in (1, 3):
        yield ("connect", "a", {})
        yield ("call", "a", [("create", "/t/g", b"", OPEN_ACL, 3)] * count + [("close_session",)])
        yield ("gone", f"/t/g000000000{count}", 5)
    yield ("connect", "a", {"then": [("create", "/t/h", b"", OPEN_ACL, 1), ("close_session",)]})
    yield ("call", "b", [("exists", "/t/h")])


@scenario(tickTime=200, minSessionTimeout=400)
def s2_expiry():
    yield B
    for watch in (("add_watch", "/t", 1), ("get_children", "/t", True), ("exists", "/t/e", True)):
        yield ("call", "b", [watch])
    yield ("connect", "a", {"timeout": 400})
    yield ("call", "a", [("create", f"/t/{name}", b"", OPEN_ACL, 1) for name in "efg"])
    yield ("drop", "a")
    yield ("gone", "/t/e", 5)
    yield ("call", "b", [("get_children2", "/t")])
    yield ("connect", "a", {"timeout": 400})
    yield ("create", "/t/h", b"", OPEN_ACL, 1)
    yield ("gone", "/t/h", 5)
    yield ("exists", "/t")


@scenario
def s3_xids():
    yield A
    for xid in (0, 1, 1, 5, 2**31 - 1, -1000, -3, -2**31, -2, -8):
        for req in (("exists", "/t"), ("create", "/t/s", b"", OPEN_ACL, 2), ("ping",), ("sync", "/"),
                    ("who_am_i",), ("multi", [("check", "/t")]), ("set_watches", 0, ["/t"])):
            yield ("xid", xid, req)


@scenario
def s3_pipelining():
    yield A
    yield B
    yield ("call", "a", [step for i in range(100) for step in (
        ("create", f"/t/{i}", b"x"), ("get_data", f"/t/{i}", True), ("set_data", f"/t/{i}", b"y", 0),
        ("set_data", f"/t/{i}", b"y", 0), ("exists", f"/t/{i}"), ("delete", f"/t/{i}", 1))])
    yield ("call", "b", [("add_watch", "/t", 1), ("get_children", "/t", True)])
    yield ("call", "a", [("multi", [("create", f"/t/{i}"), ("delete", f"/t/{i}")]) for i in range(30)])
    yield ("call", "a", [("ping",), ("sync", "/t"), ("create", "/t/x"), ("ping",), ("sync", "/none"),
                         ("who_am_i",), ("set_watches", 0), ("ping",), ("exists", "/none")])


@scenario
def s4_unknown_operations():
    yield A
    for op in UNKNOWN_OPS + [11 + 2**16, -3, -5, 109, 110, 2**16]:
        for body in (b"", ops.check("/t")[1]):
            yield ("connect", "a", {})
            # Alone: the reference answers on arrival, ahead of requests before it.
            yield ("body", op, body)
    yield ("connect", "a", {})
    yield ("reconfig", "server.2=127.0.0.1:1:2;3", None, None)
    yield ("reconfig", None, None, "server.2=127.0.0.1:1:2;3", 0)
    yield ("reconfig", None, None, None)


@scenario(reconfigEnabled="true")
def s15_reconfig_standalone():
    yield A
    for args in ((None, None, None), ("server.2=127.0.0.1:1:2;3", None, None), (None, "1", None, 0),
                 (None, None, "server.1=127.0.0.1:1:2;3"), ("junk", None, None, 5)):
        yield ("reconfig", *args)
    yield ("auth", "digest", ops.SUPER_PASSWORD)
    yield ("reconfig", None, "1", None)
    yield ("get_data", "/zookeeper/config")


@scenario(**{"4lw.commands.whitelist": "srvr"})
def s2_words_not_allowed():
    yield A
    for word in ("ruok", "isro", "stat", "mntr", "envi", "conf", "cons", "wchs", "dump", "srvr", "hash", "none"):
        yield ("word", word)


@scenario(maxClientCnxns=3)
def s16_connections_per_address():
    yield A
    yield B
    yield ("raw", frame(connect_request()))
    yield ("connect", "c", {})
    yield ("drop", "a")
    yield ("pause", 0.3)
    yield ("connect", "c", {})
    yield ("call", "c", [("exists", "/t")])
    yield ("close", "c")
    yield ("pause", 0.3)


@scenario(**{"jute.maxbuffer": None})
def s8_large_replies():
    yield A
    yield ("create", "/t/long")
    for start in range(0, 6000, 500):
        yield ("multi", [("create", f"/t/long/{'x' * 200}{i}") for i in range(start, start + 500)])
    yield ("get_children2", "/t/long")
    yield ("get_all_children_number", "/t")
