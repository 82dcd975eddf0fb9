"""LiteLLM is loaded once, in a thread; a failure is said to whoever waits, and not kept from those who come later."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, cast

import pytest

from konstruct_mcp.core.errors import InternalError
from konstruct_mcp.providers.litellm.engine import Engine
from konstruct_mcp.providers.litellm.loader import EngineLoader


class Stub:
    """As much of an engine as a loader uses; LiteLLM itself takes seconds."""

    is_first = False

    def __init__(self) -> None:
        self.closed = self.warmed = 0
        self.variable = os.environ.get("KONSTRUCT_TEST_LENT")

    def warm_up(self) -> None:
        self.warmed += 1

    def forget(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def loader(stub: Stub | Exception, made: list[int] | None = None) -> EngineLoader:
    def make() -> Engine:
        if made is not None:
            made.append(1)
        if isinstance(stub, Exception):
            raise stub
        stub.variable = os.environ.get("KONSTRUCT_TEST_LENT")
        return cast("Engine", stub)

    return EngineLoader(make, {"KONSTRUCT_TEST_LENT": "yes"})


async def test_all_who_wait_get_one_engine_that_is_warm() -> None:
    stub, made = Stub(), cast("list[int]", [])
    loading = loader(stub, made)

    await asyncio.gather(*(loading.ready() for _ in range(5)))

    assert cast("Any", loading.engine) is stub
    assert (len(made), stub.warmed) == (1, 1)
    await loading.aclose()


async def test_the_configs_variables_are_set_while_it_is_loaded_and_until_it_is_closed() -> None:
    stub = Stub()
    loading = loader(stub)
    await loading.ready()
    assert stub.variable == os.environ["KONSTRUCT_TEST_LENT"] == "yes"

    await loading.aclose()
    assert "KONSTRUCT_TEST_LENT" not in os.environ
    assert stub.closed == 1


async def test_a_caller_that_is_cancelled_leaves_the_others_theirs() -> None:
    loading = loader(Stub())
    first = asyncio.ensure_future(loading.ready())
    await asyncio.sleep(0)
    first.cancel()

    await loading.ready()
    assert first.cancelled()
    await loading.aclose()


async def test_a_failure_is_said_and_no_engine_is_there(caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []
    loading = loader(ImportError("no module named litellm"), made)
    with pytest.raises(InternalError, match="LiteLLM cannot be loaded"):
        await loading.ready()
    with pytest.raises(InternalError, match="LiteLLM cannot be loaded"):
        await loading.ready()  # at once, since it would fail in the same way now

    assert len(made) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    await loading.aclose()


def test_no_engine_is_there_before_it_is_ready() -> None:
    with pytest.raises(InternalError):
        _ = loader(Stub()).engine
