"""The requests of `soak.py`: a mix without end that is always the same, and what has to come of each.

Each call of `complete` brings a plan for its fake providers in its prompt, as JSON on the first line: what they answer,
try after try. So what has to come of it is known beforehand. The server that runs in the soak has nothing of this.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOWHERE = "http://127.0.0.1:9/v1"  # where nobody listens
TENANTS, METERED, BROKE = ("default", "amber", "blue"), "metered", "broke"
WIRES = {"claude": "anthropic", "gpt": "openai", "local": "ollama"}  # of the groups with one deployment


def planned_text(number: int, size: int) -> str:
    """What a provider answers to a call."""
    return f"answer {number}" + " and so on" * (size // 10)


def planned_usage(number: int) -> tuple[int, int]:
    """The tokens that a provider counts for a call, in and out."""
    return 10 + number % 90, 5 + number % 50


@dataclass(frozen=True)
class Request:
    """A request, and what has to come of it.

    Attributes:
        expected: `ok`, an error's code, several of them where any will do, or `nothing`.
        holds: whether a result is the right one.
        tenant: on whose account it is; empty for nobody's.
        cancelled: `in time` (while its provider keeps it waiting), or `at once`.
        line: what is sent instead of a request.
    """

    kind: str
    method: str
    params: Mapping[str, Any]
    expected: str = "ok"
    holds: Callable[[Any], bool] = bool
    number: int = 0
    tenant: str = ""
    cancelled: str = ""
    line: bytes = b""


class Mix:
    """The requests, without end and always the same: first one of each kind, then by weight."""

    def __init__(self) -> None:
        self.rng = random.Random(7)
        self._number = 0
        self._kind = "start"

    def __iter__(self) -> Iterator[Request]:
        first, weights = list(MIX), [weight for weight, _, _ in MIX]
        while True:
            _, self._kind, make = first.pop() if first else self.rng.choices(MIX, weights)[0]
            yield make(self)

    def complete(
        self,
        group: str,
        words: str = "text",
        *,
        expected: str = "ok",
        by: str = "",
        served: str = "",
        tries: int | None = None,
        tenant: str = "",
        cancelled: str = "",
        longer: int = 1,
        more: Mapping[str, Any] | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        **others: str,
    ) -> Request:
        """A call of `complete`.

        Args:
            words: what a provider answers, try after try, the last word for ever; `others` by wire.
            by: the wire that answers, where the group has several.
            served: the group that answers, where it is another.
            tries: how many failed before.
        """
        self._number += 1
        rng, number = self.rng, self._number
        plans = {wire: others.get(wire, words).split() for wire in WIRES.values()}
        last = plans[by or WIRES.get(group, "openai")][-1]
        size = rng.randrange(200) * longer
        plan = {"call": number, "size": size, "delay": round(rng.uniform(0, 0.05), 3), **plans}
        prompt = f"{json.dumps(plan)}\n{'why is the sky blue? ' * (rng.randrange(10) * longer)}"
        tenant = tenant or rng.choice((*TENANTS, METERED))
        arguments = {
            "model_group": group,
            "messages": [{"role": "user", "content": prompt}, *history],
            **({} if tenant == TENANTS[0] else {"tenant_id": tenant}),
            **({"max_tokens": 64} if rng.random() < 0.5 else {}),
            **(more or {}),
        }

        def holds(result: Any) -> bool:
            answer = json.loads(result["content"][0]["text"])
            usage = answer["usage"]
            calls = [json.loads(call["function"]["arguments"]) for call in answer["tool_calls"]]
            return bool(
                answer == result["structuredContent"]
                and answer["content"] == ("" if last == "tool" else planned_text(number, size))
                and calls == ([] if last == "text" else [{"number": number}])
                and answer["finish_reason"] == ("stop" if last == "text" else "tool_calls")
                and (answer["model_group"], answer["served_group"]) == (group, served or group)
                and (usage["input_tokens"], usage["output_tokens"]) == planned_usage(number)
                and (answer["cost_usd"] == 0) is answer["model"].startswith("ollama/")
                and tries in (None, len(answer.get("attempts", ())))
            )

        params = {"name": "complete", "arguments": arguments}
        return Request(self._kind, "tools/call", params, expected, holds, number, tenant, cancelled)

    def cancelled(self, group: str, words: str, how: str = "in time", **others: str) -> Request:
        return self.complete(group, words, expected="nothing", cancelled=how, **others)  # type: ignore[arg-type]  # words

    def other(self, method: str, expected: str = "ok", holds: Callable[[Any], bool] = bool, **params: Any) -> Request:
        """A request that asks no model."""
        return Request(self._kind, method, params, expected, holds)

    def misuse(self) -> Request:
        """A call that is wrong by itself."""
        expected, arguments = self.rng.choice(MISUSES)
        return self.other("tools/call", expected, name="complete", arguments=arguments)

    def next_deployment(self) -> Request:
        word, tries = self.rng.choice(FAULTS)
        return self.complete("chain", anthropic=word, by="openai", tries=tries)

    def fallback(self) -> Request:
        (one, tries), (other, more) = self.rng.choices(FAULTS, k=2)
        return self.complete("chain", anthropic=one, openai=other, by="ollama", served="local", tries=tries + more)

    def resource(self, *names: str) -> Request:
        uri = f"konstruct://{self.rng.choice(names)}"
        return self.other("resources/read", holds=lambda result: bool(result["contents"][0]["text"]), uri=uri)

    def any(self, words: str = "text", **more: Any) -> Request:
        """A call of one of the groups with one deployment."""
        return self.complete(self.rng.choice(sorted(WIRES)), words, **more)

    def one_of(self, words: Sequence[str]) -> str:
        return self.rng.choice(words)


RETRIED = ("429", "500", "503", "529", "drop", "reset")
FAULTS = [*((word, 2) for word in RETRIED), *((word, 1) for word in ("401", "404", "page", "empty"))]  # with the tries
HELLO = [{"role": "user", "content": "Hello"}]
MISUSES: Sequence[tuple[str, Mapping[str, Any]]] = [
    ("invalid_argument", {}),
    ("invalid_argument", {"messages": "Hello"}),
    ("invalid_argument", {"messages": [{"role": "king", "content": "Hello"}]}),
    ("invalid_argument", {"messages": HELLO, "temperature": 9}),
    ("invalid_argument", {"messages": HELLO, "api_base": NOWHERE}),
    ("unknown_group", {"messages": HELLO, "model_group": "fats"}),
    ("unknown_tenant", {"messages": HELLO, "tenant_id": "nobody"}),
]
TOOLS = {"tools": [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]}
USED = [
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": "nothing found"},
]
MIX: Sequence[tuple[int, str, Callable[[Mix], Request]]] = [
    (27, "answer", lambda mix: mix.any(tries=0)),
    (3, "long answer", lambda mix: mix.any(tries=0, longer=100)),
    (6, "tool call", lambda mix: mix.any(mix.one_of(("tool", "both")), more=TOOLS)),
    (3, "answer to a tool's result", lambda mix: mix.any(more=TOOLS, history=USED)),
    (6, "retry", lambda mix: mix.any(f"{mix.one_of((*RETRIED, 'soon'))} text", tries=1)),
    (8, "next deployment", Mix.next_deployment),
    (2, "next deployment after a hang", lambda mix: mix.complete("hasty", anthropic="hang", by="openai", tries=1)),
    (5, "fallback", Mix.fallback),
    (2, "fallback from a dead one", lambda mix: mix.complete("outage", by="ollama", served="local")),
    (4, "all failed", lambda mix: mix.any(mix.one_of(RETRIED), expected="all_failed")),
    (1, "dead", lambda mix: mix.complete("dead", expected="all_failed unavailable")),
    (1, "request refused", lambda mix: mix.complete("chain", "400", expected="bad_request")),
    (1, "too long", lambda mix: mix.any("overflow", expected="context_overflow")),
    (1, "content refused", lambda mix: mix.complete("chain", "policy", expected="content_policy")),
    (2, "deadline", lambda mix: mix.complete("chain", "hang", expected="timeout", more={"timeout_s": 0.3})),
    (2, "over budget", lambda mix: mix.complete("gpt", expected="budget_exceeded", tenant=BROKE)),
    (3, "cancelled in the call", lambda mix: mix.cancelled(mix.one_of(("claude", "gpt", "local")), "hang")),
    (1, "cancelled in the answer", lambda mix: mix.cancelled("gpt", "half")),
    (1, "cancelled before a retry", lambda mix: mix.cancelled("claude", "later")),
    (1, "cancelled in a fallback", lambda mix: mix.cancelled("chain", "401", ollama="hang")),
    (1, "cancelled at once", lambda mix: mix.cancelled("claude", "hang", "at once")),
    (4, "wrong arguments", Mix.misuse),
    (5, "list_groups", lambda mix: mix.other("tools/call", name="list_groups", arguments={})),
    (5, "resource", lambda mix: mix.resource("groups", "groups/chain", "config", "usage", "usage/amber")),
    (1, "no such resource", lambda mix: mix.other("resources/read", "-32602", uri="konstruct://nothing")),
    (1, "no such tool", lambda mix: mix.other("tools/call", "-32602", name="nothing", arguments={})),
    (1, "lists", lambda mix: mix.other(mix.one_of(("tools/list", "resources/list", "resources/templates/list")))),
    (1, "ping", lambda mix: mix.other("ping", holds=lambda result: result == {})),
    (1, "no JSON", lambda mix: Request("no JSON", "", {}, "-32700", line=b'{"jsonrpc": "2.0", ')),
]
