"""One server lives through all attacks of `support/attack_table.py`, and answers after each.

`benchmarks/attacks.py` measures the same on an idle machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest
from support.attack_table import ATTACKS
from support.attacks import Attack, AttackedServer

PAUSE_S = 2.5  # ten times what an idle machine is held to: this one may be busy with other tests


def assert_withstood(folder: Path, attacks: Sequence[Attack]) -> None:
    faults: dict[str, list[str]] = {}
    with AttackedServer(folder) as server:
        for attack in attacks:
            if found := attack.faults(server.withstand(attack), PAUSE_S):
                faults[f"{attack.name}: {attack.group}"] = found
        log = server.log()
    assert faults == {}
    assert "Traceback" not in log
    assert len(log) < 200 * len(attacks) + 2000, "a flood of lines in the log"


def some(attacks: Sequence[Attack], one_in: int) -> list[Attack]:
    """One in so many of them, and always the same."""
    return [attack for attack in attacks if crc32(f"{attack.name}{attack.group}".encode()) % one_in == 0]


def test_nothing_stops_the_server(tmp_path: Path) -> None:
    assert_withstood(tmp_path, some([attack for attack in ATTACKS if attack.is_short], 16))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("one_in", [4, pytest.param(1, marks=pytest.mark.minutes)])
def test_nothing_stops_the_server_in_its_long_form(tmp_path: Path, one_in: int) -> None:
    assert_withstood(tmp_path, some(ATTACKS, one_in))
