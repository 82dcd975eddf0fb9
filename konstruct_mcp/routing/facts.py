"""What is known of a deployment's model, and what a request needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from konstruct_mcp.core.requests import Request

_CHARS_PER_TOKEN = 3  # fewer than in any common language, so that the rough count errs on the long side


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a deployment's model, from the config first and the tables of model data second.

    None stands for what is unknown.

    Attributes:
        input_cost, output_cost: US dollars per token.
        context_window, longest_answer: tokens.
        retires: the ISO date on which its provider shuts it down.
        supports: a capability (`tools`, `vision`, `pdf`, `structured_output`) → whether it has it, where that is known.
        free: whether every price is 0.
        unboundable: why the most that a call can cost cannot be told, as the end of a sentence; empty where it can.
    """

    input_cost: float | None = None
    output_cost: float | None = None
    context_window: int | None = None
    longest_answer: int | None = None
    retires: str | None = None
    supports: Mapping[str, bool] = field(default_factory=dict)
    free: bool = False
    unboundable: str = ""

    @property
    def missing_prices(self) -> tuple[str, ...]:
        """The keys of the config that would give the prices that are unknown."""
        prices = {"input_cost_per_token": self.input_cost, "output_cost_per_token": self.output_cost}
        return tuple(key for key, price in prices.items() if price is None)

    @property
    def why_no_budget(self) -> str:
        """Why a tenant with a budget cannot use it, as the end of a sentence; empty where one can."""
        if missing := self.missing_prices:
            return f"has no price ({', '.join(missing)}), which a budget needs"
        return "" if self.free else self.unboundable


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of a deployment.

    Attributes:
        tokens: about how many tokens the request and its answer have.
        input_tokens: about how many tokens the request has.
        file_bytes: of the files in it.
    """

    tools: bool = False
    vision: bool = False
    pdf: bool = False
    structured_output: bool = False
    tokens: int = 0
    input_tokens: int = 0
    file_bytes: int = 0

    def missing(self, facts: Facts) -> str | None:
        """The argument that the deployment does not support, or None.

        A response format and a PDF must be known to work: a schema that is silently ignored breaks the caller, and a
        PDF that is, has the model guess. Tools and images are refused only where they are known not to work.
        """
        if self.structured_output and not facts.supports.get("structured_output", False):
            return "response_format"
        if self.tools and facts.supports.get("tools") is False:
            return "tools"
        if self.vision and facts.supports.get("vision") is False:
            return "images"
        if self.pdf and not facts.supports.get("pdf", False):
            return "PDF files"
        return None


def needs_of(request: Request, file_bytes: int = 0) -> Needs:
    """The capabilities and the context window that a request needs; so many bytes of it are those of files."""
    input_tokens = request.text_chars // _CHARS_PER_TOKEN
    return Needs(
        tools=bool(request.tools),
        vision=request.has_images,
        pdf=request.has_pdfs,
        structured_output=request.response_format is not None and request.response_format.type == "json_schema",
        tokens=input_tokens + (request.max_tokens or 0),
        input_tokens=input_tokens,
        file_bytes=file_bytes,
    )
