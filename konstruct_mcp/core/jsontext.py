"""A reader of JSON that works in short steps, however long the text is: for a thread beside the event loop.

Python's own reader takes the whole text in one step, during which every other thread waits, and it recurses. This one
lets Python's reader read each value that fits into a window of the text, and takes apart what does not fit. It keeps no
more values than it is allowed to, and still reports what the outermost object says where the rest is too much.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C function that its own reader uses
from typing import Any

from konstruct_mcp.core.sizes import extent

# Possessive, so that neither backtracks; each is matched within one window only.
_SPACES = re.compile(r"[ \t\n\r]*+")
_CHARACTERS = re.compile(r'[^"\\]*+(?:\\(?:[^u]|u[0-9A-Fa-f]{4})[^"\\]*+)*+', re.DOTALL)
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS = {
    "null": None,
    "true": True,
    "false": False,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
WINDOW = 1 << 16  # characters that are read in one step, which takes a millisecond or two
_MOST_FAILED = 500  # values that did not end within their window; after so many, each list is taken apart
MOST_VALUES = 2_000_000  # kept of one text: some hundred megabytes
_MOST_DIGITS = 4300  # of an integer: Python's own limit
_MOST_SKIMMED = 1_000_000  # values beyond the limit that are skipped to find the rest of the outermost object

# Made once: making it takes longer than reading a line.
_decoder: Any = json.JSONDecoder(parse_int=lambda digits: number(digits))


def number(digits: str) -> int | float:
    """The number that these digits stand for. One of more digits than Python reads becomes a float."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def read_at_once(text: str) -> Any:
    """The value of a short text, by Python's own reader.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply for Python's reader.
    """
    return _decoder.decode(text)


def read(text: str, most: int, deepest: int) -> tuple[Any, str]:
    """The value of a text, and what there is too much of in it: "" where there is nothing.

    Where it has more than `most` values or `deepest` levels, the value is the outermost list or object, with null in
    the place of each list and object in it.

    Raises:
        ValueError: it is no JSON, or has far more values than `most`.
    """
    return _Reading(text, most, deepest).outcome()


