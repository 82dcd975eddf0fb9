"""What is in a file, by its bytes and not by its name: a text, an image, a PDF, or something that is not sent."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass

from konstruct_mcp.core.identity import KEY_MARK, KEY_PATTERN

_PDF = "application/pdf"
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
# Those of four bytes first: one of two bytes begins one of these.
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY = "cp1252"  # Windows-1252, which has all of Latin-1's letters
_MOST_LEGACY = 0.1  # of a text's bytes that may be letters of Windows-1252: a text in another encoding has more
_ASCII = bytes(range(128))
_CONTROLS = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
# Of a private key its header, and near it so much of what may be the key: the header alone is in every program that
# reads keys. Each is looked for by itself, since a file of headers would have one search for both take a second, in
# which nothing else runs.
_HEADER = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"[A-Za-z0-9+/]{40}")
_NEAR = 340  # characters behind a header
# Other keys by a word that each of them has, which is found ten times as fast.
_KEYS = {
    "PuTTY-User-Key-File-": re.compile(r"^PuTTY-User-Key-File-\d", re.MULTILINE),
    "AGE-SECRET-KEY-1": re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]{50}"),
    KEY_MARK: KEY_PATTERN,
}


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file.

    Attributes:
        text: of a text; None for an image or a PDF.
        media_type: of an image or a PDF.
        is_legacy: whether the text was read as Windows-1252, which is a guess.
    """

    text: str | None = None
    media_type: str = ""
    is_legacy: bool = False

    @property
    def is_pdf(self) -> bool:
        return self.media_type == _PDF


def content_of(data: bytes) -> Content | None:
    """What is in these bytes; None for what is neither a text nor an image or a PDF that models read."""
    for begin, media_type in _IMAGES:
        if data.startswith(begin):
            return Content(media_type=media_type)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Content(media_type="image/webp")
    if data.startswith(b"%PDF-"):
        return Content(media_type=_PDF)
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _text(data, encoding)
    return _text(data, "utf-8") or _legacy(data)


def _text(data: bytes, encoding: str) -> Content | None:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.search(text) else Content(text)


def _legacy(data: bytes) -> Content | None:
    if len(data.translate(None, _ASCII)) > _MOST_LEGACY * len(data):
        return None
    found = _text(data, _LEGACY)
    return None if found is None or found.text is None else Content(found.text, is_legacy=True)


def holds_key(data: bytes, text: str | None, keys: Iterable[str]) -> bool:
    """Whether a private key, one of our own access keys, or one of these keys is in a file."""
    # What is no text is looked at byte by byte, each as one letter.
    searched = data.decode("latin-1") if text is None else text
    return (
        any(_BODY.search(searched, header.end(), header.end() + _NEAR) for header in _HEADER.finditer(searched))
        or any(word in searched and pattern.search(searched) for word, pattern in _KEYS.items())
        or any(key in searched for key in keys)
    )
