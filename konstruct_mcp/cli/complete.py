"""`complete`: one completion."""

from __future__ import annotations

import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import get_args

import anyio
import click

from konstruct_mcp.cli.completion import complete_group, complete_tenant
from konstruct_mcp.cli.opening import open_konstruct
from konstruct_mcp.cli.output import say, show, show_json, spinner
from konstruct_mcp.cli.piped import piped_text, whole_stdin
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.errors import UnknownThreadError
from konstruct_mcp.core.results import Completion


@click.command()
@click.argument("prompt")
@click.option(
    "--group", shell_complete=complete_group, help="The model group to ask; the config's default group if left out."
)
@click.option("--tenant", shell_complete=complete_tenant, help="On whose account.")
@click.option("--system", help="A system message to put before the prompt.")
@click.option("--continue", "thread", metavar="THREAD", help="Continue an earlier answer's thread with PROMPT.")
@click.option("--effort", type=click.Choice(get_args(Effort)), help="How hard the model is to think.")
@click.option("--max-tokens", type=int, metavar="TOKENS", help="The longest answer.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The deadline of the whole call.")
@click.option("--file", "files", multiple=True, metavar="PATH", help="A file to send with it; may be repeated.")
@click.option("--stdin", "is_piped", is_flag=True, help="Wait for stdin, however long it takes to begin.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.pass_obj
def complete(
    path: Path | None,
    /,
    prompt: str,
    *,
    group: str | None,
    tenant: str | None,
    system: str | None,
    thread: str | None,
    effort: Effort | None,
    max_tokens: int | None,
    timeout: float | None,
    files: tuple[str, ...],
    is_piped: bool,
    as_json: bool,
) -> None:
    """Print one completion of PROMPT; - reads it from stdin. What is piped into the command is added to PROMPT."""
    konstruct = open_konstruct(path)
    if prompt == "-":
        prompt = whole_stdin()
    elif piped := whole_stdin() if is_piped else piped_text(konstruct.config.limits.max_request_chars):
        prompt = f"{prompt}\n\n{piped}"
    if not prompt.strip() and not files:
        raise click.UsageError("there is nothing to ask: PROMPT is empty")
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": prompt})
    threads_last = konstruct.config.threads.keep == "disk" or konstruct.config.redis is not None
    if thread is not None and konstruct.config.threads.keep == "memory" and not threads_last:
        raise UnknownThreadError(
            "a command's threads end with it; to continue one, set `threads: {keep: disk}` in the config's section "
            "konstruct"
        )

    async def run() -> Completion:
        async with konstruct:
            return await konstruct.complete(
                messages,
                model_group=group,
                tenant_id=tenant,
                effort=effort,
                max_tokens=max_tokens,
                timeout_s=timeout,
                files=files,
                continue_=thread,
                on_wait=change,
            )

    with spinner(f"waiting for {group or konstruct.default_group}") as change:
        completion = anyio.run(run)
    if not threads_last:
        completion = replace(completion, thread=None)
    if as_json:
        show_json(completion.as_dict())
    else:
        show(completion.content, as_it_is=not sys.stdout.isatty())
        say(*(f"({attempt.deployment}: {attempt.error})" for attempt in completion.attempts))
        say(*(f"({note})" for note in completion.notes))
        say(_summary(completion))
        if completion.thread is not None:
            say(f"(to continue: --continue {completion.thread})")


def _summary(completion: Completion) -> str:
    if completion.cost_usd is not None:
        cost = f"${Decimal(f'{completion.cost_usd:.3g}'):f}"
    elif completion.at_most_usd is not None:
        cost = f"at most ${Decimal(f'{completion.at_most_usd:.3g}'):f}"
    else:
        cost = "unpriced"
    usage = completion.usage
    reasoning = f", {usage.reasoning_tokens} of them reasoning" if usage.reasoning_tokens else ""
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens{reasoning}"
    ending = "" if completion.finish_reason == "stop" else f", ended by {completion.finish_reason}"
    return f"({completion.model}, {completion.duration_ms / 1000:.1f} s, {tokens}, {cost}{ending})"
