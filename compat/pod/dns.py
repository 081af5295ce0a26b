"""The part of a cluster's DNS that pods of a headless service need, over UDP.

usage: dns.py ADDRESS ZONE

ZONE is a JSON file, name without final dot to IPv4 address, read again for every question, so that names come and go.
Known names have an A record and no other; everything else is NXDOMAIN.
"""

import json
import socket
import struct
import sys

A, IN = 1, 1
NXDOMAIN = 3
RESPONSE, AUTHORITATIVE, RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0080
RECURSION_DESIRED = 0x0100
TTL_S = 1


def question(packet):
    """Name in lower case, type, and the bytes of the first question."""
    labels, at = [], 12
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    kind = struct.unpack("!H", packet[at + 1 : at + 3])[0]
    return ".".join(labels), kind, packet[12 : at + 5]


def answer(packet, names):
    """The reply to a packet that asks one question."""
    name, kind, asked = question(packet)
    identity, flags = struct.unpack("!HH", packet[:4])
    flags = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | flags & RECURSION_DESIRED
    address = names.get(name)
    records = b""
    if address is None:
        flags |= NXDOMAIN
    elif kind == A:
        # The name is a pointer to the question.
        records = struct.pack("!HHHIH", 0xC00C, A, IN, TTL_S, 4) + socket.inet_aton(address)
    return struct.pack("!HHHHHH", identity, flags, 1, bool(records), 0, 0) + asked + records


def main(address, zone):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print("ready", flush=True)
        while True:
            packet, client = server.recvfrom(512)
            with open(zone, encoding="ascii") as file:
                names = json.load(file)
            try:
                reply = answer(packet, names)
            except (IndexError, struct.error, UnicodeDecodeError):
                continue
            server.sendto(reply, client)


if __name__ == "__main__":
    main(*sys.argv[1:])
