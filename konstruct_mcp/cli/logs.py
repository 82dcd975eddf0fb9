"""The log on stderr, as text or as JSON. A server writes it in a thread, so that a client who does not read it delays
no call."""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from konstruct_mcp.cli.output import printable, say
from konstruct_mcp.core import audit
from konstruct_mcp.core.request_context import current_request
from konstruct_mcp.core.text import scrubbed

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")
_MOST_LINES = 1000  # of the log that a client has yet to take; they are all it would look for
_LAST_LINES_S = 0.2
_LONGEST = 16_384  # characters of a message or a traceback in JSON, as collectors of logs cut longer lines in two

_log = logging.getLogger(__name__)


def set_up_logging() -> None:
    """Log to stderr, at the level of KONSTRUCT_LOG_LEVEL and in the format of KONSTRUCT_LOG_FORMAT.

    Raises:
        click.UsageError: that is no level, or no format.
    """
    level = os.environ.get("KONSTRUCT_LOG_LEVEL", "").strip().upper() or "WARNING"
    if level not in LOG_LEVELS:
        raise click.UsageError(f"KONSTRUCT_LOG_LEVEL should be one of {', '.join(LOG_LEVELS)}")
    if _format() not in LOG_FORMATS:
        raise click.UsageError(f"KONSTRUCT_LOG_FORMAT should be one of {', '.join(LOG_FORMATS)}")
    log_to(logging.StreamHandler(sys.stderr))
    # Ours alone: what HTTP libraries say below a warning can hold keys.
    logging.getLogger("konstruct_mcp").setLevel(level)
    logging.getLogger(audit.LOGGER).setLevel(logging.INFO)  # whatever the level of the rest


def log_to(handler: logging.Handler) -> None:
    """Let this handler take the place of the one before."""
    text = "konstruct-mcp: %(levelname)s: %(message)s"
    handler.setFormatter(_JsonFormatter() if _format() == "json" else _PrintableFormatter(text))
    handler.addFilter(_is_ours_or_serious)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def tell(level: int, *lines: str) -> None:
    """Say what a server has to say at its start: as it is, or in JSON as lines of the log."""
    if _format() == "json":
        for line in lines:
            _log.log(level, "%s", line)
    else:
        say(*lines)


def _format() -> str:
    return os.environ.get("KONSTRUCT_LOG_FORMAT", "").strip().lower() or "text"


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _JsonFormatter(logging.Formatter):
    """One line of ASCII for each record: whatever a terminal or a collector would obey is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST],
        }
        if (request := current_request()) is not None:
            line |= {"request_id": request.id, "rpc_id": request.rpc_id, "tenant": request.tenant}
        line |= _trace()
        line |= getattr(record, "audit", {})
        if record.exc_info:
            error = record.exc_info[1]
            line["code"] = getattr(error, "code", None)
            line["error"] = self.formatException(record.exc_info)[-_LONGEST:]
        return json.dumps(scrubbed({name: value for name, value in line.items() if value is not None}), default=str)


def _trace() -> dict[str, str]:
    """The ids of the trace and the span that this is part of."""
    if "opentelemetry.trace" not in sys.modules:  # then there is none
        return {}
    from konstruct_mcp.telemetry.context import current_trace

    ids = current_trace()
    return {} if ids is None else {"trace_id": ids[0], "span_id": ids[1]}


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
                line += f"\n{self._said(f'{dropped} lines before this were not taken, and are lost')}"
            unsent = f"{line}\n".encode(errors="replace")
            with suppress(OSError):  # closed, or a disk that is full: then there is nobody to tell
                while unsent:
                    try:
                        # Not through sys.stderr, whose lock a blocked write would keep from everybody else.
                        unsent = unsent[os.write(sys.stderr.fileno(), unsent) :]
                    except BlockingIOError:  # whoever made the pipe does not want to wait for it; we do
                        select.select([], [sys.stderr.fileno()], [])
            self._lines.task_done()

    def _said(self, message: str) -> str:
        """A line of the handler's own."""
        return self.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None))

    def flush(self) -> None:
        """Wait until all is written, but not for long: this is called when the process ends."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, _LAST_LINES_S)
