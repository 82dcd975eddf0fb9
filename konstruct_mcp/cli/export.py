"""The rows of the ledger's calls as a file: `ledger export`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any

from konstruct_mcp.cli.output import csv_cell

_AT_ONCE = 5_000  # rows of a group of a Parquet file, and in memory
_NAMES = ("id", "time", "tenant", "group_asked", "group_served", "model", "outcome")  # the columns that are text
_FIGURES = ("input_tokens", "output_tokens", "cached_tokens", "uncounted", "duration_ms", "attempts")
_AMOUNTS = ("cost_nusd", "most_nusd")
COLUMNS = (*_NAMES, *_FIGURES, *_AMOUNTS)


def write_csv(rows: Iterator[dict[str, Any]], stream: IO[bytes]) -> None:
    """A line for each row, behind one with the names of the columns. What is unknown is empty."""
    stream.write(",".join(COLUMNS).encode() + b"\n")
    for row in rows:
        names = (csv_cell(row[name] or "") for name in _NAMES)
        figures = ("" if row[name] is None else f"{Decimal(row[name]):f}" for name in (*_FIGURES, *_AMOUNTS))
        stream.write(",".join((*names, *figures)).encode("utf-8", "replace") + b"\n")


def write_parquet(rows: Iterator[dict[str, Any]], stream: IO[bytes]) -> None:
    """Text and 64-bit integers; what is unknown is null.

    Raises:
        ImportError: pyarrow is not installed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [pa.field(name, pa.string()) for name in _NAMES]
    schema = pa.schema([*texts, *(pa.field(name, pa.int64()) for name in (*_FIGURES, *_AMOUNTS))])
    with pq.ParquetWriter(stream, schema) as writer:
        while some := list(itertools.islice(rows, _AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))
