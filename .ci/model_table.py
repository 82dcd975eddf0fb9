"""Makes the table of model data that ships with us from a wheel of LiteLLM. docs/upgrading-litellm.md says when.

    python .ci/model_table.py litellm-1.110.2-….whl

The table's date is the day on which it is read. That of the release is not in a wheel: its metadata have no such field,
and its files are all of 1980.
"""

import json
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from konstruct_mcp.config.model_tables import models_of, slim, written

[wheel] = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    table = json.loads(files.read("litellm/model_prices_and_context_window_backup.json"))
about = {
    "litellm": Path(wheel).name.split("-")[1],
    "date": datetime.now(UTC).date().isoformat(),
    "source": "https://github.com/BerriAI/litellm, MIT licence, Copyright (c) 2023 Berri AI",
}
Path(__file__).parents[1].joinpath("konstruct_mcp", "config", "models.json").write_text(
    written({name: slim(raw) for name, raw in models_of(table).items()}, about), "utf-8"
)
