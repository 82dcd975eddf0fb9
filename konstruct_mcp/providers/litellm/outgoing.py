"""The request of one try as it goes out, and how it changes when the deployment refuses part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.results import FinishReason
from konstruct_mcp.providers.faults.exceptions import is_unsupported
from konstruct_mcp.providers.faults.refusals import refused_parameters, refused_reasoning, wanted_way
from konstruct_mcp.providers.litellm.formats.structured_output import JSON_TOOL
from konstruct_mcp.providers.litellm.prepared import PreparedRequest
from konstruct_mcp.providers.litellm.provider_call import ProviderCall
from konstruct_mcp.providers.litellm.reasoning.history import misses_reasoning
from konstruct_mcp.providers.litellm.try_parameters import TryParameters
from konstruct_mcp.providers.refused_parameters import Refusals
from konstruct_mcp.providers.tried import Reply, Tried


class OutgoingRequest:
    """The request of one try.

    Attributes:
        deployment: that is asked.
        request: what the caller asked for.
        prepared: the request translated for the deployment.
        passed: its messages and parameters as they go out, less what was refused.
    """

    def __init__(
        self,
        deployment: Deployment,
        request: Request,
        prepare: Callable[[str], PreparedRequest],
        refusals: Refusals,
        forget: Callable[[], None],
    ) -> None:
        """Make the request for the first time.

        Args:
            prepare: translates it, given what the deployment has said of its reasoning in the history.
            refusals: what the deployment has refused before.
            forget: drops the reasoning that is kept for this conversation.

        Raises:
            UnfitError: the deployment cannot be asked so that the request means the same.
        """
        self.deployment, self.request = deployment, request
        self._prepare, self._refusals, self._forget = prepare, refusals, forget
        self._is_without_reasoning = False
        self.prepared, self.passed = self._made("")

    def _made(self, refusal: str) -> tuple[PreparedRequest, TryParameters]:
        made = self._prepare(refusal)
        passed = TryParameters(
            self.deployment,
            made.options,
            made.body,
            self._refusals,
            made.places,
            made.messages,
            names_effort=self.request.effort is not None,
        )
        return made, passed

    def final(self) -> PreparedRequest:
        """The request as it goes out now."""
        passed = self.passed
        return replace(self.prepared, messages=passed.messages, options=passed.options, body=passed.body)

    def adapt(self, error: Exception, call: ProviderCall) -> bool:
        """Change the request to what the deployment takes, by what it said when it refused.

        Returns:
            Whether anything has changed, so that it is worth asking again.
        """
        if call.left and (way := wanted_way(error, call.answer)) and self.passed.in_another_way(way):
            return True
        if refusal := refused_reasoning(error, left=call.left, answer=call.answer):
            if self._is_without_reasoning or not any(message.tool_calls for message in self.request.messages):
                return False
            if not misses_reasoning(refusal):
                self._forget()
            self._is_without_reasoning, earlier = True, self.passed
            self.prepared, self.passed = self._made(refusal)
            self.passed.follow(earlier)
            return True
        refused = refused_parameters(error, self.passed.names, left=call.left, answer=call.answer)
        by_litellm = not call.left and is_unsupported(error)
        return bool(refused or by_litellm) and self.passed.without(refused, by_litellm=by_litellm)

    def answered(self, tried: Tried, reply: Reply, notes: tuple[str, ...]) -> Tried:
        """The result of a try that was answered, with the notes on how it was asked. What was refused on the way is
        remembered, since without it there was an answer."""
        self.passed.remember()
        reply = _without_json_tool(reply)
        reply = replace(reply, content=self.prepared.read(reply.content))
        return replace(tried, reply=reply, notes=(*self.prepared.notes, *self.passed.notes, *notes, *tried.notes))


def _without_json_tool(reply: Reply) -> Reply:
    """The reply with the call of LiteLLM's own JSON tool made its text.

    LiteLLM does that itself where this call is the only one. Beside other calls it came too soon, and is dropped.
    """
    answers = [call.function.arguments for call in reply.tool_calls if call.function.name == JSON_TOOL]
    if not answers:
        return reply
    calls = tuple(call for call in reply.tool_calls if call.function.name != JSON_TOOL)
    if calls or reply.content:
        return replace(reply, tool_calls=calls)
    end: FinishReason = "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
    return replace(reply, content=answers[0], tool_calls=(), finish_reason=end)
