"""Every fault of a provider in every wire format: what an assistant reads, after how many tries, and what it costs.

`MATRIX` is the whole of it. All of its rows run at once on one server process over stdio, each in a group and on a
tenant of its own; then what can be mended is mended, and each group is called once more. `python
tests/tables.py faults` prints what came of it.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
import pytest
from support.certificates import self_signed
from support.databases import sqlite
from support.default_groups import entry, write
from support.fork_server import ForkServer
from support.priced_config import COST_NUSD as COST
from support.priced_config import PRICES
from support.providers import (
    NO_HOST,
    Answer,
    AnswerFor,
    Dribble,
    Hang,
    HangBody,
    Provider,
    Raw,
    Received,
    Reset,
    Status,
    Text,
    Wire,
)
from support.stdio_lines import ServerProcess

# What the matrix has to hold, each for every wire format.
FAULTS = (
    *("refuse", "reset", "hang before headers", "hang mid-body", "dribble"),
    *("400", "401", "403", "404", "408", "413", "429", "429, retry-after seconds", "429, retry-after a date"),
    *("400, no tools", "400, account disabled", "400, model retired", "400, usage limit", "400, malformed history"),
    *("407", "413, tokens per minute", "200 that holds an error"),
    *("500", "502", "503", "504", "529", "redirect", "HTML with 200", "truncated JSON", "wrong content type"),
    *("empty body", "empty choices", "null content", "negative usage", "huge usage", "usage in words"),
    *(
        "10 MB answer",
        "13 MB answer",
        "invalid UTF-8",
        "lone surrogates",
        "duplicate tool-call ids",
        "tool arguments not JSON",
    ),
    *("unverifiable certificate", "DNS that fails"),
)
WIRES: tuple[Wire, ...] = get_args(Wire)
ALL: Sequence[Wire] = WIRES
CHAT: Sequence[Wire] = ("openai",)
LOCAL: Sequence[Wire] = ("ollama",)
CLAUDE: Sequence[Wire] = ("anthropic",)

TIMEOUT_S = 1.5  # of a deployment that hangs
MOST_S = 60  # for any call, on a machine that is busy with much else; the deadline is five times as long
BIG = 10_000_000
HEAD = 20  # characters of the big answer that are looked at
KEYS: dict[Wire, str] = {wire: f"sk-matrix-{wire}-7f3a9c" for wire in WIRES}
BODY = "a-word-of-the-body"
NAMES_IN_BODIES = ("chatcmpl-fake", "fp_fake", "msg_fake", "req_fake")  # which every well-formed one has
QUOTED = f"not with {' or '.join(KEYS.values())}"  # of a request's refusal, the reason is told
MASKED = f"not with {' or '.join('***' for _ in KEYS)}"
NEW = "an id that is new"
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}

Gives = Answer | AnswerFor | Literal["refuses", "is not trusted", "has no address"]
Calls = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """One fault, in those wire formats in which it means the same.

    Attributes:
        gives: what the provider does; or why no request reaches it.
        outcome: the code of the error; "ok" for an answer.
        reads: why, as the error puts it; or the text of the answer.
        tries: how many there are, of one request each.
        cost: nano-dollars in the ledger; None where nobody can know.
        calls: the id and the arguments of each tool call in the answer.
        waits_s: seconds between two tries, at least.
    """

    fault: str
    wires: Sequence[Wire]
    gives: Gives
    outcome: Literal["ok", "bad_request", "unsupported", "all_failed"]
    reads: str
    tries: int
    cost: int | None
    calls: Calls = ()
    waits_s: float = 0


def fails(
    fault: str, wires: Sequence[Wire], gives: Gives, reads: str, tries: int, cost: int | None, waits_s: float = 0
) -> Row:
    return Row(fault, wires, gives, "all_failed", reads, tries, cost, waits_s=waits_s)


def refused(fault: str, wires: Sequence[Wire], gives: Gives, reads: str) -> Row:
    return Row(fault, wires, gives, "bad_request", reads, 1, 0)


def lacks(fault: str, wires: Sequence[Wire], gives: Gives, reads: str) -> Row:
    return Row(fault, wires, gives, "unsupported", reads, 1, 0)


def served(
    fault: str, wires: Sequence[Wire], gives: Gives, reads: str, cost: int | None, *calls: tuple[str, str]
) -> Row:
    return Row(fault, wires, gives, "ok", reads, 1, cost, calls)


def changed(**fields: Any) -> AnswerFor:
    """A completion with other fields than it should have."""
    return raw(lambda body: json.dumps(json.loads(body) | fields).encode())


def raw(change: Callable[[bytes], bytes], content_type: str = "application/json") -> AnswerFor:
    return lambda received: Raw(change(Text("Hello").render(received)), content_type=content_type)


def usage(sent: Any, answered: Any) -> AnswerFor:
    openai = {"prompt_tokens": sent, "completion_tokens": answered}
    ollama = {"prompt_eval_count": sent, "eval_count": answered}
    return changed(usage=openai | {"input_tokens": sent, "output_tokens": answered}, **ollama)


def tools(*arguments: str) -> Text:
    """Calls of a tool, all by the same id."""
    return Text("", tool_calls=[("1", "get_weather", each) for each in arguments])


def cut_off(body: bytes) -> bytes:
    return body[:-9]


def latin_1(body: bytes) -> bytes:
    return body.replace(b"Hello", b"H\xe4llo")


def a_date(_: Received) -> Status:
    # In one to two seconds, as it is cut to whole ones.
    then = datetime.now(UTC) + timedelta(seconds=2)
    return Status(429, BODY, {"retry-after": format_datetime(then, usegmt=True)})


def big(_: Received) -> Text:
    return Text("x" * BIG)


def too_big(_: Received) -> Text:
    return Text("x" * 13_000_000)


A_SECOND = Status(429, BODY, {"retry-after": "1"})
NOTHING = {"role": "assistant", "content": None}
NULL = {"index": 0, "finish_reason": "stop", "message": NOTHING}
SPOILT = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{city:"}}]}
CALL = {"type": "tool_use", "id": "1", "name": "get_weather", "input": "{city:"}
TOO_BIG = "unusable answer (of more than 12 MB of text)"
PAGE = Raw(f"<html>{BODY}</html>".encode(), content_type="text/html")
ELSEWHERE = Raw(b"", status=307, headers={"location": f"/{BODY}"})
NO_TOOLS = Status(400, "x does not support tools")
DISABLED = Status(400, f"This organization has been disabled. {BODY}")
RETIRED = Status(400, f"The model `x` has been decommissioned and is no longer supported. {BODY}")
USED_UP = Status(400, f"You have reached your specified API usage limits. {BODY}")
ORPHAN = "tool_use ids were found without tool_result blocks immediately after"
MALFORMED = Status(400, ORPHAN)
TOO_LARGE = Status(413, f"Request too large for model `x` on tokens per minute (TPM): Limit 6, Requested 9 {BODY}")
LATE_ERROR = Raw(json.dumps({"error": {"code": 429, "message": BODY}}).encode())
INSIDE = "rate limited (HTTP 200 with an error 429 in it)"
LATE = f"no answer in time (within {TIMEOUT_S} s)"
UNTRUSTED = "connection failed (its certificate is not trusted)"

# fmt: off
MATRIX = (
    # fault                             in      what the provider does     what is read, tries, cost
    fails("refuse",                     ALL,    "refuses",                 "connection failed (refused)", 3, 0),
    fails("reset",                      ALL,    Reset(),                   "connection failed (dropped)", 3, None),
    fails("hang before headers",        ALL,    Hang(),                    LATE, 1, None),
    fails("hang mid-body",              ALL,    HangBody(),                LATE, 1, None),
    fails("dribble",                    ALL,    Dribble(),                 LATE, 1, None),
    refused("400",                      ALL,    Status(400, QUOTED),       MASKED),
    fails("401",                        ALL,    Status(401, BODY),         "key refused (HTTP 401)", 1, 0),
    fails("403",                        CLAUDE, Status(403, BODY),         "key refused (HTTP 403)", 1, 0),
    fails("403",                        LOCAL,  Status(403, BODY),         "key refused (HTTP 403)", 1, 0),
    fails("403",                        CHAT,   Status(403, BODY),         "account refused (HTTP 403)", 1, 0),
    fails("404",                        ALL,    Status(404, BODY),         "no such model (HTTP 404)", 1, 0),
    fails("408",                        ALL,    Status(408, BODY),         "no answer in time (HTTP 408)", 1, None),
    refused("413",                      ALL,    Status(413, QUOTED),       MASKED),
    fails("407",                        ALL,    Status(407, BODY),         "connection failed (HTTP 407)", 1, 0),
    lacks("400, no tools",              ALL,    NO_TOOLS,                  "x does not support tools"),
    fails("400, account disabled",      ALL,    DISABLED,                  "account refused (HTTP 400)", 1, 0),
    fails("400, model retired",         ALL,    RETIRED,                   "no such model (HTTP 400)", 1, 0),
    fails("400, usage limit",           ALL,    USED_UP,                   "quota used up (HTTP 400)", 1, 0),
    refused("400, malformed history",   ALL,    MALFORMED,                 ORPHAN),
    fails("413, tokens per minute",     ALL,    TOO_LARGE,                 "rate limited (HTTP 413)", 1, 0),
    fails("200 that holds an error",    ALL,    LATE_ERROR,                INSIDE, 3, 0),
    fails("429",                        ALL,    Status(429, BODY),         "rate limited (HTTP 429)", 3, 0),
    fails("429, retry-after seconds",   ALL,    A_SECOND,                  "rate limited (HTTP 429)", 3, 0, waits_s=1),
    fails("429, retry-after a date",    ALL,    a_date,                    "rate limited (HTTP 429)", 3, 0, waits_s=1),
    fails("500",                        ALL,    Status(500, BODY),         "server error (HTTP 500)", 3, 0),
    fails("502",                        ALL,    Status(502, BODY),         "server error (HTTP 502)", 3, None),
    fails("503",                        ALL,    Status(503, BODY),         "server error (HTTP 503)", 3, 0),
    fails("504",                        ALL,    Status(504, BODY),         "server error (HTTP 504)", 3, None),
    fails("529",                        ALL,    Status(529, BODY),         "server error (HTTP 529)", 3, 0),
    fails("redirect",                   ALL,    ELSEWHERE,                 "unusable answer (HTTP 307)", 1, 0),
    fails("HTML with 200",              ALL,    PAGE,                      "unusable answer", 1, None),
    fails("truncated JSON",             ALL,    raw(cut_off),              "unusable answer", 1, None),
    served("wrong content type",        ALL,    raw(bytes, "text/plain"),  "Hello", COST),
    fails("empty body",                 ALL,    Raw(b""),                  "unusable answer", 1, None),
    fails("empty choices",              CHAT,   changed(choices=[]),       "unusable answer (no choices)", 1, COST),
    served("empty choices",             CLAUDE, changed(content=[]),       "", COST),
    fails("empty choices",              LOCAL,  changed(message=None),     "unusable answer (no choices)", 1, COST),
    served("null content",              CHAT,   changed(choices=[NULL]),   "", COST),
    served("null content",              LOCAL,  changed(message=NOTHING),  "", COST),
    fails("null content",               CLAUDE, changed(content=None),     "unusable answer", 1, None),
    served("negative usage",            ALL,    usage(-11, -7),            "Hello", None),
    served("huge usage",                ALL,    usage(10**30, 10**30),     "Hello", None),
    served("usage in words",            ALL,    usage("eleven", BODY),     "Hello", None),
    served("10 MB answer",              ALL,    big,                       "x" * HEAD, COST),
    fails("13 MB answer",               ALL,    too_big,                   TOO_BIG, 1, None),
    fails("invalid UTF-8",              ALL,    raw(latin_1),              "unusable answer", 1, None),
    served("lone surrogates",           ALL,    Text("\ud83d!"),           "\ufffd!", COST),
    served("duplicate tool-call ids",   ALL,    tools("{}", "{}"),         "", COST, ("1", "{}"), (NEW, "{}")),
    served("tool arguments not JSON",   CHAT,   tools("{city:"),           "", COST, ("1", "{city:")),
    served("tool arguments not JSON",   LOCAL,  changed(message=SPOILT),   "", COST, ("1", "{city:")),
    served("tool arguments not JSON",   CLAUDE, changed(content=[CALL]),   "", COST, ("1", '"{city:"')),
    fails("unverifiable certificate",   ALL,    "is not trusted",          UNTRUSTED, 3, 0),
    fails("DNS that fails",             ALL,    "has no address",          "connection failed (host not found)", 3, 0),
)
# fmt: on


@dataclass(frozen=True)
class Case:
    """A row in one wire format, also through OpenAI's own client. `name` is that of its group, model and tenant."""

    row: Row
    wire: Wire
    through_client: bool = False

    @property
    def name(self) -> str:
        return f"{self.wire}-{'client-' if self.through_client else ''}" + re.sub(
            r"[^a-z0-9]+", "-", self.row.fault.lower()
        )

    @property
    def model(self) -> str:
        return f"{self.wire}/{self.name}"

    @property
    def hangs(self) -> bool:
        return isinstance(self.row.gives, Hang | HangBody | Dribble)

    @property
    def is_big(self) -> bool:
        return self.row.fault.endswith(" MB answer")

    @property
    def reads(self) -> str:
        """What the assistant reads, to the letter."""
        row = self.row
        match row.outcome:
            case "ok":
                return row.reads
            case "bad_request":
                return f"bad_request: {self.model} refused the request: {row.reads}"
            case "unsupported":
                return (
                    f'unsupported: no deployment of "{self.name}" takes what is asked: {self.model}: '
                    f"cannot do what is asked (HTTP 400): {row.reads}; use another group"
                )
            case "all_failed":
                why = f"{self.model}: {row.reads}" + (f", {row.tries} tries" if row.tries > 1 else "")
                advice = "try again later or use another group"
                if row.reads.startswith(("key refused", "quota used up", "no such model", "account refused")):
                    advice = "use another group, or have it set up"  # waiting does not help
                return f'all_failed: no deployment of "{self.name}" or its fallbacks answered: {why}; {advice}'


