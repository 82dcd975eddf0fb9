"""One completion, from the moment it comes to its answer. Read from top to bottom:

read_request       the arguments, as a request
answer             who calls, which group they ask, and the account that is open until the call has ended
_composed          the request as it goes to a provider: with its files, and the thread that it continues
_in_time           the one deadline, around all that follows
_first_answer      its turn among all calls; then the deployments, in the order in which routing gives them
Tries.once         one deployment: its turn there, what is set aside for it, the provider, the account

A little long, so that all of it can be read in its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from konstruct_mcp.config.model import Config, Tenant
from konstruct_mcp.core.budgets import Grant
from konstruct_mcp.core.errors import (
    DeadlineError,
    FileRefusedError,
    InternalError,
    KonstructError,
    LedgerError,
    RequestError,
    UnpricedError,
)
from konstruct_mcp.core.events import Event, Refused
from konstruct_mcp.core.fairness import Admission, Step, turn
from konstruct_mcp.core.messages import Message
from konstruct_mcp.core.money import dollars
from konstruct_mcp.core.request_context import note_tenant
from konstruct_mcp.core.requests import Limits, Request, is_timeout
from konstruct_mcp.core.results import Completion
from konstruct_mcp.core.sharing import call_patience
from konstruct_mcp.core.sizes import LARGE_CHARS, is_large
from konstruct_mcp.core.text import quoted
from konstruct_mcp.core.threads import in_thread, in_thread_if_large
from konstruct_mcp.gateway.account import Account, open_account
from konstruct_mcp.gateway.budget_refusals import budget_refusal, shortfall
from konstruct_mcp.gateway.caller import Caller, group_of
from konstruct_mcp.gateway.events import try_ended
from konstruct_mcp.gateway.files.composing import ComposedFiles, compose, with_files
from konstruct_mcp.gateway.files.readers import FileReaders
from konstruct_mcp.gateway.files.reading import FileAccess, ReadFiles
from konstruct_mcp.gateway.reload import Generation, Generations
from konstruct_mcp.gateway.tenant_limits import TenantLimits
from konstruct_mcp.gateway.threads import Conversation, Threads
from konstruct_mcp.ledger.ledger import Ledger
from konstruct_mcp.providers.tried import Recalled, Tried
from konstruct_mcp.routing.facts import needs_of
from konstruct_mcp.routing.outcomes import Answer, Fault, FaultKind, TryResult
from konstruct_mcp.routing.walk import Hold, Try, Walk

_log = logging.getLogger(__name__)

# A cancelled try that is just reading its answer gets this long, so that the answer is counted. It is too short for a
# provider that is still at work.
_GRACE_S = 0.01
_LEAST_KEEPING_S = 0.1  # that an answer at its deadline waits for its thread
_NO_THREAD = "no thread: this answer could not be kept, so that it cannot be continued"


@dataclass(frozen=True, slots=True)
class Shared:
    """What all calls share."""

    generations: Generations
    admission: Admission
    limits: TenantLimits
    readers: FileReaders
    ledger: Ledger
    emit: Callable[[Event], None]
    know_tenant: Callable[[Caller], Awaitable[None]]
    threads: Threads


async def read_request(arguments: Mapping[str, Any], config: Config | None, readers: Admission, tenant: str) -> Request:
    """The request that arguments ask for. Large ones are read beside the event loop, one after another.

    Args:
        readers: whose turn it is to have large ones read.
        tenant: who asks: large arguments of one tenant wait for no more than one of each other's.

    Raises:
        InvalidArgumentError: naming each that is missing, unknown or ill-typed, or what there is too much of.
        DeadlineError: others' large arguments were in front of these for too long.
    """
    limits = Limits() if config is None else config.limits
    if not is_large(arguments):
        return Request.parse(arguments, limits)
    asked_s = arguments.get("timeout_s")
    patience_s = asked_s if is_timeout(asked_s) else None if config is None else config.timeout_s
    with anyio.move_on_after(patience_s):
        async with readers.turn(0, tenant):
            return await in_thread(_parsed, arguments, limits)
    raise DeadlineError(f"no answer within {patience_s:g} s, waiting for the arguments to be read; ask for less")


def _parsed(arguments: Mapping[str, Any], limits: Limits) -> Request:
    """The request, with those of its properties computed that take long."""
    return _computed(Request.parse(arguments, limits))


def _computed(request: Request) -> Request:
    _ = request.chars, request.has_images, request.has_pdfs, request.is_large
    return request


def _behind(request: Request, found: Conversation, limits: Limits) -> Request:
    """The request behind what a thread holds, with those of its properties computed that take long."""
    composed = request.with_messages([*found.messages, *request.messages])
    limits.check_composed(composed.messages, composed.chars, is_continued=True)
    return _computed(composed)


def _behind_files(
    request: Request, read: ReadFiles, keys: Collection[str], limits: Limits
) -> tuple[Request, ComposedFiles]:
    """The request with these files ahead of what the user says, and with the same of its properties computed."""
    files = compose(read, keys)
    composed = with_files(request, files)
    limits.check_composed(composed.messages, composed.chars, is_continued=False)
    return _computed(composed), files


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a thread keeps of an answer beside its text: the key of the deployment, and its reasoning by its key."""

    by: str
    thoughts: Mapping[str, Mapping[str, Any]]


