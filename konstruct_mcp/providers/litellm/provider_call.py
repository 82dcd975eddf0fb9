"""One call to a provider: how LiteLLM is to treat it, and what becomes of its HTTP request and response.

Both travel in context variables, which LiteLLM's tasks and threads inherit; the functions of LiteLLM that `patches`
wraps look there. Where they are None, somebody else in this process is using LiteLLM, and the wrapped functions do what
they did before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from konstruct_mcp.config.model import Deployment, entry
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.providers.litellm.profiles.profile import SHAPED
from konstruct_mcp.providers.litellm.transport import TRANSPORT, Transport
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind

# These, Anthropic and Ollama count the tokens of their answers, and LiteLLM fetches nothing for a request to them.
_OPENAI = ("openai", "embedded")
# The keys of litellm_params with which a deployment can be asked without OpenAI's client. Of all others
# (extra_headers, organization …) only that client knows some.
_WITHOUT_OPENAIS_CLIENT = frozenset(
    ("model", "api_key", "api_base", "seed", "stop", "user", *SHAPED, *TRANSPORT),
)
# Variables that only OpenAI's client reads.
_OPENAIS_VARIABLES = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")


@dataclass(frozen=True, slots=True)
class CallSettings:
    """How LiteLLM is to treat each call to a deployment.

    Attributes:
        format: the provider's format: OpenAI's, Anthropic's or Ollama's.
        on_loop: its request is prepared on the event loop, and the tokens of its answer are not counted by LiteLLM.
        without_openais_client: an OpenAI-format request goes out through LiteLLM's own HTTP client.
        transport: proxy, certificates and the like, where the config has any.
        has_system_prompt: whether the model takes one.
        account: a digest of everything that a client or a login is made of. Deployments that differ in it share no
            client and no token.
    """

    format: Literal["openai", "anthropic", "ollama"]
    on_loop: bool
    without_openais_client: bool
    transport: Transport | None = None
    has_system_prompt: bool = True
    account: str = field(default="", compare=False)

    @classmethod
    def of(cls, deployment: Deployment, variables: Mapping[str, str]) -> CallSettings:
        """Those of a deployment, in a config that sets these environment variables."""
        provider = deployment.model.partition("/")[0]
        is_openai = provider in _OPENAI
        needs_client = any(key not in _WITHOUT_OPENAIS_CLIENT and not is_price(key) for key in deployment.params)
        return cls(
            format="anthropic" if provider == "anthropic" else "ollama" if provider == "ollama" else "openai",
            on_loop=is_openai or provider in ("anthropic", "ollama"),
            without_openais_client=is_openai and not needs_client and not any(map(os.environ.get, _OPENAIS_VARIABLES)),
            transport=Transport.of(deployment.params),
            has_system_prompt=entry(deployment).get("supports_system_messages") is not False,
            account=_account(deployment.params, variables),
        )


def _account(params: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """A digest of all that may be a credential: everything but the model, its settings for answers, and prices."""
    made_of = {key: params[key] for key in params if key not in ("model", *SHAPED) and not is_price(key)}
    return hashlib.sha256(repr((sorted(made_of.items()), sorted(variables.items()))).encode()).hexdigest()


Shape = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class ProviderCall:
    """What becomes of one call's HTTP request and response: one object, shared by all that is done for the call.

    Attributes:
        max_response_bytes: that are read of a response.
        shape: what is done to the body that LiteLLM makes, for a format that is not OpenAI's; None: nothing.
        outputs: what the Responses API is to see of its own earlier output, by the id of a call in it.
        max_request_bytes: that a budget has reserved for, not counting `images`; None without a budget.
        images: the base64 of the images and PDFs in the request, in their order.
        left: whether a request was handed to an HTTP client.
        waits: whether that client still has no connection for it, as far as it lets us know.
        is_over: whether nobody waits for the call any more; then nothing more of it is sent.
        answer: the last HTTP response, an object of httpx's.
        gemini_turn: the turn whose results LiteLLM is writing in Gemini's format, and its calls by their ids.
    """

    max_response_bytes: int

    shape: Shape | None = None
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    max_request_bytes: int | None = None
    images: Sequence[str] = ()
    left: bool = False
    waits: bool = False
    is_over: bool = False
    answer: Any = None
    gemini_turn: tuple[Any, dict[str, Any]] = (None, {})

    def begin(self, shape: Shape | None, outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Begin a request: nothing has left yet, and nothing has come."""
        self.shape, self.outputs, self.left, self.waits, self.answer = shape, outputs, False, False, None

    def end(self) -> None:
        """Let go of the request and the response: a connection that is kept open keeps this object too."""
        self.give_up()
        self.shape, self.outputs, self.images, self.answer, self.gemini_turn = None, {}, (), None, (None, {})

    def leave(self, body: bytes = b"") -> None:
        """Note that a request is handed to an HTTP client.

        Raises:
            FaultError: its body is larger than what was reserved for it, or nobody waits for the call any more; the
                request must not be handed on.
        """
        most = self.max_request_bytes
        if most is not None and len(body) > most and (size := self._size(body)) > most:
            reason = f"its request grew to {size:,} bytes on the way, and what is reserved pays for {most:,}"
            raise FaultError(Fault(FaultKind.UNFIT, reason=reason, sent=False))
        self.left, self.answer = True, None  # an earlier response may have been a token's
        self.check_wanted()

    def check_wanted(self) -> None:
        """Check that somebody still waits for the call. To be called once `left` or `waits` say what is about to leave.

        In this order because `give_up` notes first that the call is over and reads `left` and `waits` second: of two
        threads, one sees the other.

        Raises:
            FaultError: nobody waits for the call any more.
        """
        if self.is_over:
            raise FaultError(Fault(FaultKind.CONNECTION, "call broken off", sent=False))

    def give_up(self) -> bool:
        """Have nothing more sent. Returns whether anything may have reached the provider."""
        self.is_over = True
        return self.left and not self.waits

    def _size(self, body: bytes) -> int:
        """The bytes of a body without its images and PDFs, which are paid for apart, and without needless escapes."""
        parts, place = [], 0
        for image in self.images:
            if (found := body.find(image.encode(), place)) >= 0:
                parts.append(body[place:found])
                place = found + len(image)
        body = b"".join((*parts, body[place:]))
        with contextlib.suppress(ValueError, RecursionError):
            body = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        return len(body)

    @property
    def content(self) -> bytes | None:
        """The body of the last response, if it is a success and was read."""
        answer = self.answer
        return answer.content if answer is not None and answer.is_success and answer.is_closed else None


# Of the call that is being made in this context; None where it is not ours.
call_settings: ContextVar[CallSettings | None] = ContextVar("call_settings", default=None)
provider_call: ContextVar[ProviderCall | None] = ContextVar("provider_call", default=None)
