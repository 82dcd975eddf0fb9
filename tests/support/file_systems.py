"""File systems of a test's own: read-only ones, and small ones that can be filled to the last byte.

They bind root too, whom no permission bit does. Who is not root may mount them where the system allows that in a user
namespace of one's own.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support.processes import WAIT_S

ALONE = ("unshare", "--user", "--map-root-user", "--mount")


@functools.cache
def is_mounting() -> bool:
    """Whether what needs a mount is tested: in CI even where that fails."""
    if "CI" in os.environ:
        return True
    try:
        return subprocess.run([*ALONE, "true"], timeout=WAIT_S, check=False).returncode == 0
    except FileNotFoundError:
        return False


def needs_mounts() -> None:
    if not is_mounting():
        pytest.skip("this machine lets nobody but root mount a small file system")


def with_mounts(*commands: str) -> list[str]:
    """What comes before a command that is to see what these bring about."""
    return [*ALONE, "sh", "-ec", "\n".join([*commands, 'exec "$@"']), "sh"]


def small(folder: Path) -> str:
    """Mounts an empty file system of two megabytes."""
    return f"mkdir -p {shlex.quote(str(folder))}; mount -t tmpfs -o size=2m tmpfs {shlex.quote(str(folder))}"


def read_only(place: Path) -> str:
    """Makes a file or a folder one that nobody can write, all that is in it included."""
    name = shlex.quote(str(place))
    return f"mount --bind {name} {name}; mount -o remount,ro,bind {name}"


def fill(folder: Path) -> str:
    """Fills what is left of a file system."""
    return f"""
        cd {shlex.quote(str(folder))}
        dd if=/dev/zero of=filling.$$ bs=1k count=4096 2>/dev/null || true
        dd if=/dev/zero of=filling.$$ bs=1 count=9999 oflag=append conv=notrunc 2>/dev/null || true
    """


def inside(pid: int, command: str) -> str:
    """What a command prints that runs in this process's file systems."""
    enter = ["nsenter", f"--target={pid}", "--user", "--mount", "--preserve-credentials", "sh", "-ec"]
    done = subprocess.run([*enter, command], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done
    return done.stdout
