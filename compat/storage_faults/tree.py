"""What a server serves, and whether it is what was acknowledged."""

import zlib

import rawclient
from rawclient import ops

WAIT_S = 8
#: Each server writes this node by itself from its configuration file.
LOCAL_NODES = ("/zookeeper/config",)
BATCH = 200
ROOT = "/t"


def summary(data):
    """Enough to tell two values apart."""
    return zlib.crc32(data or b"")


def read(server):
    """path -> (summary of the data, Stat) below the root of this server, after a sync."""
    address = ("127.0.0.1", server.client_port)
    with rawclient.Client.connect(address, WAIT_S, timeout_ms=10000) as client:
        client.call(*ops.sync("/")).ok()
        tree, level = {}, ["/"]
        while level:
            found = _read(client, level[:BATCH])
            del level[:BATCH]
            for path, (data, stat), children in found:
                tree[path] = (summary(data), stat)
                level += [f"{path.rstrip('/')}/{name}" for name in children]
        client.close()
    for path in LOCAL_NODES:
        tree.pop(path, None)
    return tree


def _read(client, paths):
    replies = client.call_all([request for path in paths for request in (ops.get_data(path), ops.get_children(path))])
    return [(path, replies[2 * at].ok(), replies[2 * at + 1].ok()) for at, path in enumerate(paths)]


def lost(tree, acked):
    """Acknowledged writes that the tree does not show."""
    found = []
    for path, expected in acked.items():
        if expected is None:
            if path in tree:
                found.append(f"{path} was deleted and is there")
        elif path not in tree:
            found.append(f"{path} is missing")
        elif (tree[path][0], tree[path][1].version) != tuple(expected):
            found.append(f"{path} has version {tree[path][1].version}, acknowledged was {expected[1]}")
    return found


def differing(left, right):
    """Paths that two members show differently."""
    return sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))
