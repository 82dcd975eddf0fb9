"""How Sphinx builds the documentation site out of the Markdown pages in this folder.

    python3 -m uv run --group docs sphinx-build -W --keep-going docs build/site

The pages are read on GitHub too, so they are plain Markdown with relative links; the one directive is `toctree`, which
says the reading order. A link or an anchor that leads nowhere is a warning, and `-W` makes it an error.
"""

project = "konstruct-mcp"
author = "The konstruct_mcp developers"
copyright = "2026, The konstruct_mcp developers"  # noqa: A001 - Sphinx names it so

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4  # anchors as GitHub makes them, for headings down to this level

html_theme = "furo"
html_title = "konstruct-mcp"
html_copy_source = False  # the sources are in the repository
html_show_sphinx = False