CASES = (
    *(Case(row, wire) for wire in WIRES for row in MATRIX if wire in row.wires),
    *(Case(row, "openai", through_client=True) for row in MATRIX if "openai" in row.wires),
)


@dataclass(frozen=True)
class Result:
    """What a call of `complete` came to."""

    outcome: str
    reads: str
    calls: Calls
    cost_usd: float | None

    @classmethod
    def of(cls, result: dict[str, Any]) -> Result:
        text = result["content"][0]
        if result.get("isError"):
            return cls(text["text"].partition(":")[0], text["text"], (), None)
        answer = result["structuredContent"]
        calls = tuple((call["id"], call["function"]["arguments"]) for call in answer["tool_calls"])
        shown = answer["content"][:HEAD] if "truncated" in answer else answer["content"]
        return cls("ok", shown, calls, answer["cost_usd"])


@dataclass(frozen=True)
class Seen:
    """What came of a case: its result, its row in the ledger, when the provider was asked, and the next call."""

    result: Result
    ledger: dict[str, Any]
    asked_at: list[float]
    then: Result


@dataclass
class World:
    """What all cases came to, all that can be read of them afterwards, and what memory the big ones left taken."""

    seen: dict[str, Seen] = field(default_factory=dict, repr=False)
    readable: dict[str, str] = field(default_factory=dict, repr=False)
    grown_by: int = 0