class _Reading:
    """One text on the way to its value: where the reader stands, and which lists and objects are open there."""

    def __init__(self, text: str, most: int, deepest: int) -> None:
        self._text, self._most, self._deepest = text, most, deepest
        self._at = 0
        self._window, self._window_at = "", 0
        self._failed = 0
        self._values = 0
        self._excess = ""
        self._closers = bytearray()  # the brackets that end the lists and objects that are open
        self._open: list[Any] = []  # the open ones that are kept: all, or only the outermost where there is too much
        self._keys: list[str] = []  # for each of these, the key that the next value belongs to

    def outcome(self) -> tuple[Any, str]:
        while True:
            value, is_whole = self._value()
            while is_whole:
                if not self._closers:
                    if self._next():
                        raise ValueError("more than one value")
                    return value, self._excess
                self._put(value)
                match self._next():
                    case ",":
                        self._at += 1
                        if self._closers[-1] == ord("}"):
                            self._key()
                        break
                    case closer if closer == chr(self._closers[-1]):
                        value = self._close()
                    case _:
                        raise ValueError("neither a comma nor the end")

    def _next(self) -> str:
        """The next character that is not white space; "" at the end."""
        while (character := self._text[self._at : self._at + 1]) and character in " \t\n\r":
            self._at = self._matched(_SPACES)
        return character

    def _matched(self, pattern: re.Pattern[str]) -> int:
        """The position at which the match that begins here ends, or the window does."""
        found = pattern.match(self._text, self._at, self._at + WINDOW)
        return self._at if found is None else found.end()

    def _value(self) -> tuple[Any, bool]:
        """The value that begins here, and True; or None and False for a list or object that is only opened here."""
        begins = self._next()
        if begins == '"':
            self._count(1, 0)
            return self._string(), True
        if begins not in ("[", "{"):
            self._count(1, 0)
            return self._word(), True
        found = self._in_window() if self._closers else None  # the outermost is always taken apart
        if found is not None:
            size = extent(found)
            self._count(size.values, size.levels)
            return found, True
        self._count(1, 1)
        self._at += 1
        closer = "]" if begins == "[" else "}"
        self._closers.append(ord(closer))
        if not self._excess or not self._open:
            self._open.append([] if begins == "[" else {})
            self._keys.append("")
        if self._next() == closer:
            return self._close(), True
        if begins == "{":
            self._key()
        return None, False

    def _in_window(self) -> Any:
        """The list or object that begins here, if it ends within the window; else None."""
        if self._failed >= _MOST_FAILED:
            return None
        if self._window_at + WINDOW // 2 < self._at or self._window_at > self._at:
            self._move_window()
        for _ in range(2):
            try:
                value, end = _decoder.scan_once(self._window, self._at - self._window_at)
            except RecursionError:  # too deep for Python's reader, as everything in it may be
                self._failed = _MOST_FAILED
                return None
            except (ValueError, StopIteration):
                if self._at == self._window_at:
                    break
                self._move_window()
            else:
                self._at = self._window_at + end
                return value
        self._failed += 1
        return None

    def _move_window(self) -> None:
        """Make the window begin here."""
        self._window, self._window_at = self._text[self._at : self._at + WINDOW], self._at

    def _count(self, values: int, levels: int) -> None:
        self._values += values
        if self._values > self._most:
            self._exceed(f"more than {self._most:,} values")
            if self._values > self._most + _MOST_SKIMMED:
                raise ValueError("endless")
        if len(self._closers) + levels > self._deepest:
            self._exceed(f"nested deeper than {self._deepest:,} levels")

    def _exceed(self, what: str) -> None:
        """There is too much of this: from now on keep only the outermost list or object."""
        if self._excess:
            return
        self._excess = what
        del self._open[1:], self._keys[1:]
        if self._open and isinstance(outermost := self._open[0], dict):
            self._open[0] = {key: None if isinstance(value, dict | list) else value for key, value in outermost.items()}

    def _put(self, value: Any) -> None:
        """Put a value into the innermost list or object, if that is kept."""
        if len(self._closers) > len(self._open):
            return
        if self._excess and isinstance(value, dict | list):
            value = None
        innermost = self._open[-1]
        if isinstance(innermost, dict):
            innermost[self._keys[-1]] = value
        else:
            innermost.append(value)

    def _close(self) -> Any:
        """Close the innermost list or object, and return it; None where it was not kept."""
        self._at += 1
        level = len(self._closers)
        del self._closers[-1]
        if level > len(self._open):
            return None
        del self._keys[-1]
        return self._open.pop()

    def _key(self) -> None:
        if self._next() != '"':
            raise ValueError("no key")
        key = self._string()
        if self._next() != ":":
            raise ValueError("no value")
        self._at += 1
        if len(self._closers) == len(self._open):
            self._keys[-1] = key

    def _word(self) -> Any:
        if (found := _NUMBER.match(self._text, self._at)) is not None:
            self._at = found.end()
            whole, fraction, exponent = found.groups()
            return float(found[0]) if fraction or exponent else number(whole)
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        raise ValueError("no value")

    def _string(self) -> str:
        self._at += 1
        pieces: list[str] = []
        while True:
            begin, end = self._at, self._matched(_CHARACTERS)
            self._at = end
            piece: str = scanstring(self._text[begin:end] + '"', 0, True)[0]
            if pieces and piece and _is_half(pieces[-1][-1], "\ud800") and _is_half(piece[0], "\udc00"):
                pair = pieces[-1][-1] + piece[0]
                pieces[-1], piece = pieces[-1][:-1], pair.encode("utf-16", "surrogatepass").decode("utf-16") + piece[1:]
            if piece:
                pieces.append(piece)
            if self._text[end : end + 1] == '"':
                self._at += 1
                return "".join(pieces)
            if end == begin:
                raise ValueError("a text that does not end")


def _is_half(character: str, first: str) -> bool:
    """Whether this is one of the 1,024 surrogates that begin with `first`."""
    return ord(first) <= ord(character) < ord(first) + 0x400
