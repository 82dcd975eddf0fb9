"""One server lives through everything that a caller or a provider can do to it, and answers after each.

`attacks` says what that is; `benchmarks/attacks.py` measures the same on an idle machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest
from support.attacks import ATTACKS, Attack, Siege

PAUSE_S = 2.5  # ten times what an idle machine is held to: this one may be busy with other tests
_ONE_IN = 8


def besiege(folder: Path, attacks: Sequence[Attack]) -> None:
    faults: dict[str, list[str]] = {}
    with Siege(folder) as siege:
        for attack in attacks:
            if found := attack.faults(siege.undergo(attack), PAUSE_S):
                faults[f"{attack.name}: {attack.group}"] = found
        log = siege.log()
    assert faults == {}
    assert "Traceback" not in log
    assert len(log) < 200 * len(attacks) + 2000, "a flood of lines in the log"


def test_nothing_stops_the_server(tmp_path: Path) -> None:
    short = [attack for attack in ATTACKS if attack.is_short]
    besiege(tmp_path, [a for a in short if crc32(f"{a.name}{a.group}".encode()) % _ONE_IN == 0])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_nothing_stops_the_server_in_its_long_form(tmp_path: Path) -> None:
    besiege(tmp_path, ATTACKS)
