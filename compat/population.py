"""Fills a server with every kind of node, and shows a tree as any server shows it."""

import rawclient
from clients import walk
from rawclient import ACL

OWNER = ("digest", "alice:secret")
OWNER_ID = rawclient.digest_id(b"alice:secret")
HOUR_MS = 3600 * 1000
# Long enough that no session of a test directory expires while servers are exchanged.
SESSION_TIMEOUT_MS = 60000


def populate(server, round_number=0, writes=300):
    """Every node type, ACL, kind of multi and session end, below one root per round.

    One session stays open, so its ephemerals are in the data directory when the server is killed. Returns that
    session's client. With the small snapCount of these suites, `writes` rolls the log several times.
    """
    address = ("127.0.0.1", server.client_port)
    root = f"/round-{round_number}"
    with rawclient.Client.connect(address, timeout_ms=SESSION_TIMEOUT_MS) as client:

        def done(request):
            return client.call(*request).ok()

        done(rawclient.create(root, b"root"))
        for name, data in [("empty", b""), ("null", None), ("binary", bytes(range(256)) * 12), ("ü中", "ü中".encode())]:
            done(rawclient.create(f"{root}/{name}", data))
        for _ in range(3):
            done(rawclient.create(f"{root}/seq-", b"s", flags=rawclient.SEQUENTIAL))
        done(rawclient.create_container(f"{root}/container", b"c"))
        done(rawclient.create(f"{root}/container/child", b""))
        done(rawclient.create_ttl(f"{root}/ttl", HOUR_MS, b"t"))
        done(rawclient.create_ttl(f"{root}/ttlseq-", HOUR_MS, b"t", flags=rawclient.TTL_SEQUENTIAL))
        done(rawclient.create(f"{root}/acl", b"guarded"))
        guarded = [ACL(rawclient.ALL, "digest", OWNER_ID), ACL(rawclient.READ, "ip", "127.0.0.0/8")]
        done(rawclient.set_acl(f"{root}/acl", guarded))
        done(rawclient.create(f"{root}/acl2", b"same list", acl=guarded))
        for version in range(3):
            done(rawclient.set_data(f"{root}/empty", b"v%d" % version, version))
        assert client.call(*rawclient.delete(f"{root}/missing")).err == rawclient.NO_NODE
        assert client.call(*rawclient.create(root)).err == rawclient.NODE_EXISTS
        done(rawclient.create(f"{root}/gone", b""))
        done(rawclient.delete(f"{root}/gone"))
        done(
            rawclient.multi(
                [
                    rawclient.create(f"{root}/m", b"1"),
                    rawclient.create(f"{root}/m/a", b"2"),
                    rawclient.set_data(f"{root}/m/a", b"3"),
                    rawclient.check(f"{root}/m/a", 1),
                    rawclient.create(f"{root}/m/b", b"4"),
                    rawclient.delete(f"{root}/m/b"),
                ]
            )
        )
        client.call(*rawclient.multi([rawclient.create(f"{root}/x", b""), rawclient.delete(f"{root}/missing")]))
        for number in range(writes):
            done(rawclient.create(f"{root}/m/{number}", b"%d" % number))
            if number % 3 == 0:
                done(rawclient.delete(f"{root}/m/{number}"))
        closing = rawclient.Client.connect(address, timeout_ms=SESSION_TIMEOUT_MS)
        closing.call(*rawclient.create(f"{root}/closed", b"", flags=rawclient.EPHEMERAL)).ok()
        closing.close()
        client.close()
    staying = rawclient.Client.connect(address, timeout_ms=SESSION_TIMEOUT_MS)
    staying.call(*rawclient.create(f"{root}/ephemeral", b"e", flags=rawclient.EPHEMERAL)).ok()
    staying.call(*rawclient.create(f"{root}/eph-", b"e", flags=rawclient.EPHEMERAL_SEQUENTIAL)).ok()
    return staying


def shown(clients, server):
    """The whole tree, data, stats and ACLs, as the owner of the guarded nodes sees it."""
    return walk(clients.open(server, auth_data=[OWNER]))
