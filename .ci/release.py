"""Make everything that a release publishes, in one folder, and publish nothing.

    python3 -m uv run --group dev python .ci/release.py --repository https://github.com/OWNER/konstruct_mcp

It writes into `dist/`:

    konstruct_mcp-VERSION-py3-none-any.whl, konstruct_mcp-VERSION.tar.gz    the package
    server.json             for the MCP Registry
    konstruct-mcp.mcpb      the bundle that Claude Desktop installs by a double click; the wheel is in it
    marketplace/            a marketplace of one plugin for Claude Code, which has the server and a skill
    install-links.md        links and commands for the README of a published package

The registry asks for a line in the package's README that names the server, so that nobody can publish another's package
under a name of theirs: the script ends with an error where README.md lacks it, unless `--unpublished` is given.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT: Mapping[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
DIST = REPOSITORY / "dist"
SKILL = REPOSITORY / "deploy" / "publishing" / "SKILL.md"
NAME, VERSION, DESCRIPTION = PROJECT["name"], PROJECT["version"], PROJECT["description"]
TITLE = "Konstruct"
GITHUB = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+)")
LONGEST_DESCRIPTION = 100  # characters, in the registry
VARIABLES = {  # what a client may set; whether it is a secret
    "ANTHROPIC_API_KEY": ("Anthropic's API key", True),
    "OPENAI_API_KEY": ("OpenAI's API key", True),
    "OLLAMA_BASE_URL": ("Where Ollama is, if not on this machine", False),
    "KONSTRUCT_CONFIG": ("The YAML config to use in place of the built-in one", False),
    "KONSTRUCT_FILE_ROOTS": ("Folders whose files may be sent to a model by their paths", False),
}
FROM_INDEX = {"command": "uvx", "args": [f"{NAME}=={VERSION}"]}  # how a client starts the published package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", required=True, help="the public address of this repository on GitHub")
    parser.add_argument("--out", type=Path, default=DIST, help="a new folder in place of dist/, which is emptied")
    parser.add_argument("--unpublished", action="store_true", help="README.md need not name the server")
    arguments = parser.parse_args()
    address = GITHUB.fullmatch(arguments.repository.removesuffix("/").removesuffix(".git"))
    if address is None:
        parser.error("--repository should be https://github.com/OWNER/NAME")
    server = f"io.github.{address[1]}/{NAME}"
    marker = f"<!-- mcp-name: {server} -->"
    if not arguments.unpublished and marker not in (REPOSITORY / "README.md").read_text("utf-8"):
        parser.error(f"README.md lacks the line {marker}")
    out: Path = arguments.out
    if out != DIST and out.exists():
        parser.error("--out should be a new folder")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    wheel = build(out)
    write(out / "server.json", registry_entry(server, address[0]))
    bundle(out / f"{NAME}.mcpb", wheel)
    marketplace(out / "marketplace", address[1])
    (out / "install-links.md").write_text(install_links(), "utf-8")
    print(*sorted(path.name for path in out.iterdir()), sep="\n")


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def build(out: Path) -> Path:
    """The wheel; the source distribution is made beside it."""
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"  # `uv run` names itself
    subprocess.run([uv, "build", "--quiet", "--out-dir", out, REPOSITORY], check=True)
    (out / ".gitignore").unlink(missing_ok=True)  # uv's
    (wheel,) = out.glob("*.whl")
    return wheel


def registry_entry(server: str, repository: str) -> dict[str, Any]:
    assert len(DESCRIPTION) <= LONGEST_DESCRIPTION
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": server,
        "title": TITLE,
        "description": DESCRIPTION,
        "version": VERSION,
        "repository": {"url": repository, "source": "github"},
        "packages": [
            {
                "registryType": "pypi",
                "identifier": NAME,
                "version": VERSION,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "environmentVariables": [
                    {"name": name, "description": text, "isSecret": secret, "isRequired": False}
                    for name, (text, secret) in VARIABLES.items()
                ],
            }
        ],
    }


def bundle(path: Path, wheel: Path) -> None:
    """The bundle, whose host has uv install the wheel that is in it, and asks the user for keys."""
    settings = {
        name.lower(): {
            "type": "string",
            "title": name,
            "description": text,
            "required": False,
            "sensitive": secret,
            "default": "",
        }
        for name, (text, secret) in VARIABLES.items()
    }
    manifest = {
        "manifest_version": "0.4",
        "name": NAME,
        "display_name": TITLE,
        "version": VERSION,
        "description": DESCRIPTION,
        "author": {"name": "the authors of konstruct-mcp"},
        "license": PROJECT["license"],
        "keywords": PROJECT["keywords"],
        "server": {
            "type": "uv",
            "entry_point": "server.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "server.py"],
                "env": {name: f"${{user_config.{name.lower()}}}" for name in VARIABLES},
            },
        },
        "tools": [
            {"name": "complete", "description": "Ask another language model"},
            {"name": "list_groups", "description": "List the model groups"},
        ],
        "user_config": settings,
        "compatibility": {
            "platforms": ["darwin", "win32", "linux"],
            "runtimes": {"python": PROJECT["requires-python"]},
        },
    }
    project = (
        f'[project]\nname = "{NAME}-bundle"\nversion = "{VERSION}"\nrequires-python = "{PROJECT["requires-python"]}"\n'
        f'dependencies = ["{NAME}"]\n\n[tool.uv.sources]\n{NAME} = {{path = "{wheel.name}"}}\n\n'
        "[tool.uv]\nsystem-certs = true\n"  # works behind a company's certificate
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest, indent=2))
        archive.writestr("pyproject.toml", project)
        archive.writestr("server.py", "from konstruct_mcp.cli.main import main\n\nmain()\n")
        archive.write(wheel, wheel.name)


def marketplace(folder: Path, owner: str) -> None:
    """A marketplace for Claude Code. Its one plugin starts the server and has a skill for the command line."""
    plugin = folder / "plugins" / "konstruct"
    about = {"name": "konstruct", "description": DESCRIPTION, "version": VERSION}
    write(
        folder / ".claude-plugin" / "marketplace.json",
        {
            "name": NAME,
            "owner": {"name": owner},
            "metadata": {"description": "Other language models for an assistant, by model group."},
            "plugins": [{**about, "source": "./plugins/konstruct"}],
        },
    )
    write(
        plugin / ".claude-plugin" / "plugin.json",
        {**about, "author": {"name": owner}, "license": PROJECT["license"], "keywords": PROJECT["keywords"]},
    )
    keys = {name: f"${{{name}:-}}" for name in VARIABLES if name != "KONSTRUCT_FILE_ROOTS"}
    entry = {**FROM_INDEX, "env": {**keys, "KONSTRUCT_FILE_ROOTS": "${CLAUDE_PROJECT_DIR:-}"}, "timeout": 330_000}
    write(plugin / ".mcp.json", {"mcpServers": {"konstruct": entry}})
    skill = plugin / "skills" / "konstruct" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    shutil.copyfile(SKILL, skill)
    (plugin / "README.md").write_text(
        f"# {TITLE}\n\n{DESCRIPTION}\n\nThe plugin starts the server `{NAME}`, and has a skill for its command line.\n",
        "utf-8",
    )


def install_links() -> str:
    config = json.dumps(FROM_INDEX, separators=(",", ":"))
    named = json.dumps({"name": "konstruct", **FROM_INDEX}, separators=(",", ":"))
    in_base64 = base64.b64encode(config.encode()).decode()
    cursor = f"cursor://anysphere.cursor-deeplink/mcp/install?name=konstruct&config={quote(in_base64, safe='')}"
    web = f"https://insiders.vscode.dev/redirect/mcp/install?name=konstruct&config={quote(config, safe='')}"
    started = f"{FROM_INDEX['command']} {' '.join(FROM_INDEX['args'])}"
    return (
        f"# Install {TITLE} {VERSION}\n\n"
        f"- [VS Code]({web}), and [Insiders]({web}&quality=insiders)\n"
        f"- VS Code from a page that may link to it: `vscode:mcp/install?{quote(named, safe='')}`\n"
        f"- Cursor: `{cursor}`\n"
        f"- Codex, which knows no such link: `codex mcp add konstruct -- {started}`\n"
        f"- Claude Code: `claude mcp add --scope user konstruct -- {started}`\n"
    )


if __name__ == "__main__":
    main()
