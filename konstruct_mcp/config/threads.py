"""The section `konstruct.threads`: where conversations are kept, to be continued, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.sections import Section

Keep = Literal["memory", "disk", "off"]
_LONGEST_H = 24 * 366  # a year: whoever wants more keeps the conversations


@dataclass(frozen=True, slots=True)
class ThreadSettings:
    """How threads are kept.

    Attributes:
        keep: `memory`: until the process ends; `disk`: in `folder`; `off`: there are none.
        hours: how long, since they were last continued.
        folder: where those on a disk are; None for a user without a data folder.
    """

    keep: Keep = "memory"
    hours: float = 24.0
    folder: Path | None = None

    @property
    def seconds(self) -> float:
        return self.hours * 3600


def _off_is_a_word(value: Any) -> Any:
    return "off" if value is False else value  # which YAML reads `off` as


class ThreadsSection(Section):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    keep: Annotated[Keep, BeforeValidator(_off_is_a_word)] = "memory"
    hours: Annotated[float, Field(gt=0, le=_LONGEST_H)] = 24.0


def thread_settings(given: Any, data: Path | None, findings: Findings) -> ThreadSettings:
    """What the config says of threads.

    Args:
        given: `konstruct.threads`.
        data: the user's data folder.
        findings: where faults go.
    """
    section = None if given is None else findings.parse(ThreadsSection, given, "konstruct.threads")
    section = section or ThreadsSection()
    if section.keep == "disk" and data is None:
        findings.fault("konstruct.threads.keep", "disk needs a data folder, which this user has not")
    return ThreadSettings(section.keep, section.hours, None if data is None else data / "threads")
