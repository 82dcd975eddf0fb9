"""Asks providers: beside `spared` the only module that imports litellm, and no LiteLLM type leaves it.

Each deployment is a private group of one LiteLLM Router, whose own retries, cooldowns and fallbacks are off; which
deployment is asked next, and how often, is decided in `routing`. Here a try becomes a provider call, its answer a
`Completion`, and whatever LiteLLM raises a `Fault`.

The import of litellm takes seconds, so it runs in a thread, with one dummy call through a transport that has no
socket: that loads what litellm itself loads late. The first real call waits for both if it must.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, ClassVar

import anyio
import anyio.to_thread

from konstruct_mcp.config.access import wants_login, wants_token
from konstruct_mcp.config.embedded import EmbeddedServer
from konstruct_mcp.config.environment import lend, take_back
from konstruct_mcp.config.model import Config, Deployment, Tenant
from konstruct_mcp.config.models import entry
from konstruct_mcp.core.budgets import Grant, Quote
from konstruct_mcp.core.errors import EmbeddedError, InternalError, KonstructError, UnpricedError
from konstruct_mcp.core.fairness import Admission
from konstruct_mcp.core.money import MOST_NUSD
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.results import DeploymentStatus, FinishReason, GroupStatus
from konstruct_mcp.core.threads import LoopThread, in_thread_if_large
from konstruct_mcp.providers.faults import (
    billed,
    blamed,
    fault_of,
    fault_of_body,
    is_unsupported,
    refused_thought,
    secrets_of,
    secrets_read,
    secrets_sent,
    wanted,
)
from konstruct_mcp.providers.litellm.answers.provider_answer import parse_answer
from konstruct_mcp.providers.litellm.formats.structured_output import JSON_TOOL
from konstruct_mcp.providers.litellm.ollama.answers import attach_notes, notes_of
from konstruct_mcp.providers.litellm.ollama.servers import OllamaServers
from konstruct_mcp.providers.litellm.patches import Exchange, Manner, exchange, ours, renew_login, renew_token, spare
from konstruct_mcp.providers.litellm.prepared import PreparedRequest, UnsupportedError
from konstruct_mcp.providers.litellm.profiles.limits import output_limit
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile
from konstruct_mcp.providers.litellm.reasoning.history import misses_reasoning
from konstruct_mcp.providers.litellm.reasoning.memory import ReasoningMemory, Recalled
from konstruct_mcp.providers.litellm.refusals import Refusals
from konstruct_mcp.providers.litellm.requests import prepare
from konstruct_mcp.providers.litellm.responses import Reply, Tried, read
from konstruct_mcp.providers.litellm.router_entries import OLLAMA, litellm_params
from konstruct_mcp.providers.litellm.try_parameters import TryParameters
from konstruct_mcp.providers.prices import facts_of, longest_answer, quote
from konstruct_mcp.routing.facts import Needs
from konstruct_mcp.routing.outcomes import Fault, FaultKind
from konstruct_mcp.routing.routes import Routes
from konstruct_mcp.routing.walk import Try, Walk

_log = logging.getLogger(__name__)
_loading = threading.Lock()

_HEAD_START_S = 0.25  # of a server before LiteLLM is loaded, in which most clients have `initialize` and `tools/list`
# After a failure to load it, until that is tried again: an import that fails takes seconds of the processor too.
_LOAD_AGAIN_S, _LOAD_AGAIN_TIMES = 1.0, 4
_MOST_ASKED = 4  # times in one try, each with less of what was refused: providers name one parameter at a time
_PATIENCE_ASIDE_S = 1.0  # for what is asked aside to close its connections
_RENEWERS = 8  # logins that are renewed at once
_CHARS_PER_TOKEN = 3  # fewer than in any common language, so that the rough count errs on the long side


class ModelRouter:
    """Tries the deployments of a config in routing's order.

    Use within one running event loop; `start` begins to load LiteLLM, `aclose` ends all that it opened. `earlier` is
    the router of the config before this one: what is the same in both keeps its health and its limits.
    """

    def __init__(self, config: Config, embedded: EmbeddedServer | None, *, earlier: ModelRouter | None = None) -> None:
        self._config = config
        self._embedded = embedded
        self._earlier = earlier
        self._kept: ReasoningMemory = ReasoningMemory() if earlier is None else earlier._kept
        self._engine: Future[_Engine] = Future()
        self._load_again_at = 0.0  # a reading of `time.monotonic`, where it has failed
        self._started = self._wanted = False
        self._is_urgent = threading.Event()
        self._renewing: dict[str, asyncio.Future[Fault | None]] = {}  # logins, by the deployment's id
        self._renewers = anyio.CapacityLimiter(_RENEWERS)
        self._lender = object()  # of the config's variables
        self._servers: OllamaServers = OllamaServers() if earlier is None else earlier._servers
        same = set() if earlier is None else {one.id for one in self._deployments() if earlier._has(one)}
        self._refusals: Refusals = Refusals() if earlier is None else earlier._refusals.of_these(same)
        self._slots: dict[str, Admission] = {
            deployment.id: (earlier._slots.get(deployment.id) if earlier and deployment.id in same else None)
            or Admission(most)
            for deployment in self._deployments()
            if (most := deployment.max_parallel_requests) is not None
        }

    def _has(self, deployment: Deployment) -> bool:
        """Whether this one is here too, under the same id and asked in the same way."""
        mine = self._by_id.get(deployment.id)
        return mine is not None and (
            mine is deployment
            or (mine.params, mine.max_parallel_requests) == (deployment.params, deployment.max_parallel_requests)
        )

    @functools.cached_property
    def _by_id(self) -> Mapping[str, Deployment]:
        """Each once, though it is an alias's too."""
        groups = self._config.groups.values()
        return {deployment.id: deployment for group in groups for deployment in group.deployments}

    def _deployments(self) -> Iterable[Deployment]:
        return self._by_id.values()

    @functools.cached_property
    def _known_secrets(self) -> frozenset[str]:
        """Those of the config, and of the environment that LiteLLM reads, what is lent to it included."""
        of_config = (secret for deployment in self._deployments() for secret in secrets_of(deployment))
        return frozenset((*of_config, *secrets_read(os.environ)))

    def _secrets(self, call: Exchange) -> frozenset[str]:
        """What of a provider's words is shown to nobody."""
        return self._known_secrets.union(secrets_sent(call.answer))

    @classmethod
    def after(cls, earlier: ModelRouter, config: Config, embedded: EmbeddedServer | None) -> ModelRouter:
        """That of the next config, with all that takes long done. For a thread; the earlier one is `ready`."""
        made = cls(config, embedded, earlier=earlier)
        _ = made._routes, made._forms
        return made

    @functools.cached_property
    def _routes(self) -> Routes:
        earlier, self._earlier = self._earlier, None  # or every config that ever was would be kept
        return Routes(
            self._config,
            {deployment.id: facts_of(deployment) for deployment in self._deployments()},
            report=_log.warning,
            earlier=None if earlier is None else earlier._routes,
        )

    @functools.cached_property
    def _forms(self) -> Mapping[str, ModelProfile]:
        return {deployment.id: ModelProfile.of(deployment, entry(deployment)) for deployment in self._deployments()}

    # -- one completion ----------------------------------------------------------------------------------------------

    def walk(
        self,
        request: Request,
        group: str,
        deadline: float,
        tenant: Tenant,
        tell: Callable[[str], None],
    ) -> Walk:
        """Open the walk of a tenant's request. `deadline` is a reading of `time.monotonic`; `tell` is told what is
        being waited for."""
        input_tokens = request.text_chars // _CHARS_PER_TOKEN
        needs = Needs(
            tools=bool(request.tools),
            vision=request.has_images,
            structured_output=request.response_format is not None and request.response_format.type == "json_schema",
            tokens=input_tokens + (request.max_tokens or 0),
            input_tokens=input_tokens,
        )
        return Walk(self._routes, group, needs, deadline, tenant.groups, tell, tenant.id)

    async def ready(self) -> None:
        """Wait until providers can be asked: until LiteLLM is loaded.

        Raises:
            InternalError: it cannot be.
        """
        await self._loaded()
        _ = self._routes  # which lets go of the earlier one

    def turn(self, deployment: Deployment, tenant: str) -> contextlib.AbstractAsyncContextManager[None]:
        """A tenant's right to ask it, which is waited for where its `max_parallel_requests` are under way."""
        slots = self._slots.get(deployment.id)
        return contextlib.nullcontext() if slots is None else slots.turn(0, tenant)

    def recall(self, deployment: Deployment, request: Request, tenant: str) -> Recalled:
        """What the deployment has thought in this conversation of a tenant, for one try."""
        return self._kept.recall(tenant, deployment, request.messages)

    def quote(self, deployment: Deployment, request: Request, recalled: Recalled) -> Quote | None:
        """The most that this request can cost there; None for a deployment that costs nothing.

        Raises:
            UnpricedError: nobody can say; it says why.
        """
        facts = self._routes.facts(deployment)
        if facts.free:
            return None
        if why := facts.why_no_budget:
            raise UnpricedError(f"{deployment.name} {why}")
        return quote(deployment, request, recalled.bytes)

    def most_nusd(self, deployment: Deployment, request: Request, recalled: Recalled) -> int | None:
        """The most that a try can have cost for which nothing was reserved; None where nobody can say."""
        try:
            quoted = self.quote(deployment, request, recalled)
        except UnpricedError:
            return None
        is_limited = output_limit(deployment, entry(deployment), request.max_tokens) is not None or longest_answer(
            deployment
        )
        most = None if quoted is None or not is_limited else quoted.most_nusd(quoted.max_tokens)
        return None if most is None or most > MOST_NUSD else most

    def free(self, deployment: Deployment) -> bool:
        """Whether it costs nothing."""
        return self._routes.facts(deployment).free

    def why_no_budget(self, deployment: Deployment) -> str:
        """Why a tenant with a budget cannot use it, as the end of a sentence; empty where one can."""
        return self._routes.facts(deployment).why_no_budget

    async def ask(
        self, attempt: Try, request: Request, tenant: str, recalled: Recalled, grant: Grant | None = None
    ) -> Tried:
        """Ask one deployment once, within what is granted, where anything has to be. Where it refuses a parameter that
        can be left out, it is asked again without that, and the result says so.

        Raises nothing but cancellation before it has begun: a try that is broken off says how far it had come.
        """
        deployment = attempt.deployment
        engine = await self._loaded()
        began = time.monotonic()
        tried: Tried | None = None
        noted: tuple[str, ...] = ()
        call = Exchange(self._config.max_response_bytes)
        if grant is not None:
            call.most, call.images = grant.input_tokens, request.images
        patience = asyncio.timeout(attempt.limit_s)
        late = f"within {attempt.limit_s:.3g} s"
        try:
            async with patience:
                address = await self._address(deployment)
                if lacking := await self._login(deployment):
                    return Tried(lacking)
                asking = await in_thread_if_large(
                    _Asking,
                    deployment,
                    request,
                    lambda refusal: prepare(
                        deployment,
                        self._forms[deployment.id],
                        request,
                        recalled,
                        None if grant is None else grant.max_tokens,
                        refusal,
                        speaks_openais=engine.speaks_openais(deployment),
                    ),
                    self._refusals.to(tenant),
                    lambda: self._kept.forget(tenant, deployment, request.messages),
                    is_large=request.is_large,
                )
                answering = engine.answer(asking, tenant, address, call)
                response = await (engine.aside.run(answering) if request.is_large else answering)
            tried = self._read(response, call, deployment, request, time.monotonic() - began)
            noted = notes_of(response)
        except TimeoutError:
            fault = Fault(FaultKind.TIMEOUT, late, waited_s=attempt.limit_s, sent=call.give_up())
        except UnsupportedError as error:
            return Tried(Fault(FaultKind.UNFIT, reason=f"it {error}", sent=False))
        except EmbeddedError as error:
            fault = Fault(FaultKind.UNREADY, error.message)
        except asyncio.CancelledError:  # by whoever asked, or a provider client's own, gone astray
            fault = Fault(FaultKind.CONNECTION, "call broken off", sent=call.give_up())
        except Exception as error:
            of_call = {"left": call.left, "answer": call.answer, "request": request}
            fault = await in_thread_if_large(
                functools.partial(fault_of, error, deployment, self._secrets(call), **of_call),
                is_large=request.is_large,
            )
            if patience.expired():  # which LiteLLM's client of Azure makes an error of its own of
                fault = Fault(FaultKind.TIMEOUT, late, waited_s=attempt.limit_s, sent=call.give_up())
            elif call.content is not None:  # an answer came, which LiteLLM does not understand
                tried = self._read(None, call, deployment, request, time.monotonic() - began, otherwise=fault)
        finally:
            call.end()  # a connection that is kept open keeps its first call's context, and this with it
        if tried is None:
            tried = Tried(fault)
        if isinstance(tried.outcome, Fault):
            return replace(tried, outcome=billed(tried.outcome, deployment))
        assert tried.reply is not None  # noqa: S101  or its outcome is a fault
        asking.passed.remember()
        if tried.reply.tool_calls and tried.reply.reasoning:
            thought = tenant, deployment, request.messages, tried.reply.tool_calls, tried.reply.reasoning
            await in_thread_if_large(self._kept.keep, *thought, is_large=request.is_large)
        return _told(tried, tried.reply, asking.prepared, (*asking.passed.notes, *noted))

    def _read(
        self,
        response: Any,
        call: Exchange,
        deployment: Deployment,
        request: Request,
        latency_s: float,
        otherwise: Fault | None = None,
    ) -> Tried:
        """What an answer says. `response` is what LiteLLM makes of it; None where it does not understand it, which is
        the fault `otherwise` if nobody does."""
        body = None if call.content is None else parse_answer(call.content)
        if body is not None and body.error is not None:
            otherwise = fault_of_body(200, *body.error, self._secrets(call))
        elif response is not None or (body is not None and body.says):
            otherwise = None
        taken = {made.id for message in request.messages for made in message.tool_calls or ()}
        return read(response, body, deployment, self._routes.facts(deployment), latency_s, otherwise, taken=taken)

    async def _login(self, deployment: Deployment) -> Fault | None:
        """Why there is no login for a call. It is renewed beside the event loop, on which LiteLLM would do that keeping
        every other call waiting, once for all calls that want it, and in threads of its own: in those of the loop
        LiteLLM makes the requests to most providers."""
        if not (wants_login(deployment.model) or wants_token(deployment.model, deployment.params, os.environ.get)):
            return None
        if (renewing := self._renewing.get(deployment.id)) is None:
            renewing = self._renewing[deployment.id] = asyncio.ensure_future(
                anyio.to_thread.run_sync(
                    _renew,
                    deployment,
                    Manner.of(deployment, self._config.variables),
                    abandon_on_cancel=True,
                    limiter=self._renewers,
                )
            )
            renewing.add_done_callback(lambda _: self._renewing.pop(deployment.id, None))
        return await asyncio.shield(renewing)

    async def _address(self, deployment: Deployment) -> dict[str, str]:
        """Where to call and with which key, for a deployment whose server is started on first use."""
        if self._embedded is None or not deployment.model.startswith("embedded/"):
            return {}
        endpoint = await self._embedded.endpoint()
        return {"api_base": endpoint.base_url, "api_key": endpoint.api_key.get_secret_value()}

    # -- what users see of the groups --------------------------------------------------------------------------------

    def statuses(self) -> list[GroupStatus]:
        """Every group and the state of its deployments now; asks nobody."""
        return [
            GroupStatus(
                name=group.name,
                description=group.description,
                fallbacks=group.fallbacks,
                deployments=tuple(map(self._status, group.deployments)),
                alias_of=group.alias_of,
            )
            for group in self._config.groups.values()
        ]

    def _status(self, deployment: Deployment) -> DeploymentStatus:
        facts = self._routes.facts(deployment)
        state, reason = self._routes.state(deployment, self._config.known_tenant)
        return DeploymentStatus(
            model=deployment.model,
            state=state,
            reason=reason,
            input_usd_per_million=_per_million(facts.input_cost),
            output_usd_per_million=_per_million(facts.output_cost),
            context_window=facts.context_window,
            supports=tuple(name for name, supported in facts.supports.items() if supported),
            max_output_tokens=facts.longest_answer,
            retires=facts.retires,
        )

    # -- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load LiteLLM in a thread, at once if a call waits for it and else in a moment; returns at once."""
        self._wanted = True
        if not self._started:
            self._started = True
            # A daemon, so that a process told to end does not wait for an import.
            threading.Thread(target=self._load, args=(self._engine,), name="litellm", daemon=True).start()

    def _load(self, loaded: Future[_Engine]) -> None:
        began = time.monotonic()
        # What a client asks at the start, it is waiting for: an import beside that takes turns with it.
        self._is_urgent.wait(_HEAD_START_S)
        try:
            # One at a time: LiteLLM's warm-up call must not run beside somebody else's first real one.
            with _loading:
                # LiteLLM sets them there too, and reads them when it asks.
                if self._wanted:
                    lend(self._lender, self._config.variables)
                available = [d for d in self._deployments() if d.unavailable is None]
                engine = _Engine(available, self._servers, self._config.variables)
                try:
                    engine.warm_up()
                except Exception:
                    self._complain(
                        logging.WARNING, "the warm-up call failed; the first call will be slow", exc_info=True
                    )
            if engine.is_first and gc.get_freeze_count():
                gc.freeze()  # as a server does with all that it has imported; to look through it takes 0.1 s
        except BaseException as error:
            self._complain(logging.ERROR, "LiteLLM cannot be loaded: %r", error)
            took = time.monotonic() - began
            self._load_again_at = time.monotonic() + max(_LOAD_AGAIN_S, _LOAD_AGAIN_TIMES * took)
            loaded.set_exception(error)
            return
        loaded.set_result(engine)
        if not self._wanted:  # closed meanwhile, when there was nothing to close
            take_back(self._lender)
            engine.forget()

    def _complain(self, level: int, said: str, *about: object, exc_info: bool = False) -> None:
        """But not once we are closed: the process may be ending then, in which no import and no thread succeeds."""
        if self._wanted:
            _log.log(level, said, *about, exc_info=exc_info)

    async def _loaded(self) -> _Engine:
        if self._engine.done() and self._engine.exception() is None:
            return self._engine.result()
        if self._engine.done() and time.monotonic() >= self._load_again_at:  # what was missing may be there by now
            self._engine, self._started = Future(), False
        self.start()
        self._is_urgent.set()
        try:
            # Shielded: the thread serves every call, and one that is cancelled must not cancel it for the others.
            return await asyncio.shield(asyncio.wrap_future(self._engine))
        except (asyncio.CancelledError, KonstructError):
            raise
        except BaseException:
            raise InternalError("LiteLLM cannot be loaded; the log says why; try again in a moment") from None

    def take_over(self, earlier: ModelRouter) -> None:
        """Make the provider connections of an earlier one, which is asked no more, one's own. Both are `ready`."""
        take_back(earlier._lender)
        self._engine.result().take_over(earlier._engine.result())

    async def aclose(self) -> None:
        """Close the provider connections. Safe to call twice."""
        self._wanted = False
        take_back(self._lender)
        if self._engine.done() and self._engine.exception() is None:
            await self._engine.result().aclose()


