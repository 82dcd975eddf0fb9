"""The client that asks providers: a try becomes a provider call, its answer a `Tried`, and a failure a `Fault`.

It stands beside `Routes`, which decides whom to ask. Neither knows the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from konstruct_mcp.config.model import Config, Deployment, entry
from konstruct_mcp.core.budgets import Grant, Quote
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.errors import EmbeddedError, UnpricedError
from konstruct_mcp.core.fairness import Admission
from konstruct_mcp.core.money import MOST_NUSD
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.sharing import SharedValues
from konstruct_mcp.core.threads import in_thread_if_large
from konstruct_mcp.providers.embedded.server import EmbeddedServer
from konstruct_mcp.providers.faults.classification import fault_of, fault_of_body, with_billing
from konstruct_mcp.providers.faults.credentials import secrets_in_environment, secrets_in_request, secrets_of
from konstruct_mcp.providers.litellm.answers.provider_answer import parse_answer
from konstruct_mcp.providers.litellm.formats.draft import UnfitError
from konstruct_mcp.providers.litellm.loader import EngineLoader
from konstruct_mcp.providers.litellm.logins import Logins
from konstruct_mcp.providers.litellm.ollama.answers import notes_of
from konstruct_mcp.providers.litellm.ollama.servers import OllamaServers
from konstruct_mcp.providers.litellm.outgoing import OutgoingRequest
from konstruct_mcp.providers.litellm.prepared import PreparedRequest
from konstruct_mcp.providers.litellm.profiles.limits import output_limit
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile
from konstruct_mcp.providers.litellm.provider_call import ProviderCall
from konstruct_mcp.providers.litellm.reasoning.memory import KEPT_S, ReasoningMemory, name
from konstruct_mcp.providers.litellm.requests import prepare
from konstruct_mcp.providers.litellm.responses import read
from konstruct_mcp.providers.quotes import longest_answer, quote
from konstruct_mcp.providers.refused_parameters import Refusals
from konstruct_mcp.providers.tried import Recalled, Tried
from konstruct_mcp.routing.facts import Facts
from konstruct_mcp.routing.outcomes import Fault, FaultKind
from konstruct_mcp.routing.walk import Try

if TYPE_CHECKING:
    from konstruct_mcp.providers.litellm.engine import Engine


class ProviderClient:
    """Asks the deployments of one config. Use it within one running event loop.

    Call `start` to begin to load LiteLLM, await `ready` before the first `ask`, and `aclose` at the end.
    """

    def __init__(
        self,
        config: Config,
        facts: Mapping[str, Facts],
        embedded: EmbeddedServer | None,
        *,
        earlier: ProviderClient | None = None,
        values: SharedValues | None = None,
    ) -> None:
        """Takes long for many deployments; may be called in a thread.

        Args:
            facts: of the model of each deployment, by the deployment's id.
            embedded: the server of the embedded model, if the config has that.
            earlier: the client of the config before this one. Deployments that are in both, and asked in the same way,
                keep their parallel calls and what they have refused; all keep the reasoning of conversations.
            values: where other servers find the reasoning of conversations; None where there are none.
        """
        self._values = values
        self._config = config
        self._facts = facts
        self._embedded = embedded
        self._by_id = config.deployments
        # By deployment, and by the effort that a call asks for and the most that its tenant may have: few of each.
        self._profiles: dict[tuple[str, Effort | None, Effort | None], ModelProfile] = {
            (id_, None, None): ModelProfile.of(deployment, entry(deployment)) for id_, deployment in self._by_id.items()
        }
        self._logins = Logins(config.variables)
        same = set() if earlier is None else {id_ for id_, one in self._by_id.items() if earlier._has(one)}
        self._reasoning: ReasoningMemory = ReasoningMemory() if earlier is None else earlier._reasoning
        self._servers: OllamaServers = OllamaServers() if earlier is None else earlier._servers
        self._refusals: Refusals = Refusals() if earlier is None else earlier._refusals.of_these(same)
        self._slots: dict[str, Admission] = {
            id_: (earlier._slots.get(id_) if earlier and id_ in same else None) or Admission(most)
            for id_, deployment in self._by_id.items()
            if (most := deployment.max_parallel_requests) is not None
        }
        available = [deployment for deployment in self._by_id.values() if deployment.unavailable is None]

        def make_engine() -> Engine:
            # Imported beside LiteLLM, in its thread: no start has to wait for it.
            from konstruct_mcp.providers.litellm import engine

            return engine.Engine(available, self._servers, config.variables)

        self._loader = EngineLoader(make_engine, config.variables)

    def _has(self, deployment: Deployment) -> bool:
        """Whether this deployment is here too, under the same id and asked in the same way."""
        mine = self._by_id.get(deployment.id)
        return mine is not None and (
            mine is deployment
            or (mine.params, mine.max_parallel_requests) == (deployment.params, deployment.max_parallel_requests)
        )

    # -- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to load LiteLLM in a thread; returns at once."""
        self._loader.start()

    async def ready(self) -> None:
        """Wait until providers can be asked: until LiteLLM is loaded.

        Raises:
            InternalError: it cannot be.
        """
        await self._loader.ready()

    @property
    def is_started(self) -> bool:
        """Whether LiteLLM is being loaded for it, or is loaded."""
        return self._loader.is_started

    @property
    def is_ready(self) -> bool:
        return self._loader.is_ready

    def take_over(self, earlier: ProviderClient) -> None:
        """Use and close the connections of an earlier client, which is asked no more; this is `ready` where that is."""
        self._loader.take_over(earlier._loader)

    async def aclose(self) -> None:
        """Close the provider connections. Safe to call twice."""
        await self._loader.aclose()

    # -- before a try ------------------------------------------------------------------------------------------------

    def turn(self, deployment: Deployment, tenant: str) -> contextlib.AbstractAsyncContextManager[None]:
        """A tenant's right to ask a deployment, which is waited for where its `max_parallel_requests` are under way."""
        slots = self._slots.get(deployment.id)
        return contextlib.nullcontext() if slots is None else slots.turn(0, tenant)

    async def recall(self, deployment: Deployment, request: Request, tenant: str) -> Recalled:
        """The deployment's own reasoning in this conversation of a tenant, for one try."""
        memory, of_try = self._reasoning, (tenant, deployment)
        of_conversation, is_large = (*of_try, request.messages), request.is_large
        recalled = await in_thread_if_large(memory.recall, *of_conversation, is_large=is_large)
        if self._values is None or None not in recalled.turns:
            return recalled
        lacking = await in_thread_if_large(memory.lacking, *of_conversation, recalled, is_large=is_large)
        found = await self._values.get_many([name(key) for key in lacking.values()])
        if not any(found):
            return recalled
        return await in_thread_if_large(memory.read, *of_try, recalled, lacking, found, is_large=is_large)

    async def restore(self, tenant: str, thoughts: Mapping[str, Mapping[str, Any]], *, is_large: bool) -> None:
        """Have the reasoning that a thread of a tenant holds recalled: by its key, as `Reply.thought` was."""
        await in_thread_if_large(self._reasoning.restore, tenant, thoughts, is_large=is_large)

    def quote(self, deployment: Deployment, request: Request, recalled: Recalled) -> Quote | None:
        """The most that this request can cost there; None for a deployment that costs nothing.

        Raises:
            UnpricedError: the most is not known; it says why.
        """
        facts = self._facts[deployment.id]
        if facts.free:
            return None
        if why := facts.why_no_budget:
            raise UnpricedError(f"{deployment.name} {why}")
        return quote(deployment, request, recalled.bytes)

    def most_nusd(self, deployment: Deployment, request: Request, recalled: Recalled) -> int | None:
        """The most nano-dollars that a try can have cost for which nothing was reserved; None where unknown."""
        if output_limit(deployment, entry(deployment), request.max_tokens) is None and not longest_answer(deployment):
            return None
        try:
            quoted = self.quote(deployment, request, recalled)
        except UnpricedError:
            return None
        most = None if quoted is None else quoted.most_nusd(quoted.max_tokens)
        return None if most is None or most > MOST_NUSD else most

    # -- a try -------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        attempt: Try,
        request: Request,
        tenant: str,
        recalled: Recalled,
        grant: Grant | None = None,
        max_effort: Effort | None = None,
    ) -> Tried:
        """Ask one deployment once, after `ready`. Where it refuses a parameter that can be left out, it is asked again
        without that, and the result says so.

        Raises nothing but a cancellation before it has begun: a try that is broken off says how far it had come.

        Args:
            grant: what a budget has set aside for it, if one applies.
            max_effort: how hard the tenant may have a model think at most; None without limit.
        """
        deployment = attempt.deployment
        call = ProviderCall(self._config.max_response_bytes)
        if grant is not None:
            call.max_request_bytes, call.images = grant.input_tokens, request.media
        began = time.monotonic()
        patience = asyncio.timeout(attempt.limit_s)
        late = f"within {attempt.limit_s:.3g} s"
        tried: Tried | None = None
        noted: tuple[str, ...] = ()
        try:
            async with patience:
                address = await self._address(deployment)
                if lacking := await self._logins.renew(deployment):
                    return Tried(lacking)
                profile = self._profile(deployment, request.effort, max_effort)
                outgoing = await self._outgoing(deployment, profile, request, tenant, recalled, grant)
                response = await self._loader.engine.ask(outgoing, tenant, address, call)
            tried = self._read(response, call, deployment, request, time.monotonic() - began)
            noted = notes_of(response)
        except TimeoutError:
            fault = Fault(FaultKind.TIMEOUT, late, waited_s=attempt.limit_s, sent=call.give_up())
        except UnfitError as error:
            return Tried(Fault(FaultKind.UNFIT, reason=f"it {error}", sent=False))
        except EmbeddedError as error:
            fault = Fault(FaultKind.UNREADY, error.message)
        except asyncio.CancelledError:  # by whoever asked, or a provider client's own, gone astray
            fault = Fault(FaultKind.CONNECTION, "call broken off", sent=call.give_up())
        except Exception as error:
            fault = await self._fault(error, call, deployment, request)
            if patience.expired():  # LiteLLM's client of Azure turns the cancellation into an error of its own
                fault = Fault(FaultKind.TIMEOUT, late, waited_s=attempt.limit_s, sent=call.give_up())
            elif call.content is not None:  # an answer came, which LiteLLM does not understand
                tried = self._read(None, call, deployment, request, time.monotonic() - began, otherwise=fault)
        finally:
            call.end()  # a connection that is kept open keeps its first call's context, and this with it
        if tried is None:
            tried = Tried(fault)
        if isinstance(tried.outcome, Fault):
            return replace(tried, outcome=with_billing(tried.outcome, deployment))
        return await self._answered(tried, outgoing, tenant, noted)

    def _profile(self, deployment: Deployment, effort: Effort | None, most: Effort | None) -> ModelProfile:
        """What holds for a deployment in calls with this effort."""
        key = (deployment.id, effort, most)
        if (profile := self._profiles.get(key)) is None:
            profile = self._profiles[key] = self._profiles[deployment.id, None, None].for_call(effort, most)
        return profile

    async def _outgoing(
        self,
        deployment: Deployment,
        profile: ModelProfile,
        request: Request,
        tenant: str,
        recalled: Recalled,
        grant: Grant | None,
    ) -> OutgoingRequest:
        """The request as it goes out at first.

        Raises:
            UnfitError: the deployment cannot be asked so that it means the same.
        """

        def prepared(refusal: str) -> PreparedRequest:
            return prepare(
                deployment,
                profile,
                request,
                recalled,
                None if grant is None else grant.max_tokens,
                refusal,
                speaks_openais=self._loader.engine.speaks_openais(deployment),
            )

        return await in_thread_if_large(
            OutgoingRequest,
            deployment,
            request,
            prepared,
            self._refusals.to(tenant),
            lambda: self._reasoning.forget(tenant, deployment, request.messages),
            is_large=request.is_large,
        )

    def _read(
        self,
        response: object,
        call: ProviderCall,
        deployment: Deployment,
        request: Request,
        latency_s: float,
        otherwise: Fault | None = None,
    ) -> Tried:
        """What an answer says.

        Args:
            response: what LiteLLM makes of it; None where LiteLLM does not understand it.
            otherwise: the fault that it is, where the provider's own body does not say anything either.
        """
        body = None if call.content is None else parse_answer(call.content)
        if body is not None and body.error is not None:
            otherwise = fault_of_body(200, *body.error, self._secrets(call))
        elif response is not None or (body is not None and body.says):
            otherwise = None
        taken = {made.id for message in request.messages for made in message.tool_calls or ()}
        return read(response, body, deployment, self._facts[deployment.id], latency_s, otherwise, taken=taken)

    async def _fault(self, error: Exception, call: ProviderCall, deployment: Deployment, request: Request) -> Fault:
        """The fault that an exception out of LiteLLM means."""
        of_call = {"left": call.left, "answer": call.answer, "request": request}
        classify = functools.partial(fault_of, error, deployment, self._secrets(call), **of_call)
        return await in_thread_if_large(classify, is_large=request.is_large)

    async def _answered(self, tried: Tried, outgoing: OutgoingRequest, tenant: str, noted: tuple[str, ...]) -> Tried:
        """The result of a try that was answered, once its reasoning is kept for the next turn."""
        assert tried.reply is not None  # noqa: S101  or its outcome is a fault
        reply, request = tried.reply, outgoing.request
        answered = outgoing.answered(tried, reply, noted)
        if reply.tool_calls and reply.reasoning:
            thought = tenant, outgoing.deployment, request.messages, reply.tool_calls, reply.reasoning
            keep = functools.partial(self._reasoning.keep, *thought, is_shared=self._values is not None)
            kept = await in_thread_if_large(keep, is_large=request.is_large)
            if kept is not None:
                assert answered.reply is not None  # noqa: S101  it is the same with notes
                answered = replace(answered, reply=replace(answered.reply, thought=kept.key.hex()))
                if self._values is not None:
                    await self._values.put(name(kept.key), kept.sealed, KEPT_S)
        return answered

    async def _address(self, deployment: Deployment) -> dict[str, str]:
        """Where to call and with which key, for a deployment whose server is started on first use."""
        if self._embedded is None or not deployment.model.startswith("embedded/"):
            return {}
        endpoint = await self._embedded.endpoint()
        return {"api_base": endpoint.base_url, "api_key": endpoint.api_key.get_secret_value()}

    @functools.cached_property
    def _known_secrets(self) -> frozenset[str]:
        """Those of the config, and of the environment that LiteLLM reads, with the variables that the config sets."""
        of_config = (secret for deployment in self._by_id.values() for secret in secrets_of(deployment))
        return frozenset((*of_config, *secrets_in_environment(os.environ)))

    def _secrets(self, call: ProviderCall) -> frozenset[str]:
        """What of a provider's words is shown to nobody."""
        return self._known_secrets.union(secrets_in_request(call.answer))
