"""The attack list on files: what is refused, always in the same words, with nothing sent. Run whole, every time."""

from __future__ import annotations

import base64
import codecs
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.databases import sqlite
from support.default_groups import HELLO, KEYS, OPENAI_KEY, PNG, connected, entry, opened, reaching
from support.providers import Provider

from konstruct_mcp import FileRefusedError, Konstruct
from konstruct_mcp.config.files import FileSettings
from konstruct_mcp.core.identity import new_key
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.files.contents import holds_key
from konstruct_mcp.gateway.files.reading import FileAccess, read_files
from konstruct_mcp.testing.credentials import service_account

CLIENT = Caller()  # what a server passes for the process's own client
KEPT_BACK = "not there, not in a folder that is open to you, or kept back because it may hold secrets"
_TRIES = 10_000  # of which a reader that follows links lets some dozens out
OUTSIDE = "what stands outside"
GITHUB_TOKEN = "ghp_1c9dTest7f3a9cTest5b2e8dTest"
AMAZON_KEY = "/9cTest7f3a9cTest5b2e8dTest+7f3a9cTest5b2"
HEADER_KEY = "7f3a9cTest5b2e8dTest"
DATABASE_URL = "postgresql://app:7Swords%2Fof%40Damocles@db/app"
PROXY_URL = "https://team:9Lives-of-a-Cat@models.example/v1"
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{'MIIEvQIBADANBgkqhkiG9w0BAQEFAASC' * 2}\n-----END PRIVATE KEY-----\n"


@dataclass(frozen=True)
class World:
    """A root with files in it, things outside of it, and the folder of our own config and ledger."""

    root: Path
    outside: Path
    home: Path

    def file(self, name: str, content: str | bytes = "harmless") -> Path:
        """A file in the root."""
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def link(self, name: str, to: Path | str) -> Path:
        place = self.root / name
        place.symlink_to(to)
        return place

    @property
    def secret(self) -> Path:
        return self.outside / "secret.txt"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "root", tmp_path / "root-of-others", tmp_path / "home")
    for folder in (made.root / "sub", made.outside, made.home):
        folder.mkdir(parents=True)
    made.secret.write_text(OUTSIDE)
    made.file("a.txt")
    return made


@asynccontextmanager
async def serving(world: World, provider: Provider, **files: Any) -> AsyncIterator[Konstruct]:
    model = {**reaching(provider, "openai/gpt-4o"), "api_key": "os.environ/OPENAI_API_KEY"}
    settings = {"roots": [str(world.root)], **files}
    config = {
        "model_list": [entry("one", model)],
        "konstruct": {"files": settings, "ledger_url": sqlite(world.home).url},
    }
    held = {
        "GITHUB_TOKEN": GITHUB_TOKEN,
        "AWS_SECRET_ACCESS_KEY": AMAZON_KEY,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-team=a,api-key={HEADER_KEY}",
        "DATABASE_URL": DATABASE_URL,
        "MODELS_URL": PROXY_URL,
    }
    environ = {**KEYS, **held, "XDG_DATA_HOME": str(world.root / "data")}
    async with opened(world.home, config, environ) as konstruct:
        yield konstruct


async def ask(konstruct: Konstruct, *paths: object, caller: Caller | None = CLIENT) -> Any:
    arguments = {"messages": HELLO, "files": [str(path) for path in paths]}
    return await konstruct.answer(await konstruct.request(arguments, caller=caller), caller=caller)


def fifo(world: World) -> Path:
    os.mkfifo(place := world.root / "pipe")
    return place


def listening(world: World) -> Path:
    place = world.root / "s"
    with socket.socket(socket.AF_UNIX) as made, suppress(OSError):  # a path that is too long for a socket's
        made.bind(str(place))
    return place


def hard_link(world: World, to: Path) -> Path:
    place = world.root / "linked.txt"
    place.hardlink_to(to)
    return place


def loop(world: World) -> Path:
    world.link("one", "two")
    return world.link("two", "one")


def no_right(world: World) -> Path:
    place = world.file("closed.txt")
    place.chmod(0)
    return place if os.geteuid() else world.root / "not-there"  # root may read all