def run(folder: Path, fork_server: ForkServer | None = None) -> World:
    """All cases against one server."""
    world = World()
    database = sqlite(folder)
    gives = {case.name: case.row.gives for case in CASES}
    is_mended = threading.Event()

    def script(received: Received) -> Answer:
        answer = Text("Back") if is_mended.is_set() else gives.get(received.body["model"], Text("Ready"))
        assert not isinstance(answer, str), "asked where no request can come"
        return answer(received) if callable(answer) else answer

    with ExitStack() as stack:
        tls = self_signed(folder)
        places = {
            (wire, kind): stack.enter_context(Provider(wire, tls if kind == "is not trusted" else None))
            for wire in WIRES
            for kind in ("answers", "refuses", "is not trusted")
        }
        for place in places.values():
            place.script(script)
        for wire in WIRES:
            places[wire, "refuses"].stop()

        def deployment(case: Case) -> dict[str, Any]:
            where = case.row.gives if isinstance(case.row.gives, str) else "answers"
            url = NO_HOST if where == "has no address" else places[case.wire, where].url
            more = {**PRICES, "timeout": TIMEOUT_S} if case.hangs else PRICES
            params = {"model": case.model, "api_base": url, "api_key": KEYS[case.wire]}
            through = {"extra_headers": {"x-through": "client"}} if case.through_client else {}
            return entry(case.name, params | through, **more)

        ready = {"model": "openai/ready", "api_base": places["openai", "answers"].url, "api_key": KEYS["openai"]}
        config = {
            "model_list": [entry("ready", ready), *map(deployment, CASES)],
            "router_settings": {"cooldown_time": 600},  # until the next call, however busy the machine is
            "konstruct": {"ledger_url": database.url, "default_group": "ready"},
        }
        server = stack.enter_context(ServerProcess(write(folder, config), fork_server=fork_server))
        server.initialize()
        server.complete("ready")  # so that no case waits for LiteLLM
        memory = psutil.Process(server.process.pid)

        def ask(cases: Iterable[Case], then: str = "") -> dict[str, Any]:
            return {
                case.name: server.send_call(
                    case.name, tenant_id=case.name + then, **({"tools": [TOOL]} if case.row.calls else {})
                )
                for case in cases
            }

        def answers(asked: Mapping[str, Any]) -> dict[str, Result]:
            return {name: Result.of(server.answer(request_id)["result"]) for name, request_id in asked.items()}

        waiting = ask(case for case in CASES if case.row.waits_s)
        results = answers(ask(case for case in CASES if not case.row.waits_s and not case.is_big))
        before = memory.memory_info().rss
        for case in CASES:
            if case.is_big:  # each alone: while such an answer is read, nobody else is served
                results |= answers(ask([case]))
        world.grown_by = memory.memory_info().rss - before
        results |= answers(waiting)
        requests = [request for place in places.values() for request in place.requests]

        is_mended.set()
        for wire in WIRES:
            places[wire, "refuses"].start()
        then = answers(ask(CASES, then=".then"))
        world.readable["groups"] = json.dumps(server.ask("tools/call", {"name": "list_groups", "arguments": {}}))
        world.readable["config"] = json.dumps(server.ask("resources/read", {"uri": "konstruct://config"}))

    rows = {row["tenant"]: row for row in database.rows()}
    database.engine.dispose()
    for case in CASES:
        asked_at = [request.at for request in requests if request.completes and request.asked.model == case.name]
        world.seen[case.name] = Seen(results[case.name], rows[case.name], asked_at, then[case.name])
    world.readable["results"] = repr(world.seen)
    world.readable["stderr"] = server.errors.decode()
    kept = [file for file in folder.rglob("*") if file.is_file() and file.name.startswith("ledger")]
    world.readable["ledger"] = "".join(file.read_bytes().decode("latin-1") for file in kept)
    return world


