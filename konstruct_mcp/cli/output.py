"""What the commands print: results to stdout, everything else to stderr. The edge at which text is made printable."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import click

from konstruct_mcp.core.errors import TABLE_ADVICE, ConfigError
from konstruct_mcp.core.jsonwriting import indented
from konstruct_mcp.core.text import cut, scrubbed

FAILURE, MISTAKE, INTERRUPTED = 1, 2, 130  # exit statuses
LONGEST_NAME = 512  # characters, of a name from the ledger
LONGEST_PATH = 4096
_FORMULA = tuple("=+-@＝＋－＠")  # what a spreadsheet takes for the beginning of one
_UNQUOTED_CELL = re.compile(r"[\w./:@ -]*")
# What rewrites a terminal's screen, and what has its lines read in another order than they are written.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PIPE_TABLE_WIDTH = 200  # columns, of a table with bars
_PIPE_WIDTH = 10_000  # columns: who reads a pipe reads lines, and finds one deployment on each
_BAR_WIDTH, _LEAST_BAR_WIDTH, _LEAST_TEXT_WIDTH, _GAP = 20, 6, 12, 2  # columns


def printable(text: str) -> str:
    """The text without what a terminal would obey rather than show."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def show(text: str, *, as_it_is: bool = False) -> None:
    """Print a result to stdout."""
    # The stream and the colours are named, else click writes UTF-8 to a terminal that has said it reads ASCII, and
    # takes out of a model's answer what looks like a colour.
    click.echo(text if as_it_is else printable(text), file=sys.stdout, color=True)


def say(*lines: str) -> None:
    """Print anything but a result to stderr."""
    with suppress(OSError):  # nobody can be told; the log goes on without, too
        for line in lines:
            click.echo(printable(line), file=sys.stderr)


def show_json(value: dict[str, Any]) -> None:
    """In ASCII, which every terminal shows, and without lone surrogates, which not every reader takes."""
    show(indented(scrubbed(value)))


def csv_cell(name: str) -> str:
    """A name that a spreadsheet takes for a text, wherever it sees one cell end and another begin."""
    text = cut(name, LONGEST_NAME)
    text = f"'{text}" if text.startswith(_FORMULA) else text
    return text if _UNQUOTED_CELL.fullmatch(text) else '"' + text.replace('"', '""') + '"'


def counted(count: int, what: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def config_faults(error: ConfigError) -> list[str]:
    """The lines that say what is wrong with a config, and with the user's own table of model data."""
    lines = []
    if others := [fault for fault in error.faults if fault not in error.table_faults]:
        lines += [f"{error.source} cannot be used:", *(f"  {fault}" for fault in others)]
    if error.table_faults:
        lines += [
            f"{error.table} cannot be used:",
            *(f"  {fault}" for fault in error.table_faults),
            f"  {TABLE_ADVICE}",
        ]
    return lines


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None] | None]:
    """Shows at a terminal what is being waited for, and gives a function that changes the text. None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    def as_text(line: str) -> Text:
        """Rich would read a name in brackets as a style."""
        return Text(cut(line, LONGEST_NAME))

    with Console(stderr=True).status(as_text(text)) as status:
        yield lambda line: status.update(as_text(line))


# -- tables ----------------------------------------------------------------------------------------------------------


def help_page() -> click.HelpFormatter:
    """Where lists of definitions are laid out, as wide as the terminal."""
    return click.HelpFormatter(width=shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH)


def show_wrapped(*rows: tuple[str, str, str]) -> None:
    """Two columns as wide as they need to be, and one that wraps; on a narrow page it begins on the next line."""
    page = help_page()
    width = max(len(first) for first, _, _ in rows)
    page.write_dl([(f"{first:{width}}  {second}", third) for first, second, third in rows], page.width // 2)
    show(page.getvalue())


class Row(NamedTuple):
    """The cells of a line, and how much of its bar is filled, from 0 to 1."""

    cells: Sequence[str]
    bar: float = 0.0


def show_table(header: Sequence[str], rows: Sequence[Row], *, texts: int = 1) -> None:
    """A table with a bar at the end of each line, if there is room.

    Where the terminal is narrow, texts are folded, and figures go beyond its edge rather than being cut.

    Args:
        texts: how many of the first columns are text; the others are figures.
    """
    from rich.bar import Bar
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Without colours: the codes for them would be made printable with everything else.
    width = None if sys.stdout.isatty() else _PIPE_TABLE_WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False, color_system=None)
    rows = [row._replace(cells=[cut(cell, LONGEST_NAME) for cell in row.cells]) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *(row.cells for row in rows), strict=True)]
    gaps = _GAP * (len(widths) - 1)
    bar = min(_BAR_WIDTH, console.width - sum(widths) - gaps - _GAP)
    if bar < _LEAST_BAR_WIDTH:
        bar = 0
        room = console.width - sum(widths[texts:]) - gaps
        for position in range(texts):
            widths[position] = min(widths[position], max(_LEAST_TEXT_WIDTH, room // (texts - position)))
            room -= widths[position]
    console.width = max(console.width, sum(widths) + gaps)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="", show_edge=False)
    for position, (column, width) in enumerate(zip(header, widths, strict=True)):
        table.add_column(column, justify="left" if position < texts else "right", overflow="fold", width=width)
    if bar:
        table.add_column("", width=bar)
    for row in rows:
        # As text: rich would read a name in brackets as a style.
        table.add_row(*map(Text, row.cells), *([Bar(1, 0, row.bar)] if bar else []))
    with console.capture() as printed:
        console.print(table)
    show("\n".join(line.rstrip() for line in printed.get().splitlines()))
