"""What a command writes becomes pieces of text: whole lines where that can be, nothing lost, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sightline.agents.engines.output import PIECE, Output, Piece


def pieces(*written: bytes, most: int = 1 << 20) -> list[str]:
    output = Output(most)
    for data in written:
        output.take("stdout", data)
    output.end()
    return [piece.text for piece in output.pieces()]


def test_short_lines_share_a_piece_and_no_piece_is_longer_than_it_may_be() -> None:
    line = b"x" * 99 + b"\n"
    found = pieces(*[line] * 100)
    assert [len(text) for text in found] == [4_000, 4_000, 2_000]


def test_a_line_waits_until_it_has_ended() -> None:
    output = Output(100)
    output.take("stdout", b"one\ntw")
    assert [piece.text for piece in output.pieces()] == ["one\n"]
    assert output.waiting == 0
    output.take("stdout", b"o\n")
    assert [piece.text for piece in output.pieces()] == ["two\n"]


def test_a_line_that_is_too_long_is_cut_and_does_not_wait() -> None:
    output = Output(1 << 20)
    output.take("stdout", b"x" * (PIECE + 1))
    assert [len(piece.text) for piece in output.pieces()] == [PIECE]
    assert [len(text) for text in pieces(b"x" * 10_000 + b"\n")] == [4_096, 4_096, 1_809]


def test_a_last_line_without_an_end_is_a_line() -> None:
    assert pieces(b"one\ntwo") == ["one\ntwo"]


def test_the_order_of_the_streams_is_kept() -> None:
    output = Output(100)
    for stream, data in (("stdout", b"a\n"), ("stdout", b"b\n"), ("stderr", b"c\n"), ("stdout", b"d\n")):
        output.take(stream, data)
    assert list(output.pieces()) == [Piece("stdout", "a\nb\n"), Piece("stderr", "c\n"), Piece("stdout", "d\n")]


def test_a_character_may_come_in_halves_and_what_is_no_text_is_replaced() -> None:
    assert pieces("é".encode()[:1], "é".encode()[1:]) == ["é"]
    assert pieces(b"\xff\n\xc3") == ["\ufffd\n\ufffd"]


def test_beyond_the_limit_nothing_is_kept_of_any_stream() -> None:
    output, dropped = Output(5), list[bool]()
    for stream, data in (("stdout", b"123"), ("stderr", b"456"), ("stdout", b"789")):
        output.take(stream, data)
        dropped.append(output.dropped)
    assert dropped == [False, True, True]
    output.end()
    assert list(output.pieces()) == [Piece("stdout", "123"), Piece("stderr", "45")]


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=9_000)), max_size=8), st.booleans())
def test_the_texts_of_a_stream_joined_are_what_was_written(written: list[tuple[str, bytes]], between: bool) -> None:
    output, found = Output(1 << 20), list[Piece]()
    for stream, data in written:
        output.take(stream, data)
        if between:
            found += output.pieces()
    output.end()
    found += output.pieces()
    assert all(0 < len(piece.text) <= PIECE for piece in found)
    for stream in ("stdout", "stderr"):
        whole = b"".join(data for name, data in written if name == stream).decode("utf-8", "replace")
        assert "".join(piece.text for piece in found if piece.stream == stream) == whole
