"""How long a prompt for Ollama is, in tokens, without its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_STEP_CHARS = 1 << 18  # that are split at once: meanwhile every other thread waits
_BYTES_PER_TOKEN = 3  # of the estimate: fewer than in any common language, so that it errs on the long side
_TOKENS_PER_MESSAGE, _TOKENS_PER_IMAGE = 8, 1024  # what a chat template adds; no more than most vision models take
_CHARS_PER_TOKEN = 16  # of the lower bound: more than any tokenizer puts into one, but for mere repetition


@dataclass(frozen=True, slots=True)
class PromptLength:
    """How long a prompt is.

    Attributes:
        estimate: in tokens, rather too many.
        texts: of the messages.
        images: how many there are.
    """

    estimate: int
    texts: tuple[str, ...]
    images: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> PromptLength:
        messages = body["messages"]
        texts = tuple(message["content"] for message in messages)
        images = sum(len(message.get("images", ())) for message in messages)
        calls = [message["tool_calls"] for message in messages if "tool_calls" in message]
        more = "".join(json.dumps(value, ensure_ascii=False) for value in (calls, body.get("tools")) if value)
        size = sum(len(text) if text.isascii() else len(text.encode()) for text in (*texts, more))
        estimate = size // _BYTES_PER_TOKEN + len(messages) * _TOKENS_PER_MESSAGE + images * _TOKENS_PER_IMAGE
        return cls(estimate, texts, images)

    @property
    def at_least(self) -> int:
        """Tokens that the prompt has for certain: no tokenizer makes one token of two words."""
        words = chars = 0
        for text in self.texts:
            for at in range(0, len(text), _STEP_CHARS):
                found = text[at : at + _STEP_CHARS].split()
                words += len(found) - (at > 0)  # the first may be the end of a word of the step before
                chars += sum(map(len, found))
        return max(words, chars // _CHARS_PER_TOKEN)
