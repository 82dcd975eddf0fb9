"""`attach` and `detach`: the entry of this server in the files of clients, whatever those files look like."""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import Ran, run

from konstruct_mcp.cli.attach.bytecode import compile_missing
from konstruct_mcp.cli.attach.clients import CLIENTS, Places

SCRIPT = str(Path(sys.executable).with_name("konstruct-mcp"))
SECRET = "sk-of-the-user"


class Home:
    """A user's home folder, with a project that is the current folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()

    def run(self, *words: str | Path, **environ: str) -> Ran:
        own = {"HOME": str(self.folder), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "OPENAI_API_KEY": SECRET}
        return run(*words, env={**own, **environ})

    def done(self, *words: str | Path, **environ: str) -> str:
        ran = self.run(*words, **environ)
        assert ran.code == 0, ran
        assert SECRET not in ran.out + ran.err
        return ran.out

    def refused(self, *words: str | Path) -> str:
        ran = self.run(*words)
        assert (ran.code, ran.out) == (1, ""), ran
        [line] = ran.err.splitlines()
        return line

    def files(self) -> dict[str, bytes]:
        """All files, with what is in them."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "konstruct-mcp" not in path.parts  # the ledger's folder
        }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    made = Home(tmp_path)
    monkeypatch.chdir(made.project)
    yield made
    # Whatever a test does, a key is in no file but the one that its user has put it into.
    assert all(SECRET.encode() not in text for text in made.files().values())


FILES = {
    ("claude-code", "user"): ".claude.json",
    ("claude-code", "project"): "project/.mcp.json",
    ("claude-desktop", "user"): ".config/Claude/claude_desktop_config.json",
    ("codex", "user"): ".codex/config.toml",
    ("codex", "project"): "project/.codex/config.toml",
    ("cursor", "user"): ".cursor/mcp.json",
    ("cursor", "project"): "project/.cursor/mcp.json",
    ("vscode", "user"): ".config/Code/User/mcp.json",
    ("vscode", "project"): "project/.vscode/mcp.json",
    ("gemini", "user"): ".gemini/settings.json",
    ("gemini", "project"): "project/.gemini/settings.json",
    ("opencode", "user"): ".config/opencode/opencode.json",
    ("opencode", "project"): "project/opencode.json",
    ("copilot", "user"): ".copilot/mcp-config.json",
    ("copilot", "project"): "project/.github/mcp.json",
    ("zed", "user"): ".config/zed/settings.json",
    ("zed", "project"): "project/.zed/settings.json",
    ("cline", "user"): ".cline/data/settings/cline_mcp_settings.json",
    ("continue", "user"): ".continue/config.yaml",
    ("continue", "project"): "project/.continue/mcpServers/konstruct.yaml",
    ("goose", "user"): ".config/goose/config.yaml",
}
ROOTS = {
    "codex": "mcp_servers",
    "vscode": "servers",
    "opencode": "mcp",
    "zed": "context_servers",
    "goose": "extensions",
}  # elsewhere they are under `mcpServers`
STRICT = ("claude-code", "claude-desktop", "cline")  # read neither comments nor trailing commas in their JSON
USER = [(client, name) for (client, scope), name in FILES.items() if scope == "user"]


def data_of(text: bytes | str, client: str) -> dict[str, Any]:
    """What a client's file holds, by another reader than the one under test. A list is read by its names."""
    text = (text.decode() if isinstance(text, bytes) else text).removeprefix("\ufeff")
    if client == "codex":
        return tomllib.loads(text)
    if client in ("continue", "goose"):
        data: dict[str, Any] = yaml.safe_load(text) or {}
        servers = data.get("mcpServers")
        return {**data, "mcpServers": {server["name"]: server for server in servers}} if servers else data
    without = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda match: match[1] or "", text, flags=re.DOTALL)
    without = re.sub(r",(\s*[}\]])", r"\1", without)
    found: dict[str, Any] = json.loads(without)
    return found


def entry_of(data: Mapping[str, Any], client: str) -> dict[str, Any]:
    return dict(data[ROOTS.get(client, "mcpServers")]["konstruct"])


# -- what is written -------------------------------------------------------------------------------------------------

KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")
START = {"command": SCRIPT, "args": []}
ENTRIES: dict[str, dict[str, Any]] = {
    "claude-code": {
        "type": "stdio",
        **START,
        "env": {key: f"${{{key}:-}}" for key in KEYS},
        "timeout": 330_000,
        "alwaysLoad": True,
    },
    "claude-desktop": {**START, "env": {}},
    "codex": {
        **START,
        "env_vars": [*KEYS],
        "startup_timeout_sec": 60,
        "tool_timeout_sec": 330,
        "required": True,
    },
    "cursor": {"type": "stdio", **START, "env": {key: f"${{env:{key}}}" for key in KEYS}},
    "vscode": {"type": "stdio", **START, "env": {}},
    "gemini": {**START, "env": {key: f"${key}" for key in KEYS}, "timeout": 330_000},
    "opencode": {"type": "local", "command": [SCRIPT], "environment": {}, "enabled": True, "timeout": 330_000},
    "copilot": {
        "type": "local",
        **START,
        "env": {key: f"${{{key}:-}}" for key in KEYS},
        "tools": ["*"],
        "timeout": 330_000,
    },
    "zed": {**START, "env": {}, "timeout": 330},
    "cline": {**START, "env": {}, "timeout": 330},
    "continue": {"name": "konstruct", **START, "env": {}, "connectionTimeout": 330_000},
    "goose": {
        "enabled": True,
        "type": "stdio",
        "name": "konstruct",
        "description": "Asks other language models, by model group",
        "cmd": SCRIPT,
        "args": [],
        "envs": {},
        "timeout": 330,
    },
}
NAMING = ("claude-code", "codex", "cursor", "gemini", "copilot")  # clients whose entries name variables


