"""Keys and tenants as one process knows them: how often the database is asked, and what holds while it is away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.databases import Database
from support.default_groups import entry, opened
from support.providers import Provider

from konstruct_mcp.core.errors import DeadlineError, InvalidTokenError, LedgerError, UnverifiedError
from konstruct_mcp.core.identity import StoredKey, StoredTenant, digest_of, new_key, prefix_of, timestamp
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.identity import CONFIRMED_S, Identities
from konstruct_mcp.ledger.directory import Directory
from konstruct_mcp.ledger.ledger import Ledger


class CountingDirectory(Directory):
    """The keys of a list, which counts how often it is asked, and can be away."""

    def __init__(self, *keys: str) -> None:
        self.keys_by_digest = {
            digest_of(key): StoredKey(prefix_of(key), "ann", (), None, timestamp(datetime.now(UTC)), None)
            for key in keys
        }
        self.queries: list[int] = []
        self.uses: dict[str, str] = {}
        self.is_away = False
        self.told: tuple[tuple[int, int], list[StoredTenant]] = ((0, 0), [])

    async def keys_of(self, digests: Sequence[str]) -> dict[str, StoredKey]:
        self.queries.append(len(digests))
        await asyncio.sleep(0)
        if self.is_away:
            raise LedgerError("away")
        return {digest: key for digest, key in self.keys_by_digest.items() if digest in digests}

    async def note_uses(self, uses: Mapping[str, str]) -> None:
        if self.is_away:
            raise LedgerError("away")
        self.uses |= uses

    async def tenants(self, known: Any = None) -> tuple[tuple[int, int], list[StoredTenant]] | None:
        if self.is_away:
            raise LedgerError("away")
        return None if known == self.told[0] else self.told


class SlowDirectory(CountingDirectory):
    """One that answers when it may."""

    def __init__(self, *keys: str) -> None:
        super().__init__(*keys)
        self.answers, self.answered = asyncio.Event(), asyncio.Event()

    async def keys_of(self, digests: Sequence[str]) -> dict[str, StoredKey]:
        self.answered.clear()
        found = await super().keys_of(digests)
        await self.answers.wait()
        self.answered.set()
        return found


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def identities(directory: Directory, clock: Clock) -> tuple[Identities, list[Sequence[StoredTenant]]]:
    taken: list[Sequence[StoredTenant]] = []

    async def take_up(tenants: Sequence[StoredTenant]) -> None:
        taken.append(tenants)

    return Identities(directory, take_up, lambda: 10.0, clock), taken


class TestKeys:
    async def test_are_asked_for_once_in_a_while(self, clock: Clock) -> None:
        key = new_key()
        known, _ = identities(directory := CountingDirectory(key), clock)
        for _ in range(100):
            assert (await known.verify(key)).tenant == "ann"
        assert directory.queries == [1]
        clock.now += 11
        await asyncio.gather(*(known.verify(key) for _ in range(100)))
        assert directory.queries == [1, 1]
        await known.aclose()
        assert list(directory.uses) == [prefix_of(key)]

    async def test_that_are_made_up_are_asked_for_in_batches_and_push_out_no_good_one(self, clock: Clock) -> None:
        key = new_key()
        known, _ = identities(directory := CountingDirectory(key), clock)
        await known.verify(key)
        garbage = [new_key() for _ in range(5000)]
        refused = await asyncio.gather(*(known.verify(one) for one in garbage), return_exceptions=True)
        assert all(isinstance(one, InvalidTokenError) for one in refused)
        assert directory.queries == [1, *[500] * 10]
        for one in garbage[-100:]:
            with pytest.raises(InvalidTokenError):
                await known.verify(one)
        await known.verify(key)
        assert len(directory.queries) == 11

    @pytest.mark.parametrize("text", ["", "ks_", "ks_short", "x" * 46, "ks_" + "a" * 5000, "ks_" + "\u00e9" * 43])
    async def test_of_another_shape_are_asked_for_by_nobody(self, clock: Clock, text: str) -> None:
        known, _ = identities(directory := CountingDirectory(), clock)
        with pytest.raises(InvalidTokenError):
            await known.verify(text)
        assert directory.queries == []

    async def test_that_were_good_stay_good_for_a_while_when_the_database_is_away(self, clock: Clock) -> None:
        key, other = new_key(), new_key()
        known, _ = identities(directory := CountingDirectory(key, other), clock)
        await known.verify(key)
        directory.is_away = True
        clock.now += CONFIRMED_S - 10
        assert (await known.verify(key)).tenant == "ann"
        asked = len(directory.queries)
        await known.verify(key)
        assert len(directory.queries) == asked  # nobody waits for it again so soon
        with pytest.raises(UnverifiedError) as refused:
            await known.verify(other)
        assert refused.value.retry_after_s > 0
        clock.now += 20
        with pytest.raises(UnverifiedError):
            await known.verify(key)
        directory.is_away = False
        clock.now += 10
        await known.verify(key)
        await known.verify(other)

    async def test_that_are_revoked_are_refused_though_nobody_has_waited_for_the_answer(self, clock: Clock) -> None:
        key = new_key()
        known, _ = identities(directory := SlowDirectory(key), clock)
        directory.answers.set()
        await known.verify(key)
        directory.answers.clear()
        stored = directory.keys_by_digest[digest_of(key)]
        directory.keys_by_digest[digest_of(key)] = replace(stored, revoked=timestamp(datetime.now(UTC)))
        clock.now += 11
        assert (await known.verify(key)).tenant == "ann"  # it waits for two seconds, and takes what was said before
        directory.answers.set()
        async with asyncio.timeout(30):
            await directory.answered.wait()
        await asyncio.sleep(0)
        with pytest.raises(InvalidTokenError):
            await known.verify(key)
        assert directory.queries == [1, 1]

    async def test_are_revoked_and_expire(self, clock: Clock) -> None:
        key = new_key()
        known, _ = identities(directory := CountingDirectory(key), clock)
        stored = directory.keys_by_digest[digest_of(key)]
        for change in (
            {"revoked": timestamp(datetime.now(UTC))},
            {"expires": timestamp(datetime.now(UTC) - timedelta(seconds=1))},
        ):
            directory.keys_by_digest[digest_of(key)] = StoredKey(**{**stored.as_dict(), "scopes": (), **change})
            clock.now += 11
            with pytest.raises(InvalidTokenError):
                await known.verify(key)


class TestTenants:
    async def test_are_taken_up_when_they_have_changed(self, clock: Clock) -> None:
        known, taken = identities(directory := CountingDirectory(), clock)
        for _ in range(3):
            await known.refresh()
            clock.now += 11
        assert len(taken) == 1
        directory.told = ((1, 1), [StoredTenant("carl", {})])
        await known.refresh()
        assert [one.id for one in taken[-1]] == ["carl"]

    async def test_that_nobody_ever_told_are_a_reason_to_refuse(self, clock: Clock) -> None:
        known, _ = identities(directory := CountingDirectory(), clock)
        directory.is_away = True
        with pytest.raises(LedgerError):
            await known.refresh()
        directory.is_away = False
        clock.now += 11
        await known.refresh()
        directory.is_away = True
        clock.now += 1000
        await known.refresh()  # what was told holds


@pytest.mark.two_databases
async def test_the_database_keeps_keys_and_tenants(database: Database, tmp_path: Path) -> None:
    ledger = Ledger(database.url, tmp_path / "spool")
    directory = Directory(ledger)
    key = new_key()
    stored = StoredKey(prefix_of(key), "ann", ("operator",), "a note", "2026-01-01T00:00:00Z", None)
    assert await directory.add_key(stored, digest_of(key))
    assert not await directory.add_key(stored, digest_of(new_key()))
    assert await directory.keys_of([digest_of(key), digest_of(new_key())]) == {digest_of(key): stored}
    await directory.note_uses({stored.prefix: "2026-01-02T00:00:00Z"})
    await directory.note_uses({stored.prefix: "2026-01-01T12:00:00Z"})  # of another server, whose note came later
    [listed] = await directory.keys("ann")
    assert listed.used == "2026-01-02T00:00:00Z"
    assert await directory.keys("bob") == []
    revoked = await directory.revoke_key(stored.prefix)
    assert revoked is not None
    assert revoked.revoked is not None
    assert await directory.revoke_key(stored.prefix) == revoked
    assert await directory.revoke_key("ks_nobody") is None

    assert await directory.add_tenant("carl", {"note": "one"})
    assert not await directory.add_tenant("carl", {})
    read = await directory.tenants()
    assert read is not None
    state, tenants = read
    assert tenants == [StoredTenant("carl", {"note": "one"})]
    assert await directory.tenants(state) is None
    await directory.change_tenant("carl", lambda settings: {**settings, "rpm": 1}, disabled=True)
    read = await directory.tenants(state)
    assert read is not None
    assert read[1] == [StoredTenant("carl", {"note": "one", "rpm": 1}, disabled=True, revision=2)]
    assert await directory.change_tenant("nobody", lambda settings: settings) is None
    await ledger.aclose()


@pytest.mark.long
async def test_a_call_waits_for_the_database_no_longer_than_for_all_else(tmp_path: Path, ollama: Provider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never answers
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        settings = {
            "model_list": [entry("free", {"model": "ollama/none", "api_base": ollama.url})],
            "konstruct": {"ledger_url": url, "tenants": {"ann": {}}},
        }
        async with opened(tmp_path, settings, {"XDG_DATA_HOME": str(tmp_path)}) as konstruct:
            with pytest.raises(DeadlineError, match="waiting for the ledger to say which tenants there are"):
                await konstruct.complete("hello", timeout_s=0.5, caller=Caller.verified("zoe"))
