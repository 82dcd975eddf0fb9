"""Makes the table of model data that ships with us from a wheel of LiteLLM. docs/upgrading-litellm.md says when.

    python .ci/model_table.py litellm-1.110.2-….whl 2026-11-28

The date is that of the release: a wheel does not hold it.
"""

import json
import sys
import zipfile
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from konstruct_mcp.models import models_of, slim, written

wheel, day = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    table = json.loads(files.read("litellm/model_prices_and_context_window_backup.json"))
about = {
    "litellm": Path(wheel).name.split("-")[1],
    "date": date.fromisoformat(day).isoformat(),
    "source": "https://github.com/BerriAI/litellm, MIT licence, Copyright (c) 2023 Berri AI",
}
Path(__file__).parents[1].joinpath("konstruct_mcp", "models.json").write_text(
    written({name: slim(raw) for name, raw in models_of(table).items()}, about), "utf-8"
)