def test_the_matrix_has_every_fault_once_for_each_wire_format() -> None:
    held = Counter((row.fault, wire) for row in MATRIX for wire in row.wires)
    assert held == Counter((fault, wire) for fault in FAULTS for wire in WIRES)


def test_a_fault_has_the_consequences_that_the_matrix_says(
    tmp_path: Path, fork_server: ForkServer | None, subtests: pytest.Subtests
) -> None:
    """One test, because all cases are of one run, which several workers would make several times."""
    world = run(tmp_path, fork_server)
    for case in CASES:
        with subtests.test(case.name):
            assert_as_the_row_says(case.row, case, world.seen[case.name])
        with subtests.test(f"{case.name}, the next call"):
            then = world.seen[case.name].then
            if case.row.gives in ("is not trusted", "has no address"):  # which no provider mends
                assert then.reads == case.reads.replace(", 3 tries", "")
            else:
                assert (then.outcome, then.reads) == ("ok", "Back")
    assert set(world.readable) == {"groups", "config", "results", "stderr", "ledger"}
    for place, text in world.readable.items():
        with subtests.test(f"neither a key nor a body is in the {place}"):
            for secret in (*KEYS.values(), BODY, *NAMES_IN_BODIES):
                assert secret not in text
    assert CASES[-1].name in world.readable["ledger"]
    assert "site-packages" not in world.readable["stderr"]
    with subtests.test("answers of 10 MB and more leave no pile of copies behind"):
        assert world.grown_by < 12 * BIG  # what the allocator has not given back


