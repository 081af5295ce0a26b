"""kazoo clients, and the tree as one server shows it."""

import logging
import zlib

from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

# Each server writes this node by itself from its configuration file, so its times are its own.
LOCAL_NODE = "/zookeeper/config"

logging.getLogger("kazoo").setLevel(logging.CRITICAL)


class Clients:
    """Opens clients and closes them all together."""

    def __init__(self):
        self.opened = []

    def open(self, where, timeout=10.0, **options):
        """A started client of a server, an ensemble or a host list."""
        hosts = getattr(where, "address", None) or getattr(where, "hosts", None) or where
        retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_jitter=0.05)
        client = KazooClient(hosts=hosts, timeout=timeout, connection_retry=retry, **options)
        client.start(timeout=20)
        self.opened.append(client)
        return client

    def close(self):
        for client in self.opened:
            try:
                client.stop()
                client.close()
            except Exception:  # a client whose server was killed must not hide the test's result
                pass
        self.opened.clear()


def walk(client, root="/"):
    """The tree below `root` as this client's server shows it after a sync: path -> (data, stat, ACL)."""
    client.sync(root)
    tree = {}
    level = [root]
    while level:
        replies = [
            (path, client.get_async(path), client.get_children_async(path), client.get_acls_async(path))
            for path in level
        ]
        level = []
        for path, data, children, acl in replies:
            value, stat = data.get(timeout=20)
            entries = sorted((entry.perms, entry.id.scheme, entry.id.id) for entry in acl.get(timeout=20)[0])
            tree[path] = (value, None if path == LOCAL_NODE else tuple(stat), entries)
            level += [f"{path.rstrip('/')}/{name}" for name in sorted(children.get(timeout=20))]
    return tree


def differences(left, right, limit=5):
    """Human-readable differences of two walks; empty if equal."""
    found = [f"only left: {path}" for path in left.keys() - right.keys()]
    found += [f"only right: {path}" for path in right.keys() - left.keys()]
    found += [f"{path}: {left[path]} != {right[path]}" for path in left.keys() & right.keys() if left[path] != right[path]]
    return sorted(found)[:limit]


def tree_digest(tree):
    """The tree digest (storage-formats.md, section 9) of a walk from the root.

    Containers and TTL nodes hide their owner from clients, so a tree with such nodes cannot be digested here.
    """
    total = 0
    for path, (data, stat, _acl) in tree.items():
        if path.startswith("/zookeeper/"):
            continue
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, _length, children, pzxid = stat
        stored_cversion = (cversion + children) // 2
        record = b"".join(value.to_bytes(8, "big", signed=True) for value in (czxid, mzxid, pzxid, ctime, mtime))
        record += b"".join(value.to_bytes(4, "big", signed=True) for value in (version, stored_cversion, aversion))
        record += owner.to_bytes(8, "big", signed=True)
        text = b"" if path == "/" else path.encode()
        total += zlib.crc32(text + (data or b"") + record)
    return total % 2**64
