"""The protocol itself, without a socket: frames in, events out, and another implementation's opinion."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from sightline_gateway.lines.rfc6455 import (
    BINARY,
    CLOSE,
    NO_STATUS,
    PING,
    PONG,
    TEXT,
    Broken,
    Close,
    Event,
    Ping,
    Pong,
    Reader,
    close_frame,
    deflated,
    frame,
)

LIMIT = 1 << 16
CONTINUATION = 0
MASK = b"\x12\x34\x56\x78"


def said(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """A frame as a client sends it, right or wrong."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += bytes([0xFE]) + size.to_bytes(2, "big")
    else:
        head += bytes([0xFF]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def events(*pieces: bytes, limit: int = LIMIT, deflate: bool = False) -> list[Event]:
    """What a reader makes of these pieces, fed one after the other."""
    reader = Reader(limit, deflate=deflate)
    found: list[Event] = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next()) is not None:
            found.append(event)
    return found


def closing(code: int, reason: bytes = b"") -> bytes:
    return said(CLOSE, code.to_bytes(2, "big") + reason)


# What may be said


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_a_message_of_any_length_is_one_event(size: int) -> None:
    text = "x" * size
    assert events(said(TEXT, text.encode()), said(BINARY, text.encode())) == [text, text.encode()]


def test_fragments_are_put_together_and_control_frames_may_come_between() -> None:
    assert events(
        said(TEXT, b"a", fin=False),
        said(PING, b"1"),
        said(CONTINUATION, b"", fin=False),
        said(PONG, b"2"),
        said(CONTINUATION, b"b", fin=False),
        said(CONTINUATION, b"c"),
        said(BINARY, b"d"),
    ) == [Ping(b"1"), Pong(b"2"), "abc", b"d"]


@pytest.mark.parametrize("text", ["", "κόσμε", "\0", "\U0010ffff", "\ud7ff\ue000\uffff"])
def test_a_character_may_be_cut_by_fragments(text: str) -> None:
    raw = text.encode()
    for place in range(len(raw) + 1):
        assert events(said(TEXT, raw[:place], fin=False), said(CONTINUATION, raw[place:])) == [text]


def test_empty_fragments_make_an_empty_message() -> None:
    assert events(said(TEXT, fin=False), said(CONTINUATION, fin=False), said(CONTINUATION)) == [""]


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 125])
def test_control_frames_carry_up_to_125_bytes(payload: bytes) -> None:
    assert events(said(PING, payload), said(PONG, payload)) == [Ping(payload), Pong(payload)]


def test_a_close_need_not_say_why() -> None:
    assert events(said(CLOSE)) == [Close(NO_STATUS, "")]
    assert events(closing(1000)) == [Close(1000, "")]
    assert events(closing(4400, "für immer".encode())) == [Close(4400, "für immer")]


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_these_close_codes_may_be_sent(code: int) -> None:
    assert events(closing(code)) == [Close(code, "")]
    assert close_frame(code)[2:] == code.to_bytes(2, "big")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_these_may_not(code: int) -> None:
    assert events(closing(code)) == [Broken(1002, "close code")]
    if code != NO_STATUS:
        with pytest.raises(ValueError, match=str(code)):
            close_frame(code)


def test_nothing_is_heard_after_a_close_or_an_error() -> None:
    assert events(closing(1000) + said(TEXT, b"late"), said(TEXT, b"later")) == [Close(1000, "")]
    assert events(said(3) + said(TEXT, b"late"), said(TEXT, b"later")) == [Broken(1002, "unknown opcode")]


# What may not


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_other_opcodes_do_not_exist(opcode: int) -> None:
    assert events(said(opcode)) == [Broken(1002, "unknown opcode")]


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("rsv", [1, 2, 3, 4, 5, 6, 7])
def test_bits_that_nobody_agreed_on_are_not_set(opcode: int, rsv: int) -> None:
    assert events(said(opcode, rsv=rsv)) == [Broken(1002, "reserved bits")]
    if rsv != 4 or opcode >= CLOSE:
        assert events(said(opcode, rsv=rsv), deflate=True) == [Broken(1002, "reserved bits")]


