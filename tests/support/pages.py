"""The README, CONTRIBUTING and the pages of `docs/` as tests read them: their blocks, tables, sections and anchors.

page = PAGES["docs/answers.md"]
page.names("argument")          # what the first column of a table names
page.of("json")                 # its fenced blocks of one language
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the heading it stands under, and the block before it on its page."""

    page: str
    line: int
    language: str
    text: str
    heading: str
    before: Block | None = field(repr=False)

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


@dataclass(frozen=True)
class Page:
    """A Markdown file. `name` is its path in the repository."""

    name: str
    text: str
    blocks: tuple[Block, ...]

    @property
    def file(self) -> Path:
        return REPOSITORY / self.name

    @property
    def prose(self) -> str:
        return FENCED.sub("", self.text)

    def of(self, language: str) -> list[Block]:
        return [block for block in self.blocks if block.language == language]

    def headings(self, level: int | None = None) -> list[str]:
        marks = "#+" if level is None else "#" * level
        return re.findall(rf"^{marks} (.*)$", self.prose, re.MULTILINE)

    def section(self, heading: str) -> str:
        """The prose between this heading and the next one that is not below it."""
        [(marks, start)] = [
            (len(found[1]), found.end())
            for found in re.finditer(rf"^(#+) {re.escape(heading)}$", self.prose, re.MULTILINE)
        ]
        end = re.search(rf"^#{{1,{marks}}} ", self.prose[start:], re.MULTILINE)
        return self.prose[start : start + end.start()] if end else self.prose[start:]

    def table(self, *header: str, after: str = "") -> list[list[str]]:
        """The cells of each row of the first table whose header begins so."""
        start = "| " + " | ".join(header) + " |"
        prose = self.prose[self.prose.index(after) :]
        rows = re.search(rf"^{re.escape(start)}.*\n\|[-|: ]+\|\n((?:\|.*\n)+)", prose, re.MULTILINE)
        assert rows, f"{self.name} has no table {start}"
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows[1].splitlines()]

    def names(self, *header: str, after: str = "") -> list[str]:
        """What the first column of a table names, each once."""
        found = [name for row in self.table(*header, after=after) for name in code(row[0])]
        assert len(set(found)) == len(found)
        return found

    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", self.prose)

    def anchors(self) -> set[str]:
        """As GitHub makes them."""
        return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in self.headings()}


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def _read(file: Path) -> Page:
    name, text = file.relative_to(REPOSITORY).as_posix(), file.read_text("utf-8")

    def blocks() -> Iterator[Block]:
        before = None
        for match in FENCED.finditer(text):
            heading = re.findall(r"^#+ (.*)$", FENCED.sub("", text[: match.start()]), re.MULTILINE)[-1]
            line = text.count("\n", 0, match.start()) + 1
            before = Block(name, line, match[2], textwrap.dedent(match[3]), heading, before)
            yield before

    return Page(name, text, tuple(blocks()))


PAGES = {
    page.name: page
    for page in map(_read, [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))])
}
BLOCKS = [block for page in PAGES.values() for block in page.blocks]
