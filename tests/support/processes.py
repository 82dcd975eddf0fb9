"""Processes beside the test: what they bring about, and those it did not start itself (the embedded model's)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import psutil

WAIT_S = 60


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait for something that another process or thread does, and that has no other way to tell."""
    until, never = time.monotonic() + WAIT_S, threading.Event()
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        never.wait(0.005)


def embedded_children(parent: int | None = None) -> list[psutil.Process]:
    """The processes that serve a model for this parent; for this process when none is given."""
    found = []
    for child in psutil.Process(parent or os.getpid()).children():
        try:
            if "konstruct_mcp.providers.embedded.child" in child.cmdline():
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
