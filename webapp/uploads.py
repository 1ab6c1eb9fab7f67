"""Uploaded files stay in memory: what may name a patient never touches the disk.

Werkzeug would put files above half a megabyte into temporary files. Here all parts of a request
share one anonymous memory file, outside of the process's own heap and with one descriptor for
thousands of parts; it is gone when the request is.
"""

import io
import os
from typing import IO, Any, cast

from flask import Request


class MemoryFile:
    """Bytes in memory that several parts are written to, one behind the other."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("upload", os.MFD_CLOEXEC)
            self._file: IO[bytes] = os.fdopen(self._descriptor, "w+b", buffering=0)
        else:  # other systems than Linux: the heap has to do
            self._file = io.BytesIO()

    def write(self, content: bytes, at: int) -> int:
        """Write ``content`` at an offset; returns the number of bytes written."""
        self._file.seek(at)
        return self._file.write(content)

    def read(self, size: int, at: int) -> bytes:
        """Up to ``size`` bytes from an offset."""
        self._file.seek(at)
        return self._file.read(size)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()


class Part(io.RawIOBase):
    """One part of a request, a range of its memory file. Parts are written one after the other."""

    def __init__(self, memory: MemoryFile) -> None:
        super().__init__()
        self._memory = memory
        self._start = memory.size
        self._size = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        written = self._memory.write(bytes(content), self._start + self._at)
        self._at += written
        self._size = max(self._size, self._at)
        return written

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        content = self._memory.read(max(0, wanted), self._start + self._at)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True  # an empty file is a file


class PortalRequest(Request):
    """A request whose files are kept in memory."""

    _memory: MemoryFile | None = None

    def _get_file_stream(self, *_sizes_and_names: object, **_more: object) -> IO[bytes]:
        if self._memory is None:
            self._memory = MemoryFile()
        return cast("IO[bytes]", Part(self._memory))

    def close(self) -> None:
        """Close the files and give their memory back."""
        super().close()
        if self._memory is not None:
            self._memory.close()
