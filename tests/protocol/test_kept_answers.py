"""Answers that are kept to be read whole."""

from __future__ import annotations

from konstruct_mcp.protocol.kept_answers import InMemoryKeptAnswers, KeptAnswer

MEGA = 2**20


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_one_is_found_by_its_id_and_says_whose_it_is() -> None:
    kept = InMemoryKeptAnswers(Clock())
    answer = KeptAnswer("acme", "the whole of it", "application/json")
    answer_id = await kept.keep(answer)
    assert answer_id is not None
    assert await kept.get(answer_id) == answer
    assert await kept.get("another") is None


async def test_ids_are_not_guessed_from_each_other() -> None:
    kept = InMemoryKeptAnswers(Clock())
    ids = {str(await kept.keep(KeptAnswer("acme", "x"))) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 36 for one in ids)


async def test_it_is_gone_after_an_hour() -> None:
    clock = Clock()
    kept = InMemoryKeptAnswers(clock)
    answer_id = str(await kept.keep(KeptAnswer("acme", "x")))
    clock.now = 3599
    assert await kept.get(answer_id) is not None
    clock.now = 3600
    assert await kept.get(answer_id) is None


async def test_one_that_is_larger_than_all_may_be_is_not_kept() -> None:
    assert await InMemoryKeptAnswers(Clock()).keep(KeptAnswer("acme", "x" * (64 * MEGA + 1))) is None


async def test_one_tenant_pushes_out_no_answer_of_another() -> None:
    kept = InMemoryKeptAnswers(Clock())
    small = str(await kept.keep(KeptAnswer("globex", "small")))
    large = [str(await kept.keep(KeptAnswer("acme", "x" * 20 * MEGA))) for _ in range(5)]
    assert await kept.get(small) is not None
    assert [await kept.get(one) is not None for one in large] == [False, False, True, True, True]