class _Asking:
    """How one deployment is asked in one try, which changes with what it refuses.

    Attributes:
        prepared: the request for it.
        passed: the parameters that go out.
    """

    def __init__(
        self,
        deployment: Deployment,
        request: Request,
        prepare: Callable[[str], PreparedRequest],
        refusals: Refusals,
        forget: Callable[[], None],
    ) -> None:
        """`prepare` makes the request, given what the deployment has said of its reasoning in the history; `forget`
        drops what is kept of that.

        Raises:
            UnsupportedError: it cannot be asked so that it means the same.
        """
        self.deployment = deployment
        self._request, self._prepare, self._refusals, self._forget = request, prepare, refusals, forget
        self._is_thoughtless = False
        self.prepared, self.passed = self._made("")

    def _made(self, refusal: str) -> tuple[PreparedRequest, TryParameters]:
        made = self._prepare(refusal)
        return made, TryParameters(self.deployment, made.options, made.body, self._refusals, made.places, made.messages)

    def adapts(self, error: Exception, call: Exchange) -> bool:
        """Whether it can be asked in another way after this refusal, in which it then is."""
        if call.left and (way := wanted(error, call.answer)) and self.passed.in_another_way(way):
            return True
        if refusal := refused_thought(error, left=call.left, answer=call.answer):
            if self._is_thoughtless or not any(message.tool_calls for message in self._request.messages):
                return False
            if not misses_reasoning(refusal):
                self._forget()
            self._is_thoughtless, earlier = True, self.passed
            self.prepared, self.passed = self._made(refusal)
            self.passed.follow(earlier)
            return True
        refused = blamed(error, self.passed.names, left=call.left, answer=call.answer)
        by_litellm = not call.left and is_unsupported(error)
        return bool(refused or by_litellm) and self.passed.without(refused, by_litellm=by_litellm)


