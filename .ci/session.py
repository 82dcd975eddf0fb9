"""Make the picture at the top of the README, and the same as text, from a real run.

    python3 -m uv run --group dev python .ci/session.py

runs konstruct-mcp with the README's own config over two fake providers on loopback, of which the first refuses, and
writes what is on the terminal into docs/images/session.svg and into the first `text` block of README.md. Run it again
when that config or what a command prints has changed; a test holds both against a new run.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text as Shown

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from support.providers import Provider, Status, Text  # noqa: E402 - the tests' fakes are found by the line above

README = REPOSITORY / "README.md"
PICTURE = REPOSITORY / "docs" / "images" / "session.svg"
COMMANDS = (
    'konstruct-mcp complete "Why is the sky blue? One sentence."',
    "konstruct-mcp usage --by model",
)
ANSWER = "Air scatters blue light far more than red, so blue reaches us from every side."
TITLE = "Claude is at its limit, so GPT-4o answers"
# Fonts that are on the reader's machine: rich's own format names one on the web, and a picture must load without it.
FONTS = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace'
_FIRST = {language: re.compile(rf"```{language}\n(.*?)```", re.DOTALL) for language in ("yaml", "text")}


@dataclass(frozen=True)
class Step:
    """One command and what it wrote to stdout and stderr, as a terminal shows it."""

    command: str
    shown: str


def run() -> list[Step]:
    """Runs the commands, each in a process of its own, over fresh fakes and an empty ledger."""
    found = _FIRST["yaml"].search(README.read_text("utf-8"))
    assert found, "README.md has no config"
    with tempfile.TemporaryDirectory() as folder, Provider("anthropic") as claude, Provider("openai") as gpt:
        claude.script(Status(429, headers={"retry-after": "3600"}))
        gpt.script(Text(ANSWER, usage=(16, 19), delay=0.4))
        config = Path(folder, "konstruct.yaml")
        config.write_text(found[1], "utf-8")
        environ = {
            **{name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "SYSTEM", "PATH"))},
            "HOME": folder,
            "XDG_CONFIG_HOME": folder,
            "XDG_DATA_HOME": folder,
            "KONSTRUCT_CONFIG": str(config),
            "ANTHROPIC_API_KEY": "sk-ant-fake",
            "ANTHROPIC_API_BASE": claude.url,
            "OPENAI_API_KEY": "sk-fake",
            "OPENAI_API_BASE": gpt.url,
        }
        return [_run(command, environ, folder) for command in COMMANDS]


def _run(command: str, environ: dict[str, str], folder: str) -> Step:
    _, *arguments = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", "konstruct_mcp", *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # in the order in which a terminal shows both
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done
    return Step(command, done.stdout)


def as_text(steps: list[Step]) -> str:
    """What a terminal shows: each command behind a `$`, then what it wrote."""
    return "\n".join(f"$ {step.command}\n{step.shown}" for step in steps)


def as_svg(steps: list[Step]) -> str:
    """The same as a picture."""
    console = Console(record=True, width=100, file=io.StringIO(), color_system="truecolor")
    for position, step in enumerate(steps):
        if position:
            console.print()
        console.print(Shown.assemble(("$ ", "bold green"), (step.command, "bold")))
        for line in step.shown.splitlines():
            console.print(Shown(line, "cyan" if line.startswith(("(", "konstruct-mcp: ")) else ""))  # not the answer
    code_format = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    code_format = code_format.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}")
    # One name for its parts, else each run would write another one.
    svg = console.export_svg(title=TITLE, code_format=code_format, unique_id="session")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def main() -> None:
    steps = run()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(as_svg(steps), "utf-8")
    readme = README.read_text("utf-8")
    README.write_text(_FIRST["text"].sub(lambda _: f"```text\n{as_text(steps)}```", readme, count=1), "utf-8")


if __name__ == "__main__":
    main()
