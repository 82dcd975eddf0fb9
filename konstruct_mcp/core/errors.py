"""Every error a user of konstruct_mcp can meet, in one tree.

    KonstructError                      code, message; str() is the one line "code: message"
    ├── ConfigError          config           the config file or environment is wrong (all faults at once)
    ├── EmbeddedError        embedded         the embedded model cannot run here
    ├── LedgerError          ledger           the ledger cannot be used, and the call needs it
    ├── ModelDataError       models           a newer table of model data cannot be taken up
    ├── InternalError        internal         our own defect
    ├── InvalidAnswerError   invalid_answer   the answer does not fit the pydantic model that was asked for
    ├── NotOpenError         not_open         a `Konstruct` is used where it is not open
    ├── AccessError                           who asks over HTTP is not let in
    │   ├── InvalidTokenError     invalid_token      no token, or one that proves nothing
    │   ├── ForbiddenTokenError   forbidden          a token that proves who asks, who may not ask here
    │   └── UnverifiedError       unverified         the token cannot be verified now
    ├── RequestError                          the request is at fault: the same call will fail again
    │   ├── InvalidArgumentError  invalid_argument   an argument is missing, unknown or ill-typed
    │   ├── UnknownTenantError    unknown_tenant     no such tenant
    │   ├── UnknownGroupError     unknown_group      no such model group, or none for this tenant
    │   ├── UnknownThreadError    unknown_thread     no such thread, none any more, or another tenant's
    │   ├── UnsupportedError      unsupported        no deployment of the group can do what is asked
    │   ├── FileRefusedError      file_refused       a file cannot be read, or is not sent to models
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

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from konstruct_mcp.core.results import Attempt, Completion

TABLE_ADVICE = "mend that table, delete it, or run `konstruct-mcp models update`"


def install_advice(extra: str) -> str:
    """How to add an extra to this installation, as the end of a sentence. The package is on no index: each way is for
    the clone."""
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").exists():  # what `uv tool install` leaves behind
        return f"in the clone, python3 -m uv tool install --compile-bytecode '.[{extra}]', your other extras beside it"
    if (prefix / "pipx_metadata.json").exists():
        return f"in the clone, pipx install --force '.[{extra}]', your other extras beside it"
    # Two commands, since an environment of uv's has no pip.
    return f"in the clone, python3 -m uv sync --inexact --extra {extra}, or python3 -m pip install '.[{extra}]'"


class KonstructError(Exception):
    """Base of all. `code` is stable and meant for programs, `message` for readers."""

    code: ClassVar[str] = "error"
    figures: ClassVar[tuple[str, ...]] = ()  # attributes that say when to come back, or with how much

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ConfigError(KonstructError):
    """The configuration is wrong. The message names every fault and holds no path.

    Attributes:
        faults: one line for each fault, with its place.
        source: where the config is from, for the operator.
        files: the files that were read, one of which has to be mended.
        table: the user's table of models, where that cannot be used.
        table_faults: those of `faults` that are in that table.
        warnings: what of the config is lost or has no effect here, as far as it could be read.
        is_private: whether the faults must not be shown to callers, because they may name another tenant.
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
    """The ledger cannot be used: a newer version wrote it, it has disappeared, or it is out of reach."""

    code = "ledger"


class ModelDataError(KonstructError):
    """A newer table of model data cannot be read, is no such table, or has prices that nobody would believe."""

    code = "models"


class InternalError(KonstructError):
    """A defect of ours. The cause is in the log, not in the message."""

    code = "internal"


class InvalidAnswerError(KonstructError):
    """The answer does not fit the pydantic model that was asked for; the message names each flaw of it.

    Attributes:
        completion: the answer as it came. It is paid for all the same.
    """

    code = "invalid_answer"

    def __init__(self, message: str, completion: Completion) -> None:
        super().__init__(message)
        self.completion = completion


class NotOpenError(KonstructError):
    """A `Konstruct` is used before its `async with` or after it, or from another event loop than that of its block."""

    code = "not_open"


class AccessError(KonstructError):
    """Who asks over HTTP is not let in. The message holds nothing of the token."""


class InvalidTokenError(AccessError):
    """There is no token, or it proves nothing: it is malformed, forged, expired, revoked, or for somebody else."""

    code = "invalid_token"


class ForbiddenTokenError(AccessError):
    """The token proves who asks, and they may not ask here.

    Attributes:
        missing_scopes: those that the token lacks, where that is why.
    """

    code = "forbidden"

    def __init__(self, message: str, missing_scopes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing_scopes = tuple(missing_scopes)


class UnverifiedError(AccessError):
    """The token cannot be verified now: the database of keys, or the issuer's keys, are out of reach.

    Attributes:
        retry_after_s: when to try again.
    """

    code = "unverified"

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestError(KonstructError):
    """The request is at fault: if it is sent again unchanged, it fails again."""


class InvalidArgumentError(RequestError):
    """An argument is missing, unknown or of the wrong type; the message names the field."""

    code = "invalid_argument"


class UnknownTenantError(RequestError):
    """No such tenant; the message names no other tenant."""

    code = "unknown_tenant"


class UnknownGroupError(RequestError):
    """The tenant may use no model group of that name; the message lists those that it may use."""

    code = "unknown_group"


class UnknownThreadError(RequestError):
    """There is no such thread: it has expired, or is another tenant's, which looks the same."""

    code = "unknown_thread"


class UnsupportedError(RequestError):
    """No deployment of the group can do what the request asks for."""

    code = "unsupported"


class FileRefusedError(RequestError):
    """A file that the request names cannot be read, or is not sent to models; the message names each such file. Whether
    one is missing, outside of the folders that are open to the caller, or kept back is one and the same to it."""

    code = "file_refused"


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
    """Too many calls are under way and waiting, so this one was turned away at once.

    Attributes:
        retry_after_s: seconds until the tenant's waiting calls may have had their turn, at the pace of its last ones.
    """

    code = "overloaded"
    figures = ("retry_after_s",)

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitedError(CompletionError):
    """The tenant has made as many requests, or used as many tokens, as it may in a minute.

    Attributes:
        retry_after_s: seconds until it may call again.
    """

    code = "rate_limited"
    figures = ("retry_after_s",)

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BudgetExceededError(CompletionError):
    """A budget cannot pay for the call; the message says what is spent and reserved, and when the budget renews.

    Attributes:
        left_usd: what is left of the budget, in US dollars; of several, of the one that renews first.
        renews_at: when it renews (ISO, UTC); None where it does not, or where not even the whole of it would do.
    """

    code = "budget_exceeded"
    figures = ("left_usd", "renews_at")

    def __init__(
        self, message: str, attempts: Sequence[Attempt] = (), *, left_usd: float, renews_at: str | None
    ) -> None:
        super().__init__(message, attempts)
        self.left_usd, self.renews_at = left_usd, renews_at


class UnpricedError(CompletionError):
    """The tenant has a budget, and the deployments have no price; the message says which config key is missing."""

    code = "unpriced"
