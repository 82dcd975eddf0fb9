"""What pydantic finds wrong with a value, as lines for whoever wrote it."""

from __future__ import annotations

import re

from pydantic import ValidationError

from konstruct_mcp.core.messages import UNION_TAGS
from konstruct_mcp.core.text import cut

# Pydantic begins its messages with these words for the value; here the value's place stands before the message.
_SUBJECT = re.compile(r"^(Input|List|String|Dictionary) (?=should)")


def flaws(error: ValidationError) -> list[tuple[str, str]]:
    """(place, message) for each flaw that pydantic found, never with the offending value.

    The place reads as code would have it, `messages[0].content`, without the tags of unions.
    """
    found: list[tuple[str, str]] = []
    for item in error.errors(include_url=False, include_input=False):
        place = ""
        for part in item["loc"]:
            if isinstance(part, int):
                place += f"[{part}]"
            elif part not in UNION_TAGS:
                place += f".{cut(part)}" if place else cut(part)
        match item["type"]:
            case "extra_forbidden":
                message = "unknown field"
            case "missing":
                message = "required, but missing"
            case "value_error":
                message = str(item["ctx"]["error"])
            case "model_type" | "model_attributes_type" | "dict_type" | "dict_attributes_type":
                message = "should be an object"
            case "tuple_type":
                message = "should be a valid list"
            case _:
                message = _SUBJECT.sub("", item["msg"]).replace(" after validation", "").removesuffix(" instance")
        found.append((place, message))
    return found
