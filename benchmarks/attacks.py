"""What attacks do to a server: for each what came back, the longest pause of its event loop, the most memory it took
beyond what it had, what the provider was sent, and what is on the tenant's budget of 5 cents.

    python3 -m uv run --group dev python benchmarks/attacks.py [--only PATTERN] [--json FILE]

On an idle machine: a pause of the loop is as long as the machine makes it. The attacks are those of
`tests/support/attack_table.py`. Exits with 1 where a pause is longer than 0.25 s, or something else came back than
should.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from harness import say, table_line
from support.attack_table import ATTACKS
from support.attacks import MB, AttackedServer

PAUSE_S = 0.25
COLUMNS = ("attack", "asked", "came back", "pause, s", "memory, MB", "sent, bytes", "on the budget, $", "took, s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="attacks whose name and format match this")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    chosen = [attack for attack in ATTACKS if re.search(options.only, f"{attack.name}: {attack.group}")]
    rows, wrong = [], 0
    say(table_line(COLUMNS))
    say(table_line(["---"] * 3 + ["---:"] * 5))
    with tempfile.TemporaryDirectory() as folder, AttackedServer(Path(folder)) as server:
        for attack in chosen:
            outcome = server.withstand(attack)
            memory = "" if outcome.memory is None else f"{max(outcome.memory, 0) / MB:.0f}"
            found = attack.faults(outcome, PAUSE_S)
            wrong += bool(found)
            cells = [attack.name, attack.group, ", ".join(sorted(outcome.came_back)), f"{outcome.pause_s:.3f}", memory]
            cells += [str(outcome.sent), f"{outcome.on_budget_nusd / 1e9:.6f}", f"{outcome.took_s:.2f}"]
            say(table_line(cells) + "".join(f" **{what}**" for what in found))
            rows.append({"attack": attack.name, "group": attack.group, "faults": found, **asdict(outcome)})
    longest = max((row["pause_s"] for row in rows), default=0)
    say(f"\n{len(rows)} attacks, {wrong} of them not withstood; longest pause {longest:.3f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, default=sorted, indent=1), encoding="utf-8")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
