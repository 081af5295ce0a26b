"""Jute, the encoding of every record (section 1.2): big endian, no tags, no padding."""

import struct


class Malformed(Exception):
    """The bytes do not hold the record that was expected in them."""


class Out:
    """Writes primitive values; each method returns the writer, so that calls chain."""

    def __init__(self):
        self.parts = []

    def raw(self, data):
        self.parts.append(bytes(data))
        return self

    def bool(self, value):
        return self.raw(struct.pack(">B", int(value)))

    def int(self, value):
        return self.raw(struct.pack(">i", value))

    def long(self, value):
        return self.raw(struct.pack(">q", value))

    def buffer(self, value):
        """A byte buffer; `None` is the null buffer, which is not the empty one."""
        if value is None:
            return self.int(-1)
        return self.int(len(value)).raw(value)

    def string(self, value):
        """A string; bytes are written unchanged, to allow malformed UTF-8 in tests."""
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogatepass")
        return self.buffer(value)

    def vector(self, items, write):
        if items is None:
            return self.int(-1)
        self.int(len(items))
        for item in items:
            write(self, item)
        return self

    def strings(self, items):
        return self.vector(items, Out.string)

    def bytes(self):
        return b"".join(self.parts)


class In:
    """Reads primitive values and refuses to read past the end."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def raw(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise Malformed(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        chunk = self.data[self.at:self.at + count]
        self.at += count
        return chunk

    def bool(self):
        return self.raw(1)[0]

    def int(self):
        return struct.unpack(">i", self.raw(4))[0]

    def long(self):
        return struct.unpack(">q", self.raw(8))[0]

    def buffer(self):
        length = self.int()
        return None if length == -1 else self.raw(length)

    def string(self):
        data = self.buffer()
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def vector(self, read):
        count = self.int()
        if count == -1:
            return None
        if count < 0 or count > len(self.data):
            raise Malformed(f"vector of {count} elements in {len(self.data)} bytes")
        return [read(self) for _ in range(count)]

    def strings(self):
        return self.vector(In.string)

    def rest(self):
        return self.data[self.at:]