class _Engine:
    """LiteLLM, imported and made quiet, and one Router with a private group for each deployment.

    Blocks for seconds while it is built: build it off the event loop.
    """

    # Those that have asked somebody and are not closed since: the last of them closes what they share.
    _open: ClassVar[set[_Engine]] = set()
    aside: ClassVar[LoopThread] = LoopThread()  # where what is large is asked

    def __init__(self, deployments: list[Deployment], servers: OllamaServers, variables: Mapping[str, str]) -> None:
        self.is_first = "litellm" not in sys.modules
        _quieten_before_import()
        import litellm

        self._litellm: Any = litellm  # whose types are neither complete nor exported
        litellm.suppress_debug_info = True  # else it prints advice to stdout on errors
        litellm.telemetry = False
        _register_ollama(litellm)
        spare()
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            # It logs a traceback for every failed call; the fault is reported by us, in one line.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # Of an answer with a field of the wrong type. It quotes the field, on stderr.
        warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
        # It makes most providers' coroutines in a thread, and drops one whose call has been cancelled meanwhile.
        dropped = r"coroutine '[\w.<>]+\.a(sync_)?completion\w*' was never awaited"
        warnings.filterwarnings("ignore", dropped, RuntimeWarning)
        self._ollama = servers
        self._manners = {deployment.id: Manner.of(deployment, variables) for deployment in deployments}
        # In a thread that does nothing else: to look up a provider is enough for LiteLLM to ask for a login.
        ours.set(Manner(format="openai", at_once=False, plain=False))
        self._speaks = {deployment.id: _speaks_openais(litellm, deployment) for deployment in deployments}
        self._router = self._make_router(
            [
                {"model_name": deployment.id, "litellm_params": litellm_params(deployment, entry(deployment))}
                for deployment in deployments
            ]
        )

    def _make_router(self, model_list: list[dict[str, Any]]) -> Any:
        return self._litellm.Router(
            model_list=model_list,
            routing_strategy="simple-shuffle",  # over groups of one: the cheapest way to no choice at all
            num_retries=0,
            max_fallbacks=0,
            disable_cooldowns=True,
            ignore_invalid_deployments=True,  # one whose provider is unknown fails when it is asked, and it alone
        )

    def warm_up(self) -> None:
        """Make the first call of this process, so that nobody waits for what it brings about."""
        Request.parse({"messages": [{"role": "user", "content": ""}]})  # takes milliseconds the first time
        if self.is_first:  # else somebody has used LiteLLM already, perhaps on another loop, which this would disturb
            asyncio.run(self._warm_up())

    async def _warm_up(self) -> None:
        """One dummy call in each way in which deployments are asked, answered in memory: litellm imports much of itself
        on the first."""
        import httpx
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/api/chat":
                return httpx.Response(200, json={"message": {"role": "assistant", "content": ""}, "done": True})
            if request.url.path.endswith("/messages"):
                block = {"type": "text", "text": ""}
                body: dict[str, Any] = {
                    "id": "",
                    "type": "message",
                    "role": "assistant",
                    "model": "",
                    "content": [block],
                }
                return httpx.Response(200, json=body | {"stop_reason": "end_turn", "usage": _NO_TOKENS_ANTHROPIC})
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}
            body = {"id": "", "object": "chat.completion", "created": 0, "model": "", "choices": [choice]}
            return httpx.Response(200, json=body | {"usage": _NO_TOKENS_OPENAI})

        router = self._make_router(
            [
                {"model_name": "openai", "litellm_params": {"model": "openai/warm-up", "api_key": "none"}},
                {"model_name": "anthropic", "litellm_params": {"model": "anthropic/warm-up", "api_key": "none"}},
                {"model_name": "ollama", "litellm_params": {"model": f"{OLLAMA}/warm-up", "api_base": "http://none"}},
            ]
        )
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            handler = AsyncHTTPHandler()
            await handler.client.aclose()
            handler.client = http
            for manner in set(self._manners.values()):
                client: Any = handler
                if manner.format == "openai" and not manner.plain:
                    import openai  # whose client takes 14 MB

                    client = openai.AsyncOpenAI(api_key="none", http_client=http)
                ours.set(manner)
                messages = [{"role": "user", "content": ""}]
                more: dict[str, Any] = {}
                if manner.format == "ollama":
                    more = {"body": {"model": "warm-up", "messages": messages}, "servers": self._ollama}
                await router.acompletion(model=manner.format, messages=messages, client=client, metadata={}, **more)

    async def answer(self, asking: _Asking, tenant: str, address: Mapping[str, str], call: Exchange) -> Any:
        """What LiteLLM returns, or raises where the deployment cannot be asked in another way. `call` is told what
        passes."""
        asked = 0
        while True:
            try:
                return await self._ask(asking, tenant, address, call)
            except Exception as error:
                asked += 1
                if asked == _MOST_ASKED or not asking.adapts(error, call):
                    raise

    async def _ask(self, asking: _Asking, tenant: str, address: Mapping[str, str], call: Exchange) -> Any:
        """One provider call; whatever LiteLLM returns or raises."""
        self._open.add(self)
        deployment, passed = asking.deployment, asking.passed
        prepared = replace(asking.prepared, messages=passed.messages, options=passed.options, body=passed.body)
        ours.set(self._manners[deployment.id])
        call.begin(prepared.shape if prepared.is_shaped else None, prepared.outputs)
        exchange.set(call)
        if deployment.model.startswith("ollama/"):
            _register_ollama(self._litellm)
            options: dict[str, Any] = {"body": _Unwritten(prepared.body), "servers": self._ollama}
        else:
            options = prepared.options | passed.litellm()
        return await self._router.acompletion(
            model=deployment.id,
            messages=prepared.messages,
            # LiteLLM writes into it, so each call gets its own.
            metadata={"tenant_id": tenant},
            **options,
            **address,
        )

    def speaks_openais(self, deployment: Deployment) -> bool:
        """Whether LiteLLM asks its provider in OpenAI's format."""
        return self._speaks[deployment.id]

    def take_over(self, earlier: _Engine) -> None:
        """Make what an earlier one has opened one's own, to use and to close; it asks nobody any more."""
        earlier.forget()
        if earlier in self._open:
            self._open.discard(earlier)
            self._open.add(self)

    def forget(self) -> None:
        """Take it off LiteLLM's lists; it can be asked all the same."""
        self._router.discard()  # else LiteLLM goes on telling it how every call in this process went

    async def aclose(self) -> None:
        """Close LiteLLM's connections, which all Routers of a process share, if this is the last one."""
        self.forget()
        if self not in self._open:
            return
        self._open.discard(self)
        if self._open:
            return
        if self.aside.is_running:
            with anyio.move_on_after(_PATIENCE_ASIDE_S):
                await self.aside.run(self._close_clients(of_loop=True))
            self.aside.stop()
        await self._close_clients()
        self._litellm.in_memory_llm_clients_cache.flush_cache()  # else a closed one is handed to the next on this loop

    async def _close_clients(self, *, of_loop: bool = False) -> None:
        """Close LiteLLM's connections, or those alone that were opened on the running loop."""
        import openai

        clients = self._litellm.in_memory_llm_clients_cache.cache_dict
        loop = str(id(asyncio.get_running_loop()))  # as it is in LiteLLM's keys
        for key, client in list(clients.items()):
            if isinstance(client, openai.AsyncOpenAI) and (not of_loop or loop in key):
                await client.close()  # which LiteLLM's own clean-up does not
            if of_loop and loop in key:
                if (close := getattr(getattr(client, "client", None), "aclose", None)) is not None:
                    with contextlib.suppress(Exception):
                        await close()
                clients.pop(key, None)
        if not of_loop:
            await self._litellm.close_litellm_async_clients()


