"""Reasoning that a server has left in the text of an answer.

What is taken for reasoning, and nothing else:

- a block at the very start in tags that models are trained to think in (`<think>`, `[THINK]` …), even one that does not
  end; in tags that people ask for too (`<thinking>`, `<reasoning>` …), only if it ends and an answer follows;
- all before a closing tag that was never opened, since some templates open it in the prompt: where the tag begins a
  line, follows a word or a sentence, or precedes an empty line, and does not stand in code;
- of Harmony's channels, all but the final one.
"""

from __future__ import annotations

import re
from itertools import islice

_TRAINED_TAGS = (
    *(("<think>", "</think>"), ("<seed:think>", "</seed:think>"), ("<budget:thinking>", "</budget:thinking>")),
    *(("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("◁think▷", "◁/think▷")),
    *(("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|channel>thought", "<channel|>")),
    ("Here is my thought process:", "Here is my response:"),
)
_PROMPTED_TAGS = (
    *(("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>"), ("<thought>", "</thought>")),
    *(("<thoughts>", "</thoughts>"), ("<analysis>", "</analysis>")),
)
_LEADING = {  # opening tag → closing tag, and whether it may do without an end or without an answer after it
    **{first: (last, True) for first, last in _TRAINED_TAGS[:-1]},
    **{first: (last, False) for first, last in (*_PROMPTED_TAGS, _TRAINED_TAGS[-1])},
}
_SPACES = re.compile(r"\s*")
# A closing tag whose opening tag is in the prompt, put there by a template: it begins a line, directly follows a word,
# comes after a sentence, or an empty line comes after it. A tag that the answer speaks of stands between spaces or in
# quotes.
_TAG = r"</(?:seed:)?think>|\[/THINK\]|◁/think▷"
_CLOSING = re.compile(
    rf"(?:^[ \t]*|(?<=[^\s\"'`“‘«(<\[{{=>])|(?<=[.!?…。！？:][ \t]))(?:{_TAG})|(?:{_TAG})(?=[ \t]*\n[ \t]*\n)",
    re.MULTILINE,
)
_CODE = re.compile(r"(?ms)^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1|\Z)|`[^`\n]+`")
_HARMONY = re.compile(r"\s*(?:<\|start\|>assistant\s*)?<\|channel\|>")
_FINAL = re.compile(
    r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)(?:<\|(?:return|end)\|>|\Z)", re.DOTALL
)
# What is left of two channels where a server drops their marks: their names, joined to the words beside them.
_FLAT_HARMONY = re.compile(r"\s*analysis(?=[^\W_]).*?(?:(?<!\s)assistantfinal|assistantfinal(?=\S))\s*", re.DOTALL)
_MOST_TAGS = 50  # that are looked at; more are no sign of reasoning


def without_reasoning(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without the reasoning in it, and a note where what was taken for reasoning is a guess."""
    if _HARMONY.match(text):
        final = _FINAL.findall(text)
        return (final[-1].strip() if final else ""), ()
    if flat := _FLAT_HARMONY.match(text):
        return text[flat.end() :], ()
    at = 0
    while (behind := _end_of_block(text, at)) is not None:
        at = behind
    text = text[at:]
    if any(last in text for first, last in _TRAINED_TAGS):
        code = [found.span() for found in _CODE.finditer(text)]
        for closing in islice(_CLOSING.finditer(text), _MOST_TAGS):
            tag = closing[0].strip()
            start = closing.end() - len(tag)
            if tag.replace("/", "") in text[:start]:
                break  # it was opened in the text, which therefore speaks of the tag
            if not any(begin <= start < end for begin, end in code):
                noted = (f"what came before {tag} was taken for reasoning",) if text[:start].strip() else ()
                return text[closing.end() :].lstrip(), noted
    return text, ()


def _end_of_block(text: str, at: int) -> int | None:
    """Where the block of reasoning ends that begins at `at`; None where none begins there. By `find`: a regular
    expression takes twenty times as long for a long text."""
    at = _after_spaces(text, at)
    for first, (last, may_be_all) in _LEADING.items():
        if text.startswith(first, at):
            end = text.find(last, at + len(first))
            behind = len(text) if end < 0 else _after_spaces(text, end + len(last))
            return behind if may_be_all or behind < len(text) else None
    return None


def _after_spaces(text: str, at: int) -> int:
    found = _SPACES.match(text, at)
    return at if found is None else found.end()
