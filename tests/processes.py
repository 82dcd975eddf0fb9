"""Processes that a test did not start itself: the embedded model's, found by their parent."""

from __future__ import annotations

import os

import psutil


def embedded_children(parent: int | None = None) -> list[psutil.Process]:
    """The processes that serve a model for this parent; for this process when none is given."""
    found = []
    for child in psutil.Process(parent or os.getpid()).children():
        try:
            if "konstruct_mcp.embedded" in child.cmdline():
                found.append(child)
        except psutil.Error:  # it ended meanwhile
            pass
    return found


def only_child(parent: int | None = None) -> psutil.Process:
    (child,) = embedded_children(parent)
    return child


def is_gone_within(process: psutil.Process, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        pass
    return True
