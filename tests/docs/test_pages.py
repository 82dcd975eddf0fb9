"""How the pages hang together: the README's order and length, links and anchors, the reading order, the map."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.pages import PAGES, REPOSITORY, code
from support.reader import PROJECT

from konstruct_mcp.cli.main import cli

README = PAGES["README.md"]
CONTRIBUTING = PAGES["CONTRIBUTING.md"]
TEST_FILES = {file.name for folder in ("tests", "benchmarks") for file in (REPOSITORY / folder).rglob("*.py")}


def test_the_readme_is_short_and_in_the_order_of_a_newcomer() -> None:
    assert len(README.text.splitlines()) <= 250
    assert README.headings(2) == [
        "Install and try",
        "Install it and attach it",
        "For a team",
        "A config of your own",
        "What it promises",
        "What it does not do",
        "Development",
        "Licence",
    ]
    [config] = README.of("yaml")
    assert len(config.text.splitlines()) == 6


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_first_what_it_is(name: str) -> None:
    assert re.match(r"# \S.*\n\n[A-Z\w`]", PAGES[name].text)
    assert len(PAGES[name].headings(1)) == 1


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = PAGES[name]
    for target in page.links():
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.file.parent / path).resolve() if path else page.file
        assert there.is_file(), target
        if anchor:
            assert anchor in PAGES[there.relative_to(REPOSITORY).as_posix()].anchors(), target


def test_every_page_is_linked_from_an_index() -> None:
    linked = {
        (page.file.parent / target.partition("#")[0]).resolve().relative_to(REPOSITORY).as_posix()
        for page in (README, CONTRIBUTING, PAGES["docs/index.md"], PAGES["docs/clients/index.md"])
        for target in page.links()
        if not target.startswith("https://")
    }
    assert set(PAGES) - {"README.md"} <= linked


def test_an_extra_is_never_installed_by_a_name_on_an_index() -> None:
    """Nobody has registered the name, and whoever does would supply what is installed."""
    told = [page.text for page in PAGES.values()]
    told += [file.read_text("utf-8") for file in (REPOSITORY / "konstruct_mcp").rglob("*.py")]
    by_name = re.compile(r"konstruct-mcp\[[^]]*\](?! @ git\+)|pip install '?konstruct[-_]mcp")
    assert not any(by_name.search(text) for text in told)


def test_the_map_lists_the_packages_in_the_order_of_their_imports() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    _, _, begun = CONTRIBUTING.text.partition("<!-- map -->")
    rows = [
        row.strip("|").split("|") for row in begun.partition("<!-- end of map -->")[0].splitlines()[2:] if "`" in row
    ]

    assert [f"konstruct_mcp.{code(row[0])[0].rstrip('/')}" for row in rows] == [
        package for layer in layers for package in layer.split(" | ") if not package.endswith("__main__")
    ]
    for row in rows:
        assert all((REPOSITORY / folder).is_dir() for folder in code(row[2])), row


HEADS = {
    head.parent: doc
    for head in sorted((REPOSITORY / "konstruct_mcp").rglob("__init__.py"))
    if re.search(r"^[\w, /]+ {3,}\S", doc := ast.get_docstring(ast.parse(head.read_text("utf-8"))) or "", re.MULTILINE)
}


@pytest.mark.parametrize(("folder", "head"), HEADS.items(), ids=[folder.name for folder in HEADS])
def test_the_head_of_a_package_that_lists_modules_names_them_all(folder: Path, head: str) -> None:
    names = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("__")}
    if folder.name == "cli":  # it says that a command has the module of its name
        names -= set(cli.commands)
    said = set(re.findall(r"\w+", head))
    assert names <= said, names - said


def test_the_markers_are_told() -> None:
    told = CONTRIBUTING.names("marker")
    assert told == [line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]


@pytest.mark.parametrize(
    "row", PAGES["docs/upgrading-litellm.md"].table("what", "where", "which test notices"), ids=lambda row: row[0][:60]
)
def test_what_is_relied_on_of_litellm_is_where_the_page_says(row: list[str]) -> None:
    there_are = [*(REPOSITORY / "konstruct_mcp").rglob("*.py"), *(REPOSITORY / ".ci").rglob("*.py")]
    there_are.append(REPOSITORY / "pyproject.toml")
    named = code(row[1])
    files = [name for name in named if name.endswith((".py", ".toml"))]
    text = "".join(file.read_text("utf-8") for name in files for file in there_are if file.match(name))

    assert text
    assert all(name in text for name in named if name not in files)
    noticing = [name for name in code(row[2]) if name.endswith(".py")]
    assert {name.rpartition("/")[2] for name in noticing} <= TEST_FILES


def test_each_patch_of_litellm_names_tests_that_there_are() -> None:
    named = {
        name
        for file in (REPOSITORY / "konstruct_mcp" / "providers" / "litellm").rglob("*.py")
        for told in re.findall(r"Noticed by: ((?:[^.]|\.py)*)", file.read_text("utf-8"))
        for name in re.findall(r"`([\w/]+\.py)`", told)
    }
    assert len(named) > 5
    assert {name.rpartition("/")[2] for name in named} <= TEST_FILES
