"""Arguments of a call that are valid, whatever they hold: strategies of Hypothesis."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

# Hypothesis would count a pause of the machine, which other tests keep busy, as a failure.
unhurried = settings(deadline=None)
_text = st.text(st.characters(codec="utf-8"))
_name = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_schema = st.dictionaries(_text, _json, max_size=3)
_image = st.binary(max_size=20).map(lambda data: "data:image/png;base64" + "," + base64.b64encode(data).decode())
_parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": _text}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries(
                {"url": _image}, optional={"detail": st.sampled_from(["auto", "low", "high"])}
            ),
        }
    ),
)
_call = st.fixed_dictionaries(
    {
        "id": _text,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": _text, "arguments": _text}),
    }
)
_messages = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "assistant"]), "content": _text}),
    st.fixed_dictionaries({"role": st.just("user"), "content": _text | st.lists(_parts, min_size=1, max_size=3)}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "tool_calls": st.lists(_call, min_size=1, max_size=2)},
        optional={"content": _text},
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "content": _text, "tool_call_id": _text}),
)
_function = st.fixed_dictionaries(
    {"name": _name}, optional={"description": _text, "parameters": _schema, "strict": st.booleans()}
)


def _name_of(tool: Any) -> Any:
    return tool["function"]["name"]


_tools = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": _function}),
    max_size=3,
    unique_by=_name_of,
)
_format = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "json_object"])}),
    st.fixed_dictionaries(
        {
            "type": st.just("json_schema"),
            "json_schema": st.fixed_dictionaries(
                {"name": _name, "schema": _schema}, optional={"description": _text, "strict": st.booleans()}
            ),
        }
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    asked: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"messages": st.lists(_messages, min_size=1, max_size=3)},
            optional={
                "model_group": _text.filter(bool),  # an empty one counts as left out
                "tenant_id": st.from_regex(r"[A-Za-z0-9._:@-]{1,128}", fullmatch=True),
                "tools": _tools,
                "response_format": _format,
                "max_tokens": st.integers(1, 10**9),
                "temperature": st.floats(0, 2),
                "timeout_s": st.floats(0, 86400, exclude_min=True),
            },
        )
    )
    names = [tool["function"]["name"] for tool in asked.get("tools", ())]
    if names:
        named = st.sampled_from(names).map(lambda name: {"type": "function", "function": {"name": name}})
        choice = draw(st.none() | st.sampled_from(["none", "auto", "required"]) | named)
        asked |= {} if choice is None else {"tool_choice": choice}
    return asked