def assert_as_the_row_says(row: Row, case: Case, seen: Seen) -> None:
    assert seen.result.reads == case.reads
    assert [(call_id if call_id == "1" else NEW, arguments) for call_id, arguments in seen.result.calls] == [*row.calls]
    assert len({call_id for call_id, _ in seen.result.calls}) == len(row.calls)
    assert (seen.ledger["outcome"], seen.ledger["attempts"], seen.ledger["cost_nusd"]) == (
        row.outcome,
        row.tries,
        row.cost,
    )
    if row.outcome == "ok":
        assert seen.result.cost_usd == (None if row.cost is None else row.cost / 1e9)
    assert len(seen.asked_at) == (0 if isinstance(row.gives, str) else row.tries)
    assert all(later - earlier > row.waits_s - 0.01 for earlier, later in pairwise(seen.asked_at))
    assert (TIMEOUT_S if case.hangs else 0) <= seen.ledger["duration_ms"] / 1000 < MOST_S


def table(world: World) -> str:
    """What came of each case, and how many ended which way."""
    lines = ["| wire | fault | came back | tries | requests | s | ledger | next |", "|---" * 8 + "|"]
    ends: Counter[str] = Counter()
    for case in CASES:
        seen = world.seen[case.name]
        why = seen.result.reads.partition(f"{case.model}: ")[2].partition(";")[0]
        came_back = f"{seen.result.outcome}: {why}" if why else ascii(seen.result.reads)
        ends[came_back.partition(" (")[0] if why else seen.result.outcome] += 1
        cost = seen.ledger["cost_nusd"]
        cells = (
            *(
                case.wire + (", its client" if case.through_client else ""),
                case.row.fault,
                came_back,
                seen.ledger["attempts"],
                len(seen.asked_at),
            ),
            f"{seen.ledger['duration_ms'] / 1000:.1f}",
            f"{seen.ledger['outcome']}, {'cost unknown' if cost is None else f'${cost / 1e9:f}'}",
            seen.then.outcome,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(
        [*lines, "", "| came back | cases |", "|---|---|", *(f"| {end} | {n} |" for end, n in ends.items())]
    )


def printed() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return table(run(Path(folder)))