class CompletionCall:
    """One call for a completion."""

    def __init__(
        self, shared: Shared, request: Request, caller: Caller, on_wait: Callable[[str], None], arrived: float
    ) -> None:
        """`on_wait` is called with one line whenever what is waited for changes; `arrived` is when the request came, a
        reading of `time.monotonic`."""
        self._shared, self._request, self._caller, self._on_wait = shared, request, caller, on_wait
        self._files = ComposedFiles()
        self._timeout_s = request.timeout_s or self._config.timeout_s
        self._deadline = arrived + self._timeout_s
        self._continued = Conversation()
        self._new: Sequence[Message] = ()
        self._answered: _Answered | None = None

    @property
    def _config(self) -> Config:
        """The one in use now, which may be another after each wait."""
        return self._shared.generations.in_use().config

    async def answer(self) -> Completion:
        """The answer.

        Raises:
            RequestError, CompletionError, LedgerError, InternalError: as `Konstruct.complete` says.
        """
        with call_patience():
            return await self._answer()

    async def _answer(self) -> Completion:
        shared, request = self._shared, self._request
        tenant: Tenant | None = None
        try:
            caller = self._caller.naming(request.tenant_id)
            with anyio.move_on_after(self._left_s):
                await shared.generations.look()
            await self._know_tenant(caller)
            tenant = caller.account(self._config)
            note_tenant(tenant.id)
            group = group_of(self._config, request.model_group, tenant)
            self._request = await self._composed(caller, tenant)
            self._new = self._request.messages[len(self._continued.messages) :]
        except (RequestError, LedgerError, DeadlineError) as error:
            asker = self._caller.tenant if self._caller.is_verified else None  # whatever tenant the call names
            shared.emit(Refused(asker if tenant is None else tenant.id, None, error.code))
            raise
        async with open_account(tenant, group, self._deadline, shared.ledger, shared.emit) as account:
            await shared.limits.admit(tenant)
            if group not in self._config.groups:
                await self._make_group(group, tenant.id)
                account.tenant = caller.account(self._config)  # the config may be another by now
                group_of(self._config, group, account.tenant)
            try:
                with shared.generations.call() as generation:
                    completion = await self._in_time(account, generation)
            finally:
                shared.limits.use(tenant, account.tokens)
        files = self._files
        if files.sent:
            completion = replace(completion, files=files.sent, notes=(*completion.notes, *files.notes))
        return await self._kept(completion, tenant.id)

    async def _composed(self, caller: Caller, tenant: Tenant) -> Request:
        """The request as it goes to a provider: the files that it names are ahead of what the user says, and the
        messages of the thread that it continues are before its own.

        Raises:
            FileRefusedError: naming each file that cannot be read, or is not sent.
            UnknownThreadError: there is no such thread of the tenant's.
            InvalidArgumentError: with the files or the thread it is more than one request may hold.
            DeadlineError: it is not there in time.
        """
        request, shared = await self._with_files(caller, tenant), self._shared
        if request.continue_ is None:
            return request
        with anyio.move_on_after(self._left_s):
            self._continued = found = await shared.threads.find(request.continue_, tenant.id)
            large = request.is_large or sum(message.chars for message in found.messages) > LARGE_CHARS
            composed = await in_thread_if_large(_behind, request, found, self._config.limits, is_large=large)
            if found.thoughts:
                client = shared.generations.in_use().client
                await client.restore(tenant.id, found.thoughts, is_large=large)
            return composed
        raise DeadlineError(
            f"no answer within {self._timeout_s:g} s, waiting for the thread to be read; raise timeout_s, or try again"
        )

    async def _kept(self, completion: Completion, tenant: str) -> Completion:
        """The answer with the thread by which it can be continued, if it could be kept."""
        answered, threads = self._answered, self._shared.threads
        if answered is None or not threads.are_kept:
            return completion
        calls = [call.model_dump() for call in completion.tool_calls]
        content = completion.content or (None if calls else "")
        message = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
        thread = await threads.keep(
            tenant,
            self._continued,
            self._new,
            message,
            answered.thoughts,
            answered.by,
            is_large=self._request.is_large or is_large([message, answered.thoughts]),
            within_s=max(_LEAST_KEEPING_S, self._left_s),
        )
        notes = completion.notes if thread is not None else (*completion.notes, _NO_THREAD)
        return replace(completion, thread=thread, notes=notes)

    async def _with_files(self, caller: Caller, tenant: Tenant) -> Request:
        """The request with the files that it names."""
        if (paths := self._request.files) is None:
            return self._request
        roots, settings = caller.file_roots(self._config, tenant), self._config.file_access
        if roots == ():
            raise FileRefusedError("no folder is open to you here; leave files out, and send their text in messages")
        with anyio.move_on_after(self._left_s):
            whose = tenant.id if caller.is_verified else None
            read = await self._shared.readers.read(paths, FileAccess(settings, roots), whose)
            large = self._request.is_large or sum(len(file.data) for file in read.files) > LARGE_CHARS
            limits, keys = self._config.limits, settings.keys
            composed, self._files = await in_thread_if_large(
                _behind_files, self._request, read, keys, limits, is_large=large
            )
            return composed
        raise DeadlineError(
            f"no answer within {self._timeout_s:g} s, waiting for the files to be read; raise timeout_s, or name fewer"
        )

    async def _know_tenant(self, caller: Caller) -> None:
        try:
            async with asyncio.timeout(self._left_s):
                await self._shared.know_tenant(caller)
        except (LedgerError, TimeoutError) as error:
            # Where anybody may be a tenant, the calls of the process's own client go on without the database.
            if self._config.allow_unknown and not caller.is_verified:
                return
            if isinstance(error, LedgerError):
                raise
            raise DeadlineError(
                f"no answer within {self._timeout_s:g} s, waiting for the ledger to say which tenants there are; raise "
                "timeout_s, or try again"
            ) from None

    async def _make_group(self, name: str, tenant: str) -> None:
        """Have the group of a name that a wildcard matches made one of the config's."""
        with anyio.move_on_after(self._left_s):
            async with self._shared.admission.turn(self._request.chars, tenant):
                await self._shared.generations.make_group(name, tenant)
                return
        raise DeadlineError(
            f"no answer within {self._timeout_s:g} s, waiting for {quoted(name)} to be set up; raise timeout_s, or "
            "try again"
        )

    async def _in_time(self, account: Account, generation: Generation) -> Completion:
        """The answer, if it comes before the deadline."""
        tenant = account.tenant
        walk = Walk(
            generation.routes,
            account.group,
            needs_of(self._request, self._files.bytes),
            self._deadline,
            tenant.groups,
            self._on_wait,
            tenant.id,
            self._continued.answered_by,
        )
        with anyio.move_on_after(self._left_s):
            try:
                return await self._first_answer(walk, account, generation)
            except KonstructError:
                raise
            except Exception:
                _log.exception("a completion failed in konstruct_mcp itself")
                raise InternalError("a defect in konstruct_mcp; its log has the details") from None
        failed = "".join(f"; {attempt.deployment}: {attempt.error}" for attempt in walk.attempts[-3:])
        raise DeadlineError(
            f"no answer within {self._timeout_s:g} s, waiting for {walk.waiting_for}{failed}; "
            "raise timeout_s, ask for less, or use a faster group",
            walk.attempts,
        )

    async def _first_answer(self, walk: Walk, account: Account, generation: Generation) -> Completion:
        """Ask one deployment after another, in the walk's order, until one answers."""
        shared = self._shared
        walk.wait_for(f"its turn, {shared.admission.waiting_of(account.tenant.id)} calls before it")
        async with shared.admission.turn(self._request.chars, account.tenant.id):
            await turn(Step.BEGIN)
            walk.wait_for("LiteLLM to load")
            await generation.client.ready()
            walk.wait_for("the ledger to open")
            await shared.ledger.opened()
            tries = Tries(shared, self._request, account, generation)
            # Closed however this ends: a walk may hold the one probe of a deployment that is cooling down.
            with contextlib.closing(walk.tries()) as steps:
                step = next(steps, None)
                while step is not None:
                    result: TryResult | None = None
                    if isinstance(step, Hold):
                        over = asyncio.Event()
                        with walk.watching(step, over.set), anyio.move_on_after(step.wait_s):
                            await over.wait()
                    else:
                        await anyio.sleep(step.wait_s)
                        began = time.monotonic()
                        tried = await tries.once(step, walk.wait_for)
                        result = TryResult(tried.outcome, time.monotonic() - began)
                        if tried.reply is not None:
                            with contextlib.suppress(StopIteration):
                                steps.send(result)
                            walk.wait_for("the ledger to take note of the answer")
                            key, reply = generation.routes.key(step.deployment), tried.reply
                            self._answered = _Answered(key, {reply.thought: reply.reasoning} if reply.thought else {})
                            return account.completion(tried.reply, tried, step, walk.attempts)
                        _log.info("%s: %s", step.deployment.name, tried.outcome)
                    try:
                        step = steps.send(result)
                    except StopIteration:
                        step = None
            raise walk.failure()

    @property
    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


