"""What was spent and what is left, as a person reads it: `konstruct-mcp usage` and `konstruct-mcp budgets`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ran, Terminal, ended, run, started
from support.databases import sqlite
from support.default_groups import write
from support.fork_server import ForkServer
from support.priced_config import priced_config
from support.processes import wait_for
from support.providers import Provider

TODAY = datetime.now(UTC).date()
FIGURES = ("calls", "failed", "unpriced", "input_tokens", "output_tokens", "cached_tokens")
# (days ago, tenant, group, model), and as in the ledger: FIGURES and nano-dollars.
SPENT: list[tuple[tuple[int, str, str, str], tuple[int, ...]]] = [
    ((0, "acme", "paid", "openai/paid"), (120, 3, 0, 1_234_567, 234_567, 1_000, 1_703_701_000)),
    ((1, "acme", "paid", "openai/paid"), (10, 0, 0, 1_000, 2_000, 0, 5_000_000)),
    ((40, "acme", "free", "ollama/qwen3:8b"), (1_000, 10, 0, 9_999_999, 888_888, 0, 0)),
    ((3, "globex", "unpriced", "openai/unpriced"), (5, 0, 5, 100, 100, 0, 0)),
    ((0, "globex", "paid", "openai/paid"), (1, 0, 0, 11, 7, 0, 16)),
    ((0, "globex", "paid", ""), (2, 2, 1, 0, 0, 0, 0)),
    ((50, "acme", "gone", "openai/gone"), (7, 0, 0, 70, 70, 0, 0)),
]
BUDGETS = [{"usd": 5, "per": "day"}, {"usd": 20, "per": "total", "groups": ["paid"]}]
MONTHLY = [{"usd": 9, "per": "month"}]
TENANTS: dict[str, Any] = {
    "acme": None,
    "globex": {"budgets": [{"usd": 0.5, "per": "total"}]},
    "umbrella": {"budgets": []},
    "monthly": {"budgets": MONTHLY},
}


def ago(days: int) -> str:
    return (TODAY - timedelta(days=days)).isoformat()


@pytest.fixture
def config(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> Path:
    database = sqlite(tmp_path)
    path = write(
        tmp_path,
        priced_config(database, openai, anthropic, ollama, budgets=BUDGETS, tenants=TENANTS, allow_unknown=True),
    )
    ask(path, "usage")  # makes the tables
    for (days, *rest), figures in SPENT:
        values = ", ".join(repr(value) for value in (rest[0], ago(days), *rest[1:], *figures))
        database.run(f"INSERT INTO konstruct_spend VALUES ({values}, 0, {figures[2]})")
    for tenant in ("acme", "globex"):
        database.run(f"INSERT INTO konstruct_tenants VALUES ('{tenant}')")
    lapses = int(datetime.now(UTC).timestamp()) + 10_000
    reservation = f"'c', 1, 'o', 'acme', 'paid', 250000000, {lapses}, 'openai/paid', NULL"
    database.run(f"INSERT INTO konstruct_reservations VALUES ({reservation})")
    return path


def ask(config: Path, *arguments: str | Path, env: Mapping[str, str] = {}) -> Ran:
    return run("--config", config, *arguments, env=env)


def rows(ran: Ran) -> list[list[str]]:
    """The cells of the first table that was printed, without its bars."""
    assert (ran.code, ran.err) == (0, "")
    table = ran.out.split("\n\n")[0].splitlines()
    return [[cell for cell in line.split("  ") if cell.strip() and not set(cell) & set("█▊▉▋▌▍▎▏")] for line in table]


def cells(ran: Ran) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in rows(ran)]


class TestUsage:
    def test_is_a_table_with_bars(self, config: Path) -> None:
        ran = ask(config, "usage", "--since", "30d")
        assert cells(ran) == [
            ["group", "calls", "failed", "tokens in", "out", "cached", "cost"],
            ["paid", "133", "5", "1,235,578", "236,574", "1,000", "≥ $1.708701"],
            ["unpriced", "5", "0", "100", "100", "0", "unknown"],
            ["total", "138", "5", "1,235,678", "236,674", "1,000", "≥ $1.708701"],
            ["the cost of 6 of 138 calls is unknown, and not in these sums"],
        ]
        paid, unpriced = ran.out.splitlines()[1:3]
        assert paid.endswith("█" * 20)
        assert "█" not in unpriced

    @pytest.mark.parametrize(
        ("by", "lines"),
        [
            ("group", [("paid", 133), ("free", 1000), ("gone", 7), ("unpriced", 5)]),
            (
                "model",
                [
                    *(("openai/paid", 131), ("ollama/qwen3:8b", 1000), ("openai/gone", 7)),
                    *(("openai/unpriced", 5), ("(nobody answered)", 2)),
                ],
            ),
            ("tenant", [("acme", 1137), ("globex", 8)]),
            ("day", [(ago(50), 7), (ago(40), 1000), (ago(3), 5), (ago(1), 10), (ago(0), 123)]),
        ],
    )
    def test_has_a_line_for_each(self, config: Path, by: str, lines: list[tuple[str, int]]) -> None:
        [header, *found, total, _] = cells(ask(config, "usage", "--by", by))
        assert header[0] == by
        assert [row[:2] for row in found] == [[name, f"{calls:,}"] for name, calls in lines]
        assert total[:2] == ["total", "1,145"]

    @pytest.mark.parametrize(
        ("arguments", "calls"),
        [
            ([], 1145),
            (["--tenant", "acme"], 1137),
            (["--tenant", "initech"], 0),
            (["--group", "paid"], 133),
            (["--group", "paid", "--tenant", "globex"], 3),
            (["--group", "strong"], 0),
            (["--group", "gone"], 7),  # from the config, but not from the ledger
            (["--since", "0d"], 123),
            (["--since", "1d"], 133),
            (["--since", "3d", "--until", "1d"], 15),
            (["--until", "4d"], 1007),
            (["--since", ago(40), "--until", ago(40)], 1000),
            (["--since", ago(-1)], 0),
        ],
    )
    def test_is_of_what_was_asked_for(self, config: Path, arguments: list[str], calls: int) -> None:
        ran = ask(config, "usage", "--json", *arguments)
        assert (ran.code, ran.err) == (0, "")
        assert json.loads(ran.out)["total"]["calls"] == calls
        assert ("no calls" in ask(config, "usage", *arguments).out.splitlines()) is (calls == 0)

    def test_says_what_unknown_costs_can_be_at_most(self, config: Path, tmp_path: Path) -> None:
        held = "held_nusd = 1000000000, unbounded = 0"
        sqlite(tmp_path).run(f"UPDATE konstruct_spend SET {held} WHERE model IN ('openai/unpriced', '')")
        [header, *lines] = cells(ask(config, "usage", "--since", "30d"))
        assert header[-1] == "at most"
        assert [line[-2:] for line in lines[:3]] == [
            ["≥ $1.708701", "$2.708701"],
            ["unknown", "$1"],
            ["≥ $1.708701", "$3.708701"],
        ]
        header, line, said = cells(ask(config, "budgets", "--tenant", "globex"))
        assert header == ["tenant", "budget", "spent", "held", "reserved", "left", "renews"]
        assert line == ["globex", "$0.50 in total", "<$0.000001", "$2", "$0", "$0", "never"]
        assert said == ["held: the most that tries of unknown cost can have cost, such as those that were broken off"]

    def test_as_json_is_all_of_it(self, config: Path) -> None:
        told = json.loads(ask(config, "usage", "--json", "--since", ago(30)).out)
        assert (told["tenant"], told["since"], told["until"]) == (None, ago(30), None)
        assert {key for key in told if key.startswith("by_")} == {"by_group", "by_model", "by_day", "by_tenant"}
        for by in ("group", "model", "day", "tenant"):
            for figure in FIGURES:
                assert sum(line[figure] for line in told[f"by_{by}"]) == told["total"][figure]
        assert (told["total"]["cost_usd"], told["total"]["at_most_usd"]) == (1.708701016, None)
        costs = {line["group"]: line["cost_usd"] for line in told["by_group"]}
        assert costs == {"paid": 1.708701016, "unpriced": None}  # what is unknown is not 0
        assert [
            (it["tenant"], it["usd"], it["spent_usd"], it["reserved_usd"], it["left_usd"]) for it in told["budgets"]
        ] == [
            ("acme", 5, 1.703701, 0.25, 3.046299),
            ("acme", 20, 1.708701, 0.25, 18.041299),
            ("globex", 0.5, 0.000000016, 0, 0.499999984),
            ("monthly", 9, 0, 0, 9),
            ("default", 5, 0, 0, 5),  # who would be on them, without a call yet
            ("default", 20, 0, 0, 20),
        ]

    def test_as_csv_is_for_a_spreadsheet(self, config: Path) -> None:
        ran = ask(config, "usage", "--csv", "--by", "tenant")
        [acme, globex] = csv.DictReader(io.StringIO(ran.out))
        assert list(acme) == ["tenant", *FIGURES, "cost_usd", "at_most_usd"]
        assert (acme["calls"], acme["cost_usd"]) == ("1137", "1.708701")
        assert globex["cost_usd"] == "0.000000016"  # no 1.6e-08
        [unknown] = csv.DictReader(io.StringIO(ask(config, "usage", "--csv", "--group", "unpriced").out))
        assert unknown["cost_usd"] == ""

    def test_shows_a_name_as_the_text_that_it_is(self, config: Path, tmp_path: Path) -> None:
        """In a spreadsheet, too, which takes some for formulas, and may end a cell at a semicolon."""
        names = {"=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "@SUM(1)": "'@SUM(1)", "+1": "'+1", "-1": "'-1"}
        names |= {"\x1b[2J\u202e\r\n=1": "?[2J???=1", 'a;=1,"': 'a;=1,"', "＝1": "'＝1", "plain/x": "plain/x"}
        with sqlite(tmp_path).engine.begin() as connection:
            for name in names:
                row = ("t", ago(0), "paid", name, *(0 for _ in FIGURES), 0, 0, 0)
                connection.exec_driver_sql(f"INSERT INTO konstruct_spend VALUES ({', '.join('?' for _ in row)})", row)
        ran = ask(config, "usage", "--csv", "--by", "model", "--tenant", "t")
        lines = list(csv.DictReader(io.StringIO(ran.out)))
        assert sorted(line["model"] for line in lines) == sorted(names.values())
        assert '"a;=1,""",0' in ran.out
        table = ask(config, "usage", "--by", "model", "--tenant", "t").out
        assert "?[2J???=1 " in table
        assert not {"\x1b", "\u202e", "\r"} & set(ran.out + table)

    def test_as_a_page_goes_to_a_file(self, config: Path, tmp_path: Path) -> None:
        file = tmp_path / "usage.html"
        ran = ask(config, "usage", "--html", file)
        assert (ran.code, ran.out, ran.err) == (0, "", f"written to {file}\n")
        assert file.read_text("utf-8").startswith("<!doctype html>")

    def test_as_a_page_goes_to_stdout_for_a_dash(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ran = ask(config, "usage", "--html", "-")
        assert ran.out.startswith("<!doctype html>")
        assert not (tmp_path / "-").exists()

    def test_of_the_environments_tenant_is_that_ones(self, config: Path) -> None:
        env = {"KONSTRUCT_TENANT_ID": " globex "}
        assert ask(config, "usage", env=env).out.startswith("tenant globex\n\ngroup")
        assert not ask(config, "usage", "--tenant", "", env=env).out.startswith("tenant")
        assert json.loads(ask(config, "usage", "--json", env=env).out)["tenant"] == "globex"
        assert {b["tenant"] for b in json.loads(ask(config, "budgets", "--json", env=env).out)["budgets"]} == {"globex"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--since", "tomorrow"], "'--since': should be a date like 2026-01-31, or 7d for seven days ago"),
            (["--until", "2026-02-30"], "'--until': should be a date like 2026-01-31, or 7d for seven days ago"),
            (["--since", "20260131"], "'--since': should be a date like 2026-01-31, or 7d for seven days ago"),
            (
                ["--since", "2026-02-01", "--until", "2026-01-01"],
                "error: invalid_argument: since: 2026-02-01 is after until, 2026-01-01",
            ),
            (["--tenant", "a b"], "error: invalid_argument: tenant_id: should be 1 to 128 letters, digits"),
            (["--group", "fats"], 'error: unknown_group: no group "fats"; groups: free, paid, strong, unpriced'),
            (["--json", "--csv"], "--json, --csv and --html exclude each other"),
            (["--csv", "--html", "x"], "--json, --csv and --html exclude each other"),
            (["--by", "hour"], "Invalid value for '--by'"),
        ],
    )
    def test_that_cannot_be_is_the_users_mistake(self, config: Path, arguments: list[str], message: str) -> None:
        ran = ask(config, "usage", *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err

    def test_that_cannot_be_written_is_a_failure(self, config: Path, tmp_path: Path) -> None:
        file = tmp_path / "nowhere" / "usage.html"
        ran = ask(config, "usage", "--html", file)
        assert (ran.code, ran.out, ran.err) == (
            1,
            "",
            f"Error: Could not open file {str(file)!r}: No such file or directory\n",
        )

    def test_of_a_ledger_that_is_out_of_reach_is_a_failure(self, config: Path, tmp_path: Path) -> None:
        env = {"KONSTRUCT_LEDGER_URL": "postgresql://u:hunter2@127.0.0.1:1/x", "XDG_DATA_HOME": str(tmp_path)}
        for command in ("usage", "budgets"):
            ran = ask(config, command, env=env)
            assert (ran.code, ran.out) == (1, "")
            assert ran.err.startswith("error: ledger: the ledger is out of reach (connection failed: ")
            assert ran.err.endswith("Connection refused); try again later\n")
            assert ran.err.count("\n") == 1
            assert "hunter2" not in ran.err

    @pytest.mark.many_cases
    @pytest.mark.parametrize(("columns", "bar"), [(120, 20), (80, 15), (70, 0), (40, 0)])
    def test_cuts_no_figure_in_a_narrow_terminal(self, config: Path, columns: int, bar: int) -> None:
        shown = self.at(columns, "--config", config, "usage", "--group", "paid", "--by", "tenant")
        for figure in ("1,235,567", "236,567", "1,000", "$1.708701"):
            assert figure in shown
        assert max(line.count("█") for line in shown.splitlines()) == bar

    def test_has_bars_in_a_terminal_with_colours(self, config: Path) -> None:
        shown = self.at(120, "--config", config, "usage", "--group", "paid", "--by", "tenant")
        assert "$1.708701  ████" in shown

    def test_folds_a_long_name_in_a_narrow_terminal(self, config: Path, tmp_path: Path) -> None:
        name = "openai/" + "long-" * 12 + "name"
        sqlite(tmp_path).run(f"UPDATE konstruct_spend SET model = '{name}' WHERE model = 'openai/gone'")
        shown = self.at(80, "--config", config, "usage", "--by", "model", "--until", "45d").split("\n\n")[0]
        assert max(map(len, shown.splitlines())) <= 80
        width = shown.index("calls")
        assert name in "".join(line[:width].strip() for line in shown.splitlines())

    @staticmethod
    def at(columns: int, *arguments: str | Path) -> str:
        colours = {"TERM": "xterm-256color"}  # which a terminal that a person uses has
        with Terminal(columns) as terminal, started(*arguments, env=colours, stdout=terminal.theirs) as process:
            terminal.hand_over()
            shown = terminal.read_until()
            assert ended(process).code == 0
        assert "\N{REPLACEMENT CHARACTER}" not in shown
        return shown


class TestBudgets:
    def test_are_a_table_with_bars(self, config: Path) -> None:
        ran = ask(config, "budgets")
        tomorrow, next_month = ago(-1), (TODAY.replace(day=1) + timedelta(days=32)).replace(day=1).isoformat()
        assert cells(ran) == [
            ["tenant", "budget", "spent", "reserved", "left", "renews"],
            ["acme", "$5 per day", "$1.703701", "$0.25", "$3.046299", tomorrow],
            ["acme", "$20 in total for paid", "$1.708701", "$0.25", "$18.041299", "never"],
            ["globex", "$0.50 in total", "<$0.000001", "$0", "$0.50", "never"],
            ["monthly", "$9 per month", "$0", "$0", "$9", next_month],
            ["default", "$5 per day", "$0", "$0", "$5", tomorrow],
            ["default", "$20 in total for paid", "$0", "$0", "$20", "never"],
        ]
        assert "█" in ran.out.splitlines()[1]

    def test_are_those_of_one_tenant(self, config: Path) -> None:
        ran = ask(config, "budgets", "--tenant", "globex", "--json")
        assert json.loads(ran.out) == {
            "budgets": [
                {
                    "tenant": "globex",
                    "usd": 0.5,
                    "per": "total",
                    "groups": [],
                    "spent_usd": 0.000000016,
                    "held_usd": 0.0,
                    "reserved_usd": 0.0,
                    "left_usd": 0.499999984,
                    "renews_at": None,
                }
            ]
        }

    def test_of_nobody_are_none(self, config: Path) -> None:
        assert ask(config, "budgets", "--tenant", "umbrella").out == "no budgets\n"

    @pytest.mark.parametrize("tenant", ["a b", "a/b"])
    def test_of_what_is_no_tenant_are_the_users_mistake(self, config: Path, tenant: str) -> None:
        ran = ask(config, "budgets", "--tenant", tenant)
        assert (ran.code, ran.out) == (2, "")
        assert "invalid_argument: tenant_id: should be 1 to 128 letters, digits" in ran.err

    def test_of_a_day_and_a_month_renew(self, config: Path) -> None:
        renews = {b["per"]: b["renews_at"] for b in json.loads(ask(config, "budgets", "--json").out)["budgets"]}
        assert date.fromisoformat(renews["day"][:10]) == TODAY + timedelta(days=1)
        assert date.fromisoformat(renews["month"][:10]) == (TODAY.replace(day=1) + timedelta(days=32)).replace(day=1)
        assert renews["total"] is None


LOST = '$1.25 was spent on the group "gone", which the config does not name any more, so that no budget on groups'


class TestCheck:
    def test_says_what_was_spent_on_groups_of_another_name(self, config: Path, tmp_path: Path) -> None:
        sqlite(tmp_path).run("UPDATE konstruct_spend SET cost_nusd = 1250000000 WHERE model = 'openai/gone'")
        assert f"\n{LOST}" in ask(config, "check").out

    def test_says_where_the_ledger_is(self, config: Path, tmp_path: Path) -> None:
        assert f"\nledger: {tmp_path}/ledger.sqlite3\n" in ask(config, "check").out

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("postgresql://u:hunter2@127.0.0.1:1/x", "127.0.0.1:1/x; the ledger is out of reach (connection failed"),
            ("nobase://u:hunter2@h/x", "***@h/x; the ledger's URL cannot be used; see konstruct.ledger_url and"),
            ("mysql+nodriver://u:hunter2@h/x", "***@h/x; the ledger's URL cannot be used"),
        ],
    )
    def test_says_why_there_is_none(self, config: Path, tmp_path: Path, url: str, said: str) -> None:
        ran = ask(config, "check", env={"KONSTRUCT_LEDGER_URL": url, "XDG_DATA_HOME": str(tmp_path)})
        assert ran.code == 1
        assert said in ran.out
        assert "hunter2" not in ran.out + ran.err


def test_every_number_of_the_resource_is_that_of_the_command(
    config: Path, tmp_path: Path, fork_server: ForkServer | None
) -> None:
    """And the log of the server says what the command `check` does."""
    from support.stdio_lines import ServerProcess

    sqlite(tmp_path).run("UPDATE konstruct_spend SET cost_nusd = 1250000000 WHERE model = 'openai/gone'")
    with ServerProcess(config, fork_server=fork_server) as server:
        server.initialize()
        wait_for(lambda: f"WARNING: {LOST}".encode() in server.errors)
        [contents] = server.ask("resources/read", {"uri": "konstruct://usage"})["contents"]
    told: dict[str, Any] = json.loads(contents["text"])
    assert told == json.loads(ask(config, "usage", "--json", "--since", "29d").out)
    assert told["total"]["calls"] == 138  # of the last 30 days