def test_a_later_fragment_is_not_marked_as_compressed() -> None:
    begun = said(TEXT, b"a", fin=False)
    assert events(begun, said(CONTINUATION, b"b", rsv=4), deflate=True) == [Broken(1002, "reserved bits")]


def test_a_client_masks_its_frames() -> None:
    assert events(frame(TEXT, b"open")) == [Broken(1002, "not masked")]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_short_and_whole(opcode: int) -> None:
    assert events(said(opcode, fin=False)) == [Broken(1002, "fragmented control frame")]
    assert events(said(opcode, b"x" * 126)[:2]) == [Broken(1002, "control frame too long")]


def test_fragments_come_in_order() -> None:
    wrong = [Broken(1002, "fragments out of order")]
    assert events(said(CONTINUATION, b"a")) == wrong
    assert events(said(CONTINUATION, b"a", fin=False)) == wrong
    assert events(said(TEXT, b"a", fin=False), said(TEXT, b"b")) == wrong
    assert events(said(TEXT, b"a"), said(CONTINUATION, b"b")) == ["a", *wrong]


@pytest.mark.parametrize(
    "head", [b"\x81\xfe\x00\x7d", b"\x81\xff" + bytes(6) + b"\xff\xff", b"\x81\xff\x80" + bytes(7)]
)
def test_a_length_is_written_in_its_shortest_form(head: bytes) -> None:
    assert events(head) == [Broken(1002, "length in the wrong form")]


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xe8\xff"])
def test_a_close_that_cannot_be_read(payload: bytes) -> None:
    [broken] = events(said(CLOSE, payload))
    assert isinstance(broken, Broken)
    assert broken.code == (1002 if len(payload) == 1 else 1007)


# Text


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"a\x80", b"\xe2\x82"]
)
def test_text_is_utf_8(raw: bytes) -> None:
    assert events(said(TEXT, raw)) == [Broken(1007, "not UTF-8")]
    assert events(said(TEXT, b"ok", fin=False), said(CONTINUATION, raw)) == [Broken(1007, "not UTF-8")]
    assert events(said(BINARY, raw)) == [raw]


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0", b"\xed\xa0", b"\xf4\x90", b"ok\x80"])
def test_it_is_noticed_at_the_byte_that_is_wrong(raw: bytes) -> None:
    begun = said(TEXT, raw + b"never sent, but announced")[: 6 + len(raw)]
    reader = Reader(LIMIT)
    for byte in begun[:-1]:
        reader.feed(bytes([byte]))
        assert reader.next() is None
    reader.feed(begun[-1:])
    assert reader.next() == Broken(1007, "not UTF-8")
    assert events(said(TEXT, raw, fin=False)) == [Broken(1007, "not UTF-8")]


# Limits


def test_a_message_as_long_as_the_limit_is_taken_and_one_byte_more_is_refused_at_its_header() -> None:
    assert events(said(TEXT, b"x" * 1000), limit=1000) == ["x" * 1000]
    assert events(said(TEXT, b"x" * 1001)[:4], limit=1000) == [Broken(1009, "over 1000 bytes")]


def test_fragments_count_together() -> None:
    begun = said(BINARY, b"x" * 600, fin=False)
    assert events(begun, said(CONTINUATION, b"x" * 400), limit=1000) == [b"x" * 1000]
    assert events(begun, said(CONTINUATION, b"x" * 401)[:4], limit=1000) == [Broken(1009, "over 1000 bytes")]


def test_a_message_in_many_fragments_costs_no_more_than_its_bytes() -> None:
    reader = Reader(1 << 20)
    tracemalloc.start()
    reader.feed(said(BINARY, b"", fin=False))
    assert reader.next() is None
    pieces = (said(CONTINUATION, b"ab", fin=False) + said(CONTINUATION, fin=False)) * 500
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(40):
        reader.feed(pieces)
        assert reader.next() is None
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2 * 40_000


