"""Fallbacks: the groups that are asked after a group, by the kind of failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from konstruct_mcp.config.defaults import setting
from konstruct_mcp.config.findings import Findings, is_nothing
from konstruct_mcp.config.groups import GroupReader
from konstruct_mcp.config.model import FALLBACK_KINDS
from konstruct_mcp.config.provider_needs import is_provider
from konstruct_mcp.config.sections import LiteLLMSettings, RouterSettings
from konstruct_mcp.core.text import cut, quoted


class Fallbacks:
    """The lists of fallbacks of a config, read from LiteLLM's two sections."""

    def __init__(
        self, findings: Findings, groups: GroupReader, router: RouterSettings, litellm: LiteLLMSettings
    ) -> None:
        self._findings = findings
        self._groups = groups

        def place(name: str) -> str:
            section = "router_settings" if getattr(router, name) is not None else "litellm_settings"
            return f"{section}.{name}"

        # kind of fallback → group → the groups that are asked after it
        self._lists = {kind: self._read(place(kind), setting(router, litellm, kind, [])) for kind in FALLBACK_KINDS}
        # of a group that has no list of its own
        self._default = self._lists["fallbacks"].pop("*", ())
        if (given := setting(router, litellm, "default_fallbacks", None)) is not None:
            self._default = self._targets(place("default_fallbacks"), given)

    def of(self, name: str) -> dict[str, tuple[str, ...]]:
        """kind of fallback → the groups that are asked after this one.

        A list of the file may be that of the group itself, of the group that it is an alias of, or, as in LiteLLM, of
        the model without its provider.
        """
        target = self._groups.aliases.get(name, name)
        found = {}
        for kind, lists in self._lists.items():
            otherwise = self._default if kind == "fallbacks" else ()
            names = next((lists[one] for one in (name, target, _without_provider(name)) if one in lists), otherwise)
            found[kind] = tuple(one for one in names if one not in (name, target))
        return found

    def _read(self, place: str, lists: Sequence[Any]) -> dict[str, tuple[str, ...]]:
        """group → the groups that are asked after it. Lists may form a circle: a call asks each group once."""
        found: dict[str, tuple[str, ...]] = {}
        for position, item in enumerate(lists):
            if not isinstance(item, dict):
                self._findings.lost.append(f"{place}[{position}]: should be an object; left out")
                continue
            for source, names in item.items():
                here = f"{place}[{position}].{cut(source)}"
                if source == "*":
                    if not place.endswith(".fallbacks"):
                        self._findings.idle.append(here)
                    elif "*" in found:
                        self._findings.lost.append(f"{here}: there is another; the last one counts")
                elif not self._groups.find(source):
                    self._groups.not_found(here, source)
                    continue
                elif source in found:
                    self._findings.lost.append(f"{here}: this group has a list already; the first one counts")
                    continue
                found[source] = tuple(name for name in self._targets(here, names) if name != source)
        return found

    def _targets(self, place: str, names: Any) -> tuple[str, ...]:
        """The groups that a list of fallbacks names."""
        found: dict[str, None] = {}
        if is_nothing(names):
            return ()
        if isinstance(names, str | int | float):
            self._findings.lost.append(f"{place}: is read as a list of one")
            names = [names]
        if not isinstance(names, list):
            self._findings.lost.append(f"{place}: should be a list of groups; left out")
            return ()
        for position, given in enumerate(names):
            here = f"{place}[{position}]"
            if isinstance(given, dict) and isinstance(given.get("model"), str):
                name = given["model"]
                if len(given) > 1:
                    self._findings.lost.append(f"{here}: only its model counts; the request is sent as it is")
            elif isinstance(given, str | int | float) and not isinstance(given, bool):
                name = str(given)
            else:
                self._findings.lost.append(f"{here}: should be the name of a group; left out")
                continue
            if (meant := self._groups.meant(here, name)) is None:
                self._groups.not_found(here, name)
            elif self._groups.is_embedded(meant):
                self._findings.fault(
                    here, f"{quoted(name)} is the embedded model, too weak to answer in another's name"
                )
            else:
                found[meant] = None
        return tuple(found)


def _without_provider(name: str) -> str:
    """A group's name without its provider, under which LiteLLM looks for the fallbacks of `openai/gpt-4o` too; empty
    for a name that does not begin with a provider."""
    provider, _, rest = name.partition("/")
    return rest if is_provider(provider) else ""
