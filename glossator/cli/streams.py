"""Standard output and standard error that outlive their readers, such as `head` or a lost `tee`."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Unheard(io.FileIO):
    """A file that takes what cannot be written as if it were written."""

    def __init__(self, descriptor: int, dropped: type[OSError]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._dropped = dropped

    def write(self, data: ReadableBuffer, /) -> int:
        """As files do; bytes that nobody takes are dropped."""
        try:
            return super().write(data)
        except self._dropped:
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Has the command do its work to the end, and end as that went, whoever stops listening.

    On stderr whatever goes wrong is dropped, for all of it is about how the work goes. On stdout
    only what nobody reads is: results that do not fit on a disk are an error.
    """
    sys.stdout = _of(sys.stdout, BrokenPipeError)
    sys.stderr = _of(sys.stderr, OSError)


def _of(stream: TextIO, dropped: type[OSError]) -> TextIO:
    """`stream`, what is not `dropped` raised; itself if there is no file behind it."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        descriptor = stream.fileno()
        stream.flush()
    except OSError:
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Unheard(descriptor, dropped)),
        encoding=stream.encoding,
        # What a terminal cannot show is told in ASCII.
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
