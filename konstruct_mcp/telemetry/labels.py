"""The values of metrics' labels, which are bounded: a metric keeps every value that it was ever given."""

from __future__ import annotations

from collections.abc import Callable

from konstruct_mcp.config.model import Config
from konstruct_mcp.core.errors import ConfigError

OTHER = "other"
_MOST_VALUES = 1000  # of one label: more than any config has groups that people look at one by one
_MOST_TENANTS = 5000


class Bounded:
    """The first so many values of a label; each one beyond them is `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


class Labels:
    """The labels of groups, models and deployments. A group that a wildcard has made has its name from a caller, and
    its model too: both are `other`, since callers could make any number of them."""

    def __init__(self) -> None:
        """Until `attach` nothing is known to be configured."""
        self._config: Callable[[], Config] | None = None
        self._groups, self._models, self._deployments = (Bounded(_MOST_VALUES) for _ in range(3))
        self._tenants = Bounded(_MOST_TENANTS)

    def attach(self, config: Callable[[], Config]) -> None:
        """`config` gives the one in use; it may raise ConfigError while there is none."""
        self._config = config

    def group(self, name: str | None) -> str:
        """A group's name; `""` for None, where nobody answered."""
        return "" if name is None else self._groups(name) if self._is_configured(name) else OTHER

    def model(self, group: str | None, model: str | None) -> str:
        """`provider/model` as a deployment of the group has it; `""` for None."""
        return "" if model is None else self._models(model) if self._is_configured(group) else OTHER

    def deployment(self, group: str, deployment: str) -> str:
        """A deployment's id, `group/position`."""
        return self._deployments(deployment) if self._is_configured(group) else OTHER

    def tenant(self, tenant: str | None) -> str:
        """A tenant's id; `""` for None, where it is not known."""
        return "" if tenant is None else self._tenants(tenant)

    def _is_configured(self, group: str | None) -> bool:
        if self._config is None:
            return False
        try:
            config = self._config()
        except ConfigError:
            return False
        return group in config.groups and group not in config.on_demand
