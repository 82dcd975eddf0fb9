"""A writer of the ledger as revision 0003 wrote it: its statements as text, without what later revisions know.

It stands for a replica of the released version that has not been upgraded yet.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

REVISION = "0003"
LEASE_S = 120
MODEL = "openai/m"

LOCK_TENANTS = "SELECT id FROM konstruct_tenants WHERE id IN (:a, :b) ORDER BY id FOR UPDATE"
RESERVE = """
    INSERT INTO konstruct_reservations
        (call_id, attempt, owner, tenant, "group", amount_nusd, lapses_at, model, held_on)
    SELECT CAST(:id AS VARCHAR), 1, CAST(:owner AS VARCHAR), CAST(:tenant AS VARCHAR), CAST(:group AS VARCHAR),
        CAST(:amount AS BIGINT), CAST(:lapses_at AS BIGINT), CAST(:model AS VARCHAR), NULL
    WHERE CAST(:most AS BIGINT)
        - (SELECT coalesce(sum(cost_nusd + held_nusd), 0) FROM konstruct_spend WHERE tenant = :tenant)
        - (SELECT coalesce(sum(amount_nusd), 0) FROM konstruct_reservations WHERE tenant = :tenant AND held_on IS NULL)
        >= :amount
"""
INSERT_CALL = """
    INSERT INTO konstruct_calls
        (id, time, tenant, group_asked, group_served, model, input_tokens, output_tokens, cached_tokens, cost_nusd,
         duration_ms, outcome, attempts, most_nusd, uncounted)
    VALUES (:id, :time, :tenant, :group, :group, :model, 1, 1, 0, :cost, 1, 'ok', 1, NULL, 0)
"""
GIVE_UP_OF_CALL = "DELETE FROM konstruct_reservations WHERE call_id IN (:id)"
ADD_SPEND = """
    UPDATE konstruct_spend SET calls = calls + 1, input_tokens = input_tokens + 1, output_tokens = output_tokens + 1,
        cost_nusd = cost_nusd + :cost
    WHERE tenant = :tenant AND day = :day AND "group" = :group AND model = :model
"""
INSERT_SPEND = """
    INSERT INTO konstruct_spend
        (tenant, day, "group", model, calls, failed, unpriced, input_tokens, output_tokens, cached_tokens, cost_nusd,
         held_nusd, unbounded)
    VALUES (:tenant, :day, :group, :model, 1, 0, 0, 1, 1, 0, :cost, 0, 0)
"""
GIVE_UP = "DELETE FROM konstruct_reservations WHERE call_id = :id AND attempt = 1 AND held_on IS NULL"
RENEW = "UPDATE konstruct_reservations SET lapses_at = :until WHERE owner = :owner"


class Writer(threading.Thread):
    """Makes calls of two tenants until it is told to stop.

    Attributes:
        recorded: the cost of each call that was recorded, by its id.
        starts: how often it has begun.
        error: what has gone wrong, None if nothing has.
    """

    def __init__(self, engine: sa.Engine, limits: Mapping[str, int]) -> None:
        """`limits` are the budgets of two tenants, in nano-dollars."""
        super().__init__(daemon=True)
        self.recorded: dict[str, int] = {}
        self.starts = 0
        self.error: Exception | None = None
        self._engine, self._limits, self._tenants = engine, limits, sorted(limits)
        self._owner = str(uuid.uuid4())
        self._rng = random.Random(3)
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._start()
                for _ in range(20):
                    self._make_some_calls()
        except Exception as error:  # the test says it
            self.error = error

    def _start(self) -> None:
        with self._engine.connect() as connection:
            found = connection.scalar(sa.text("SELECT version_num FROM konstruct_version"))
        assert found == REVISION, f"refuses a ledger of revision {found}"
        self.starts += 1

    def _make_some_calls(self) -> None:
        wanted = {str(uuid.uuid4()): self._rng.choice(self._tenants) for _ in range(self._rng.randint(1, 5))}
        amount = self._rng.randint(1, 2000)
        values = {"owner": self._owner, "group": "paid", "model": MODEL, "amount": amount}
        granted = []
        with self._engine.begin() as connection:
            connection.execute(sa.text(LOCK_TENANTS), dict(zip("ab", self._tenants, strict=True))).all()
            for id_, tenant in wanted.items():
                lapses_at = int(time.time()) + LEASE_S
                one = {**values, "id": id_, "tenant": tenant, "lapses_at": lapses_at, "most": self._limits[tenant]}
                if connection.execute(sa.text(RESERVE), one).rowcount:
                    granted.append(id_)
        with self._engine.begin() as connection:
            connection.execute(sa.text(RENEW), {"owner": self._owner, "until": int(time.time()) + LEASE_S})
        given_up = [id_ for id_ in granted if self._rng.random() < 0.3]
        for id_ in given_up:
            with self._engine.begin() as connection:
                connection.execute(sa.text(GIVE_UP), {"id": id_})
        kept = {id_: self._rng.randint(0, amount) for id_ in granted if id_ not in given_up}
        with self._engine.begin() as connection:
            connection.execute(sa.text(LOCK_TENANTS), dict(zip("ab", self._tenants, strict=True))).all()
            for id_, cost in kept.items():
                now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
                call = {"id": id_, "time": now, "tenant": wanted[id_], "group": "paid", "model": MODEL, "cost": cost}
                connection.execute(sa.text(INSERT_CALL), call)
                connection.execute(sa.text(GIVE_UP_OF_CALL), {"id": id_})
                if not connection.execute(sa.text(ADD_SPEND), {**call, "day": now[:10]}).rowcount:
                    connection.execute(sa.text(INSERT_SPEND), {**call, "day": now[:10]})
        self.recorded |= kept
