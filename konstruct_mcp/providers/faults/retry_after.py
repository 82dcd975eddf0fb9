"""How long a provider asks to wait before it is asked again."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the headers `retry-after-ms` or `retry-after` (seconds or a date); None without them."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            seconds = float(milliseconds) / 1000
        elif value is not None and value.strip()[:1].isalpha():
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        elif value is not None:
            seconds = float(value)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def retry_delay(detail: Mapping[str, Any]) -> float | None:
    """Seconds to wait by Google's `retryDelay` in an error's details, such as `36s`; None without it."""
    given = detail.get("retryDelay")
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)s", given) if isinstance(given, str) else None
    return None if found is None else float(found[1])
