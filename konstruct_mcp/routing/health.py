"""The health of deployments, which outlives a call: recent failures, cooldowns, and whether one is back.

- A deployment that fails too often *cools down*: calls pass it over for a while.
- A *probe* is one try of a deployment that is cooling down. One call at a time makes it, and the others that need the
  deployment wait for what it finds. While it keeps failing, the pauses between probes grow to a second: an outage costs
  few tries, and its end is seen within a second.
- A failure that the request may have caused counts for its tenant alone, until another tenant's try fails as well.
- An answer ends all of it, for everybody.

Records are kept under a deployment's fingerprint, so that entries of the config with the same parameters share one, and
what a new config leaves as it was keeps its health.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.events import HealthChange
from konstruct_mcp.routing.outcomes import REQUEST_FAULTS, Fault, FaultKind, Outcome

# Failures older than this say nothing about now. LiteLLM counts `allowed_fails` over the same minute.
_FAILURE_WINDOW_S = 60.0
# A provider's retry-after is believed up to an hour, so that a wrong one does not end a deployment.
COOLDOWN_MAX_S = 3600.0
# Pauses between two probes, doubled from the first to the longest while they fail.
PROBE_FIRST_S = 0.1
_PROBE_MAX_S = 1.0
_MOST_DOUBLED = 10  # times: enough to reach the longest pause, and few enough for a float
# A probe that has run for so long probably succeeds, where the deployment used to fail at once.
_ANSWERING_S = 1.0
# A caller whose own time-out is shorter than this finds out nothing about a deployment that may take longer.
_IMPATIENT_S = 5.0
_MOST_REPORTS, _REPORTS_S = 6, 60.0  # lines in the log about one deployment in so many seconds, if it comes and goes


@dataclass(slots=True)
class HealthRecord:
    """What is remembered of one deployment. Times are readings of the given clock, in seconds."""

    failures: deque[tuple[float, str | None]] = field(default_factory=deque)  # when, and whose; None: anybody's
    last_fault: str = ""
    cooling_until: float = 0.0
    cooling_for: str | None = None  # the only tenant that passes it over; None: all do
    retry_at: float = 0.0  # when its provider said that it may be asked again
    hung: bool = False  # whether its last failure was a time-out
    is_down: bool = False  # whether the last HealthChange said that it is cooling down, and
    down_for: str | None = None  # for which tenant
    is_reported: bool = False  # whether the log says that it is passed over
    reports: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_REPORTS))  # when the log said anything
    is_probed: bool = False
    probing_since: float = 0.0
    probes_failed: int = 0
    next_probe: float = 0.0
    waiting: list[Callable[[], None]] = field(default_factory=list)  # calls of this process, told when the probe ends


class HealthStore(Protocol):
    """Where health records are kept, by their fingerprints.

    `MemoryHealthStore` keeps them in this process. A form that several processes share can stand in its place: it
    publishes a record when `changed` is called, and brings what others have found out into the records here.
    """

    def record(self, key: str) -> HealthRecord:
        """The record of this deployment, a new one if there is none."""

    def changed(self, key: str) -> None:
        """Take note that this record has been changed here."""

    def of_these(self, keys: Collection[str]) -> HealthStore:
        """The store for the deployments of a new config: their records stay the same ones, the rest are forgotten."""


class MemoryHealthStore:
    """Health records in the memory of this process."""

    def __init__(self) -> None:
        self._records: defaultdict[str, HealthRecord] = defaultdict(HealthRecord)

    def record(self, key: str) -> HealthRecord:
        return self._records[key]

    def changed(self, key: str) -> None:
        """Nobody else has to know."""

    def of_these(self, keys: Collection[str]) -> MemoryHealthStore:
        # The records themselves are shared, as calls under way still use the store of the config before.
        made = MemoryHealthStore()
        made._records.update((key, self.record(key)) for key in keys)
        return made


class Health:
    """The health of a config's deployments.

    More failures than `allowed_fails` within a minute make a deployment cool down.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        *,
        clock: Callable[[], float],
        allowed_fails: int,
        store: HealthStore,
        report: Callable[[str], None] = lambda _: None,
        on_change: Callable[[HealthChange], None] = lambda _: None,
    ) -> None:
        """
        Args:
            keys: the deployments' fingerprints, by their ids.
            clock: gives seconds from any fixed point.
            report: is given a line for the log when one goes down or is back; few, where it comes and goes.
            on_change: is given each change.
        """
        self._keys = keys
        self._clock = clock
        self._allowed_fails = allowed_fails
        self._store = store
        self._report = report
        self._on_change = on_change

    def _record(self, deployment: Deployment) -> HealthRecord:
        return self._store.record(self._keys[deployment.id])

    def _changed(self, deployment: Deployment) -> None:
        self._store.changed(self._keys[deployment.id])

    # -- what is known -----------------------------------------------------------------------------------------------

    def cooling(self, deployment: Deployment, tenant: str | None = None) -> float:
        """Seconds for which a tenant still passes it over, or anybody at all for None; 0 or less if nobody does."""
        record = self._record(deployment)
        if tenant is not None and record.cooling_for not in (None, tenant):
            return 0.0
        return record.cooling_until - self._clock()

    def last_fault(self, deployment: Deployment) -> str:
        """Its last failure, in a few words."""
        return self._record(deployment).last_fault

    def is_known_down(self, deployment: Deployment, own: int, tenant: str | None) -> bool:
        """Whether a tenant passes it over, and would also without `own` failures, those of one call."""
        others = len(self._record(deployment).failures) - own
        return self.cooling(deployment, tenant) > 0 and others > self._allowed_fails

    def must_wait(self, deployment: Deployment) -> bool:
        """Whether its provider has said when it may be asked again, and that time has not come."""
        return self._record(deployment).retry_at > self._clock()

    # -- what tries find out -----------------------------------------------------------------------------------------

    def answered(self, deployment: Deployment) -> None:
        """It has answered a try, so it is well."""
        record = self._record(deployment)
        record.failures.clear()
        record.cooling_until = record.retry_at = 0.0
        record.probes_failed = 0
        if record.is_down:
            record.is_down = False
            self._emit(deployment, record)
        if record.is_reported and self._may_report(record):
            record.is_reported = False
            self._report(f"{deployment.name} ({deployment.group}): answers again")
        self._changed(deployment)

    def failed(self, deployment: Deployment, fault: Fault, tenant: str | None) -> None:
        """A tenant's try has failed, through no fault of the request that is known; None is anybody's."""
        if fault.kind is FaultKind.TIMEOUT and 0 < fault.waited_s < min(deployment.timeout_s, _IMPATIENT_S):
            return
        record, now = self._record(deployment), self._clock()
        record.last_fault = str(fault)
        record.hung = fault.kind is FaultKind.TIMEOUT
        record.failures.append((now, tenant if fault.may_be_the_requests else None))
        while record.failures[0][0] < now - _FAILURE_WINDOW_S:
            record.failures.popleft()
        tenants = {one for _, one in record.failures}
        # A hang for the whole time-out costs its caller most of all, and would cost the next one as much.
        hung = fault.kind is FaultKind.TIMEOUT and fault.waited_s >= deployment.timeout_s
        if hung or fault.lasting or len(record.failures) > self._allowed_fails:
            self.cool(deployment, deployment.cooldown_s, only_for=tenants.pop() if len(tenants) == 1 else None)
        else:
            self._changed(deployment)

    def cool(
        self, deployment: Deployment, seconds: float, *, by_provider: bool = False, only_for: str | None = None
    ) -> None:
        """Let one tenant pass it over for so long, or all for None. `by_provider`: because its provider said so."""
        record, now = self._record(deployment), self._clock()
        is_same = record.cooling_until <= now or record.cooling_for == only_for
        record.cooling_for = only_for if is_same else None
        if not is_same:  # one tenant's request must not decide for how long the others pass it over
            record.cooling_until = record.retry_at = 0.0
        until = now + min(seconds, COOLDOWN_MAX_S)
        record.cooling_until = max(record.cooling_until, until)
        if by_provider:
            record.retry_at = until
        left = record.cooling_until - now
        if left > 0 and not (record.is_down and record.down_for == record.cooling_for):
            record.is_down, record.down_for = True, record.cooling_for
            self._emit(deployment, record, left)
        # Once, however long it lasts: a reader of the log wants to see changes.
        if left > 0 and not record.is_reported and self._may_report(record):
            record.is_reported = True
            self._report(
                f"{deployment.name} ({deployment.group}): {record.last_fault}; passed over for {max(1, round(left))} s "
                "or until it is back"
            )
        self._changed(deployment)

    def _emit(self, deployment: Deployment, record: HealthRecord, retry_after_s: float | None = None) -> None:
        key = self._keys[deployment.id]
        entries = tuple(id_ for id_, its_key in self._keys.items() if its_key == key)
        self._on_change(
            HealthChange(
                deployment.id,
                entries,
                deployment.group,
                "cooling_down" if record.is_down else "ready",
                record.last_fault,
                retry_after_s,
                record.down_for,
            )
        )

    def _may_report(self, record: HealthRecord) -> bool:
        """Whether the log may have another line about it now."""
        now = self._clock()
        if len(record.reports) == _MOST_REPORTS and now - record.reports[0] < _REPORTS_S:
            return False
        record.reports.append(now)
        return True

    # -- probes ------------------------------------------------------------------------------------------------------

    def is_probed(self, deployment: Deployment) -> bool:
        """Whether a call is asking it now whether it is back."""
        return self._record(deployment).is_probed

    def seems_to_answer(self, deployment: Deployment) -> bool:
        """Whether its probe has run for longer than the deployment used to take to fail, and so probably succeeds."""
        record = self._record(deployment)
        return not record.hung and self._clock() >= record.probing_since + _ANSWERING_S

    def until_probe(self, deployment: Deployment) -> float:
        """Seconds until the next probe is due; 0 or less when it is."""
        record = self._record(deployment)
        return max(record.next_probe, record.retry_at) - self._clock()

    def begin_probe(self, deployment: Deployment) -> None:
        """A call asks whether it is back, on behalf of all."""
        record = self._record(deployment)
        record.is_probed, record.probing_since = True, self._clock()
        self._changed(deployment)

    def end_probe(self, deployment: Deployment, outcome: Outcome | None) -> None:
        """The probe has ended; None where its call was given up. Tells the calls that wait for it."""
        record = self._record(deployment)
        record.is_probed = False
        if isinstance(outcome, Fault) and outcome.kind not in REQUEST_FAULTS:
            pause = min(_PROBE_MAX_S, PROBE_FIRST_S * 2.0**record.probes_failed)
            record.probes_failed = min(record.probes_failed + 1, _MOST_DOUBLED)
            record.next_probe = self._clock() + pause
        self._changed(deployment)
        waiting, record.waiting = record.waiting, []
        for callback in waiting:
            callback()

    def when_probe_ends(self, deployment: Deployment, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once when the probe of this deployment ends, at once where there is none. Returns a function that
        takes the callback back."""
        record = self._record(deployment)
        if not record.is_probed:
            callback()
            return lambda: None
        record.waiting.append(callback)

        def take_back() -> None:
            if callback in record.waiting:
                record.waiting.remove(callback)

        return take_back

    def no_outage(self, deployments: Iterable[Deployment]) -> None:
        """One of these has answered, so there is no general outage, and the others may be probed soon again."""
        soon = self._clock() + PROBE_FIRST_S
        for deployment in deployments:
            record = self._record(deployment)
            record.probes_failed = 0
            record.next_probe = min(record.next_probe, soon)
            self._changed(deployment)