class _Unwritten(dict[str, Any]):
    """A body that is not written out in what LiteLLM says to its log, where nobody reads it."""

    def __repr__(self) -> str:
        return "{…}"


def _speaks_openais(litellm: Any, deployment: Deployment) -> bool:
    provider, _, model = deployment.model.partition("/")
    try:
        config = litellm.utils.ProviderConfigManager.get_provider_chat_config(model, litellm.LlmProviders(provider))
    except Exception:  # one of which it has none: another program's, or ours
        return False
    return isinstance(config, litellm.OpenAIGPTConfig | litellm.OpenAIConfig)


def _register_ollama(litellm: Any) -> None:
    """Have LiteLLM know the provider that speaks Ollama's own format, also where the program around us has put another
    list in the place of the one that it was on."""
    if all(entry["provider"] != OLLAMA for entry in litellm.custom_provider_map):
        litellm.custom_provider_map.append({"provider": OLLAMA, "custom_handler": _ollama_provider()})
        litellm.utils.custom_llm_setup()


@functools.cache
def _ollama_provider() -> Any:
    """One for a process, whose calls bring what they need: the request, and who asks the servers."""
    from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
    from litellm.llms.custom_llm import CustomLLM
    from litellm.types.utils import LlmProviders

    class Ollama(CustomLLM):
        async def acompletion(self, *args: Any, **call: Any) -> Any:
            client = call["client"] or get_async_httpx_client(LlmProviders.OLLAMA)
            headers = dict(call["headers"] or {})
            if key := call["api_key"]:  # Ollama itself asks for none; what stands before it may
                headers.setdefault("Authorization", f"Bearer {key}")
            base = call["api_base"]

            async def ask(path: str, payload: Mapping[str, Any] | None) -> Any:
                if payload is None:
                    response = await client.get(base + path, headers=headers)
                    response.raise_for_status()
                else:
                    content = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                    response = await client.post(
                        base + path,
                        data=content,
                        headers=headers | {"Content-Type": "application/json"},
                        timeout=call["timeout"],
                    )
                return response.json()

            call["logging_obj"].pre_call(input=call["messages"], api_key="")  # as for any other provider
            given = call["optional_params"]
            answer, notes = await given["servers"].chat(base, headers, given["body"], ask)
            response = type(call["model_response"])(**answer)
            attach_notes(response, notes)
            return response

    return Ollama()


