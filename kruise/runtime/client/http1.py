"""The bytes of HTTP/1.1: one request to write, one answer to read. No I/O.

Purpose: what a client of an API server needs of the protocol and nothing else, at a fraction of what a general library
costs for each request (TRA9).

Guarantees:

* TRA3: a request goes out with the headers that it was given, the host, and the length of its body. A line break in
  one of them is refused (ValueError), never sent.
* RES9: whatever is no HTTP/1.x answer is a :class:`BadAnswer`, whatever ends too early an :class:`EarlyEnd`. Heads,
  chunk sizes and trailers have bounds; a length that is no number, or an unknown transfer coding, is refused.
* TRA8: gzip is undone as the bytes come. An answer may be cut anywhere.

What this does not do: no pipelining, no upgrade; bytes behind an answer make its connection unusable.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Final

__all__ = ["AnswerReader", "BadAnswer", "EarlyEnd", "write_head"]

MAX_HEAD: Final = 256 << 10
"""Bytes of a status line and its headers together, and of a trailer."""
_MAX_SIZE_LINE: Final = 4096
"""Bytes of the line that gives the size of a chunk, its extensions included."""
_STATUS: Final = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: .*)?")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_HEX: Final = re.compile(rb"[0-9a-fA-F]{1,15}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BREAKS: Final = re.compile(r"[\r\n\0]")
_NO_BODY: Final = frozenset({204, 304})
_GZIP: Final = 31
"""What ``zlib`` calls the gzip format."""


class BadAnswer(ValueError):
    """What came is no answer of an HTTP/1.x server."""


class EarlyEnd(ValueError):
    """The answer ended, or broke, in the middle of its body."""


def write_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """Return the head of a request; *length* is that of its body, ``None`` without one. Raises ValueError."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    if len(_BREAKS.findall(text)) != 2 * (len(lines) - 1) or " " in target:
        raise ValueError("a header, or the target, of a request holds a line break or a blank")
    return text.encode() + b"\r\n\r\n"


