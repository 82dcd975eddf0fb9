"""Konstruct: the one request path. Who asks, may they, route, account, answer.

The MCP server, the command line and a Python program stand on this class and on nothing beneath it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from .config import Config, Deployment, load_config
from .embedded import EmbeddedServer, find_model
from .errors import DeadlineError, InternalError, KonstructError, UnknownGroupError, quoted
from .router import ModelRouter
from .types import Completion, GroupStatus, Request

_log = logging.getLogger(__name__)


class Konstruct:
    """Completions by model group, with retries and fallback.

        async with Konstruct.from_config() as konstruct:
            completion = await konstruct.complete([{"role": "user", "content": "Hello"}], model_group="quality")
            print(completion.content, completion.model, completion.cost_usd)

    It owns the config, the provider connections and the embedded model, opens them on entry and closes them on exit.
    Use one for the life of the process, within one event loop (asyncio): any number of calls may run at once.
    """

    def __init__(self, config: Config, *, environ: Mapping[str, str] | None = None) -> None:
        """Prefer `from_config`. `environ` (default: the process's) says which file the embedded model is in."""
        self.config = config
        self._embedded = _embedded_server(config, os.environ if environ is None else environ)
        self._router = ModelRouter(config, self._embedded)

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """From a YAML file: `path`, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in config.

        `environ` stands in for the process's environment, where keys and addresses are looked up.

        Raises:
            ConfigError: naming every fault of the config at once.
        """
        environ = os.environ if environ is None else environ
        return cls(load_config(None if path is None else Path(path), environ), environ=environ)

    async def __aenter__(self) -> Self:
        self._router.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Shielded: what is open must be closed even when the block is left by cancellation.
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Close provider connections and the embedded model; safe to call twice."""
        await self._router.aclose()

    def kill(self) -> None:
        """End the embedded model's process at once, without an event loop: for the way out of a dying process."""
        if self._embedded is not None:
            self._embedded.kill()

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout_s: float | None = None,
    ) -> Completion:
        """One completion. Messages, tools, tool_choice and response_format are in OpenAI's format.

        Args:
            messages: roles system, user, assistant and tool; images as `data:` URLs only.
            model_group: the config's default group if None.
            tenant_id: on whose account; `$KONSTRUCT_TENANT_ID`, else the config's default tenant, if None.
            timeout_s: the deadline of the whole call in seconds, retries and fallbacks included; the config's if None.

        Raises:
            RequestError: the request is at fault (InvalidArgumentError, UnknownGroupError, ContextOverflowError, …).
            CompletionError: no provider answered (AllFailedError, UnavailableError, DeadlineError).
        """
        arguments = {
            "messages": list(messages),
            "model_group": model_group,
            "tenant_id": tenant_id,
            "tools": None if tools is None else list(tools),
            "tool_choice": tool_choice,
            "response_format": response_format,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "timeout_s": timeout_s,
        }
        return await self.answer(Request.parse(arguments))

    async def answer(self, request: Request) -> Completion:
        """The same for a request that is parsed already."""
        group = self._group_name(request.model_group)
        tenant = request.tenant_id or self.config.default_tenant
        timeout_s = request.timeout_s or self.config.timeout_s
        walk = self._router.walk(request, group, time.monotonic() + timeout_s)
        with anyio.move_on_after(timeout_s):
            try:
                return await self._router.complete(walk, request, group, tenant)
            except KonstructError:
                raise
            except Exception:
                _log.exception("a completion failed in konstruct_mcp itself")
                raise InternalError("a defect in konstruct_mcp; its log has the details") from None
        failed = "".join(f"; {attempt.deployment}: {attempt.error}" for attempt in walk.attempts[-3:])
        raise DeadlineError(
            f"no answer within {timeout_s:g} s, waiting for {walk.waiting_for}{failed}; "
            "raise timeout_s, ask for less, or use a faster group",
            walk.attempts,
        )

    def groups(self) -> list[GroupStatus]:
        """Every model group, its deployments and whether each can be called now. Asks no provider."""
        return self._router.statuses()

    def group(self, name: str) -> GroupStatus:
        """One of `groups`.

        Raises:
            UnknownGroupError: listing the groups there are.
        """
        name = self._group_name(name)
        return next(status for status in self.groups() if status.name == name)

    async def check(self) -> dict[str, str | None]:
        """Ask each deployment that can be called for one token, all at once.

        Returns: deployment id → one line of why it does not answer, or None if it does.
        """
        verdicts: dict[str, str | None] = {}

        async def ask(twins: list[Deployment]) -> None:
            fault = await self._router.ask_once(twins[0], self.config.default_tenant)
            verdict = None if fault is None else f"{fault}: {fault.reason}" if fault.reason else str(fault)
            if fault is not None and "max_tokens" in fault.reason:
                verdict = (
                    None  # a reasoning model needs more than one token to say anything: it was reached, and read us
                )
            for deployment in twins:
                verdicts[deployment.id] = verdict

        asked: list[list[Deployment]] = []
        for group in self.config.groups.values():
            for deployment in group.deployments:
                if deployment.unavailable is not None:
                    verdicts[deployment.id] = deployment.unavailable
                elif twins := next((t for t in asked if t[0].params == deployment.params), None):
                    twins.append(deployment)  # the same model at the same address: one answer says it for both
                else:
                    asked.append([deployment])
        async with anyio.create_task_group() as tasks:
            for twins in asked:
                tasks.start_soon(ask, twins)
        return verdicts

    def _group_name(self, name: str | None) -> str:
        name = self.config.default_group if name is None else name
        if name not in self.config.groups:
            known = ", ".join(sorted(self.config.groups))
            raise UnknownGroupError(f"no group {quoted(name)}; groups: {known}")
        return name


def _embedded_server(config: Config, environ: Mapping[str, str]) -> EmbeddedServer | None:
    for group in config.groups.values():
        for deployment in group.deployments:
            if deployment.model.startswith("embedded/") and deployment.unavailable is None:
                return EmbeddedServer(find_model(environ))
    return None
