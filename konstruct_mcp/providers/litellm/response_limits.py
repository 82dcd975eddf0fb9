"""Limits what is taken in of an HTTP response, so that none can freeze the process or fill its memory.

- A response is read in steps of milliseconds, whatever is in it; a compressed one is unpacked a piece at a time.
- The parts of its JSON outside strings are counted, since the time that LiteLLM and `answers` take grows with them.
- More than the limits is no answer, and a fault of that deployment. Of an error, no more is kept than is read.
- A small response passes as it is.

The limits are far above real use: the longest answers of any model are some hundred kilobytes of text, with at most 128
tool calls. Only images are larger. Nobody here reads them, so they are dropped first where there is too much.

Pure code over bytes that anybody may have sent.
"""

from __future__ import annotations

import heapq
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

from konstruct_mcp.providers.litellm.answers.lightening import lightened
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind

ENCODINGS = "gzip, deflate"  # that are accepted: those that can be unpacked in steps
_STEP = 2**14  # bytes that are worked on at once
_MOST_DECODERS = 3  # encodings one within another; nobody uses more than one
_MOST_KEPT = 12_000_000  # bytes of an answer; each of them is read some ten times
_MOST_KEPT_OF_ERROR = 100_000
_MOST_OF_A_STRING = 8_000  # bytes, in an error: some repeat the request, images and all
_MOST_PARTS = 100_000  # of an answer's JSON: opening brackets and commas
_FEW_PARTS = 200  # which cannot freeze or overflow anything, however they are nested
_MOST_ESCAPES = 10**6  # in its strings; each takes as long as a hundred letters
_LEAST_IMAGE = 2**16  # bytes of a string that is dropped first if it is an image


