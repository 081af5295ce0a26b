"""A raw client of the ZooKeeper client port, for black-box tests.

It does what it is told and nothing else: no pings of its own, no reconnecting, no
exceptions for error replies. Frames, replies and notifications are kept in the order
in which they arrived. Section numbers are those of docs/spec/client-protocol.md.
"""

from .client import Client, Closed, Event, Reply, four_letter_word
from .ops import *  # noqa: F401,F403  (codes, op numbers and request builders)
from .jute import In, Malformed, Out

__all__ = ["Client", "Closed", "Event", "Reply", "four_letter_word", "In", "Out", "Malformed"]
