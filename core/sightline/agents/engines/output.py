"""What a command writes, on its way into the log: text, whole lines as far as possible, bounded.

Lines are put together into pieces, so that a flood is not one event for each; what belongs to a line waits until the
line has ended, unless it is too long for a piece. Whatever comes after the limit is counted as dropped, and not kept.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from msgspec import Struct

__all__ = ["PIECE", "Output", "Piece"]

PIECE = 4_096
"""Most characters of one piece, and of a line that is not cut."""


class Piece(Struct, frozen=True):
    stream: str
    text: str


class Output:
    """Of all streams of one command, in the order in which they came. Keeps `most` bytes in total."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._open: dict[str, str] = {}
        """Of each stream, the line that has not ended."""
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._whole: list[Piece] = []
        self.waiting = 0
        """Characters of pieces that wait to be taken out."""
        self.dropped = False

    def take(self, stream: str, data: bytes) -> None:
        """Something was written. What is no UTF-8 is replaced."""
        kept = data[: self._left]
        self._left -= len(kept)
        self.dropped = self.dropped or len(kept) < len(data)
        if kept:
            self._add(stream, self._decoder(stream).decode(kept))

    def end(self) -> None:
        """Nothing more will come: lines end where they are."""
        for stream, decoder in self._decoders.items():
            self._add(stream, decoder.decode(b"", final=True))
            self._keep(stream, self._open.pop(stream, ""))

    def pieces(self) -> Iterator[Piece]:
        """Take out what waits, each piece as full as lines allow."""
        waiting, self._whole, self.waiting = self._whole, [], 0
        stream, text = "", ""
        for piece in waiting:
            if text and (piece.stream != stream or len(text) + len(piece.text) > PIECE):
                yield Piece(stream, text)
                text = ""
            stream, text = piece.stream, text + piece.text
        if text:
            yield Piece(stream, text)

    def _add(self, stream: str, text: str) -> None:
        *lines, rest = (self._open.get(stream, "") + text).split("\n")
        for line in lines:
            self._keep(stream, line + "\n")
        while len(rest) > PIECE:
            self._keep(stream, rest[:PIECE])
            rest = rest[PIECE:]
        self._open[stream] = rest

    def _keep(self, stream: str, line: str) -> None:
        for start in range(0, len(line), PIECE):
            self._whole.append(Piece(stream, line[start : start + PIECE]))
        self.waiting += len(line)

    def _decoder(self, stream: str) -> codecs.IncrementalDecoder:
        if stream not in self._decoders:
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        return self._decoders[stream]