class Intake:
    """What is taken in of one HTTP response.

    Call `take` with each piece that comes, then `end`. Both yield after each step, with the bytes to hand on by then.
    """

    def __init__(self, most_bytes: int, encoding: str, *, is_error: bool, is_stream: bool = False) -> None:
        """Begin.

        Args:
            most_bytes: that are read, compressed as well as unpacked.
            encoding: the header `content-encoding`; empty for none.
            is_error: whether the response is an error, of which the rest can be dropped.
            is_stream: whether to hand everything on as it comes, because whoever reads it does so in steps.

        Raises:
            FaultError: the encoding is one that cannot be unpacked.
        """
        self._most_bytes = self._left = most_bytes
        self._is_error, self._is_stream = is_error, is_stream
        self._held: list[bytes] = []  # what has not gone through the sieve
        self._held_bytes = 0
        self._sieve: _Sieve | None = None
        self._is_events = False
        self._line = b""  # the beginning of an event's line
        names = [name.strip() for name in reversed(encoding.lower().split(","))]
        found = [_decoder(name) for name in names if name not in ("", "identity")][: _MOST_DECODERS + 1]
        self._decoders = [decoder for decoder in found if decoder is not None]
        if not len(self._decoders) == len(found) <= _MOST_DECODERS:
            self._refuse("packed in a way that was not asked for")

    @property
    def is_full(self) -> bool:
        """Whether the rest does not matter, because enough of an error has come."""
        return self._left < 0 or (self._sieve is not None and self._sieve.is_full)

    def take(self, raw: bytes) -> Iterator[bytes]:
        """Take a piece in.

        Raises:
            FaultError: no answer is so large or has so many parts, or it is not compressed in the way that it says.
        """
        if self.is_full:
            return
        self._count(raw)
        for piece in self._unpacked(raw, self._decoders):
            if self._is_stream:
                yield piece
                continue
            self._held.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes > _STEP:
                self._sift()
                yield b""
            elif len(self._decoders) > 1:  # much may have been unpacked to what unpacks to nothing
                yield b""
            if self.is_full:
                return

    def all_of(self, coming: Iterable[bytes]) -> Iterator[bytes]:
        """What is handed on of a whole response, of which no more is read than needed.

        Raises:
            FaultError: as `take`.
        """
        for raw in coming:
            yield from self.take(raw)
            if self.is_full:
                break
        yield from self.end()

    def end(self) -> Iterator[bytes]:
        """End the response.

        Raises:
            FaultError: as `take`.
        """
        if self._sieve is None:
            content = b"".join(self._held)
            if _parts_of(content) <= _FEW_PARTS:
                yield content
                return
        sieve = self._sift(is_end=True)
        content = sieve.kept()
        if not self._is_error:
            yield b""
            if (light := _lightened(content) if self._is_events else lightened(content)) is None:
                raise _no_answer("of more parts than any answer")
            yield b""
            content = light
        yield content

    def _sift(self, *, is_end: bool = False) -> _Sieve:
        """Put what is held through the sieve."""
        content = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        if self._sieve is None:
            self._sieve = _Sieve(self._is_error)
            if not json.detect_encoding(content[:4]).startswith("utf-8"):  # the only one that JSON is sent in
                self._refuse("not in UTF-8")
                return self._sieve
            self._is_events = content.lstrip().startswith((b"event:", b"data:"))
        if self._is_events:
            content, self._line = self._line + content, b""
            if not is_end and len(content) < _MOST_KEPT:
                at = content.rfind(b"\n") + 1
                content, self._line = content[:at], content[at:]
            content = _ONLY_A_PIECE.sub(b"", content)
        self._sieve.sift(content)
        return self._sieve

    def _unpacked(self, data: bytes, decoders: Sequence[_Decoder]) -> Iterator[bytes]:
        if not decoders:
            for at in range(0, len(data), _STEP):
                yield data[at : at + _STEP]
            return
        try:
            for piece in decoders[0].unpack(data):
                self._count(piece)
                if len(decoders) > 1:
                    yield b""
                yield from self._unpacked(piece, decoders[1:])
        except zlib.error:
            self._refuse("packed in another way than it says")

    def _count(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._refuse(f"of more than {self._most_bytes / 10**6:.3g} MB")

    def _refuse(self, why: str) -> None:
        """Refuse an answer. Of an error, read nothing more: its status says enough."""
        if not self._is_error:
            raise _no_answer(why)
        self._left = -1


# An event of the Responses API for one token, some hundred bytes long; a later event repeats all of them together.
_ONLY_A_PIECE = re.compile(
    rb'^(?:event: ?[\w.]{1,99}\.delta|data: ?\{[^\n]{0,99}?"type": ?"[\w.]{1,99}\.delta"[^\n]*)\n', re.MULTILINE
)


def _lightened(events: bytes) -> bytes | None:
    lines = []
    for line in events.splitlines():
        name, _, said = line.partition(b":")
        light = lightened(said) if name == b"data" else said
        if light is None:
            return None
        lines.append(line if light is said else b"data: " + light)
    return b"\n".join(lines)


def _no_answer(why: str) -> FaultError:
    return FaultError(Fault(FaultKind.BAD_ANSWER, why))


# -- what is packed ----------------------------------------------------------------------------------------------------


class _Decoder:
    def __init__(self, window: int) -> None:
        """`window` is what zlib calls `wbits`, which says the format."""
        self._inflating = zlib.decompressobj(window)
        self._has_begun = window != zlib.MAX_WBITS

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Unpack, a step at a time.

        Raises:
            zlib.error: the data is not in the format.
        """
        while data and not self._inflating.eof:  # what comes after the end is ignored
            try:
                piece = self._inflating.decompress(data, _STEP)
            except zlib.error:
                if self._has_begun:
                    raise
                self._inflating = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers mean this by `deflate`
                self._has_begun = True
                continue
            self._has_begun = True
            data = self._inflating.unconsumed_tail
            yield piece


def _decoder(name: str) -> _Decoder | None:
    match name:
        case "gzip" | "x-gzip":
            return _Decoder(zlib.MAX_WBITS | 16)
        case "deflate":
            return _Decoder(zlib.MAX_WBITS)
    return None


# -- what it is made of ------------------------------------------------------------------------------------------------

# Possessive quantifiers, so that nothing is looked at twice.
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_IMAGE = re.compile(rb"data:[\w.+;=/-]{1,99},(?:[A-Za-z0-9+/=_-]++|\\/|\\n)*+", re.DOTALL)
_REST_OF_IMAGE = re.compile(rb"(?:[A-Za-z0-9+/=_-]++|\\/|\\n)*+", re.DOTALL)
_QUOTE, _ESCAPE = b'"\\'
_BACKSLASH = b"\\"


class _Sieve:
    """Reads JSON only so far as to tell strings from the rest, and keeps what is within the limits.

    Attributes:
        is_full: whether enough of an error is kept.
    """

    def __init__(self, is_error: bool) -> None:
        self._is_error = is_error
        self._most = _MOST_KEPT_OF_ERROR if is_error else _MOST_KEPT
        self._pieces: list[bytes] = []
        self._bytes = 0  # of the pieces
        self._escapes = 0
        self._images: list[tuple[int, int]] = []  # a heap: minus the length, and the index in `_pieces`
        self._is_in_string = False
        self._string: list[bytes] = []  # what is kept of the string that is being read
        self._string_bytes = 0
        self._is_image = False  # whether that string is an image, and already too long to be kept
        self._broken_off = b""  # the beginning of an escape
        self._parts = 0
        self.is_full = False

    def sift(self, data: bytes) -> None:
        """Read the next piece.

        Raises:
            FaultError: it is too much.
        """
        data = self._broken_off + data
        self._broken_off = b""
        at, end = 0, len(data)
        while at < end and not self.is_full:
            if self._is_in_string:
                text = _in_string(data, at)
                stop = at + len(text)
                self._add_to_string(text)
                if stop == end:
                    return
                if data[stop] == _ESCAPE:
                    self._broken_off = data[stop:]
                    return
                self._end_string()
                at = stop  # the quotation mark
                stop += 1
            else:
                stop = data.find(b'"', at) + 1 or end
                self._is_in_string = data[stop - 1] == _QUOTE
            outside = data[at:stop]
            self._parts += _parts_of(outside)
            self._keep(outside)
            at = stop
        if self._parts > _MOST_PARTS:
            if not self._is_error:
                raise _no_answer("of more parts than any answer")
            self.is_full = True

    def kept(self) -> bytes:
        return b"".join((*self._pieces, *self._string, self._broken_off))

    def _add_to_string(self, data: bytes) -> None:
        if self._is_error:
            data = data[: max(0, _MOST_OF_A_STRING - self._string_bytes)]
        self._escapes += data.count(_BACKSLASH)
        if self._escapes > _MOST_ESCAPES:
            raise _no_answer("of more escapes than any answer")
        self._string_bytes += len(data)
        if self._is_image:
            if not _REST_OF_IMAGE.fullmatch(data):
                raise self._too_long()
            return
        self._string.append(data)
        if self._string_bytes > _MOST_KEPT:
            if not _IMAGE.fullmatch(b"".join(self._string)):
                raise self._too_long()
            self._is_image = True
            self._string.clear()

    def _end_string(self) -> None:
        text = b"".join(self._string)
        if self._is_error and self._string_bytes >= _MOST_OF_A_STRING:
            text = _whole_characters(text)
        if not self._is_error and len(text) >= _LEAST_IMAGE and _IMAGE.fullmatch(text):
            heapq.heappush(self._images, (-len(text), len(self._pieces)))
        self._string.clear()
        self._string_bytes = 0
        self._is_in_string = self._is_image = False
        self._keep(text)

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece)
        while self._bytes > self._most:
            if self._is_error:
                self.is_full = True
                return
            if not self._images:
                raise self._too_long()
            length, where = heapq.heappop(self._images)
            self._pieces[where] = b""
            self._bytes += length

    @staticmethod
    def _too_long() -> FaultError:
        return _no_answer(f"of more than {_MOST_KEPT / 10**6:g} MB of text")


def _parts_of(outside: bytes) -> int:
    """How many parts there are in a piece of JSON outside of strings."""
    return outside.count(b",") + outside.count(b"{") + outside.count(b"[")


def _in_string(data: bytes, at: int) -> bytes:
    """The rest of a string from there on, up to its end, an escape that is cut, or the end of the data."""
    found = _IN_STRING.match(data, at)
    return b"" if found is None else found[0]


def _whole_characters(text: bytes) -> bytes:
    """The text without the escape or the character in which it was cut."""
    escape = text.rfind(b"\\", len(text) - 6)
    text = text if escape < 0 else text[:escape].rstrip(b"\\")
    return text.decode(errors="ignore").encode()