def _renew(deployment: Deployment, manner: Manner) -> Fault | None:
    """Why there is no login for a call, which is renewed if it must be; blocks meanwhile."""
    ours.set(manner)
    is_login = wants_login(deployment.model)
    try:
        if is_login:
            renew_login(deployment.model)
        else:
            renew_token(deployment.params)
    except Exception as error:
        refused = any(type(link).__name__ in _REFUSED_BY_ENTRA for link in (error, error.__cause__))
        _log.info("%s: no login: %s", deployment.name, type(error.__cause__ or error).__name__)
        if is_login:
            return Fault(FaultKind.AUTH, "its login is no longer good; log in again", sent=False)
        if refused:
            return Fault(FaultKind.AUTH, "Entra ID gives no token for these credentials", sent=False)
        return Fault(FaultKind.CONNECTION, "no token of Entra ID, which cannot be reached", sent=False)
    return None


# As azure-identity calls a refusal, and LiteLLM; what else is raised comes from the way there.
_REFUSED_BY_ENTRA = ("ClientAuthenticationError", "AzureOpenAIError")
_NO_TOKENS_OPENAI = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_NO_TOKENS_ANTHROPIC = {"input_tokens": 0, "output_tokens": 0}


def _told(tried: Tried, reply: Reply, prepared: PreparedRequest, left_out: Collection[str]) -> Tried:
    """What came of it, with what is to be said of how it was asked."""
    reply = _without_json_tool(reply)
    reply = replace(reply, content=prepared.read(reply.content))
    return replace(tried, reply=reply, notes=(*prepared.notes, *left_out, *tried.notes))


def _without_json_tool(reply: Reply) -> Reply:
    """LiteLLM makes text of the call that is the answer where that is the only one. Beside others it came too soon."""
    answers = [call.function.arguments for call in reply.tool_calls if call.function.name == JSON_TOOL]
    if not answers:
        return reply
    calls = tuple(call for call in reply.tool_calls if call.function.name != JSON_TOOL)
    if calls or reply.content:
        return replace(reply, tool_calls=calls)
    end: FinishReason = "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
    return replace(reply, content=answers[0], tool_calls=(), finish_reason=end)


def _quieten_before_import() -> None:
    """What LiteLLM and its HTTP libraries read from the environment."""
    # The price map and the beta headers from its own package, not from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # Else a `.env` of a parent folder is loaded: a cloned repository must not be able to set keys or addresses.
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    # A company's proxy does not know this machine's loopback, where Ollama and the embedded model are.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")  # the lower case wins, as in HTTP libraries
    excepted = [*filter(None, map(str.strip, given.split(","))), "localhost", "127.0.0.1", "::1"]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(excepted))


def _per_million(cost: float | None) -> float | None:
    # Ten digits are more than any price has, and take back what the multiplication added.
    return None if cost is None else float(f"{cost * 1_000_000:.10g}")