def environ_of(entry: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = entry.get("env", entry.get("environment", entry.get("envs", {})))
    return found


@pytest.mark.parametrize(("client", "name"), USER)
def test_an_entry_starts_this_installation_with_the_clients_own_limits(home: Home, client: str, name: str) -> None:
    out = home.done("attach", client)

    path = home.folder / name
    assert entry_of(data_of(path.read_bytes(), client), client) == ENTRIES[client]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in out
    assert SCRIPT in out
    assert "check: " in out


@pytest.mark.parametrize(("client", "name"), [(c, name) for (c, scope), name in FILES.items() if scope == "project"])
def test_a_projects_entry_lets_it_read_the_projects_files(home: Home, client: str, name: str) -> None:
    home.done("attach", client, "--scope", "project")

    entry = entry_of(data_of((home.folder / name).read_bytes(), client), client)
    assert environ_of(entry)["KONSTRUCT_FILE_ROOTS"] == str(home.project)
    assert list(home.files()) == [name]


@pytest.mark.many_cases
@pytest.mark.parametrize("given", ["before", "behind", "variable"])
@pytest.mark.parametrize(("client", "name"), USER)
def test_a_config_that_is_named_is_the_servers_too(home: Home, client: str, name: str, given: str) -> None:
    config = home.folder / "own.yaml"
    config.write_text(
        "model_list: [{model_name: q, litellm_params: {model: gemini/gemini-3.5-flash, api_key: os.environ/MY_KEY}}]\n"
        "konstruct: {timeout_s: 900}\n"
    )
    words = {"before": ("--config", config, "attach", client), "behind": ("attach", client, "--config", config)}
    home.done(
        *words.get(given, ("attach", client)), **({"KONSTRUCT_CONFIG": str(config)} if given == "variable" else {})
    )

    text = (home.folder / name).read_text()
    entry = entry_of(data_of(text, client), client)
    assert environ_of(entry)["KONSTRUCT_CONFIG"] == str(config)
    limits = [entry[name] for name in ("timeout", "tool_timeout_sec", "connectionTimeout") if name in entry]
    assert limits in ([930], [930_000], [])
    assert bool(limits) == (client not in ("claude-desktop", "cursor", "vscode"))  # which have no setting for it
    assert ("MY_KEY" in text) == (client in NAMING)
    assert "ANTHROPIC" not in text


def test_an_installation_that_will_not_stay_is_warned_of(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in a cache" not in home.run("attach", "codex").err
    monkeypatch.setattr(sys, "prefix", "/home/me/.cache/uv/archive-v0/Xy3")  # as `uvx` has it
    assert "warning: this installation is in a cache" in home.run("attach", "codex").err


def test_a_config_that_cannot_be_used_is_told_before_anything_is_written(home: Home) -> None:
    (home.folder / "own.yaml").write_text("model_list: nothing\n")
    ran = home.run("attach", "codex", "--config", home.folder / "own.yaml")

    assert ran.code == 2
    assert "model_list" in ran.err
    assert list(home.files()) == ["own.yaml"]


# -- what stays ------------------------------------------------------------------------------------------------------

JSON = {
    "empty": "",
    "blank": "\n",
    "nothing in it": "{}",
    "nothing in it, over two lines": "{\n}\n",
    "no servers": '{\n  "theme": "dark"\n}\n',
    "servers, none of them": '{\n  "mcpServers": {},\n  "theme": "dark"\n}\n',
    "others": '{\n  "mcpServers": {\n    "a": {\n      "command": "x"\n    }\n  },\n  "theme": "dark"\n}\n',
    "tabs": '{\n\t"mcpServers": {\n\t\t"a": {"command": "x"}\n\t},\n\t"theme": "dark"\n}',
    "four blanks": '{\n    "mcpServers": {\n        "a": {"command": "x"}\n    }\n}\n',
    "CRLF": '{\r\n  "mcpServers": {\r\n    "a": {"command": "x"}\r\n  }\r\n}\r\n',
    "a byte order mark": '\ufeff{\n  "mcpServers": {}\n}\n',
    "one line": '{"mcpServers": {"a": {"command": "x", "args": ["1", "}"]}}, "n": 1.50, "text": "h\\u00e9 \\" // é"}',
    "nothing between": '{"mcpServers":{"a":{"command":"x"}},"theme":"dark"}',
}
COMMENTS = {
    "comments": '// mine\n{\n  /* all */ "mcpServers": { // servers\n    "a": {"command": "x"} // a, { not b }\n'
    "    // the end\n  }\n} // done\n",
    "only a comment in it": '{\n  "mcpServers": {\n    // none yet\n  }\n}\n',
}
COMMAS = {
    "trailing commas": '{\n  "mcpServers": {\n    "a": {"command": "x",},\n  },\n  "theme": "dark",\n}\n',
    "a comment with a comma": '{\n  "mcpServers": {\n    "a": {"command": "x"}, // one, two\n  },\n}\n',
}
TOML = {
    "empty": "",
    "no servers": 'model = "o3"\n\n[tui]\nx = 1\n',
    "no end of line": 'model = "o3"',
    "others": 'model = "o3"\n\n[mcp_servers.a]\ncommand = "x"\n\n[mcp_servers.a.env]\nA = "b"\n\n# its\n[tui]\n',
    "out of order": '[mcp_servers.a]\ncommand = "x"\n[tui]\nx = 1\n[mcp_servers.b]\ncommand="y"\n# end\n',
    "CRLF": 'model = "o3"\r\n\r\n[mcp_servers.a]\r\ncommand = "x"\r\n',
    "a byte order mark": '\ufeffmodel = "o3"\n',
    "blank lines": 'model = "o3"\n\n\n',
    "strings": 'a = """\n[mcp_servers.konstruct]\n"""\nb = \'\'\'\n# "\n\'\'\'\nc = [\n  "]", # [x]\n]\n"=" = {x = 1}',
    "an array of tables": '[[skills.config]]\npath = "x"\n\n[[skills.config]]\npath = "y"\n',
}


YAML = {
    "empty": "",
    "only a comment": "# of mine",
    "only the beginning of a document": "---\n",
    "no servers": "model: o3  # mine\n",
    "no end of line": "model: o3",
    "nothing in it": "servers:\nmodel: o3\n",
    "nothing in it, with a comment": "servers: # none yet\n",
    "CRLF": "model: o3\r\nother: 1\r\n",
}
MAPPING = {
    "an empty mapping": "extensions: {}\nmodel: o3\n",
    "others": "extensions:\n  a:\n    cmd: x # one\n    args: [y]\n  # the end\n\n# more\nmodel: o3\n",
    "others, far to the right": "extensions:\n      a:\n          cmd: x\n",
    "others of one line": "extensions:\n  a: {cmd: x}\n  b: {cmd: y}",
    "CRLF and others": "extensions:\r\n  a:\r\n    cmd: x\r\nmodel: o3\r\n",
    "long texts": 'extensions:\n  a:\n    cmd: |\n      one\n      two\n    why: >-\n      a\n      b\nmodel: "# o3"\n',
}
LIST = {
    "an empty list": "mcpServers: []\nmodel: o3\n",
    "others": "mcpServers:\n- name: a\n  command: x # one\n  args: [y]\n# the end\nmodel: o3\n",
    "others, to the right": "mcpServers:\n  - name: a\n    command: x\n  - {name: b, command: y}\nmodel: o3\n",
}


def texts_for(client: str) -> Mapping[str, str]:
    root = ROOTS.get(client, "mcpServers")
    match client:
        case "codex":
            return TOML
        case "continue" | "goose":
            given = {**YAML, **(LIST if client == "continue" else MAPPING)}
            return {what: text.replace("servers:", f"{root}:") for what, text in given.items()}
        case _:
            given = {**JSON, **({} if client in STRICT else COMMENTS)}
            given |= {} if client in (*STRICT, "gemini") else COMMAS
            return {what: text.replace("mcpServers", root) for what, text in given.items()}


def fixtures() -> Iterator[Any]:
    """A file of each kind for the client that was tried first with it; in the long form for every client."""
    tried: set[tuple[str, str]] = set()
    for client, name in USER:
        for what, text in texts_for(client).items():
            format_ = {".yaml": client, ".toml": "toml"}.get(Path(name).suffix, "json")
            marks = [pytest.mark.long] if (format_, what) in tried else []
            tried.add((format_, what))
            yield pytest.param(client, name, text, id=f"{client}-{what}", marks=marks)


def filled(data: Mapping[str, Any], text: str = "-") -> dict[str, Any]:
    """Without what is empty, and without what a new file of Continue begins with."""
    begun = {"name": "Local Config", "version": "1.0.0", "schema": "v1"}
    return {key: value for key, value in data.items() if value and not (not text.strip() and begun.get(key) == value)}


@pytest.mark.parametrize(("client", "name", "text"), list(fixtures()))
def test_all_else_stays_and_detach_gives_the_file_back(home: Home, client: str, name: str, text: str) -> None:
    path = home.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    was = text.encode()
    path.write_bytes(was)
    path.chmod(0o640)

    home.done("attach", client)

    now = path.read_bytes()
    before = data_of(was, client) if was.strip() else {}
    after = data_of(now, client)
    entry = entry_of(after, client)
    assert entry == ENTRIES[client]
    del after[ROOTS.get(client, "mcpServers")]["konstruct"]
    assert filled(after, text) == filled(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    backup = path.with_name(path.name + ".konstruct.bak")
    assert backup.read_bytes() == was
    assert stat.S_IMODE(backup.stat().st_mode) == 0o640
    left = iter(now)
    assert all(byte in left for byte in was if not chr(byte).isspace())  # all of before is there, in its order
    assert (b"\r\n" in now) == (b"\r\n" in was)
    assert b"\r\n" not in was or b"\n" not in now.replace(b"\r\n", b"")

    assert "nothing to change" in home.done("attach", client)
    assert path.read_bytes() == now

    home.done("detach", client)
    assert home.files() == {name: was}
    assert "nothing to change" in home.done("detach", client)


@pytest.mark.many_cases
@pytest.mark.parametrize(("client", "name", "text"), list(fixtures()))
def test_detach_takes_the_entry_alone_where_more_has_changed(home: Home, client: str, name: str, text: str) -> None:
    path = home.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    home.done("attach", client)
    line = "# mine too\n[more]\nx = 1\n" if client == "codex" else "# mine\n" if name.endswith("yaml") else "  \n"
    changed = path.read_bytes() + line.encode()
    path.write_bytes(changed)

    home.done("detach", client)

    now = path.read_bytes()
    assert b"konstruct" not in now or "strings" in text or b'[mcp_servers.konstruct]\n"""' in text.encode()
    assert now.endswith(line.encode())
    assert path.with_name(path.name + ".konstruct.bak").read_bytes() == changed
    given = data_of(text, client) if text.strip() else {}
    left = data_of(now, client)
    left.pop("more", None)
    assert filled(left, text) == filled(given)


@pytest.mark.parametrize(("client", "scope"), FILES)
def test_what_was_made_is_gone_after_detach(home: Home, client: str, scope: str) -> None:
    home.done("attach", client, "--scope", scope, "--approve")
    assert home.files()
    home.done("detach", client, "--scope", scope)
    assert home.files() == {}
    assert home.project.is_dir()
    listed = home.done("attach", PATH=str(home.folder)).splitlines()[1:]
    assert [line.split()[1] for line in listed if line.split()[0] == client] == ["no"]


# -- an entry that is there ------------------------------------------------------------------------------------------


def test_what_the_user_has_set_in_an_entry_stays(home: Home) -> None:
    path = home.folder / ".claude.json"
    mine = {
        "command": "/old/konstruct-mcp",
        "args": ["serve"],
        "env": {"ANTHROPIC_API_KEY": "sk-ant-mine"},
        "timeout": 5000,
        "alwaysLoad": True,
    }
    path.write_text(json.dumps({"mcpServers": {"konstruct": mine}, "x": 1}))

    out = home.done("attach", "claude-code")

    entry = json.loads(path.read_text())["mcpServers"]["konstruct"]
    assert entry == {
        "type": "stdio",
        "command": SCRIPT,
        "args": [],
        "env": {"ANTHROPIC_API_KEY": "sk-ant-mine", "OPENAI_API_KEY": "${OPENAI_API_KEY:-}"},
        "timeout": 5000,
        "alwaysLoad": True,
    }
    assert "changed (type, command, args, env.OPENAI_API_KEY)" in out
    assert "sk-ant-mine" not in out


def test_what_the_user_has_set_in_a_table_stays(home: Home) -> None:
    path = home.folder / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(
        '[mcp_servers.konstruct] # mine\ncommand = "/old"  # an older one\ntool_timeout_sec = 50\n'
        'env = {"MY" = "x"}\n# below\n\n[tui]\n'
    )

    home.done("attach", "codex", "--scope", "user", "--approve")

    assert path.read_text() == (
        f'[mcp_servers.konstruct] # mine\ncommand = "{SCRIPT}"  # an older one\ntool_timeout_sec = 50\n'
        'env = {"MY" = "x"}\nargs = []\nenv_vars = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]\nstartup_timeout_sec = 60\n'
        'required = true\ndefault_tools_approval_mode = "approve"\n# below\n\n[tui]\n'
    )


def test_an_entry_of_a_teams_server_is_left_alone(home: Home) -> None:
    path = home.folder / ".claude.json"
    path.write_text('{"mcpServers": {"konstruct": {"type": "http", "url": "https://konstruct.example.com/mcp"}}}')
    assert "asks a server over HTTP" in home.refused("attach", "claude-code")


def test_a_second_attach_with_more_is_undone_as_well(home: Home) -> None:
    path = home.folder / ".gemini" / "settings.json"
    path.parent.mkdir()
    path.write_text('{"theme": "dark"}')
    home.done("attach", "gemini")
    out = home.done("attach", "gemini", "--approve")
    assert "changed (trust)" in out
    assert json.loads(path.read_text())["mcpServers"]["konstruct"]["trust"] is True
    home.done("detach", "gemini")
    assert path.read_text() == '{"theme": "dark"}'


# -- approval --------------------------------------------------------------------------------------------------------


def test_approval_is_written_only_if_it_is_asked_for(home: Home) -> None:
    home.done("attach", "codex", "--approve")
    home.done("attach", "gemini", "--approve")
    codex = tomllib.loads((home.folder / ".codex/config.toml").read_text())["mcp_servers"]["konstruct"]
    gemini = json.loads((home.folder / ".gemini/settings.json").read_text())["mcpServers"]["konstruct"]
    assert codex == {**ENTRIES["codex"], "default_tools_approval_mode": "approve"}
    assert gemini == {**ENTRIES["gemini"], "trust": True}


@pytest.mark.parametrize("scope", ["user", "project"])
@pytest.mark.parametrize(
    "text", [None, "{}", '{\n  "permissions": {\n    "allow": ["Bash(ls)"],\n    "deny": []\n  }\n}\n']
)
def test_claude_code_is_told_in_its_settings(home: Home, scope: str, text: str | None) -> None:
    name = ".claude/settings.json" if scope == "user" else "project/.claude/settings.local.json"
    path = home.folder / name
    if text is not None:
        path.parent.mkdir()
        path.write_text(text)
    home.done("attach", "claude-code", "--scope", scope, "--approve")

    settings = json.loads(path.read_text())
    assert settings["permissions"]["allow"][-1] == "mcp__konstruct"
    assert settings.get("enabledMcpjsonServers") == (["konstruct"] if scope == "project" else None)
    if text is not None and "Bash" in text:
        assert '["Bash(ls)", "mcp__konstruct"]' in path.read_text()
        path.write_text(path.read_text() + "\n")
    home.done("detach", "claude-code", "--scope", scope)
    if text is None:
        assert not path.exists()
    elif "Bash" in text:
        assert json.loads(path.read_text())["permissions"] == {"allow": ["Bash(ls)"], "deny": []}
    else:
        assert path.read_text() == text


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "name", "text", "why"),
    [
        ("claude-code", ".claude.json", b'{"a": 1', "it is not JSON: line 1: a comma or } is missing"),
        ("claude-code", ".claude.json", b'{"a": 1}\n}', "line 2: something follows the end"),
        ("claude-code", ".claude.json", b'{\n  // mine\n}', "line 2: a comment, which this client does not read"),
        ("claude-code", ".claude.json", b'{"a": 1,}', "a comma too many, which this client does not read"),
        ("claude-code", ".claude.json", b"[]", "it is not JSON with names at its top"),
        ("claude-code", ".claude.json", b'{"mcpServers": []}', "mcpServers should be an object"),
        ("claude-code", ".claude.json", b'{"mcpServers": {"konstruct": 1}}', "is no entry of a server"),
        ("claude-code", ".claude.json", b'{"a": "\xff"}', "it is not UTF-8"),
        ("claude-code", ".claude.json", b"[" * 100_000, "too deep"),
        ("claude-code", ".claude.json", b'{"mcpServers": {}, "mcpServers": {"a": 1}, "b": tru}', "no value of JSON"),
        ("gemini", ".gemini/settings.json", b'// mine\n{"a": 1,}', "line 2: a comma too many"),
        ("opencode", ".config/opencode/opencode.jsonc", b'{"mcp": {} /* open', "is missing"),
        ("goose", ".config/goose/config.yaml", b"a: [1\n", "it is not YAML: line 2: "),
        ("goose", ".config/goose/config.yaml", b"extensions: {a: {}}\n", "a mapping over several lines should be"),
        ("goose", ".config/goose/config.yaml", b"extensions: mine\n", "a mapping over several lines should be"),
        ("goose", ".config/goose/config.yaml", b"- a\n", "it is not YAML with names at its top"),
        ("codex", ".codex/config.toml", b"model = \n", "it is not TOML: Invalid value (at line 1"),
        ("codex", ".codex/config.toml", b"mcp_servers = {}\n", "cannot be edited safely; edit it by hand"),
        ("codex", ".codex/config.toml", b'mcp_servers = {konstruct = {command = "x"}}\n', "is not written as a table"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_edited_is_refused_in_one_line(
    home: Home, client: str, name: str, text: bytes, why: str
) -> None:
    path = home.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)

    line = home.refused("attach", client)

    assert line.startswith(f"Error: {path}: ")
    assert line.endswith("; nothing of it is changed")
    assert why in line
    assert home.files() == {name: text}


def test_a_read_only_file_is_left_alone(home: Home) -> None:
    path = home.folder / ".claude.json"
    path.write_text("{}")
    path.chmod(0o444)
    assert "it is read-only" in home.refused("attach", "claude-code")
    assert home.files() == {".claude.json": b"{}"}


def test_a_folder_in_its_place_is_told(home: Home) -> None:
    (home.folder / ".claude.json").mkdir()
    assert "directory" in home.refused("attach", "claude-code").lower()


def test_a_user_without_a_home_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as in a container, with a number for a user
    ran = run("attach", "codex", env={"XDG_CONFIG_HOME": "/nonexistent", "XDG_DATA_HOME": "/nonexistent"})
    assert (ran.code, ran.out, ran.err) == (1, "", "Error: this user has no home folder; set HOME\n")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_neither_read_nor_replaced(home: Home, kind: str) -> None:
    path = home.folder / ".claude.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(os.devnull)
    assert "it is no file" in home.refused("attach", "claude-code")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_place_that_cannot_be_looked_at_hides_no_other(home: Home) -> None:
    home.done("attach", "zed")
    out = home.done("attach", CODEX_HOME="/" + "x" * 300)
    assert re.search(r"^codex +\w+ +File name too long", out, re.MULTILINE)
    assert re.search(r"^zed +yes +attached", out, re.MULTILINE)


def test_where_only_the_settings_cannot_be_written_it_says_so_of_them_alone(home: Home) -> None:
    settings = home.folder / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text("{}")
    settings.chmod(0o444)
    ran = home.run("attach", "claude-code", "--approve")
    assert ran.code == 1
    assert ran.out == f"{home.folder / '.claude.json'}: written, which was not there (the entry)\n"
    assert ran.err == f"Error: {settings}: it is read-only; nothing of it is changed\n"


def test_a_backup_that_somebody_has_broken_keeps_nobody_attached(home: Home) -> None:
    path = home.folder / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('model = "o3"\n')
    home.done("attach", "codex")
    path.write_text(path.read_text() + "\n[tui]\n")
    path.with_name("config.toml.konstruct.bak").write_text("= broken")
    home.done("detach", "codex")
    assert path.read_text() == 'model = "o3"\n\n[tui]\n'


def test_a_project_whose_path_would_be_two_roots_is_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.folder / "a:b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    ran = home.run("attach", "cursor", "--scope", "project")
    assert ran.code == 0
    assert "it may send no files of this folder" in ran.err
    assert "KONSTRUCT_FILE_ROOTS" not in (folder / ".cursor" / "mcp.json").read_text()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_into_the_dotfiles_stays_one(home: Home, exists: bool) -> None:
    target = home.folder / "dotfiles" / "codex.toml"
    target.parent.mkdir()
    if exists:
        target.write_text('model = "o3"\n')
    path = home.folder / ".codex" / "config.toml"
    path.parent.mkdir()
    path.symlink_to(os.path.relpath(target, path.parent))

    home.done("attach", "codex")

    assert path.is_symlink()
    assert "konstruct" in target.read_text()
    home.done("detach", "codex")
    assert path.is_symlink()
    assert (target.read_text() if target.exists() else None) == ('model = "o3"\n' if exists else None)


def test_a_dry_run_shows_the_entry_and_writes_nothing(home: Home) -> None:
    path = home.folder / ".claude.json"
    path.write_text('{"mcpServers": {"a": {"env": {"KEY": "of another"}}}}')
    before = home.files()

    out = home.done("attach", "claude-code", "--dry-run")

    first, _, shown = out.partition("\n")
    assert first == f"{path}: would be changed (the entry)"
    assert json.loads(shown) == {"mcpServers": {"konstruct": ENTRIES["claude-code"]}}
    assert "of another" not in out
    assert home.files() == before


def test_a_file_that_is_made_and_a_client_that_is_not_here_are_said(home: Home) -> None:
    first = home.run("attach", "codex", PATH=str(home.folder))
    path = home.folder / ".codex" / "config.toml"
    assert first.out.startswith(f"{path}: written, which was not there (the entry)\n")
    assert "Codex is not found on this machine; it reads the entry once it is\n" in first.err
    assert "not found" not in home.run("attach", "codex", PATH=str(home.folder)).err


def test_where_claude_code_says_the_project_is_nothing_else_is_said(home: Home) -> None:
    config = home.folder / "own.yaml"
    config.write_text(
        "model_list: [{model_name: g, litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}}]\n"
        "konstruct: {files: {roots: [os.environ/CLAUDE_PROJECT_DIR]}}\n"
    )
    home.done("attach", "claude-code", "--config", str(config))
    entry = json.loads((home.folder / ".claude.json").read_text())["mcpServers"]["konstruct"]
    assert entry["env"] == {"KONSTRUCT_CONFIG": str(config), "OPENAI_API_KEY": "${OPENAI_API_KEY:-}"}


def test_the_clients_are_listed_with_their_state(home: Home) -> None:
    home.done("attach", "codex")
    home.done("attach", "opencode", "--scope", "project")
    (home.folder / ".gemini").mkdir()
    (home.folder / ".gemini" / "settings.json").write_text("{")
    (home.folder / ".claude.json").write_text('{"mcpServers": {"konstruct": {"command": "other"}}}')

    lines = [line.split(maxsplit=2) for line in home.done("attach", PATH=str(home.folder)).splitlines()]

    told = {(name, rest.rsplit(maxsplit=1)[1]): (here, rest.rsplit(maxsplit=1)[0]) for name, here, rest in lines[1:]}
    assert told[("codex", str(home.folder / ".codex/config.toml"))] == ("yes", "attached (user)")
    assert told[("opencode", str(home.project / "opencode.json"))][1] == "attached (project)"
    assert told[("claude-code", str(home.folder / ".claude.json"))][1] == "starts something else (user)"
    assert "it is not JSON" in told[("gemini", str(home.folder / ".gemini/settings.json"))][1]


# -- the first start -------------------------------------------------------------------------------------------------


def test_packages_that_were_never_imported_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("x = 1\n")
        (tmp_path / name / "inner.py").write_text("x = 1\n")
    (tmp_path / "module.py").write_text("x = 1\n")
    (tmp_path / "no_package").mkdir()
    packages = [tmp_path / name for name in ("first", "second", "module.py", "no_package", "not_there")]

    assert compile_missing(packages) == 3
    assert Path(cache_from_source(str(tmp_path / "second" / "inner.py"))).exists()
    assert Path(cache_from_source(str(tmp_path / "module.py"))).exists()
    assert compile_missing(packages) == 0


# -- where the files are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "client", "file"),
    [
        ("darwin", "claude-desktop", "Library/Application Support/Claude/claude_desktop_config.json"),
        ("win32", "claude-desktop", "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("darwin", "vscode", "Library/Application Support/Code/User/mcp.json"),
        ("win32", "vscode", "AppData/Roaming/Code/User/mcp.json"),
        ("darwin", "zed", ".config/zed/settings.json"),
        ("win32", "zed", "AppData/Roaming/Zed/settings.json"),
        ("darwin", "goose", ".config/goose/config.yaml"),
        ("win32", "goose", "AppData/Roaming/Block/goose/config/config.yaml"),
        ("win32", "codex", ".codex/config.toml"),
    ],
)
def test_each_system_has_its_place_for_them(tmp_path: Path, platform: str, client: str, file: str) -> None:
    places = Places(tmp_path, tmp_path, {}, platform)
    assert CLIENTS[client].files["user"](places)[0] == tmp_path / file


def test_claude_desktop_from_the_store_has_a_folder_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "AppData/Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude"
    own.mkdir(parents=True)
    places = Places(tmp_path, tmp_path, {}, "win32")
    assert CLIENTS["claude-desktop"].files["user"](places)[0] == own / "claude_desktop_config.json"


@pytest.mark.parametrize(
    ("client", "variable", "name"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("copilot", "COPILOT_HOME", "mcp-config.json"),
        ("opencode", "XDG_CONFIG_HOME", "opencode/opencode.json"),
        ("continue", "CONTINUE_GLOBAL_DIR", "config.yaml"),
    ],
)
def test_a_client_that_is_told_another_folder_is_found_there(home: Home, client: str, variable: str, name: str) -> None:
    home.done("attach", client, **{variable: str(home.folder / "elsewhere")})
    assert f"elsewhere/{name}" in home.files()


def test_of_several_files_the_one_that_is_there_is_taken(home: Home) -> None:
    path = home.folder / ".config" / "opencode" / "opencode.jsonc"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    home.done("attach", "opencode")
    path.with_name("opencode.json").write_text("{}")  # is now the first, but ours is in the other one

    assert "nothing to change" in home.done("attach", "opencode")
    home.done("detach", "opencode")
    assert path.read_text() == path.with_name("opencode.json").read_text() == "{}"