def test_between_messages_nothing_is_kept() -> None:
    reader = Reader(LIMIT)
    reader.feed(said(TEXT, b"x" * 60_000)[:-1])
    assert reader.next() is None
    assert len(reader._data + (reader._message or b"")) > 50_000
    reader.feed(said(TEXT, b"x" * 60_000)[-1:])
    assert reader.next() == "x" * 60_000
    assert reader.resting
    assert not reader._data + (reader._message or b"")
    tracemalloc.start()
    readers = [Reader(LIMIT) for _ in range(100)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(readers) < 250


def test_what_was_put_back_comes_first() -> None:
    reader = Reader(LIMIT)
    reader.feed(said(TEXT, b"a") + said(TEXT, b"b") + closing(1000))
    assert reader.next() == "a"
    reader.put_back("a")
    assert [reader.next() for _ in range(4)] == ["a", "b", Close(1000, ""), None]


# Compression


@pytest.mark.parametrize("window", [9, 12, 15])
@pytest.mark.parametrize("payload", [b"", b"x", b"hello " * 5_000, random.Random(1).randbytes(40_000)])
def test_a_compressed_message_is_the_message(payload: bytes, window: int) -> None:
    whole = deflated(payload, BINARY, window)
    assert whole[0] == 0xC0 | BINARY
    raw = whole[{126: 4, 127: 10}.get(whole[1], 2) :]
    halves = said(BINARY, raw[:7], rsv=4, fin=False) + said(CONTINUATION, raw[7:])
    assert events(said(BINARY, raw, rsv=4) + halves, deflate=True) == [payload, payload]


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        # The examples of RFC 7692, 7.2.3: one block, no compression, a final block, two blocks.
        (b"\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"),
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"),
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"),
        (b"nonsense", Broken(1002, "not compressed as agreed")),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00more", Broken(1002, "not compressed as agreed")),
    ],
)
def test_what_others_compress(raw: bytes, event: Event) -> None:
    assert events(said(TEXT, raw, rsv=4), deflate=True) == [event]