class Tries:
    """The tries of one call."""

    def __init__(self, shared: Shared, request: Request, account: Account, generation: Generation) -> None:
        self._shared, self._request, self._account, self._generation = shared, request, account, generation

    async def once(self, attempt: Try, wait_for: Callable[..., None]) -> Tried:
        """Ask one deployment once, if the budgets afford it, and put what it costs on the account.

        Args:
            wait_for: is called with what is waited for; with `trying=True` where that is the deployment itself.
        """
        began, charged = time.monotonic(), len(self._account.charges)
        outcome = "cancelled"
        try:
            tried = await self._once(attempt, wait_for)
            outcome = "ok" if isinstance(tried.outcome, Answer) else tried.outcome.kind.name.lower()
            return tried
        except Exception as error:
            outcome = (error if isinstance(error, KonstructError) else InternalError).code
            raise
        finally:
            account = self._account
            charges, duration_s = account.charges[charged:], time.monotonic() - began
            self._shared.emit(try_ended(attempt, account.tenant.id, account.group, outcome, charges, duration_s))

    async def _once(self, attempt: Try, wait_for: Callable[..., None]) -> Tried:
        client, deployment, request = self._generation.client, attempt.deployment, self._request
        tenant, max_effort = self._account.tenant.id, self._account.tenant.max_effort
        wait_for(f"its turn at {deployment.name}")
        async with client.turn(deployment, tenant):
            if (at_limit := await self._generation.routes.claim(deployment)) is not None:
                return Tried(at_limit)
            wait_for(f"the ledger, before {deployment.name} is asked")
            recalled = await client.recall(deployment, request, tenant)
            try:
                grant = await self._reserve(attempt, recalled)
            except UnpricedError as error:
                return Tried(Fault(FaultKind.UNPRICED, reason=error.message, sent=False))
            if isinstance(grant, Fault):
                return Tried(grant)
            wait_for(deployment.name, trying=True)
            asking = asyncio.ensure_future(client.ask(attempt, request, tenant, recalled, grant, max_effort))
            try:
                await asyncio.wait({asking})
            finally:
                if not asking.done():
                    await _until_done(asking, within_s=_GRACE_S)
                    asking.cancel()
                    await _until_done(asking)
                tried = _result(asking)
                self._account.add(
                    attempt,
                    tried,
                    free=self._generation.routes.facts(deployment).free,
                    grant=grant,
                    bound=lambda: client.most_nusd(deployment, request, recalled),
                )
            if tried is None:  # only a cancellation gets here without an outcome, and goes on by itself
                raise asyncio.CancelledError
            return tried

    async def _reserve(self, attempt: Try, recalled: Recalled) -> Grant | Fault | None:
        """Set aside what a try can cost at most; None where no budget applies or it costs nothing, and a fault where a
        budget does not afford it.

        Raises:
            UnpricedError: a budget applies, and nobody can say what the try can cost.
        """
        account, deployment = self._account, attempt.deployment
        min_tokens = self._generation.config.min_answer_tokens
        budgets = tuple(budget for budget in account.tenant.budgets if budget.covers(attempt.group))
        if not budgets:
            return None
        quote = await in_thread_if_large(
            self._generation.client.quote, deployment, self._request, recalled, is_large=self._request.is_large
        )
        if quote is None:
            return None
        granted = await self._shared.ledger.reserve(account.reservation(attempt, quote, budgets, min_tokens))
        await turn(Step.ASK)
        if isinstance(granted, Grant):
            return granted
        tightest = min(granted, key=lambda state: state.left_nusd).shown(account.tenant.groups)
        detail = f"{tightest.name}: {dollars(tightest.left_nusd)} left"
        reason = budget_refusal(deployment, quote, tightest, min_tokens)
        return Fault(FaultKind.BUDGET, detail, reason, sent=False, shortfall=shortfall(quote, tightest, min_tokens))


def ignore(*_: object, **__: object) -> None:
    """A callback that ignores its arguments."""


def _result(asking: asyncio.Future[Tried]) -> Tried | None:
    """How a try that has ended went; None for one that was broken off. One that failed by a defect of ours may have
    been answered, and billed."""
    if asking.cancelled():
        return None
    if (error := asking.exception()) is None:
        return asking.result()
    _log.error("a try failed in konstruct_mcp itself", exc_info=error)
    return Tried(Fault(FaultKind.BAD_ANSWER, "an answer that is not understood"))


async def _until_done(task: asyncio.Future[Any], within_s: float | None = None) -> None:
    """Wait for a task although whoever waits is being cancelled, perhaps more than once: what it costs must be known.
    Only for the way out of a cancellation, which goes on afterwards."""
    waiting = asyncio.ensure_future(asyncio.wait({task}, timeout=within_s))
    while not waiting.done():
        with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(waiting)
