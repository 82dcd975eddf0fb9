"""Reads a config: a file and the environment into one frozen `Config`, with every fault named at once.

Whatever the file holds, the outcome is a `Config` or one `ConfigError`. The order of the steps is that of
`_Reading.config`. Each step parses one section, and notes in `Findings` what is wrong; the error is raised when all has
been read. A little long, because all steps stand here in their order.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from konstruct_mcp.config import built_in
from konstruct_mcp.config.auth import AuthSection, AuthSettings
from konstruct_mcp.config.built_in import OllamaSeen
from konstruct_mcp.config.defaults import Defaults, defaults_of, setting
from konstruct_mcp.config.deployments import DeploymentReader
from konstruct_mcp.config.environment import process_environ, reference, shown_name
from konstruct_mcp.config.fallbacks import Fallbacks
from konstruct_mcp.config.files import file_settings, held_keys
from konstruct_mcp.config.findings import Findings, is_nothing, suggestion
from konstruct_mcp.config.groups import GroupReader, describe
from konstruct_mcp.config.http import HttpSection, HttpSettings
from konstruct_mcp.config.ledger_place import ledger_place
from konstruct_mcp.config.litellm_keys import (
    KNOWN_LITELLM_SETTINGS,
    KNOWN_ROUTER_SETTINGS,
    KNOWN_SECTIONS,
    has_effect,
    is_provider_key,
)
from konstruct_mcp.config.masking import masked, masked_values
from konstruct_mcp.config.metrics import MetricsSection, MetricsSettings
from konstruct_mcp.config.model import (
    ALLOWED_FAILS,
    Config,
    Group,
    LedgerPlace,
    RoutingStrategy,
    StoredReading,
    Written,
)
from konstruct_mcp.config.model_lookup import Models
from konstruct_mcp.config.model_tables import read_file
from konstruct_mcp.config.redis import redis_place
from konstruct_mcp.config.references import UNSET, References
from konstruct_mcp.config.sections import (
    Credential,
    GroupSettings,
    KonstructSettings,
    LiteLLMSettings,
    RouterSettings,
    Section,
)
from konstruct_mcp.config.source import NO_FOLDER, Given, Source, config_folder, data_folder, read_source
from konstruct_mcp.config.tenants import TenantReader
from konstruct_mcp.config.threads import thread_settings
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.identity import StoredTenant
from konstruct_mcp.core.requests import Limits
from konstruct_mcp.core.text import cut, quoted

_STRATEGIES: tuple[RoutingStrategy, ...] = get_args(RoutingStrategy)

_Section = TypeVar("_Section", bound=Section)


def load_config(
    given: Given = None,
    environ: Mapping[str, str] | None = None,
    *,
    needs_table: bool = True,
    ollama: OllamaSeen | None = None,
) -> Config:
    """The effective config: what is given, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in one.

    Args:
        given: the config file, or the config as a mapping.
        environ: the environment; the process's own where it is None.
        needs_table: whether it is a fault that the user's table of model data cannot be used. False for a config that
            is loaded to replace that table.
        ollama: what a look at Ollama has found, by which the built-in config goes; None before that.

    Raises:
        ConfigError: holding every fault, each with its place.
    """
    environ = process_environ() if environ is None or environ is os.environ else environ
    source = read_source(given, environ)
    if source.is_built_in:
        built_in.prepare(source.document, environ, ollama)
    reading = _Reading(environ, source, needs_table=needs_table)
    config = reading.config()
    if config is None:
        raise ConfigError(
            reading.findings.faults,
            source=source.origin,
            files=reading.files,
            table=reading.broken_table,
            table_faults=reading.table_faults,
            warnings=reading.warnings,
            is_private=_pins_tenant(source.document),
        )
    return built_in.fitted(config, environ, ollama) if source.is_built_in else config


def _pins_tenant(document: Mapping[str, Any]) -> bool:
    """Whether a config asks for `pin_tenant`, even if it is a faulty one."""
    section = document.get("konstruct")
    return isinstance(section, dict) and bool(section.get("pin_tenant"))


class _Reading:
    """The reading of one config.

    It stays alive with its config: `make` makes the group of a name that a wildcard matches, and `read_stored` reads
    tenants that the ledger's database has.

    Attributes:
        findings: what is wrong.
        broken_table: the user's table of model data, where it cannot be used.
        table_faults: those of the faults that are that table's.
        warnings: what is lost or has no effect.
    """

    def __init__(self, environ: Mapping[str, str], source: Source, *, needs_table: bool = True) -> None:
        self.findings = Findings(source.warnings)
        self.broken_table: Path | None = None
        self.table_faults: list[str] = []
        self.warnings: tuple[str, ...] = ()
        self._needs_table = needs_table
        self._source = source
        self._references = References(environ, None if source.path is None else Path(source.path).parent)
        self._tables = Models()
        self._stored: dict[str, tuple[int, StoredReading]] = {}  # tenant → the revision that was read, and what it is

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the config is made of: its own, and those of secrets."""
        return (*self._source.files, *sorted(self._references.environ.files))

    def config(self) -> Config | None:
        """The config that the document and the environment make; None when there are faults."""
        # Long, because it lists all steps in their order, and then all fields of `Config`.
        source, document = self._source, self._source.document
        findings, references = self.findings, self._references
        self._check_sections(document)
        references.read_variables(document.get("environment_variables"), findings)
        credentials = self._credentials(document.get("credential_list"))
        router = self._section(RouterSettings, document, "router_settings", KNOWN_ROUTER_SETTINGS)
        litellm = self._section(LiteLLMSettings, document, "litellm_settings", KNOWN_LITELLM_SETTINGS)
        konstruct = self._section(KonstructSettings, document, "konstruct", is_ours=True)
        models_file = self._models_file(konstruct.models_file)
        for place, limit_s in (
            ("router_settings.timeout", router.timeout),
            ("litellm_settings.request_timeout", litellm.request_timeout),
        ):
            findings.time_outs += [] if limit_s is None else [(place, limit_s)]

        defaults = defaults_of(router, litellm)
        self._deployments = DeploymentReader(findings, references, self._tables, defaults, credentials)
        self._groups = GroupReader(findings, references, source, self._deployments)
        self._groups.read(document.get("model_list"))
        self._groups.read_aliases(router.model_group_alias or litellm.model_group_alias)
        self._fallbacks = Fallbacks(findings, self._groups, router, litellm)
        described = self._described(konstruct.groups)
        former_names = {name: tuple(settings.formerly) for name, settings in described.items()}
        default_group = self._default_group(konstruct.default_group)
        self._tenants = TenantReader(findings, self._groups, former_names)
        tenants = self._tenants.read(konstruct, references.value("KONSTRUCT_TENANT_ID"))
        self._budgets, self._descriptions = (
            tenants.budgets,
            {name: settings.description for name, settings in described.items()},
        )
        ledger = ledger_place(konstruct.ledger_url, references, findings)
        redis = redis_place(
            konstruct.redis_url,
            references,
            findings,
            prefix=konstruct.redis_prefix,
            replicas=konstruct.replicas,
            router={key: getattr(router, key) for key in RouterSettings.model_fields if key.startswith("redis_")},
            cache=litellm.cache_params,
        )
        http = findings.parse(HttpSection, konstruct.http, "konstruct.http") if konstruct.http else None
        auth = findings.parse(AuthSection, konstruct.auth, "konstruct.auth") if konstruct.auth else None
        metrics = findings.parse(MetricsSection, konstruct.metrics, "konstruct.metrics") if konstruct.metrics else None
        threads = thread_settings(konstruct.threads, data_folder(references.process), findings)
        made = [*self._groups.deployments.values(), *(one.deployments for one in self._groups.as_wildcards())]
        deployed = [deployment.params for deployments in made for deployment in deployments]
        held = {**references.process, **references.for_process()}
        keys = held_keys(deployed, held, (ledger.url, "" if redis is None else redis.url))
        own = self._own_files(ledger, None if http is None else http.tls_key)
        file_access = file_settings(konstruct.files, references, findings, own, keys)
        strategy = self._strategy(router.routing_strategy)
        findings.check_time_outs(konstruct.timeout_s)
        variables = references.for_process()
        for place, why in references.environ.faults.items():
            findings.fault(place, why)
        findings.lost += [f"{name} {why}" for name, why in references.environ.keychain.complaints.items()]
        self.warnings = findings.warnings(document, self._groups.by_provider(), tenants.budgets)
        if findings.faults:
            return None

        return Config(
            source=source.path or source.origin,
            file=None if source.path is None else Path(source.path),
            is_built_in=source.is_built_in,
            files=self.files,
            groups=MappingProxyType({name: self._group(name) for name in self._groups.known}),
            default_group=default_group,
            default_tenant=tenants.default_tenant,
            known_tenant=tenants.known_tenant,
            pin_tenant=tenants.pin_tenant,
            tenants=MappingProxyType(tenants.tenants),
            allow_unknown=tenants.allow_unknown,
            budgets=tenants.budgets,
            budget_fallback=tenants.budget_fallback,
            min_answer_tokens=konstruct.min_answer_tokens,
            ledger=ledger,
            models=self._tables,
            models_file=models_file,
            broken_table=self.broken_table is not None,
            timeout_s=konstruct.timeout_s,
            max_concurrency=konstruct.max_concurrency,
            max_queue=konstruct.max_queue,
            max_result_chars=konstruct.max_result_chars,
            parallel_calls=konstruct.parallel_calls,
            max_response_bytes=konstruct.max_response_bytes,
            limits=Limits(**{limit.name: getattr(konstruct, limit.name) for limit in fields(Limits)}),
            threads=threads,
            http=HttpSettings() if http is None else http.settings(),
            auth=AuthSettings() if auth is None else auth.settings(),
            metrics=MetricsSettings() if metrics is None else metrics.settings(),
            file_access=file_access,
            redis=redis,
            allowed_fails=setting(router, litellm, "allowed_fails", ALLOWED_FAILS),
            routing_strategy=strategy,
            warnings=self.warnings,
            written=self._written(defaults, konstruct, former_names, credentials),
            wildcards=self._groups.as_wildcards(),
            variables=MappingProxyType(variables),
            former_groups=frozenset(itertools.chain(*former_names.values())),
            make=self.make,
            read_stored=self.read_stored,
        )

    def _written(
        self,
        defaults: Defaults,
        konstruct: KonstructSettings,
        former_names: Mapping[str, tuple[str, ...]],
        credentials: Mapping[str, Mapping[str, Any]],
    ) -> Written:
        return Written(
            source=self._source.origin,
            model_list=tuple(map(masked, self._deployments.shown)),
            num_retries=defaults.num_retries,
            timeout_s=defaults.timeout_s,
            cooldown_s=defaults.cooldown_s,
            aliases=MappingProxyType(self._groups.aliases),
            unlisted_aliases=frozenset(self._groups.hidden),
            former_names=MappingProxyType(former_names),
            names_models_file=konstruct.models_file is not None,
            secrets=MappingProxyType(_shown_secrets(self._source.document, credentials)),
        )

    def _own_files(self, ledger: LedgerPlace, tls_key: str | None) -> Iterator[Path]:
        """The files and folders that hold our own secrets and accounts, which no caller is given."""
        yield from self.files
        yield from filter(None, (data_folder(self._references.process), config_folder(self._references.process)))
        yield ledger.spool
        if ledger.url.startswith("sqlite"):
            yield from (Path(f"{ledger.shown}{ending}") for ending in ("", "-wal", "-shm", "-journal"))
        if tls_key is not None:
            yield Path(tls_key)

    # ---- groups

    def _group(self, name: str) -> Group:
        groups = self._groups
        deployments = groups.deployments[name]
        return Group(
            name,
            self._descriptions.get(name) or describe(deployments),
            tuple(deployments),
            **self._fallbacks.of(name),
            is_listed=name not in groups.hidden and name not in groups.made_from,
            pattern=groups.made_from.get(name),
            alias_of=groups.aliases.get(name),
        )

    def make(self, name: str) -> Group | None:
        """The group of a name that a wildcard matches, once all has been read; None where none does."""
        self.findings.forget()  # what there is to say of the entry has been said
        self._deployments.shown.clear()
        if self._groups.is_written(name) or (made := self._groups.made(name)) is None:
            return None
        pattern, deployments = made
        return Group(
            name,
            describe(deployments),
            tuple(deployments),
            **self._fallbacks.of(name),
            is_listed=False,
            pattern=pattern,
            alias_of=None,
        )

    def read_stored(self, stored: StoredTenant) -> StoredReading:
        """A tenant of the ledger's database, once all has been read. An entry is read anew when it has changed."""
        earlier = self._stored.get(stored.id)
        if earlier is None or earlier[0] != stored.revision:
            self.findings.forget()
            tenant = self._tenants.read_stored(stored.id, stored.settings, self._budgets)
            faults = tuple(self.findings.faults)
            made = [] if tenant is None else [name for name in tenant.groups if name in self._groups.made_from]
            earlier = stored.revision, StoredReading(tenant, faults, tuple(self._group(name) for name in made))
            self._stored[stored.id] = earlier
        return earlier[1]

    def _described(self, groups: Mapping[str, Any]) -> dict[str, GroupSettings]:
        """The section `konstruct.groups`."""
        found = {}
        for name, value in groups.items():
            place = f"konstruct.groups.{cut(name)}"
            if name not in self._groups.known and self._groups.is_written(name):  # passed over
                self.findings.idle.append(place)
            elif name not in self._groups.known:
                self.findings.fault(place, f"no such group; groups: {self._groups.listing}")
            settings = self.findings.parse(GroupSettings, {} if value is None else value, place)
            if settings is None:
                continue
            found[name] = settings
            for position, former in enumerate(settings.formerly):
                if former in self._groups.known:
                    self.findings.fault(
                        f"{place}.formerly[{position}]", f"{quoted(former)} is still a group of this config"
                    )
        return found

    def _default_group(self, given: str | None) -> str:
        if given is None:
            return "balanced" if "balanced" in self._groups.known else next(iter(self._groups.known), "")
        if not self._groups.find(given):
            self.findings.fault("konstruct.default_group", self._groups.no_group(given))
        return given

    # ---- sections

    def _check_sections(self, document: Mapping[str, Any]) -> None:
        """Name the sections that are misspelt, and those that have no effect."""
        for key, value in document.items():
            if has_effect(key):
                continue
            if key not in KNOWN_SECTIONS and (close := suggestion(key, KNOWN_SECTIONS, 0.8)):
                unknown = f"unknown section; did you mean {close}?"
                if close == "konstruct" or (close == "model_list" and close not in document):
                    self.findings.fault(cut(key), unknown)
                else:
                    self.findings.lost.append(
                        f"{cut(key)}: {unknown}" + ("" if has_effect(close) else " It has no effect here either")
                    )
            elif not is_nothing(value):
                self.findings.idle.append(key)

    def _section(
        self,
        model: type[_Section],
        document: Mapping[str, Any],
        name: str,
        known: frozenset[str] = frozenset(),
        *,
        is_ours: bool = False,
    ) -> _Section:
        """A section with its references resolved.

        A variable that is not set is a fault in our own section, which says who may do what. Elsewhere its key is left
        out, as in LiteLLM.
        """
        raw = document.get(name)
        names: dict[str, str | None] = {}
        value: Any = {} if raw is None else raw
        if isinstance(raw, dict):
            names = {key: reference(item) for key, item in raw.items()}
            unset = self.findings.unset if is_ours else self.findings.left_out
            value = {}
            for key, item in raw.items():
                names_its_variable = key in ("ledger_url", "redis_url", "files")  # in faults of its own
                if (key in model.model_fields and not names_its_variable) or (is_provider_key(key) and not is_ours):
                    item = self._references.resolve(item, f"{name}.{key}", unset)
                if item is not UNSET:
                    value[key] = item
        section = self.findings.parse(model, value, name, names, needed=None if is_ours else ()) or model()
        for key, item in (section.model_extra or {}).items():
            if close := self.findings.meant(key, known):
                self.findings.lost.append(f"{name}.{cut(key)}: unknown key; did you mean {close}?")
            elif not is_nothing(item) and not is_provider_key(key):
                self.findings.idle.append(f"{name}.{key}")
        return section

    def _credentials(self, entries: Any) -> dict[str, dict[str, Any]]:
        """The section `credential_list`: name → litellm_params."""
        found: dict[str, dict[str, Any]] = {}
        if entries and not isinstance(entries, list):
            self.findings.lost.append("credential_list: should be a list; left out")
            return found
        for position, raw in enumerate(entries or ()):
            entry = self.findings.parse(Credential, raw, self._source.place("credential_list", position), needed=())
            if entry is not None:
                found.setdefault(entry.credential_name, entry.credential_values)
        return found

    def _strategy(self, name: Any) -> RoutingStrategy:
        if name is None:
            return "latency-based-routing"
        for strategy in _STRATEGIES:
            if name == strategy:
                return strategy
        self.findings.lost.append(
            f"router_settings.routing_strategy: is not known here, as are {', '.join(_STRATEGIES)}; "
            "latency-based-routing is used"
        )
        return "latency-based-routing"

    def _models_file(self, given: str | None) -> Path | None:
        """The file of the user's table of model data, which is read if it is there."""
        place = "models.json in the user's data folder"
        if given is not None:
            place, named = "konstruct.models_file", given.strip()
            if name := reference(named):
                place, named = f"{place} ({cut(shown_name(name))})", self._references.value(name) or ""
            try:
                file = Path(self._source.path or os.sep).parent / Path(named).expanduser()
            except RuntimeError:  # the home of an unknown user
                named = ""
            if not named:
                self.findings.fault(place, "should name a file")
                return None
            if self._source.path is None and not Path(named).expanduser().is_absolute():
                self.findings.fault(place, NO_FOLDER)
                return None
        elif (folder := data_folder(self._references.process)) is None:
            return None
        else:
            file = folder / "models.json"
        if os.path.lexists(file):
            self._read_table(file, place)
        elif given is not None:
            self.findings.lost.append(f"{place}: there is no such file; `konstruct-mcp models update` makes it")
        return file

    def _read_table(self, file: Path, place: str) -> None:
        try:
            self._tables = Models(table := read_file(file))
            self.findings.lost += [f"{place}: {slip}" for slip in table.slips]
        except ValueError as error:
            self.broken_table, known = file, len(self.findings.faults)
            for line in str(error).splitlines() if self._needs_table else ():
                self.findings.fault(place, line)
            self.table_faults = self.findings.faults[known:]


def _shown_secrets(document: Mapping[str, Any], credentials: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The sections that hold little but secrets: only the names in them."""
    shown: dict[str, Any] = {}
    if isinstance(section := document.get("environment_variables"), dict):
        shown["environment_variables"] = masked_values(section)
    if credentials:
        shown["credential_list"] = [
            {"credential_name": cut(name), "credential_values": masked_values(values)}
            for name, values in credentials.items()
        ]
    return shown
