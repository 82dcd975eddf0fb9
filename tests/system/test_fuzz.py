"""Each parser at an edge gets what nobody would write: no input makes a defect of it, and none is answered twice.

Here are providers' answers in each format, a call's arguments and what lies in the spool; lines are in
`test_stdio_fuzz`, the config in `test_config`. The long forms try many more; with `-m long`.
"""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attacks import MODELS, WIRES
from support.databases import sqlite
from support.default_groups import entry, opened, reaching
from support.priced_config import PRICES, SPOOLED_CALL
from support.providers import Provider, Raw, Received, Text
from support.request_strategies import requests

from konstruct_mcp import InternalError, Konstruct, KonstructError

MOST_NUSD = 5_000_000  # that HELLO can be reserved: 20 tokens of an answer, and some 1,200 of a request
HELLO: dict[str, Any] = {
    "messages": "Hello",
    "max_tokens": 20,
    "timeout_s": 20,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
STATUSES = st.sampled_from([200, 200, 200, 200, 400, 429, 500, 206])

few = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What is done to the body of a good answer: to its JSON, or to its bytes."""
    if draw(st.integers(0, 3)):
        times, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**32))

        def change(body: bytes) -> bytes:
            value, luck = json.loads(body), Random(seed)
            for _ in range(times):
                value = _spoilt(value, luck)
            return json.dumps(value).encode()

        return change
    at, length, junk = draw(st.integers(0, 400)), draw(st.integers(0, 60)), draw(st.binary(max_size=8))
    return lambda body: body[:at] + junk + body[at + length :]


_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**63, 10**400, float("inf"), "", "x", "\ud800", "[" * 3000, "x" * 70_000),
    *([], [None], [[]], {}, {"text": 1}, {"type": "text"}, [{}] * 500),
]


def _spoilt(value: Any, luck: Random) -> Any:
    """The value with something else in one place of it, or without it, or with it twice."""
    places: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    if not places or luck.random() < 0.2:
        return luck.choice(_ODD)
    place, whole = luck.choice(places), dict(value) if isinstance(value, dict) else list(value)
    if luck.random() < 0.1:
        del whole[place]
    elif isinstance(whole, list) and luck.random() < 0.1:
        whole.append(whole[place])
    else:
        whole[place] = _spoilt(value[place], luck)
    return whole


class Answers:
    """One Konstruct that asks a provider of each format, all on one event loop."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        wires = sorted({WIRES.get(group, group) for group in MODELS})
        self.providers = {wire: stack.enter_context(Provider(wire)) for wire in wires}
        self.database = sqlite(folder)
        stack.callback(self.database.engine.dispose)
        self.runner = stack.enter_context(asyncio.Runner())
        config = {
            "model_list": [
                entry(group, reaching(self.provider(group), model), **PRICES) for group, model in MODELS.items()
            ],
            "router_settings": {"num_retries": 0, "allowed_fails": 10**6, "cooldown_time": 0.1},
            "konstruct": {"ledger_url": self.database.url, "budgets": [{"usd": 10**6, "per": "total"}]},
        }
        opening = AsyncExitStack()
        stack.callback(lambda: self.runner.run(opening.aclose()))
        self.konstruct: Konstruct = self.runner.run(opening.enter_async_context(opened(folder, config)))
        self.ask("ollama", HELLO)  # or the ledger has no tables yet

    def provider(self, group: str) -> Provider:
        return self.providers[WIRES.get(group, group)]

    def ask(self, group: str, asked: Mapping[str, Any]) -> None:
        """Whatever comes back, it is a completion or an error that is no defect."""
        try:
            completion = self.runner.run(self.konstruct.complete(**{**asked, "model_group": group}))
        except InternalError:
            raise
        except KonstructError:
            return
        json.dumps(completion.as_dict(), allow_nan=False).encode()
        assert completion.cost_usd is None or completion.cost_usd >= 0
        assert min(completion.usage.input_tokens, completion.usage.output_tokens) >= 0


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    with ExitStack() as stack:
        yield Answers(tmp_path_factory.mktemp("answers"), stack)


def _try_answer(answers: Answers, group: str, change: Callable[[bytes], bytes], status: int) -> None:
    def answer(received: Received) -> Raw:
        good = Text("Hi", tool_calls=[("call_1", "f", '{"a": 1}')])
        return Raw(change(good.render(received)), status)

    answers.provider(group).script(answer)
    spent = answers.database.spent("default")
    answers.ask(group, HELLO)
    assert 0 <= answers.database.spent("default") - spent <= MOST_NUSD
    assert answers.database.reserved("default") == 0


@pytest.mark.many_cases
@pytest.mark.parametrize("group", MODELS)
@few
@given(change=changes(), status=STATUSES)
def test_any_answer_is_one_or_an_error(
    answers: Answers, group: str, change: Callable[[bytes], bytes], status: int
) -> None:
    _try_answer(answers, group, change, status)


@pytest.mark.minutes
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", MODELS)
@many
@given(change=changes(), status=STATUSES)
def test_any_answer_is_one_or_an_error_for_minutes(
    answers: Answers, group: str, change: Callable[[bytes], bytes], status: int
) -> None:
    _try_answer(answers, group, change, status)


def _try_request(answers: Answers, group: str, asked: Mapping[str, Any]) -> None:
    provider = answers.provider(group)
    provider.script(Text("Hi"))
    answers.ask(group, {**asked, "tenant_id": "default", "timeout_s": 20})


@pytest.mark.many_cases
@pytest.mark.parametrize("group", MODELS)
@few
@given(asked=requests())
def test_any_valid_request_is_made_or_refused(answers: Answers, group: str, asked: Mapping[str, Any]) -> None:
    _try_request(answers, group, asked)


@pytest.mark.minutes
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", MODELS)
@many
@given(asked=requests())
def test_any_valid_request_is_made_or_refused_for_minutes(
    answers: Answers, group: str, asked: Mapping[str, Any]
) -> None:
    _try_request(answers, group, asked)


# -- the spool ---------------------------------------------------------------------------------------------------------

ROW: dict[str, Any] = json.loads(json.dumps(asdict(SPOOLED_CALL)))


def _try_row(folder: Path, change: Callable[[bytes], bytes], name: str) -> None:
    """With it in its spool, a server still keeps accounts, and what was wrong is put aside or waits."""
    spool = folder / "ledger.db.spool"
    spool.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    for number, content in enumerate((change(json.dumps(ROW).encode()), json.dumps(ROW | {"id": name}).encode())):
        (spool / f"{name}-{number}.json").write_bytes(content)

    async def used() -> tuple[int, str | None]:
        config = {
            "model_list": [entry("g", {"model": "ollama/x", "api_base": "http://127.0.0.1:9"})],
            "konstruct": {"ledger_url": f"sqlite:///{folder / 'ledger.db'}"},
        }
        async with opened(folder, config) as konstruct:
            report = await konstruct.usage(SPOOLED_CALL.tenant)
            return sum(line.calls for line in report.lines), await konstruct.ledger_fault()

    calls, fault = asyncio.run(used())
    assert fault is None
    assert calls >= 1  # the good one, however bad the other is


@few
@given(change=changes(), name=st.uuids(version=4).map(str))
def test_whatever_lies_in_the_spool_the_ledger_goes_on(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[bytes], bytes], name: str
) -> None:
    _try_row(tmp_path_factory.mktemp("spool"), change, name)


@pytest.mark.minutes
@pytest.mark.timeout(900)
@many
@given(change=changes(), name=st.uuids(version=4).map(str))
def test_whatever_lies_in_the_spool_the_ledger_goes_on_for_minutes(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[bytes], bytes], name: str
) -> None:
    _try_row(tmp_path_factory.mktemp("spool"), change, name)