ATTACKS: dict[str, Callable[[World], object]] = {
    # -- traversal
    "up and out": lambda w: w.root / ".." / "root-of-others" / "secret.txt",
    "up and out of a folder": lambda w: f"{w.root}/sub/../../root-of-others/secret.txt",
    "many times up": lambda w: f"{w.root}/{'../' * 60}etc/passwd",
    "a path that only begins like the root": lambda w: w.secret,
    "the root's name and more": lambda w: f"{w.root}-of-others/secret.txt",
    "an absolute path outside": lambda _: "/etc/passwd",
    "double slashes": lambda w: f"//{w.root}//..//root-of-others//secret.txt",
    "percent signs": lambda w: f"{w.root}/%2e%2e/root-of-others/secret.txt",
    "backslashes": lambda w: f"{w.root}\\..\\root-of-others\\secret.txt",
    "a wildcard in a folder's name": lambda w: f"{w.outside.parent}/*/secret.txt",
    "a wildcard outside": lambda w: f"{w.outside}/*.txt",
    "a wildcard above": lambda w: f"{w.root}/../root-of-others/*",
    "a wildcard that matches nothing": lambda w: f"{w.root}/*.none",
    "a NUL byte": lambda w: f"{w.root}/a.txt\0.png",
    "a NUL byte in a wildcard": lambda w: f"{w.root}/a*\0",
    "half a character": lambda w: f"{w.root}/a\ufffd.txt",
    "a name that is too long": lambda w: f"{w.root}/{'a' * 300}",
    "a path that is too long": lambda w: f"{w.root}/{'a/' * 4000}a",
    "a file as a folder": lambda w: f"{w.root}/a.txt/b.txt",
    "another form of the same letters": lambda w: w.file("caf\u00e9.txt").with_name("cafe\u0301.none"),
    # -- links
    "a link to a file outside": lambda w: w.link("out.txt", w.secret),
    "a relative link outside": lambda w: w.link("out.txt", "../root-of-others/secret.txt"),
    "a link to a folder outside": lambda w: w.link("out", w.outside) / "secret.txt",
    "a wildcard in a folder outside": lambda w: w.link("out", w.outside) / "*.txt",
    "a link to a link": lambda w: w.link("two", w.link("one", w.secret).name),
    "a link to itself": loop,
    "a link to nothing": lambda w: w.link("none", "nothing"),
    "a link with an honest name to a secret": lambda w: w.link("notes.txt", w.file(".env").name),
    "a link to the environment of this process": lambda w: w.link("environ.txt", "/proc/self/environ"),
    # -- what is no file
    "a pipe": fifo,
    "a socket": listening,
    "a device": lambda w: w.link("null", "/dev/null"),
    "what this process was started with": lambda _: "/proc/self/environ",
    "what this process has open": lambda _: "/dev/fd/0",
    "a folder's file without the right to it": no_right,
    # -- names of secrets
    **{
        f"the name {name}": lambda w, name=name: w.file(name)  # type: ignore[misc]
        for name in (
            *(".env", ".env.local", ".envrc", "prod.env", ".netrc", "_netrc", ".npmrc", ".pgpass", ".git-credentials"),
            *("id_rsa", "id_ed25519.pub", "server.pem", "tls.key", "store.p12", "store.jks", "pass.kdbx", "a.keyring"),
            *(".git/config", "sub/.git/hooks/pre-commit", ".ssh/config", ".aws/credentials", ".kube/config"),
            *(".gnupg/x.txt", ".docker/config.json", "keyrings/login.txt", ".bash_history", "terraform.tfstate"),
            # as file systems without case, of Apple's or of Windows', take them for the same
            *(
                ".ENV",
                ".Git/config",
                ".SSH/config",
                "ID_RSA",
                "SERVER.PEM",
                ".env.",
                ".env ",
                ".env. .",
                ".git /config",
            ),
            *(".e\u200cnv", ".g\u200dit/config", "\ufeff.env", ".\uff45nv", ".\u017fsh/config", ".env::$DATA"),
            *("ENV~1", "GIT~1/config", "git~2/config", "SSH~1/config", "NETRC~1"),
        )
    },
    "a name that the operator refuses": lambda w: w.file("Accounts.SQLITE3"),
    "a folder that the operator refuses": lambda w: w.file("sub/Private/x.md"),
    # -- our own
    "our config": lambda w: w.home / "konstruct.yaml",
    "our config by a second name": lambda w: hard_link(w, w.home / "konstruct.yaml"),
    "our ledger": lambda w: sqlite_file(w),
    "our ledger by a second name": lambda w: hard_link(w, sqlite_file(w)),
    "a file in our data folder": lambda w: w.file("data/konstruct-mcp/threads/1.json"),
    # -- what holds a key
    "a private key": lambda w: w.file("k.txt", f"# mine\n{PRIVATE_KEY}"),
    "a private key in another encoding": lambda w: w.file("k.txt", f"\ufeff{PRIVATE_KEY}".encode("utf-16-be")),
    "a private key with line ends of Windows": lambda w: w.file("k.txt", PRIVATE_KEY.replace("\n", "\r\n")),
    "a private key of OpenSSH's": lambda w: w.file("k.txt", PRIVATE_KEY.replace("PRIVATE", "OPENSSH PRIVATE")),
    "a private key of PGP's": lambda w: w.file("k.txt", PRIVATE_KEY.replace("KEY-", "KEY BLOCK-")),
    "an encrypted private key": lambda w: w.file(
        "k.txt", PRIVATE_KEY.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n", 1)
    ),
    "a private key of PuTTY's": lambda w: w.file("k.txt", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"),
    "a private key of age's": lambda w: w.file("k.txt", f"AGE-SECRET-KEY-1{'QPZRY9X8GF' * 6}"),
    "a service account": lambda w: w.file("account.json", service_account("http://localhost")),
    "one of our access keys": lambda w: w.file("k.txt", f"curl -H 'Authorization: Bearer {new_key()}'"),
    "a key of the config": lambda w: w.file("k.py", f"KEY = '{OPENAI_KEY}'"),
    "a key of the environment": lambda w: w.file("k.sh", f"export TOKEN={GITHUB_TOKEN}"),
    "a key that begins like a path": lambda w: w.file("k.sh", f"export AWS_SECRET_ACCESS_KEY={AMAZON_KEY}"),
    "a key among headers": lambda w: w.file("k.sh", f"curl -H 'api-key: {HEADER_KEY}'"),
    "a database's password": lambda w: w.file("compose.yml", f"DATABASE_URL: {DATABASE_URL}"),
    "a database's password as it is typed": lambda w: w.file("k.txt", "its password is 7Swords/of@Damocles"),
    "a password in the address of a model": lambda w: w.file("k.txt", f"curl {PROXY_URL}"),
    "a key behind an image": lambda w: w.file("k.png", base64.b64decode(PNG) + OPENAI_KEY.encode()),
    "a key in what is no text": lambda w: w.file("k.bin", b"\0\1\2" + OPENAI_KEY.encode()),
}


def sqlite_file(world: World) -> Path:
    [file] = world.home.glob("*.sqlite3")
    return file


@pytest.mark.many_cases
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_gets_nothing(world: World, openai: Provider, attack: str) -> None:
    async with serving(world, openai, deny=["*.sqlite3", "private/*.md"]) as konstruct:
        await konstruct.opened()  # so that there is a ledger
        try:
            named = str(ATTACKS[attack](world))
        except OSError as error:
            assert not os.environ.get("CI")  # which has a file system that takes any name
            pytest.skip(f"this file system has no such name: {error.strerror}")
        with pytest.raises(FileRefusedError) as raised:
            await ask(konstruct, named)
        message = raised.value.message
        assert message.endswith(f": {KEPT_BACK}"), message
        assert message.startswith("nothing was sent; ")
        assert OUTSIDE not in message
        # Beside a file that could be sent, it ends the call as well.
        with pytest.raises(FileRefusedError) as raised:
            await ask(konstruct, world.root / "a.txt", named)
        assert raised.value.message == message
        # Even for whoever holds the program, where more is wrong with it than that it is outside.
        if attack.startswith(("the name ", "our ", "a private key", "one of our", "a key ", "what this process")):
            with pytest.raises(FileRefusedError):
                await ask(konstruct, named, caller=None)
    assert openai.calls == 0


OTHER_FAULTS: dict[str, tuple[Callable[[World], object], str]] = {
    "a relative path": (lambda _: "a.txt", "no absolute path"),
    "an empty path": (lambda _: "", "no absolute path"),
    "a home": (lambda _: "~/.ssh/id_rsa", "no absolute path"),
    "a drive of Windows'": (lambda _: "C:\\Windows\\win.ini", "no absolute path"),
    "a share": (lambda _: "\\\\server\\share\\a.txt", "no absolute path"),
    "a URL": (lambda w: (w.root / "a.txt").as_uri(), "no absolute path"),
    "a folder": (lambda w: w.root / "sub", "a folder; name its files, as in folder/*.py"),
    "the root": (lambda w: w.root, "a folder; name its files, as in folder/*.py"),
    "a slash behind a file": (lambda w: f"{w.root}/a.txt/", "a folder; name its files, as in folder/*.py"),
    "the root's dot": (lambda w: f"{w.root}/.", "a folder; name its files, as in folder/*.py"),
    "a program": (
        lambda w: w.file("a.out", b"\x7fELF\0\0"),
        "neither text (UTF-8 or UTF-16) nor a png, jpeg, gif, web",
    ),
    "half a character": (lambda w: w.file("a.txt", codecs.BOM_UTF16_LE + b"\x00\xd8"), "neither text"),
    "UTF-16 without a mark": (lambda w: w.file("a.txt", "text".encode("utf-16-le")), "neither text"),
    "Japanese in an old encoding": (lambda w: w.file("a.txt", "日本語のテキスト".encode("shift_jis")), "neither text"),
    "a huge file": (lambda w: sparse(w), "too large, with the other files: it has 50,000,000,000 bytes"),
    "too many": (lambda w: many(w), "more than 100 files in one call"),
}


def sparse(world: World) -> Path:
    """Fifty gigabytes on no disk at all."""
    place = world.file("huge.txt")
    os.truncate(place, 50_000_000_000)
    return place


def many(world: World) -> Path:
    for number in range(101):
        world.file(f"{number}.md")
    return world.root / "*.md"


@pytest.mark.parametrize("fault", OTHER_FAULTS)
async def test_what_cannot_be_sent_is_told(world: World, openai: Provider, fault: str) -> None:
    make, why = OTHER_FAULTS[fault]
    async with serving(world, openai) as konstruct:
        with pytest.raises(FileRefusedError) as raised:
            await ask(konstruct, make(world))
    assert why in raised.value.message
    assert openai.calls == 0


def test_a_file_of_headers_of_keys_leaves_other_threads_their_turn() -> None:
    """One search for a header and what follows it had all else wait for a second, whoever had written the file."""
    text = f"-----BEGIN PRIVATE KEY-----{'A' * 39}-" * 20_000
    data, turns = text.encode(), [time.perf_counter()]
    looking = threading.Thread(target=holds_key, args=(data, text, ()))
    looking.start()
    while looking.is_alive():
        time.sleep(0)  # waits for nothing: it gives up the interpreter's lock
        turns.append(time.perf_counter())
    longest = max(after - before for before, after in itertools.pairwise(turns))
    assert longest < (turns[-1] - turns[0]) / 2


async def test_an_error_names_no_more_files_than_a_call_may_send(world: World, openai: Provider) -> None:
    """A hundred wildcards stand for ten thousand files, none of which is even read."""
    for number in range(60):
        os.truncate(world.file(f"big/{number}.md"), 3_000_000)
    named = [f"{world.root}/big/{'*' * stars}.md" for stars in range(1, 4)]
    others = [world.root / f"none-{number}" for number in range(90)]
    async with serving(world, openai) as konstruct:
        with pytest.raises(FileRefusedError) as raised:
            await ask(konstruct, *named, *others)
    said = raised.value.message
    assert said.count("/big/") == 60
    assert said.count("/none-") == 40
    assert said.endswith("; and 50 more")


async def test_every_fault_is_named_at_once(world: World, openai: Provider) -> None:
    named = [
        world.root / "a.txt",
        world.root / "none",
        world.secret,
        world.file("b.bin", b"\0"),
        world.root / "sub",
        "x",
    ]
    async with serving(world, openai) as konstruct, connected(konstruct) as client:
        result = await client.call_tool("complete", {"messages": HELLO, "files": [str(path) for path in named]})
    [block] = result.content
    said = getattr(block, "text", "")
    assert said.startswith("file_refused: nothing was sent; ")
    assert f'"{world.root}/none", "{world.secret}": {KEPT_BACK}' in said
    assert f'"{world.root}/b.bin": neither text' in said
    assert f'"{world.root}/sub": a folder' in said
    assert '"x": no absolute path' in said
    assert "a.txt" not in said
    assert openai.calls == 0


HARMLESS: dict[str, Callable[[World], object]] = {
    "a name like a secret's": lambda w: w.file("environment.py"),
    "keys that are none": lambda w: w.file("keys.py", "-----BEGIN PRIVATE KEY-----"),
    "a short word of the environment": lambda w: w.file("shell.txt", "TERM=xterm"),
    "what Git is told to pass over": lambda w: w.file(".gitignore"),
    "a workflow": lambda w: w.file(".github/workflows/ci.yml"),
    "dots in a name": lambda w: w.file("a..b/..c.txt"),
    "a second hard link": lambda w: hard_link(w, w.secret),
    "a detour within the root": lambda w: f"{w.root}/sub/../a.txt",
    "another form of its letters": lambda w: w.file("cafe\u0301.txt"),
}


async def test_what_is_harmless_is_sent(world: World, openai: Provider) -> None:
    """A hard link too: to make one takes the right to the file itself."""
    async with serving(world, openai) as konstruct:
        for name, make in HARMLESS.items():
            completion = await ask(konstruct, make(world))
            assert len(completion.files) == 1, name
    assert openai.calls == len(HARMLESS)


# -- races -----------------------------------------------------------------------------------------------------------


# Puts a link out of the root in the place of a file or a folder, and takes it away again, as fast as it can. It dwells
# on each, or nobody would find either.
_ATTACKER = """
import os, sys
place, aside, target = sys.argv[1:]
print(flush=True)
while True:
    os.rename(place, aside)
    os.symlink(target, place)
    for _ in range(1000): pass
    os.unlink(place)
    os.rename(aside, place)
    for _ in range(1000): pass
"""


@pytest.mark.many_cases
@pytest.mark.parametrize("kind", ["file", "folder", "wildcard"])
def test_a_link_that_is_swapped_meanwhile_leads_nowhere(world: World, kind: str) -> None:
    """Each read has what is inside, or is refused. The reader is tried by itself: a call would ask a provider, and give
    the attacker one chance where it has a hundred here."""
    inside = world.file("swapped.txt" if kind == "file" else "swapped/secret.txt", "inside")
    place, target = (inside, world.secret) if kind == "file" else (inside.parent, world.outside)
    named = str(inside.with_name("*.txt") if kind == "wildcard" else inside)
    access = FileAccess(FileSettings(), (world.root,))
    attacker = [sys.executable, "-c", _ATTACKER, str(place), str(world.root / "aside"), str(target)]
    with subprocess.Popen(attacker, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            running.stdout.readline()  # it has begun
            found = [read_files([named], access) for _ in range(_TRIES)]
        finally:
            running.kill()
    read = [file.data for one in found for file in one.files]
    assert set(read) == {b"inside"}
    assert 0 < len(read) < _TRIES  # else it was no race


# -- what is left behind ---------------------------------------------------------------------------------------------


async def test_neither_the_log_nor_the_ledger_has_a_name(
    world: World, openai: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    names = ("peculiar-name.txt", "peculiar-none.txt")
    world.file(names[0], "peculiar content")
    async with serving(world, openai) as konstruct:
        await ask(konstruct, world.root / names[0])
        with pytest.raises(FileRefusedError):
            await ask(konstruct, world.root / names[1])
    logged = [record.getMessage() for record in caplog.records if record.name.startswith(("konstruct_mcp", "litellm"))]
    assert "peculiar" not in "\n".join(logged)
    for file in (path for path in world.home.rglob("*") if path.is_file()):
        assert b"peculiar" not in file.read_bytes(), file


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """No handle is left open, whatever was refused."""
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.is_dir() else 0
    yield
    after = len(list(folder.iterdir())) if folder.is_dir() else 0
    assert after <= before + 12  # what LiteLLM and the ledger keep open for later
