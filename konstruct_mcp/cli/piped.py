"""What is piped into a command: `git diff | konstruct-mcp complete "Review this"`.

A terminal and `/dev/null` are not read. A pipe may also be one that an agent or a script has left open and never writes
to, and nothing tells it from a slow one: it is given a few seconds to begin, and then passed over, which is said. What
has begun is read to its end.
"""

from __future__ import annotations

import os
import stat
import sys
import threading

import click

from konstruct_mcp.cli.output import say

_BEGINS_WITHIN_S = 3.0  # longer than `git diff` takes to begin, shorter than anybody wonders why nothing happens
_STEP = 1 << 20


def piped_text(most_chars: int) -> str:
    """What is piped into this command; "" where nothing is.

    Raises:
        click.UsageError: it is longer than a request may be.
    """
    data = _read_all(most_chars * 4)  # bytes of a character, at most
    text = data.decode(errors="replace")
    if len(text) > most_chars:
        raise click.UsageError(f"stdin is longer than {most_chars:,} characters (konstruct.max_request_chars)")
    return text


def whole_stdin() -> str:
    """All of stdin, however long it takes."""
    return sys.stdin.buffer.read().decode(errors="replace")


def _read_all(most: int) -> bytes:
    try:
        handle = sys.stdin.fileno()
        mode = os.fstat(handle).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return b"" if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty() else sys.stdin.buffer.read(most + 1)
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return b""
    pieces: list[bytes] = []
    begun, ended = threading.Event(), threading.Event()

    def read() -> None:
        left = most + 1
        try:
            # Not by `sys.stdin`, whose lock would be missed at the end of the process.
            while left > 0 and (piece := os.read(handle, min(left, _STEP))):
                pieces.append(piece)
                left -= len(piece)
                begun.set()
        except OSError:
            pass  # it was closed from the other side
        finally:
            begun.set()
            ended.set()

    threading.Thread(target=read, name="stdin", daemon=True).start()
    if not begun.wait(_BEGINS_WITHIN_S):
        say(f"(stdin: nothing came within {_BEGINS_WITHIN_S:g} s, so it is left out; --stdin waits for it)")
        return b""
    ended.wait()
    return b"".join(pieces)