class AnswerReader:
    """Reads the bytes of one answer. Feed it, and take what is in :attr:`parts`."""

    __slots__ = (
        "_chunked",
        "_closing",
        "_left",
        "_mode",
        "_rest",
        "_trailer",
        "_unzip",
        "done",
        "headers",
        "parts",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        """The status; 0 until the head is whole."""
        self.headers: dict[str, str] = {}
        """By lower-case name; the values of one that came twice are joined by a comma."""
        self.parts: list[bytes] = []
        """The body as far as it came and was not taken."""
        self.done = False
        """Whether the whole answer is there."""
        self.reusable = False
        """Whether the connection may carry another request, once the answer is done."""
        self._rest = b""
        self._mode = self._head
        self._left = 0
        self._chunked = False
        self._closing = False
        self._trailer = 0
        self._unzip: zlib._Decompress | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises BadAnswer and EarlyEnd; nothing may be fed afterwards."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        self._mode(data)

    def end(self) -> None:
        """Note that the connection has ended. Raises EarlyEnd when the answer has not."""
        if self.done:
            return
        if self._mode == self._until_end:
            self._finish()
            return
        raise EarlyEnd("the connection ended")

    def take(self) -> list[bytes]:
        """Return the parts of the body that nobody has taken."""
        parts, self.parts = self.parts, []
        return parts

    # The head.

    def _head(self, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MAX_HEAD:
                    raise BadAnswer(f"a head of more than {MAX_HEAD} bytes")
                if not b"HTTP/1."[: len(data)] == data[:7]:
                    raise BadAnswer(f"it begins with {data[:20]!r}")
                self._rest = data
                return
            self._read_head(data[:end])
            data = data[end + 4 :]
            if self.status >= 200:
                break
            self.status = 0  # 1xx: the answer proper follows
        self._choose_body()
        if self._left == 0 and not self._chunked and self._mode != self._until_end:
            self._finish()
        if data or self.done:
            self._mode(data)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("utf-8", "replace").split("\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            raise BadAnswer(f"it begins with {first[:40]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or _TOKEN.fullmatch(name) is None:
                raise BadAnswer(f"a header reads {line[:40]!r}")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers, self.status = headers, int(found[2])
        connection = headers.get("connection", "").lower()
        self.reusable = "close" not in connection if found[1] == "1" else "keep-alive" in connection

    def _choose_body(self) -> None:
        headers = self.headers
        coding, length = headers.get("transfer-encoding", "").lower(), headers.get("content-length")
        if headers.get("content-encoding", "").lower() == "gzip":
            self._unzip = zlib.decompressobj(_GZIP)
        if self.status in _NO_BODY:
            self._mode, self._left, self._unzip = self._body, 0, None
        elif coding:
            if coding != "chunked":
                raise BadAnswer(f"its transfer coding is {coding[:40]!r}")
            # A length beside chunks is a contradiction: chunks count, and the connection carries nothing more.
            self.reusable = self.reusable and length is None
            self._mode, self._chunked = self._chunks, True
        elif length is not None:
            if _LENGTH.fullmatch(length) is None:
                raise BadAnswer(f"its length is {length[:40]!r}")
            self._mode, self._left = self._body, int(length)
        else:
            self._mode, self.reusable = self._until_end, False

    # The body.

    def _body(self, data: bytes) -> None:
        """Take the bytes of a body whose length is known."""
        beyond = len(data) - self._left
        self._left -= len(data)
        self._take(data if beyond <= 0 else data[:-beyond])
        if beyond >= 0:
            self._finish()
        if beyond > 0:
            self._beyond(data[-beyond:])

    def _chunks(self, data: bytes) -> None:
        """Take chunks: each a line with its size, so many bytes, and the end of a line."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                stop = min(end, at + self._left)
                self._left -= stop - at
                self._closing = not self._left
                self._take(data if stop - at == end else data[at:stop])
                at = stop
            elif self._closing:
                if end - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise BadAnswer("a chunk does not end where its size says")
                self._closing = False
                at += 2
            else:
                stop = data.find(b"\r\n", at)
                if stop < 0:
                    break
                self._left = self._size(data[at:stop])
                at = stop + 2
                if not self._left:
                    self._mode = self._trailers
                    self._trailers(data[at:])
                    return
        self._rest = data[at:]
        if len(self._rest) > _MAX_SIZE_LINE:
            raise BadAnswer("a chunk without a size")

    @staticmethod
    def _size(line: bytes) -> int:
        size = line.partition(b";")[0].strip(b" \t")
        if _HEX.fullmatch(size) is None:
            raise BadAnswer(f"the size of a chunk is {size[:20]!r}")
        return int(size, 16)

    def _trailers(self, data: bytes) -> None:
        """Pass over what follows the last chunk: lines, up to an empty one."""
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            if end == at:
                self._finish()
                self._beyond(data[end + 2 :])
                return
            self._trailer += end + 2 - at
            at = end + 2
        self._rest = data[at:]
        if self._trailer + len(self._rest) > MAX_HEAD:
            raise BadAnswer("a trailer without an end")

    def _until_end(self, data: bytes) -> None:
        self._take(data)

    def _beyond(self, data: bytes) -> None:
        """Take note of bytes behind the answer: nobody asked for them."""
        if data:
            self.reusable = False

    def _take(self, data: bytes) -> None:
        if self._unzip is not None and data:
            try:
                data = self._unzip.decompress(data)
            except zlib.error as error:
                raise EarlyEnd(f"its gzip is broken: {error}") from None
        if data:
            self.parts.append(data)

    def _finish(self) -> None:
        if self._unzip is not None and not self._unzip.eof:
            raise EarlyEnd("its gzip ends early")
        self.done = True
        self._mode = self._beyond
