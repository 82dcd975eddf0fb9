"""A server that is attacked, by its caller or by a provider, and what is measured of each attack.

One server lives through all of the attacks (`attack_table` has them). Of each is measured what came back, the longest
pause of the server's event loop, the most memory that it took, how many bytes the provider was sent, and what is on the
tenant's budget.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from support.databases import sqlite
from support.default_groups import HELLO, entry, reaching, write
from support.providers import Answer, Provider, Text
from support.stdio_lines import ServerProcess, call

USD = 0.05  # the budget of each tenant; each attack has its own
MB = 2**20
MOST_MEMORY = 600 * MB  # beyond what the server had
MOST_SAID = 2000  # characters of an error
Side = Literal["caller", "line", "provider", "many"]
# A group for each format in which a provider can be asked.
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "responses": "openai/responses/gpt-4o-mini",
    "azure": "azure/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "old_claude": "anthropic/claude-3-haiku-20240307",  # a schema is a tool for it, with all references written out
    "gemini": "gemini/gemini-2.5-flash",
    "old_gemini": "gemini/gemini-2.0-flash",
    "bedrock": "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
    "mistral": "mistral/mistral-small-latest",
    "cohere": "cohere_chat/command-a-03-2025",
    "vllm": "hosted_vllm/meta/llama",
    "ollama": "ollama/qwen3:8b",
}
WIRES: dict[str, Any] = {
    "responses": "openai",
    "old_claude": "anthropic",
    "old_gemini": "gemini",
}  # of the others it is the group's name


@dataclass(frozen=True)
class Attack:
    """One attack, and what has to come back.

    Attributes:
        group: which is asked.
        comes_back: the error's code, or "ok"; of several, any.
        side: who attacks: a caller with its arguments or with a whole line, a provider with its answer, or many calls
            at once.
        arguments: of `complete`, beside the group and the tenant; or a whole line, for the side "line". A function
            makes what is large.
        answer: of the provider; None for an ordinary one.
        is_rich: whether the tenant has no budget, so that the call is made however much it costs.
        times: how often it is made, at once.
        most_sent: bytes that may reach the provider; None where nothing is said of it.
        is_short: whether it takes less than half a second, so that it always runs.
    """

    name: str
    side: Side
    group: str
    comes_back: tuple[str, ...]
    arguments: Any = None
    answer: Answer | Callable[[], Answer] | None = None
    is_rich: bool = False
    times: int = 1
    most_sent: int | None = None
    is_short: bool = True

    def faults(self, outcome: Outcome, pause_s: float) -> list[str]:
        """What the server did not withstand, in a few words each; the event loop may pause for `pause_s`."""
        wrong = {
            f"came back: {', '.join(sorted(outcome.came_back))} ({outcome.said[:200]})": not (
                outcome.came_back <= set(self.comes_back)
            ),
            f"the loop paused for {outcome.pause_s:.3f} s": outcome.pause_s > pause_s,
            f"took {(outcome.memory or 0) // MB} MB": outcome.memory is not None and outcome.memory > MOST_MEMORY,
            f"sent {outcome.sent} bytes": self.most_sent is not None and outcome.sent > self.most_sent,
            f"${outcome.on_budget_nusd / 1e9:.6f} on the budget": outcome.on_budget_nusd > USD * 1e9,
            f"said {len(outcome.said)} characters": len(outcome.said) > MOST_SAID,
            "showed a traceback": "Traceback" in outcome.said,
            "asked nobody": self.side == "many" and not outcome.billed,
        }
        return [what for what, is_so in wrong.items() if is_so]


@dataclass(frozen=True)
class Outcome:
    """What came of an attack.

    Attributes:
        came_back: the codes, each once.
        said: the first error's text.
        pause_s: the longest of the event loop.
        memory: bytes at most, beyond what there was before; None where the system does not say.
        sent: bytes of the requests' bodies.
        on_budget_nusd: what is spent and held of the tenant's budget.
        billed: completions that the provider has begun.
        took_s: from the first byte to the last answer.
    """

    came_back: frozenset[str]
    said: str
    pause_s: float
    memory: int | None
    sent: int
    on_budget_nusd: int
    billed: int
    took_s: float


class AttackedServer:
    """A server with a group for each format, in a process of its own that is watched; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()
        self._pauses = folder / "pauses"
        self.database = sqlite(folder)
        self._attacks = 0
        self._last_id = 10**6

    def __enter__(self) -> Self:
        self._pauses.touch()
        self.providers = {
            wire: self._stack.enter_context(Provider(wire)) for wire in {WIRES.get(name, name) for name in MODELS}
        }
        config = {
            "model_list": [
                entry(name, reaching(self.provider(name), model), timeout=20, **_prices(model))
                for name, model in MODELS.items()
            ],
            # What an attack has done to a deployment is not to keep the next from being asked.
            "router_settings": {"num_retries": 0, "allowed_fails": 10**6, "cooldown_time": 0.1},
            "konstruct": {
                "default_group": "openai",
                "ledger_url": self.database.url,
                "budgets": [{"usd": USD, "per": "total"}],
                "tenants": {"default": None, "rich": {"budgets": []}},
                "allow_unknown": True,
            },
        }
        watched = Path(__file__).parent / "watched_server.py"
        self.server = self._stack.enter_context(
            ServerProcess(
                write(self._folder, config),
                command=[sys.executable, str(watched), "pauses", str(self._pauses)],
                stderr=self._folder / "stderr",
            )
        )
        self._stack.callback(self.database.engine.dispose)
        self.server.initialize()
        for name in MODELS:  # each format's first call has LiteLLM import what it needs
            self.server.answer(self.server.send_call(name, messages=HELLO, tenant_id="first", max_tokens=1))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def provider(self, group: str) -> Provider:
        return self.providers[WIRES.get(group, group)]

    def withstand(self, attack: Attack) -> Outcome:
        """Make an attack, wait for all that comes back, and see that a `ping` is answered meanwhile and after."""
        server, provider = self.server, self.provider(attack.group)
        arguments, answer = _built(attack.arguments), _built(attack.answer)  # before the clock starts
        self._attacks += 1
        tenant = "rich" if attack.is_rich else f"t{self._attacks}"
        provider.script(answer or Text("Hello"))
        asked, calls = len(provider.requests), provider.calls
        lines = [self._line(attack, arguments, tenant) for _ in range(attack.times)]
        before = self._memory(reset=True)
        began = time.monotonic()
        ids = []
        for line in lines:
            server.send_raw(line[1])
            ids.append(line[0])
        server.ask("ping")
        # A line that cannot be read has no id.
        outcomes = [_came_back(server.answer(id_, None)) for id_ in ids]
        took_s = time.monotonic() - began
        peak = self._memory()
        server.ask("ping")
        pause_s = max((pause for at, pause in self._paused() if at >= began), default=0.0)
        requests = provider.requests[asked:]
        sent = sum(len(json.dumps(r.body, ensure_ascii=False).encode()) for r in requests if r.completes)
        said = next((text for code, text in outcomes if code != "ok"), "")
        provider.requests.clear()  # or this process would keep them all
        return Outcome(
            frozenset(code for code, _ in outcomes),
            said,
            pause_s,
            None if before is None or peak is None else peak - before,
            sent,
            0 if attack.is_rich else self.database.taken(tenant),
            provider.calls - calls,
            took_s,
        )

    def log(self) -> str:
        """All that the server has written to stderr."""
        return (self._folder / "stderr").read_text(errors="replace")

    def _line(self, attack: Attack, arguments: Any, tenant: str) -> tuple[Any, bytes]:
        self._last_id += 1
        if attack.side == "line":
            return self._last_id, arguments.replace(b"<id>", str(self._last_id).encode())
        arguments = {"messages": HELLO, "max_tokens": 1, "tenant_id": tenant, "timeout_s": 20} | (arguments or {})
        message = {
            "jsonrpc": "2.0",
            "id": self._last_id,
            "method": "tools/call",
            "params": call(attack.group, **arguments),
        }
        return self._last_id, json.dumps(message).encode()

    def _paused(self) -> list[tuple[float, float]]:
        pairs = (line.split() for line in self._pauses.read_text().splitlines())
        return [(float(at), float(pause)) for at, pause in pairs]

    def _memory(self, *, reset: bool = False) -> int | None:
        """The most that the server has had in memory since it was last reset."""
        of_server = Path(f"/proc/{self.server.process.pid}")
        try:
            if reset:
                (of_server / "clear_refs").write_text("5")
            [line] = [line for line in (of_server / "status").read_text().splitlines() if line.startswith("VmHWM")]
        except OSError:
            return None
        return int(line.split()[1]) * 1024


def _built(value: Any) -> Any:
    return value() if callable(value) else value


def _prices(model: str) -> dict[str, float]:
    """Prices for a model that the table of models does not have."""
    known = ("openai/gpt", "openai/responses", "azure/", "anthropic/", "gemini/", "bedrock/", "ollama/")
    return {} if model.startswith(known) else {"input_cost_per_token": 1e-7, "output_cost_per_token": 4e-7}


def _came_back(answer: dict[str, Any]) -> tuple[str, str]:
    """The code of what came back, and its text."""
    if "error" in answer:
        return str(answer["error"]["code"]), str(answer["error"]["message"])
    result = answer["result"]
    text = "".join(block.get("text", "") for block in result.get("content", ()))
    return (text.partition(":")[0], text) if result.get("isError") else ("ok", text)
