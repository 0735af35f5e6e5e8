"""http1.py: the bytes of HTTP/1.1, cut anywhere, and everything that is none."""

from __future__ import annotations

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.client import http1
from kruise.runtime.client.http1 import AnswerReader, BadAnswer, EarlyEnd, write_head

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODIES = {
    "length": HEAD + b"Content-Length: 11\r\n\r\nhello world",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    "after 1xx": b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 \r\n\r\n"
    + HEAD
    + b"Content-Length: 11\r\n\r\nhello world",
    "gzip": HEAD
    + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(b"hello world", mtime=0))
    + gzip.compress(b"hello world", mtime=0),
}


def read(*parts: bytes) -> AnswerReader:
    reader = AnswerReader()
    for part in parts:
        reader.feed(part)
    return reader


@pytest.mark.parametrize("wire", BODIES.values(), ids=BODIES)
def test_tra9_an_answer_may_be_cut_anywhere(wire: bytes) -> None:
    for cut in range(1, len(wire)):
        for parts in ((wire[:cut], wire[cut:]), tuple(wire[i : i + cut] for i in range(0, len(wire), cut))):
            reader = read(*parts)
            assert (reader.status, reader.done, reader.reusable) == (200, True, True)
            assert b"".join(reader.take()) == b"hello world"
            assert reader.headers["content-type"] == "application/json"
            assert reader.take() == []


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.data())
def test_tra9_chunks_say_what_was_chunked(chunks: list[bytes], data: st.DataObject) -> None:
    wire = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=8)) | {0, len(wire)})
    reader = read(*(wire[a:b] for a, b in itertools.pairwise(cuts) if a != b))
    assert reader.done
    assert b"".join(reader.take()) == b"".join(chunks)


def test_tra9_ten_thousand_chunks_may_come_at_once() -> None:
    wire = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"2\r\n{}\r\n" * 10_000 + b"0\r\n\r\n"
    reader = read(wire)
    assert (reader.done, reader.reusable, len(reader.take())) == (True, True, 10_000)


@given(st.binary(max_size=400))
def test_res9_whatever_comes_is_an_answer_or_a_typed_error(junk: bytes) -> None:
    for wire in (junk, HEAD + junk, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + junk):
        reader = AnswerReader()
        try:
            reader.feed(wire)
            reader.end()
        except (BadAnswer, EarlyEnd):
            pass
        else:
            assert reader.done


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-5\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhelloXX",
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"5" * 5000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (http1.MAX_HEAD + 1),
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * (http1.MAX_HEAD // 6 + 1),
    ],
)
def test_res9_what_is_no_answer_is_refused(wire: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(wire)


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + b"content-length: 11\r\n\r\nhello",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        HEAD[:20],
        b"",
    ],
)
def test_res9_an_early_end_is_told(wire: bytes) -> None:
    reader = AnswerReader()
    if wire:
        reader.feed(wire)
    with pytest.raises(EarlyEnd):
        reader.end()


def test_res9_broken_gzip_is_an_early_end() -> None:
    packed = gzip.compress(b"x" * 1000)
    head = HEAD + b"content-encoding: gzip\r\n"
    with pytest.raises(EarlyEnd, match="broken"):
        read(head + b"content-length: 4\r\n\r\nabcd")
    with pytest.raises(EarlyEnd, match="ends early"):
        read(head + b"content-length: %d\r\n\r\n" % (len(packed) - 4) + packed[:-4])
    assert zlib.decompress(packed, 31) == b"x" * 1000


@pytest.mark.parametrize(
    ("wire", "reusable"),
    [
        (HEAD + b"content-length: 0\r\n\r\n", True),
        (HEAD + b"connection: Close\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No\r\ncontent-length: 7\r\n\r\n", True),
        (b"HTTP/1.1 304 No\r\n\r\n", True),
        (HEAD + b"content-length: 2\r\n\r\n{}HTTP/1.1", False),
        (HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", False),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nmore", False),
    ],
)
def test_tra9_a_connection_is_used_again_only_when_the_answer_allows_it(wire: bytes, reusable: bool) -> None:
    reader = read(wire)
    assert (reader.done, reader.reusable) == (True, reusable)


def test_tra9_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    reader = read(HEAD + b"\r\n", b"hello ", b"world")
    assert not reader.done
    reader.end()
    assert (reader.done, reader.reusable, b"".join(reader.take())) == (True, False, b"hello world")


def test_tra3_a_head_says_what_it_was_given() -> None:
    head = write_head("PATCH", "/x?a=b%20c", "host:1", {"accept": "a", "x-a": "b"}, 2)
    assert head == (b"PATCH /x?a=b%20c HTTP/1.1\r\nhost: host:1\r\naccept: a\r\nx-a: b\r\ncontent-length: 2\r\n\r\n")
    assert b"content-length" not in write_head("GET", "/", "h", {}, None)


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", {}), ("/a\r\nx: y", {}), ("/", {"a": "b\r\nc: d"}), ("/", {"a\n": "b"}), ("/", {"a": "b\0"})],
)
def test_tra3_a_line_break_never_gets_out(target: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        write_head("GET", target, "h", headers, None)
