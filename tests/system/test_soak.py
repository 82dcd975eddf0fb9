"""What benchmarks/soak.py takes for wrong. Its short form is run with the other commands of the README."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from soak import FULL, Found
from soak_client import Rest

NAMES = {"serve": 1, "MainThread": 1}
FIRST = Rest(2_000, 90.0, 11.0, 280_000_000, 22, 6, 10, 7, 8, 1_600_000, NAMES)
LAST = replace(FIRST, calls=FULL, memory=285_000_000, blocks=1_615_000, kept=58)


def judged(last: Rest, calls: int = FULL) -> list[str]:
    """What is wrong when a run with 50 in flight began as `FIRST` and ended so."""
    found = Found(rests=[replace(FIRST, calls=0), replace(FIRST, calls=calls // 10), replace(last, calls=calls)])
    found.judge(calls, 50)
    return list(found.wrong)


def test_less_growth_than_the_limits_is_none() -> None:
    assert judged(LAST) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": 23}, "23 files, after 22 ()"),
        ({"tasks": 7, "names": {**NAMES, "leak": 1}}, "7 tasks, after 6 (leak)"),
        ({"threads": 11, "names": {**NAMES, "MainThread": 2}}, "11 threads, after 10 (MainThread)"),
        ({"timers": 8}, "8 timers, after 7 ()"),
        ({"kept": 59}, "59 connections were kept open, after 8"),
        ({"memory": 285_600_000}, "memory has grown by 2.00%"),
        ({"blocks": 1_616_000}, "Python's blocks have become 1.00% more"),
    ],
)
def test_more_of_anything_is_wrong(change: dict[str, Any], said: str) -> None:
    assert judged(replace(LAST, **change)) == [said]


def test_growth_is_not_judged_by_a_short_run_but_what_returns_is() -> None:
    grown = replace(LAST, memory=400_000_000, blocks=3_000_000, files=23)

    assert judged(grown, calls=200) == ["23 files, after 22 ()"]
