"""Initramfs archives of the "newc" kind (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""

import os
import stat


class Archive:
    """An archive in the making; directories above a file come by themselves."""

    def __init__(self):
        self._parts = []
        self._directories = set()

    def add(self, name, content, mode=0o100644):
        parent = os.path.dirname(name)
        if parent and parent not in self._directories:
            self._directories.add(parent)
            self.add(parent, b"", 0o40755)
        self._entry(name, content, mode)

    def add_path(self, name, path):
        """A file, link or directory of this machine, with its permissions."""
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            self.add(name, os.readlink(path).encode(), 0o120777)
        elif stat.S_ISDIR(status.st_mode):
            if name not in self._directories:
                self._directories.add(name)
                self.add(name, b"", 0o40755)
        else:
            with open(path, "rb") as file:
                self.add(name, file.read(), 0o100000 | stat.S_IMODE(status.st_mode))

    def add_tree(self, path):
        for directory, directories, files in os.walk(path):
            for name in sorted(directories + files):
                full = os.path.join(directory, name)
                self.add_path(os.path.relpath(full, path), full)

    def bytes(self):
        self._entry("TRAILER!!!", b"", 0)
        return b"".join(self._parts)

    def _entry(self, name, content, mode):
        # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
        fields = (len(self._parts) + 1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        self._parts.append(_padded(head) + _padded(content))


def _padded(content):
    return content + b"\0" * (-len(content) % 4)
