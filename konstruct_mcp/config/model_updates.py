"""Updating the user's table of model data from a newer one, a file or a URL: what would change, and writing it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from konstruct_mcp.config.model_fields import FACTORS, Entry, is_number, is_price, laid_over, merged
from konstruct_mcp.config.model_lookup import Models
from konstruct_mcp.config.model_tables import (
    MOST_BYTES,
    TOO_LARGE,
    Table,
    as_lines,
    bytes_of,
    faults_in,
    models_of,
    parsed,
    shipped,
    slim,
    written,
)
from konstruct_mcp.core.errors import ModelDataError
from konstruct_mcp.core.files import make_folder, new_file
from konstruct_mcp.core.text import cut

PUBLIC_TABLE = "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
_PATIENCE_S = 60.0  # without a byte
_FOR_ALL_TO_READ = 0o644  # as far as the umask allows
_MOST_CHANGE = 10  # times; a price that moves further is more often a slip than a price


@dataclass(frozen=True, slots=True)
class Update:
    """What a newer table would change.

    Attributes:
        text: what the user's file would hold.
        models: the number of models in the newer table.
        new: the names that neither the user's table nor the one that ships had.
        changes: model → one line for each field that would change.
        doubtful: one line for each price that would become 0 or unknown, or would be more than ten times higher or
            lower than it was, or than the table that ships says.
        left: one line for each field with a wrong value: such a model is not updated at all.
    """

    text: str = field(repr=False)
    models: int
    new: tuple[str, ...]
    changes: Mapping[str, tuple[str, ...]]
    doubtful: tuple[str, ...]
    left: tuple[str, ...] = ()


def _is_far(price: Any, now: Any) -> bool:
    """Whether a known price would be replaced by none, or by one so different that it is more often a slip."""
    if not is_number(price) or not price:
        return False
    return not is_number(now) or not price / _MOST_CHANGE <= now <= price * _MOST_CHANGE


def update(own: Table | None, newer: Mapping[str, Any], about: Mapping[str, str]) -> Update:
    """What becomes of the user's table when a newer one of LiteLLM's is laid over it, field by field.

    Models and fields that the newer table does not have stay, except for prices that `merged` drops with another price.

    Args:
        own: the user's table; None without one.
        newer: the entries of the newer table.
        about: where that is from.
    """
    entries: dict[str, Any] = {} if own is None else {name: dict(fields) for name, fields in own.entries.items()}
    old = Models(own)
    new, changes, doubtful = [], {}, []
    for name, raw in newer.items():
        below = shipped().entries.get(name) or {}
        before, kept, had = old.named(name), slim(raw), entries.get(name, {})
        # Not one over another where only one of them stands for another model.
        entries[name] = laid_over(kept, had) if ("alias_of" in kept) == ("alias_of" in had) else kept
        after = merged(entries[name], below)
        if not before:
            new.append(name)
            continue
        lines = []
        for key in sorted(before.keys() | after.keys()):
            was, now = before.get(key), after.get(key)
            if was != now:
                lines.append(f"{key} {_as_text(was)} → {_as_text(now)}")
                if is_price(key) and key in raw and any(_is_far(price, now) for price in (was, below.get(key))):
                    doubtful.append(f"{name}: {lines[-1]}")
        if lines:
            changes[name] = tuple(lines)
        doubtful += [f"{name}: {line}" for line in _doubts(dict(_figures(before)), dict(_figures(after)))]
    return Update(written(entries, about), len(newer), tuple(new), changes, tuple(dict.fromkeys(doubtful)))


def _doubts(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    for place, now in after.items():
        was = before.get(place)
        if was is None:  # a price of 0 that stands in the place of another
            is_doubtful = now == 0 and any(price and place.startswith(key) for key, price in before.items())
            is_doubtful = is_doubtful or (now == 0 and "." in place)
        else:
            is_doubtful = was != now and _is_far(was, now)
        if is_doubtful:
            yield f"{place} {_as_text(was)} → {_as_text(now)}"


def _figures(fields: Entry, within: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of an entry that decide what a call costs, by their place: prices, with those of tiers and hours, and
    factors."""
    for key, value in fields.items():
        place = f"{within}{key}"
        if key == "tiered_pricing":
            for tier in value:
                first, *_ = tier["range"] if isinstance(tier.get("range"), list) and tier["range"] else (None,)
                yield from _figures(tier, f"{place}.{first}.")
        elif key in ("off_peak_pricing", "provider_specific_entry"):
            yield from _figures(value, f"{place}.")
        elif is_number(value) and (is_price(key) or FACTORS.fullmatch(key) or within == "provider_specific_entry."):
            yield place, value