def test_a_small_message_that_stands_for_a_large_one_is_refused_before_it_is_there() -> None:
    bomb = deflated(bytes(1 << 24), BINARY)
    raw = said(BINARY, bomb[4:], rsv=4)
    assert len(raw) < 20_000
    tracemalloc.start()
    assert events(raw, limit=100_000, deflate=True) == [Broken(1009, "over 100000 bytes")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000


# Any cut of the bytes, and another implementation's opinion

payloads = st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode))
opcodes = st.sampled_from([CONTINUATION, TEXT, TEXT, BINARY, CLOSE, PING, PONG])
frames = st.builds(
    said,
    opcodes,
    payloads,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 4, 1]),
    mask=st.binary(min_size=4, max_size=4),
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[Event], bytes]:
    """A few messages in fragments with pings between them, and the bytes."""
    expected: list[Event] = []
    raw = b""
    for text in draw(st.lists(st.text(max_size=300) | st.binary(max_size=300), max_size=4)):
        payload = text.encode() if isinstance(text, str) else text
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        pieces = [payload[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for place, piece in enumerate(pieces):
            opcode = CONTINUATION if place else TEXT if isinstance(text, str) else BINARY
            raw += said(opcode, piece, fin=place == len(pieces) - 1, mask=draw(st.binary(min_size=4, max_size=4)))
            if draw(st.booleans()) and place < len(pieces) - 1:
                raw += said(PING, piece[:125])
                expected.append(Ping(piece[:125]))
        expected.append(text)
    return expected, raw


def cut(raw: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[begin:end] for begin, end in pairwise(bounds)]


@given(messages(), st.lists(st.integers(0, 10_000), max_size=20))
def test_messages_are_the_same_however_the_bytes_are_cut(
    described: tuple[list[Event], bytes], places: list[int]
) -> None:
    expected, raw = described
    assert events(raw) == expected
    assert events(*cut(raw, places)) == expected
    assert events(*(raw[place : place + 1] for place in range(len(raw)))) == expected


def opinion(raw: bytes) -> tuple[list[Event], int | None]:
    """What the websockets library makes of it: messages and control frames, and the code it fails with."""
    server = ServerProtocol(max_size=LIMIT, state=OPEN)
    server.receive_data(raw)
    found: list[Event] = []
    message: tuple[Opcode, bytes] | None = None
    for event in server.events_received():
        assert isinstance(event, Frame)
        data = bytes(event.data)
        if event.opcode is Opcode.PING:
            found.append(Ping(data))
        elif event.opcode is Opcode.PONG:
            found.append(Pong(data))
        elif event.opcode is Opcode.CLOSE:
            assert server.close_rcvd is not None
            found.append(Close(server.close_rcvd.code, server.close_rcvd.reason))
        else:
            opcode, so_far = (event.opcode, b"") if message is None or event.opcode is not Opcode.CONT else message
            message = opcode, so_far + data
            if event.fin:
                message = None
                try:
                    found.append((so_far + data).decode() if opcode is Opcode.TEXT else so_far + data)
                except UnicodeDecodeError:  # which that library leaves to its user
                    return found, 1007
    failed = server.parser_exc is not None and server.close_sent is not None
    return found, server.close_sent.code if failed and server.close_sent is not None else None


def agree(raw: bytes) -> None:
    ours = events(raw)
    theirs, code = opinion(raw)
    last = ours[-1] if ours else None
    if not isinstance(last, Broken):
        assert (ours, None) == (theirs, code)
        return
    before = ours[:-1]
    assert before == theirs[: len(before)]
    # Text that is none they see when the message is whole, other faults when the frame is; lengths they take in any
    # form; and a frame that is both too long and out of place is to them the one, to us the other.
    if code is not None and last.code != 1007 and "form" not in last.reason:
        assert before == theirs
        assert code == last.code or (code, last.code) == (1009, 1002)


@settings(max_examples=300)
@given(st.lists(frames, max_size=8).map(b"".join))
def test_another_implementation_agrees_about_frames(raw: bytes) -> None:
    agree(raw)


@settings(max_examples=300)
@given(messages(), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
def test_another_implementation_agrees_about_bytes_that_were_changed(
    described: tuple[list[Event], bytes], changes: list[tuple[int, int]]
) -> None:
    raw = bytearray(described[1] or b"\x81")
    for place, byte in changes:
        raw[place % len(raw)] = byte
    agree(bytes(raw))


def test_bytes_of_any_kind_bring_nothing_but_events_and_cost_no_more_than_the_limit() -> None:
    chance = random.Random(6455)
    for _ in range(3_000):
        reader = Reader(500, deflate=chance.random() < 0.5)
        for _ in range(chance.randrange(1, 20)):
            if chance.random() < 0.5:
                piece = chance.randbytes(chance.randrange(40))
            else:
                piece = said(
                    chance.choice([0, 1, 2, 8, 9]), chance.randbytes(chance.randrange(200)), fin=chance.random() < 0.6
                )
            reader.feed(piece)
            while reader.next() is not None:
                pass
            assert len(reader._data) + len(reader._message or b"") <= 500 + 4 + 10 + 125


def client_of(*, deflate: bool) -> ClientProtocol:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=None)
    if deflate:
        client.extensions = [PerMessageDeflate(True, True, 15, 15)]
    return client


@pytest.mark.parametrize("deflate", [False, True])
def test_another_implementations_client_reads_what_we_write(deflate: bool) -> None:
    client = client_of(deflate=deflate)
    sent = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 65_535, "ü".encode() * 40_000]
    for payload in sent:
        client.receive_data(deflated(payload) if deflate else frame(TEXT, payload))
    client.receive_data(frame(PING, b"p") + close_frame(4404, "r" * 200))
    received = client.events_received()
    assert [bytes(event.data) for event in received[:-2] if isinstance(event, Frame)] == sent
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (4404, "r" * 123)


def test_we_read_what_its_client_writes() -> None:
    client = client_of(deflate=True)
    client.send_text("häl".encode(), fin=False)
    client.send_ping(b"?")
    client.send_continuation(b"lo" * 500, fin=True)
    client.send_binary(b"\x00" * 1000)
    client.send_close(1001, "away")
    assert events(*client.data_to_send(), deflate=True) == [
        Ping(b"?"),
        "häl" + "lo" * 500,
        bytes(1000),
        Close(1001, "away"),
    ]
