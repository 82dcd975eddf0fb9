"""Entries of `model_list` into model groups, with the aliases and the wildcards."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from konstruct_mcp.config.deployments import DeploymentReader
from konstruct_mcp.config.environment import is_reference
from konstruct_mcp.config.findings import Findings, is_nothing, listed
from konstruct_mcp.config.litellm_keys import KNOWN_ENTRY
from konstruct_mcp.config.model import Deployment, Wildcard
from konstruct_mcp.config.references import UNSET, References
from konstruct_mcp.config.sections import LONGEST_GROUP, ModelEntry, is_one_line
from konstruct_mcp.config.source import Source
from konstruct_mcp.config.wildcards import is_pattern, match, model_of
from konstruct_mcp.core.text import cut, quoted


class GroupReader:
    """The groups of a config, as they are read.

    - A group whose entries are all faulty is still known: its fault is said once, and not again where the group is
      named.
    - A group whose entries are all passed over (they are no chat models, or for another environment) is not known, but
      to name it is no fault.
    - A name that only a wildcard matches becomes a group when something names it.

    Attributes:
        known: the groups in the file's order, then aliases and groups made from wildcards.
        listing: the known groups, to be named in a fault.
        deployments: group → its deployments.
        aliases: alias → the group that it is another name of.
        hidden: aliases that are not listed.
        made_from: group → the wildcard that it was made from.
        wildcards: wildcard → its entries, with their places.
    """

    def __init__(self, findings: Findings, references: References, source: Source, reader: DeploymentReader) -> None:
        self.known: dict[str, None] = {}
        self.listing = ""
        self.deployments: dict[str, list[Deployment]] = {}
        self.aliases: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.made_from: dict[str, str] = {}
        self.wildcards: dict[str, list[tuple[str, ModelEntry]]] = {}
        self._findings = findings
        self._references = references
        self._source = source
        self._reader = reader
        self._named: Counter[str] = Counter()  # group names as written → their entries, right or wrong
        self._skipped: Counter[str] = Counter()  # group names → their entries that are passed over
        self._reasons: Counter[str] = Counter()  # why entries are passed over → how many
        self._asking: dict[str, str] = {}  # model as LiteLLM names it → the first group that asks it
        self._templates: dict[str, list[Deployment]] = {}  # wildcard → its deployments as written

    # ---- model_list

    def read(self, entries: Any) -> None:
        """Read the section `model_list`."""
        if not isinstance(entries, list):
            self._findings.fault("model_list", "required, but missing" if entries is None else "should be a list")
            return
        faults = len(self._findings.faults)
        seen: dict[str, tuple[str, int]] = {}
        for position, entry in enumerate(entries):
            name = entry.get("model_name") if isinstance(entry, dict) else None
            if isinstance(name, str) and not is_reference(name):
                self._named[name.strip()] += 1
            self._entry(self._source.place("model_list", position), entry, seen)
        self.known = {name: None for name, count in self._named.items() if self._skipped[name] < count}
        self.listing = listed(self.known)
        for group, place in self._reader.embedded.items():
            if self._named[group] > 1:
                self._findings.fault(place, f"the embedded model needs a group of its own; {quoted(group)} has others")
        if not self.deployments and not self.wildcards and len(self._findings.faults) == faults:
            passed = "; ".join(f"{count} of its entries, {why}" for why, count in self._reasons.items())
            self._findings.fault("model_list", f"no deployment (passed over: {passed})" if passed else "no deployment")

    def _entry(self, place: str, raw: Any, seen: dict[str, tuple[str, int]]) -> None:
        """Read one entry. `seen` has the contents of earlier entries → their place and their position in the group."""
        entry = self._parsed(place, raw)
        if entry is None:
            return
        is_for_here = self._reader.is_for_here(entry)
        if is_pattern(entry.model_name):
            del self._named[entry.model_name]
            templates = self._templates.get(entry.model_name, ())
            if is_for_here and (deployments := self._reader.deployments(place, entry, templates)):
                self.wildcards.setdefault(entry.model_name, []).append((place, entry))
                self._templates.setdefault(entry.model_name, []).extend(deployments)
            return
        if not is_for_here:
            why = "for another environment"
        elif is_pattern(str(entry.litellm_params.get("model"))):
            why = "a wildcard under a name that is none"
        elif not self._reader.is_chat(entry):
            why = "not a chat model"
        else:
            self._add(place, entry, seen)
            return
        self._skipped[entry.model_name] += 1
        self._reasons[why] += 1
        if is_for_here:
            self._findings.idle.append(f"{place} ({why})")

    def _parsed(self, place: str, raw: Any) -> ModelEntry | None:
        """An entry with its group's name resolved, and with `rpm` and `tpm` among its params; None for a faulty one."""
        if isinstance(raw, dict) and is_reference(raw.get("model_name")):
            name = self._references.resolve(raw["model_name"], f"{place}.model_name", self._findings.unset)
            if name is UNSET:
                return None
            self._named[name] += 1
            raw = {**raw, "model_name": name}
        for key in raw if isinstance(raw, dict) else ():
            if close := self._findings.meant(str(key), KNOWN_ENTRY):
                self._findings.lost.append(f"{place}.{cut(key)}: unknown key; did you mean {close}?")
        entry = self._findings.parse(ModelEntry, raw, place, needed=("model_name", "litellm_params"))
        if entry is None:
            if isinstance(raw, dict) and isinstance(raw.get("litellm_params"), dict):  # all faults at once
                unnamed = ModelEntry(model_name="?", litellm_params=raw["litellm_params"])
                self._reader.deployments(place, unnamed, ())
            return None
        limits = {key: value for key, value in (entry.model_extra or {}).items() if key in ("rpm", "tpm")}
        others = {key: value for key, value in (entry.model_extra or {}).items() if key not in limits}
        self._findings.idle += [f"{place}.{key}" for key, value in others.items() if not is_nothing(value)]
        return entry.model_copy(update={"litellm_params": limits | entry.litellm_params})

    def _add(self, place: str, entry: ModelEntry, seen: dict[str, tuple[str, int]]) -> None:
        """Add the deployments of an entry to its group. One that is the same as an earlier entry counts as a copy."""
        group = self.deployments.setdefault(entry.model_name, [])
        # As text, because True equals 1 and a dictionary cannot be a key.
        contents = json.dumps([entry.model_name, entry.litellm_params], sort_keys=True)
        if contents in seen:
            earlier, position = seen[contents]
            self._findings.lost.append(f"{place}: the same as {earlier}; they count as one, with the weight of all")
            group[position] = replace(group[position], copies=group[position].copies + 1)
        elif deployments := self._reader.deployments(place, entry, group):
            seen[contents] = place, len(group)
            group += deployments
            self._asking.setdefault(deployments[0].params["model"], entry.model_name)
        if not group:
            del self.deployments[entry.model_name]

    # ---- aliases

    def read_aliases(self, aliases: Mapping[str, Any]) -> None:
        """Make each alias a group. As in LiteLLM, an alias that is also the name of a group takes its place."""
        for alias, given in aliases.items():
            place = f"router_settings.model_group_alias.{cut(alias)}"
            target = given.get("model") if isinstance(given, dict) else given
            if not isinstance(target, str) or not alias or len(alias) > LONGEST_GROUP or not is_one_line(alias):
                self._findings.lost.append(f"{place}: should name a group; left out")
            elif target == alias:
                continue
            elif (meant := self.meant(place, target)) is None:
                self.not_found(place, target)
            elif meant != alias:
                if alias in self.known:
                    self._findings.lost.append(
                        f"{place}: nobody reaches the group of this name, which the alias stands for"
                    )
                self.aliases[alias] = meant
                if isinstance(given, dict) and given.get("hidden") is True:
                    self.hidden.add(alias)
        groups = dict(self.deployments)
        for alias, target in self.aliases.items():
            self.deployments[alias] = groups.get(target, [])  # none where its entries are faulty
            self.made_from.pop(alias, None)
            self.known.setdefault(alias, None)
            if target in self._reader.embedded:
                self._reader.embedded[alias] = self._reader.embedded[target]
        self.listing = listed(self.known)

    # ---- names of groups

    def find(self, name: str) -> bool:
        """Whether there is a group of this name. It is made from a wildcard if need be."""
        if name not in self.known and not self.is_written(name) and (made := self.made(name)) is not None:
            self.made_from[name], self.deployments[name] = made
            self.known[name] = None
        return name in self.known

    def is_written(self, name: str) -> bool:
        """Whether an entry of the file has this group, be it a faulty one or one that is passed over."""
        return name in self._named

    def is_embedded(self, name: str) -> bool:
        """Whether this is the group of the embedded model."""
        return name in self._reader.embedded

    def meant(self, place: str, name: str) -> str | None:
        """The group of this name; else, as in LiteLLM, the first one with a deployment of exactly this model."""
        if self.find(name):
            return name
        if (found := self._asking.get(name)) is not None:
            self._findings.lost.append(
                f"{place}: no group {quoted(name)}; read as {quoted(found)}, which asks that model"
            )
        return found

    def not_found(self, place: str, name: str) -> None:
        """A loss: LiteLLM's own settings name a group that there is not."""
        if self.is_written(name):  # passed over: LiteLLM's files have fallbacks of embedding models too
            self._findings.idle.append(place)
        else:
            self._findings.lost.append(f"{place}: {self.no_group(name)}; left out")

    def no_group(self, name: str) -> str:
        return f"no group {quoted(name)}; groups: {self.listing}"

    def is_group(self, place: str, name: str) -> bool:
        """Whether there is a group of this name. It is a fault if not: our own section names it."""
        if self.find(name):
            return True
        if self.is_written(name):
            self._findings.idle.append(place)
        else:
            self._findings.fault(place, self.no_group(name))
        return False

    def named_in(self, names: Sequence[str], place: str, besides: Sequence[str] = ()) -> tuple[str, ...]:
        """The groups of a list of names, in the file's order.

        It is a fault if there are none and no wildcards `besides`, because elsewhere an empty list means all groups.
        """
        faults = len(self._findings.faults)
        found = {name for i, name in enumerate(names) if self.is_group(f"{place}.groups[{i}]", name)}
        if not found and not besides and len(self._findings.faults) == faults:
            self._findings.fault(
                f"{place}.groups", "should name a group that can be asked; without this key it is all of them"
            )
        return tuple(name for name in self.known if name in found)

    def with_aliases(self, names: Collection[str]) -> tuple[str, ...]:
        """These groups, and those that are the same group by another name."""
        homes = {self.aliases.get(name, name) for name in names}
        return tuple(name for name in self.known if self.aliases.get(name, name) in homes)

    # ---- wildcards

    def made(self, name: str) -> tuple[str, list[Deployment]] | None:
        """The wildcard that a name matches, and the deployments that are made from it; None where there are none."""
        if is_pattern(name) or not 0 < len(name) <= LONGEST_GROUP or not is_one_line(name):
            return None
        found = match(name, self.wildcards)
        if found is None and "/" not in name and (provider := self._reader.display({"model": name})[1]):
            found = match(f"{provider}/{name}", self.wildcards)
        if found is None:
            return None
        pattern, matched = found
        deployments: list[Deployment] = []
        for place, entry in self.wildcards[pattern]:
            params, model = entry.litellm_params, entry.litellm_params.get("model")
            if isinstance(model, str):
                params = {**params, "model": model_of(matched, model)}
            one = entry.model_copy(update={"model_name": name, "litellm_params": params})
            if self._reader.is_chat(one):
                deployments += self._reader.deployments(place, one, deployments)
        return (pattern, deployments) if deployments else None

    def as_wildcards(self) -> tuple[Wildcard, ...]:
        return tuple(Wildcard(pattern, tuple(made)) for pattern, made in self._templates.items())

    def by_provider(self) -> dict[str, list[str]]:
        """provider → the groups that ask it."""
        found: dict[str, list[str]] = {}
        for name, deployments in self.deployments.items():
            for provider in dict.fromkeys(deployment.model.partition("/")[0] for deployment in deployments):
                found.setdefault(provider, []).append(name)
        return found


def describe(deployments: Iterable[Deployment]) -> str:
    """The models of a group in the order in which they are asked: `a or b, then c`."""

    def rank(deployment: Deployment) -> tuple[bool, int]:
        return deployment.order is None, deployment.order or 0

    ranks = itertools.groupby(sorted(deployments, key=rank), rank)
    return cut(", then ".join(" or ".join(dict.fromkeys(d.model for d in equals)) for _, equals in ranks), 120)
