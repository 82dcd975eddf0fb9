"""What is known of the models that a config names, from the tables of model data: for whoever looks after it."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from difflib import get_close_matches

from konstruct_mcp.config.model import Config, entry
from konstruct_mcp.config.model_tables import shipped
from konstruct_mcp.config.model_updates import PUBLIC_TABLE, update_from, write_file
from konstruct_mcp.core.errors import ModelDataError
from konstruct_mcp.core.results import ModelTable, ModelUpdate
from konstruct_mcp.core.text import cut

_NOTICE_DAYS = 60  # before a model is shut down: time enough to test another


def model_tables(config: Config) -> list[ModelTable]:
    """The tables of model data in use, the first that is looked into first."""
    models, file = config.models, config.models_file
    found = [] if models.own is None else [(str(file), models.own)]
    return [
        ModelTable(place, table.about.get("litellm"), table.about.get("date"), table.about.get("source"))
        for place, table in [*found, ("the one that ships with konstruct-mcp", shipped())]
    ]


def retiring(config: Config) -> list[str]:
    """One line for each model that its provider has shut down, or will before long, with the groups that ask it."""
    today = datetime.now(UTC).date()
    found: dict[str, list[str]] = {}  # the line without its groups → the groups
    for group in config.groups.values():
        if group.alias_of is not None:
            continue
        for deployment in group.deployments:
            known = entry(deployment)
            retires = known.get("deprecation_date")
            days = None if retires is None else (date.fromisoformat(retires) - today).days
            if days is None or days > _NOTICE_DAYS:
                continue
            successor = known.get("successor_model")
            instead = f"; its provider names {cut(successor)} for it" if successor else ""
            left = "in 1 day" if days == 1 else f"in {days} days"
            when = f"was shut down on {retires}" if days <= 0 else f"is shut down on {retires}, {left}"
            asking = found.setdefault(f"{deployment.model} {when}{instead}", [])
            if group.name not in asking:
                asking.append(group.name)
    return [f"{', '.join(groups)}: {said}" for said, groups in found.items()]


def unknown_models(config: Config) -> list[str]:
    """One line for each model that is in no table and has nearly the name of one that is: it may be misspelt."""
    found = {}
    known = list(config.models.known())
    for deployment in config.deployments.values():
        provider, _, name = deployment.model.partition("/")
        is_own = "api_base" in deployment.params or provider in ("ollama", "embedded")
        is_known = not {"litellm_provider", "mode"}.isdisjoint(entry(deployment))
        if is_own or is_known or deployment.unavailable is not None:
            continue
        names = [one.removeprefix(f"{provider}/") for one in known]
        if close := get_close_matches(name, names, n=1, cutoff=0.8):
            found[deployment.model] = f"{deployment.model} is in no table of models; did you mean {close[0]}?"
    return list(found.values())


async def update_models(config: Config, source: str | None, *, force: bool) -> ModelUpdate:
    """Put a newer table of LiteLLM's into the user's own: see `Konstruct.update_models`."""
    file = config.models_file
    if file is None:
        raise ModelDataError("this user has no data folder to keep it in; konstruct.models_file names a file")
    found = await asyncio.to_thread(update_from, source or PUBLIC_TABLE, config.models.own)
    if found.doubtful and not force:
        listed = "".join(f"\n  {line}" for line in found.doubtful)
        raise ModelDataError(
            f"{len(found.doubtful)} prices become 0 or unknown, or move more than tenfold, which is more often a "
            f"slip than a price; nothing was changed. Look them up, and take them with --force:{listed}"
        )
    kept = await asyncio.to_thread(write_file, file, found.text, keep=config.broken_table)
    broken = None if kept is None else str(kept)
    return ModelUpdate(str(file), found.models, found.new, found.changes, broken, found.left)
