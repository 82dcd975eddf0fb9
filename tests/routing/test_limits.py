"""Requests and tokens of the last minute: no minute has more than was counted, and nothing counts for long after it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from konstruct_mcp.routing.limits import MemoryLimitStore, Used


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 1), st.integers(0, 1000)), max_size=40))
def test_what_was_used_counts_for_a_minute_and_at_most_a_second_more(events: list[tuple[float, int, int]]) -> None:
    store, now, added = MemoryLimitStore(), 5.0, list[tuple[float, int, int]]()
    for pause, requests, tokens in events:
        now += pause
        store.add("key", now, requests, tokens)
        added.append((now, requests, tokens))
        used = store.used("key", now)
        for index, figure in ((1, used.requests), (2, used.tokens)):
            at_least = sum(one[index] for one in added if one[0] > now - 60)
            at_most = sum(one[index] for one in added if one[0] > now - 61)
            assert at_least <= figure <= at_most
    assert store.used("key", now + 61) == Used(0, 0)


def test_a_request_that_was_not_made_does_not_count() -> None:
    store = MemoryLimitStore()
    for began in (10.2, 10.9, 70.0):
        store.add("key", began, 1, 0)
    store.take_back("key", 10.9)
    store.take_back("key", 11.5)  # in which there was none
    store.take_back("another", 10.9)
    assert store.used("key", 70.1) == Used(2, 0)


def test_deployments_count_by_themselves() -> None:
    store = MemoryLimitStore()
    store.add("one", 0, 1, 5)
    assert (store.used("one", 1), store.used("other", 1)) == (Used(1, 5), Used(0, 0))


def test_a_new_config_keeps_the_counts_of_what_it_keeps() -> None:
    before = MemoryLimitStore()
    for key in ("kept", "gone"):
        before.add(key, 0, 1, 5)
    after = before.of_these(["kept", "new"])
    before.add("kept", 1, 1, 5)  # by a call that was under way
    before.add("new", 1, 1, 5)
    assert [after.used(key, 2) for key in ("kept", "new", "gone")] == [Used(2, 10), Used(1, 5), Used(0, 0)]
