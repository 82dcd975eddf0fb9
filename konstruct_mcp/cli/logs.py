"""The log on stderr. A server writes it in a thread, so that a client who does not read it delays no call."""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from contextlib import suppress

import click

from konstruct_mcp.cli.output import printable

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MOST_LINES = 1000  # of the log that a client has yet to take; they are all it would look for
_LAST_LINES_S = 0.2


def set_up_logging() -> None:
    """Log to stderr, at the level of KONSTRUCT_LOG_LEVEL.

    Raises:
        click.UsageError: that is no level.
    """
    level = os.environ.get("KONSTRUCT_LOG_LEVEL", "").strip().upper() or "WARNING"
    if level not in LOG_LEVELS:
        raise click.UsageError(f"KONSTRUCT_LOG_LEVEL should be one of {', '.join(LOG_LEVELS)}")
    log_to(logging.StreamHandler(sys.stderr))
    # Ours alone: what HTTP libraries say below a warning can hold keys.
    logging.getLogger("konstruct_mcp").setLevel(level)


def log_to(handler: logging.Handler) -> None:
    """Let this handler take the place of the one before."""
    handler.setFormatter(_PrintableFormatter("konstruct-mcp: %(levelname)s: %(message)s"))
    handler.addFilter(_is_ours_or_serious)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _is_ours_or_serious(record: logging.LogRecord) -> bool:
    """Libraries set their own levels by variables of their own (OPENAI_LOG …), and then log prompts and headers."""
    return record.levelno >= logging.WARNING or record.name.split(".")[0] == "konstruct_mcp"


class BackgroundHandler(logging.Handler):
    """Writes to stderr in a thread of its own.

    A client that does not read stderr delays no call. Lines beyond a thousand are dropped, and the log says how many
    when the client reads again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(_MOST_LINES)
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # a library's log call whose values do not fit its text; any handler does this
            self.handleError(record)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if dropped := self._dropped:
                self._dropped -= dropped
                line += f"\nkonstruct-mcp: WARNING: {dropped} lines before this were not taken, and are lost"
            unsent = f"{line}\n".encode(errors="replace")
            with suppress(OSError):  # closed, or a disk that is full: then there is nobody to tell
                while unsent:
                    try:
                        # Not through sys.stderr, whose lock a blocked write would keep from everybody else.
                        unsent = unsent[os.write(sys.stderr.fileno(), unsent) :]
                    except BlockingIOError:  # whoever made the pipe does not want to wait for it; we do
                        select.select([], [sys.stderr.fileno()], [])
            self._lines.task_done()

    def flush(self) -> None:
        """Wait until all is written, but not for long: this is called when the process ends."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, _LAST_LINES_S)
