"""Every error a user of konstruct_mcp can meet, in one tree.

    KonstructError                      code, message; str() is the one line "code: message"
    ├── ConfigError          config           the config file or environment is wrong (all faults at once)
    ├── EmbeddedError        embedded         the embedded model cannot run here
    ├── LedgerError          ledger           the ledger cannot be used, and the call needs it
    ├── ModelDataError       models           a newer table of model data cannot be taken up
    ├── InternalError        internal         our own defect
    ├── RequestError                          the request is at fault: the same call will fail again
    │   ├── InvalidArgumentError  invalid_argument   an argument is missing, unknown or ill-typed
    │   ├── UnknownTenantError    unknown_tenant     no such tenant
    │   ├── UnknownGroupError     unknown_group      no such model group, or none for this tenant
    │   ├── UnsupportedError      unsupported        no deployment of the group can do what is asked
    │   ├── BadRequestError       bad_request        a provider refused the request itself
    │   ├── ContextOverflowError  context_overflow   too long for every candidate's window
    │   └── ContentPolicyError    content_policy     a provider refused the content
    └── CompletionError                       no provider answered: the same call may succeed later
        ├── UnavailableError      unavailable        nothing of the group can be called (no key, cooling down)
        ├── AllFailedError        all_failed         every deployment that was tried failed
        ├── DeadlineError         timeout            the deadline passed first
        ├── OverloadedError       overloaded         too many calls at once
        ├── BudgetExceededError   budget_exceeded    a budget of the tenant does not afford the call
        └── UnpricedError         unpriced           the tenant has a budget, and the deployment no price

Messages are written for whoever reads them: an assistant through a tool error, a person through
the command line. They say what happened and what to do next, in one line, and never hold a
secret, a path, a stack or a provider's raw body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from konstruct_mcp.core.types import Attempt


TABLE_ADVICE = "mend that table, delete it, or run `konstruct-mcp models update`"
LONGEST_NAME = 64  # of a key or a name, in a message that a person reads in one line


def cut(text: str, longest: int = LONGEST_NAME) -> str:
    """One printable line of bounded length."""
    line = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def quoted(name: str) -> str:
    """A name, cut and in quotation marks."""
    return f'"{cut(name)}"'


def get_extra(extra: str) -> str:
    """How to install an extra of ours: in an environment of uv's, which has no pip, or in one of pip's. The package is
    on no index, so that both commands are for the clone."""
    return f"in the clone, python3 -m uv sync --extra {extra}, or python3 -m pip install '.[{extra}]'"


class KonstructError(Exception):
    """Base of all. `code` is stable and meant for programs, `message` for readers."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ConfigError(KonstructError):
    """The configuration is wrong.

    No message holds a path.

    Attributes:
        faults: one line for each fault, with its place.
        source: where the config is from, for the operator.
        files: those that were read, one of which has to be mended.
        table: the user's table of models, where that is what cannot be used; `table_faults` are those of `faults` that
            are its own.
        warnings: what of the config is lost or has no effect here, as far as that could be seen.
        is_private: whether the config is of a server that shows nothing of another tenant: a fault may name one.
    """

    code = "config"

    def __init__(
        self,
        faults: Sequence[str],
        *,
        source: str = "the config",
        files: Iterable[Path] = (),
        table: Path | None = None,
        table_faults: Sequence[str] = (),
        warnings: Sequence[str] = (),
        is_private: bool = False,
    ) -> None:
        self.is_private = is_private
        self.faults = tuple(faults)
        self.source = source
        self.files = tuple(files)
        self.table = table
        self.table_faults = tuple(table_faults)
        self.warnings = tuple(warnings)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        advice = f"; {TABLE_ADVICE}" if self.table_faults else ""
        super().__init__(f"{count} in {source}: {'; '.join(self.faults)}{advice}")


class EmbeddedError(KonstructError):
    """The embedded model cannot run: its extra is missing, or its file is missing or broken."""

    code = "embedded"


class LedgerError(KonstructError):
    """The ledger cannot be used: a newer version wrote it, it has disappeared, or it is out of reach, so that a budget
    cannot be checked."""

    code = "ledger"


class ModelDataError(KonstructError):
    """A newer table of model data cannot be had, is none, or has prices that nobody would believe."""

    code = "models"


class InternalError(KonstructError):
    """A defect of ours. The cause is in the log, not in the message."""

    code = "internal"


class RequestError(KonstructError):
    """The request is at fault: sent again unchanged it fails again."""


class InvalidArgumentError(RequestError):
    """An argument is missing, unknown or of the wrong type; the message names the field."""

    code = "invalid_argument"


class UnknownTenantError(RequestError):
    """No such tenant; the message names no other."""

    code = "unknown_tenant"


class UnknownGroupError(RequestError):
    """No model group of that name that the tenant may use; the message lists those there are."""

    code = "unknown_group"


class UnsupportedError(RequestError):
    """No deployment of the group supports what the request asks for."""

    code = "unsupported"


class BadRequestError(RequestError):
    """A provider refused the request as wrong; the message gives its reason in one line."""

    code = "bad_request"


class ContextOverflowError(RequestError):
    """The conversation does not fit the context window of any candidate."""

    code = "context_overflow"


class ContentPolicyError(RequestError):
    """A provider's content policy refused the request."""

    code = "content_policy"


class CompletionError(KonstructError):
    """No provider answered. `attempts` holds the failed tries, in order."""

    def __init__(self, message: str, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class UnavailableError(CompletionError):
    """Nothing was tried: every deployment lacks its key or is cooling down."""

    code = "unavailable"


class AllFailedError(CompletionError):
    """Every deployment that was tried failed; the message names each and why."""

    code = "all_failed"


class DeadlineError(CompletionError):
    """The deadline of the whole call passed; the message says what was being waited for."""

    code = "timeout"


class OverloadedError(CompletionError):
    """Too many calls are under way and waiting; this one was turned away at once."""

    code = "overloaded"


class BudgetExceededError(CompletionError):
    """A budget does not afford the call; the message says what is spent and reserved, and when the budget renews."""

    code = "budget_exceeded"


class UnpricedError(CompletionError):
    """The tenant has a budget, and what could answer has no price; the message says which key is missing."""

    code = "unpriced"
