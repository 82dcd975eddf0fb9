"""JSON read in steps, each of which is short whatever the text is: for a thread beside one that must not wait.

Python's own reader is one step over all of the text, for which every other thread waits; and it recurses. Here it reads
what fits into a window, and what does not is taken apart. No more values are kept than asked for, and what the
outermost object says is known even where the rest is too much.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C function that its own reader uses
from typing import Any

# Neither goes back over what it has passed, and each is matched in a window alone.
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
WINDOW = 1 << 16  # characters that are read in one step, in a millisecond or two
_MOST_FAILED = 500  # windows that something began in and did not end: from then on each list is taken apart
MOST_VALUES = 2_000_000  # that are kept of one text: some hundred megabytes
_MOST_DIGITS = 4300  # of a whole number: Python's own limit
_MOST_SKIMMED = 1_000_000  # values beyond the limit that are passed over, in search of the rest of the outermost object

_decoder: Any = json.JSONDecoder(parse_int=lambda digits: number(digits))  # made once: that takes longer than a line


def number(digits: str) -> int | float:
    """An integer of more digits than Python reads becomes a float, as it does in most other languages."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def read_at_once(text: str) -> Any:
    """What a short text says, by Python's own reader.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply for that.
    """
    return _decoder.decode(text)


def read(text: str, most: int, deepest: int) -> tuple[Any, str]:
    """What a text says, and what there is too much of in it: more than so many values or levels; "" where there is not.
    Then the outermost list or object holds null in the place of each list and object.

    Raises:
        ValueError: it is no JSON.
    """
    return _Reading(text, most, deepest).outcome()


class _Reading:
    def __init__(self, text: str, most: int, deepest: int) -> None:
        self._text, self._most, self._deepest = text, most, deepest
        self._at = 0
        self._window, self._window_at = "", 0
        self._failed = 0
        self._values = 0
        self._excess = ""
        self._closers = bytearray()  # of the lists and objects that are open
        self._open: list[Any] = []  # these, from the outermost; that one alone where there is too much
        self._keys: list[str] = []  # where the value that comes goes, in the objects among them

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
                        value = self._closed()
                    case _:
                        raise ValueError("neither a comma nor the end")

    def _next(self) -> str:
        """The next character that is no space; "" at the end."""
        while (character := self._text[self._at : self._at + 1]) and character in " \t\n\r":
            self._at = self._matched(_SPACES)
        return character

    def _matched(self, pattern: re.Pattern[str]) -> int:
        """Where what matches here ends, or the window does."""
        found = pattern.match(self._text, self._at, self._at + WINDOW)
        return self._at if found is None else found.end()

    def _value(self) -> tuple[Any, bool]:
        """The value that begins here, or a list or object that is empty yet; whether that is all of it."""
        begins = self._next()
        if begins == '"':
            self._count(1, 0)
            return self._string(), True
        if begins not in ("[", "{"):
            self._count(1, 0)
            return self._word(), True
        found = self._in_window() if self._closers else None  # what the outermost one says is to be known
        if found is not None:
            self._count(*_extent(found))
            return found, True
        self._count(1, 1)
        self._at += 1
        closer = "]" if begins == "[" else "}"
        self._closers.append(ord(closer))
        if not self._excess or not self._open:
            self._open.append([] if begins == "[" else {})
            self._keys.append("")
        if self._next() == closer:
            return self._closed(), True
        if begins == "{":
            self._key()
        return None, False

    def _in_window(self) -> Any:
        """The list or object that begins here, if it ends within the window."""
        if self._failed >= _MOST_FAILED:
            return None
        if self._window_at + WINDOW // 2 < self._at or self._window_at > self._at:
            self._look()
        for _ in range(2):
            try:
                value, end = _decoder.scan_once(self._window, self._at - self._window_at)
            except RecursionError:  # deeper than anybody wants it, as all that is within it may be
                self._failed = _MOST_FAILED
                return None
            except (ValueError, StopIteration):
                if self._at == self._window_at:
                    break
                self._look()
            else:
                self._at = self._window_at + end
                return value
        self._failed += 1
        return None

    def _look(self) -> None:
        """Have the window begin here."""
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
        if self._excess:
            return
        self._excess = what
        del self._open[1:], self._keys[1:]
        if self._open and isinstance(outermost := self._open[0], dict):
            self._open[0] = {key: None if isinstance(value, dict | list) else value for key, value in outermost.items()}

    def _put(self, value: Any) -> None:
        if len(self._closers) > len(self._open):
            return
        if self._excess and isinstance(value, dict | list):
            value = None
        innermost = self._open[-1]
        if isinstance(innermost, dict):
            innermost[self._keys[-1]] = value
        else:
            innermost.append(value)

    def _closed(self) -> Any:
        """The innermost list or object, which ends here."""
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


def _extent(value: Any) -> tuple[int, int]:
    """How many values are in one, and how many levels of lists and objects."""
    values, levels, level = 0, 0, [value]
    while level:
        values += len(level)
        within = [item for item in level if isinstance(item, dict | list)]
        levels += bool(within)
        level = [inner for item in within for inner in (item.values() if isinstance(item, dict) else item)]
    return values, levels


def _is_half(character: str, first: str) -> bool:
    """Whether it is one of the thousand halves of a pair that begin with this one."""
    return ord(first) <= ord(character) < ord(first) + 0x400
