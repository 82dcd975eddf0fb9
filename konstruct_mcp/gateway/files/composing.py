"""The parts of a message that files become, ahead of what the user says.

Each text is between two lines that name it:

    <file 3f9a41c27b5e path="src/app.py" lines="120">
    …
    </file 3f9a41c27b5e>

The mark is made of the file's own content, and is in none of the files: whoever writes a file cannot end it, or begin
another, in the model's eyes. It is the same for the same content, so that a provider finds in its cache what it has
been sent before. The last part says that up to here is worth caching.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from konstruct_mcp.core.errors import FileRefusedError
from konstruct_mcp.core.messages import CacheControl, FileData, ImageURL, Message, Part
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.results import SentFile
from konstruct_mcp.core.text import cut, quoted
from konstruct_mcp.gateway.files.contents import Content, content_of, holds_key
from konstruct_mcp.gateway.files.reading import FoundFile, ReadFiles

_MARK_LENGTH = 12  # hexadecimal digits
_LONGEST_PATH = 200  # characters of a path in an error
_BINARY = "neither text (UTF-8 or UTF-16) nor a png, jpeg, gif, webp or pdf"


@dataclass(frozen=True, slots=True)
class ComposedFiles:
    """Files as parts of a message, what the answer says of them, and what was guessed, one line each."""

    parts: tuple[Part, ...] = ()
    sent: tuple[SentFile, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.sent)


def compose(read: ReadFiles, keys: Collection[str]) -> ComposedFiles:
    """The parts that files become.

    Args:
        keys: secrets that are not sent.

    Raises:
        FileRefusedError: naming every file that is not sent, and why. Then none is.
    """
    contents: list[tuple[FoundFile, Content]] = []
    for file in read.files:
        content = content_of(file.data)
        if holds_key(file.data, None if content is None else content.text, keys):
            read.fault(file.named)
        elif content is None:
            read.fault(file.named, _BINARY)
        else:
            contents.append((file, content))
    if read.faults:
        raise FileRefusedError(_said(read))
    texts = [content.text for _, content in contents if content.text is not None]
    parts = [part for file, content in contents for part in _parts(file, content, texts)]
    parts[-1:] = [part.model_copy(update={"cache_control": CacheControl()}) for part in parts[-1:]]
    return ComposedFiles(
        tuple(parts),
        tuple(SentFile(_printable(file.path), len(file.data)) for file, _ in contents),
        tuple(f"{quoted(file.path)} was read as Windows-1252" for file, content in contents if content.is_legacy),
    )


def _said(read: ReadFiles) -> str:
    """Each file that is not sent, by the reason."""
    said = [
        f"{', '.join(json.dumps(cut(name, _LONGEST_PATH), ensure_ascii=False) for name in names)}: {reason}"
        for reason, names in read.faults.items()
    ]
    said += [f"and {read.unnamed:,} more"] if read.unnamed else []
    return f"nothing was sent; {'; '.join(said)}"


def _parts(file: FoundFile, content: Content, texts: Sequence[str]) -> list[Part]:
    path = json.dumps(_printable(file.path), ensure_ascii=False)
    mark = _mark(file, texts)
    if content.text is not None:
        lines = content.text.count("\n") + (content.text[-1:] not in ("", "\n"))
        ended = "" if content.text[-1:] in ("", "\n") else "\n"
        return [_text(f'<file {mark} path={path} lines="{lines}">\n{content.text}{ended}</file {mark}>')]
    named = _text(f'<file {mark} path={path} type="{content.media_type}"/>')
    # Not validated: this is base64, and to look at each letter takes time.
    url = f"data:{content.media_type};base64,{b64encode(file.data).decode()}"
    if content.is_pdf:
        name = f"{mark}.pdf"  # the path is in the text before it
        return [named, Part.model_construct(type="file", file=FileData.model_construct(file_data=url, filename=name))]
    return [named, Part.model_construct(type="image_url", image_url=ImageURL.model_construct(url=url))]


def _text(text: str) -> Part:
    return Part.model_construct(type="text", text=text)


def _mark(file: FoundFile, texts: Sequence[str]) -> str:
    """A mark that is in none of the texts, and the same whenever these files are sent."""
    digest = hashlib.sha256(file.path.encode(errors="surrogateescape") + b"\0" + file.data)
    for _ in itertools.count():
        mark = digest.hexdigest()[:_MARK_LENGTH]
        if not any(mark in text for text in texts):
            return mark
        digest.update(b"\0")
    raise AssertionError


def _printable(path: str) -> str:
    """A path with each character that is not printable written out, so that it is one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def with_files(request: Request, files: ComposedFiles) -> Request:
    """The same request with files ahead of its last user message; in one of their own, at the end, if there is none."""
    messages = list(request.messages)
    place = next((n for n in reversed(range(len(messages))) if messages[n].role == "user"), None)
    if place is None:
        messages.append(Message(role="user", content=list(files.parts)))
        return request.with_messages(messages)
    content = messages[place].content or ()
    said = content if not isinstance(content, str) else [_text(content)]
    messages[place] = messages[place].model_copy(update={"content": [*files.parts, *said]})
    return request.with_messages(messages)
