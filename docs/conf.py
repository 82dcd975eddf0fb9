"""How Sphinx builds the documentation site out of the Markdown pages in this folder.

    python3 -m uv run --group docs sphinx-build -W --keep-going docs build/site

The pages are read on GitHub too, so they are plain Markdown with relative links, and the reading order stands here. A
link or an anchor that leads nowhere is a warning, and `-W` makes it an error.
"""

from __future__ import annotations

from sphinx.application import Sphinx

project = "konstruct-mcp"
author = "The konstruct_mcp developers"
copyright = "2026, The konstruct_mcp developers"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4  # anchors as GitHub makes them, for headings down to this level

html_theme = "furo"
html_title = "konstruct-mcp"
html_copy_source = False  # the sources are in the repository
html_show_sphinx = False

# The reading order: below which page, under which title, which pages.
ORDER = {
    "index": {
        "Use it": [
            "clients/index",
            "answers",
            "files",
            "threads",
            "command-line",
            "python",
            "embedded-model",
            "troubleshooting",
        ],
        "Configure it": [
            "configuration",
            "coming-from-litellm",
            "providers",
            "models",
            "routing",
            "tenants-and-budgets",
            "ledger",
        ],
        "Run it for a team": [
            "serving",
            "authentication",
            "shared-state",
            "deploying",
            "operators-page",
            "observability",
        ],
        "Know it": ["security", "performance", "scaling", "conformance", "upgrading-litellm"],
    },
    "clients/index": {
        "": [
            "claude-code",
            "claude-desktop",
            "codex",
            "cursor",
            "vscode",
            "gemini-cli",
            "opencode",
            "copilot",
            "cline",
            "continue",
            "goose",
            "zed",
            "python-agents",
        ]
    },
}


def add_order(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the order to a page's text as Sphinx reads it; GitHub would show it as a block of code."""
    for title, pages in ORDER.get(page, {}).items():
        options = [":hidden:", f":caption: {title}"] if title else [":hidden:"]
        source[0] += "\n".join(["", "```{toctree}", *options, "", *pages, "```", ""])


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_order)