def update_from(where: str, own: Table | None) -> Update:
    """What the table at a URL, or in a file, would change in the user's `own`.

    Raises:
        ModelDataError: it cannot be fetched or read, or is no table of models.
    """
    is_url = "://" in where
    place = cut(where.partition("?")[0].rpartition("@")[2] if is_url else Path(where).name, 200)
    try:
        about, raw = parsed(_fetched(where) if is_url else bytes_of(Path(where).expanduser()))
        faults = faults_in(raw)  # one wrong model of thousands is to keep nobody from the others
        left = [fault for faults_of_one in faults.values() for fault in faults_of_one]
        models = {name: fields for name, fields in models_of(raw).items() if name not in faults}
        if not models:
            raise ValueError(as_lines(left) or "holds no model: each has to say its litellm_provider")
    except (ValueError, RuntimeError) as error:
        why = str(error).splitlines() or ["cannot be read"]
        raise ModelDataError("; ".join(f"{place}: {fault}" for fault in why)) from None
    said = {
        "litellm": "main" if where == PUBLIC_TABLE else "",
        "date": datetime.now(UTC).date().isoformat(),
        "source": place,
    }
    found = update(own, models, {**{key: value for key, value in said.items() if value}, **about})
    return replace(found, left=tuple(left))


def _fetched(url: str) -> bytes:
    """The bytes at a URL. A redirection is not followed, because the user has not named that place.

    Raises:
        ValueError: it cannot be fetched; the text says why.
    """
    import httpx  # needed by this command alone

    try:
        with httpx.stream("GET", url, timeout=_PATIENCE_S, headers={"accept-encoding": "gzip"}) as response:
            if response.is_redirect:
                raise ValueError(f"points somewhere else (HTTP {response.status_code}); name that with --from")
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"cannot be fetched: HTTP {response.status_code}")
            data = bytearray()
            for part in response.iter_bytes():
                data += part
                if len(data) > MOST_BYTES:
                    raise ValueError(TOO_LARGE)
            return bytes(data)
    except (httpx.NetworkError, httpx.TimeoutException, httpx.ProxyError) as error:
        host = cut(httpx.URL(url).host, 200)
        what = "no answer in time from" if isinstance(error, httpx.ReadTimeout) else "no connection to"
        raise ValueError(f"cannot be fetched: {what} {host}; fetch it elsewhere and pass --from FILE") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"cannot be fetched: {type(error).__name__}") from None


def write_file(path: Path, text: str, *, keep: bool = False) -> Path | None:
    """Replace a table in one step, so that whoever reads the file meanwhile reads all of the old or all of the new one.

    Args:
        path: the table's file.
        text: its new contents.
        keep: whether to keep the old file beside it, because it cannot be read but may hold somebody's work.

    Returns:
        Where the old file was kept, None where it was not to be.

    Raises:
        ModelDataError: it cannot be written.
    """
    path = path.resolve()  # a link stays one
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    aside = path.with_name(f"{path.name}.broken") if keep else None
    try:
        make_folder(path.parent)
        beside.unlink(missing_ok=True)
        try:
            with new_file(beside, _FOR_ALL_TO_READ) as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            if aside is not None:
                path.replace(aside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ModelDataError(f"{path.name} cannot be written: {error.strerror}") from None
    return aside


def _as_text(value: Any) -> str:
    return "unknown" if value is None else cut(json.dumps(value))
