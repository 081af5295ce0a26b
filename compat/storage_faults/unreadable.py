"""Files of which a part cannot be read: the kernel answers EIO, as for a bad sector.

The file is covered by a FUSE mount of that one file (/dev/fuse spoken to directly: no library needed), in a mount
namespace of this process and its children, so that nothing is left when they end. Only the pages that hold the bad
part fail; everything else, writing included, passes through. Where mounting is not permitted, a directory takes the
place of the file: reading gives EISDIR instead, for the whole of it.
"""

import ctypes
import errno
import os
import struct
import threading

CLONE_NEWNS, MS_PRIVATE_REC, MS_NOSUID_NODEV, MNT_DETACH = 0x20000, 0x44000, 6, 2
GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 3, 4, 14, 15, 16, 18, 20, 25, 26
FORGET, INTERRUPT, BATCH_FORGET = 2, 36, 42
SIZE_GIVEN = 1 << 3
HEADER = 40
LARGEST_WRITE = 1 << 16
METHODS = {True: "EIO from a FUSE mount over the file", False: "EISDIR: a directory in the place of the file"}

_libc = ctypes.CDLL(None, use_errno=True)
_private = None


def _call(function, *arguments):
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def can_mount():
    """Gives this process its own mount namespace, once; false if that or FUSE is not permitted."""
    global _private
    if _private is None:
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR))
            _call(_libc.unshare, CLONE_NEWNS)
            _call(_libc.mount, b"none", b"/", None, MS_PRIVATE_REC, None)
            _private = True
        except OSError:
            _private = False
    return _private


def cover(path, first, end):
    """Makes bytes first..end of the file unreadable; returns what `close()` makes whole again."""
    return Mount(path, first, end) if can_mount() else Replaced(path)


class Replaced:
    def __init__(self, path):
        self.path, self.aside = path, path.parent.parent / f"{path.name}.was"
        path.rename(self.aside)
        path.mkdir()

    def close(self):
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
            self.aside.rename(self.path)


class Mount:
    def __init__(self, path, first, end):
        self.path, self.first, self.end = str(path).encode(), first, end
        self.file = os.open(path, os.O_RDWR)
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fuse},rootmode=100644,user_id=0,group_id=0,allow_other"
        _call(_libc.mount, b"unreadable", self.path, b"fuse", MS_NOSUID_NODEV, options.encode())
        # Before the mount there is nothing to read, and that ends it.
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        _call(_libc.umount2, self.path, MNT_DETACH)
        self.thread.join(5)
        os.close(self.fuse)
        os.close(self.file)

    def serve(self):
        while True:
            try:
                request = os.read(self.fuse, LARGEST_WRITE + 4096)
            except OSError:
                return  # unmounted
            _length, operation, unique, _node = struct.unpack_from("<IIQQ", request)
            if operation in (FORGET, INTERRUPT, BATCH_FORGET):
                continue
            try:
                number, answer = 0, self.answer(operation, request[HEADER:])
            except OSError as error:
                number, answer = error.errno, b""
            try:
                os.write(self.fuse, struct.pack("<IiQ", 16 + len(answer), -number, unique) + answer)
            except OSError:
                pass  # the asking process is gone

    def answer(self, operation, body):
        if operation == INIT:
            return struct.pack("<IIIIHHII8I", 7, 31, 1 << 16, 0, 12, 9, LARGEST_WRITE, 1, *[0] * 8)
        if operation == GETATTR:
            return self.attributes()
        if operation == SETATTR:
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            if valid & SIZE_GIVEN:
                os.ftruncate(self.file, size)
            return self.attributes()
        if operation == OPEN:
            return struct.pack("<QII", 1, 0, 0)
        if operation == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            if offset < self.end and self.first < offset + size:
                raise OSError(errno.EIO, "bad")
            return os.pread(self.file, size, offset)
        if operation == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            return struct.pack("<II", os.pwrite(self.file, body[40 : 40 + size], offset), 0)
        if operation in (RELEASE, FLUSH):
            return b""
        if operation == FSYNC:
            os.fsync(self.file)
            return b""
        raise OSError(errno.ENOSYS, "not served")

    def attributes(self):
        stat = os.fstat(self.file)
        times = (int(stat.st_atime), int(stat.st_mtime), int(stat.st_ctime))
        numbers = (1, stat.st_size, stat.st_blocks, *times)
        return struct.pack("<QII6Q10I", 0, 0, 0, *numbers, 0, 0, 0, stat.st_mode, 1, 0, 0, 0, 4096, 0)
