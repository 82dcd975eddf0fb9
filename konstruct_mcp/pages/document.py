"""HTML documents: one look, tables, and a content security policy that lets nothing in.

A page asks no network but, if need be, its own server, and follows the reader's light or dark mode. Names from outside
(tenants, groups, models, notes) pass `as_html`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


def document(title: str, header: str, main: str, *, script: str | None = None, posts: bool = False) -> str:
    """A whole document. All but `title` is HTML.

    Args:
        script: JavaScript for all of the page; None where that comes from the page's own server, or there is none.
        posts: whether the page may send forms to its own server.
    """
    inline = [*([] if script is None else [script]), *_SCRIPT.findall(main)]
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(inline, posts=posts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{_STYLE}</style>
{"" if script is None else f"<script>{script}</script>"}
</head>
<body>
<header>
{header}
</header>
<main>
{main}
</main>
</body>
</html>
"""


def policy(inline: Iterable[str], *, posts: bool = False) -> str:
    """A content security policy: no network, and no script but these, so that one in a name is not run. With `posts`,
    also scripts and forms of the page's own server."""
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in inline if script)
    allowed = " ".join([*(["'self'"] if posts else []), *(f"'sha256-{value}'" for value in hashes)])
    return (
        f"default-src 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; "
        f"img-src data:; base-uri 'none'; form-action {chr(39)}{'self' if posts else 'none'}{chr(39)}"
    )


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML; nothing when there are no rows."""
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    # A table wider than the page is scrolled by itself, by the keyboard too.
    return body and (
        f'<section tabindex="0"><table><caption>{title}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></section>\n"
    )


# plotly writes its colours into each element, which only `!important` overrules.
_STYLE = """
:root { --ground: #f4f5f7; --surface: #fff; --text: #1c2026; --faint: #5b636e; --line: #dde1e6 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #101216; --surface: #1a1d23; --text: #e6e8eb; --faint: #a0a8b3; --line: #343a43 }
}
* { box-sizing: border-box }
/* Else charts drawn before the scroll bar appears are wider than the page. */
html { scrollbar-gutter: stable; color-scheme: light dark }
body { margin: 0 auto; padding: 1.5rem 1rem; max-width: 80rem; background: var(--ground); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0; font-size: 1.5rem }
h2, caption { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; text-align: left }
header p { margin: .25rem 0 0; color: var(--faint) }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .5rem 0 }
main > h2 { margin-top: 1.25rem }
input, button { font: inherit; max-width: 100%; padding: .25rem .5rem }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 .75rem }
dl div { flex: 1 0 auto; min-width: 7rem }
.cards { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
dl div, section { padding: .75rem; background: var(--surface); border: 1px solid var(--line); border-radius: 8px }
dt { color: var(--faint); font-size: .85rem }
dd { margin: 0; font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums }
section { min-width: 0; overflow-x: auto }
section p { margin: 0 }
#days { grid-column: 1 / -1 }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 0 0 .5rem; padding: 0; font-size: .85rem }
li { list-style: none }
li i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px }
main > section { margin-top: .75rem }
table { width: 100%; border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th { color: var(--faint); font-weight: 500 }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:nth-child(-n+2), td:nth-child(-n+2) { min-width: 5.5rem; text-align: left; white-space: normal }
td:nth-child(2) { min-width: 8rem }
tr > :first-child { padding-left: 0 }
tr > :last-child { padding-right: 0 }
tbody tr:last-child td { border-bottom: 0 }
.js-plotly-plot text { fill: var(--text) !important }
.js-plotly-plot .gridlayer path, .js-plotly-plot .zl { stroke: var(--line) !important }
.hoverlayer .bg, .hoverlayer .hovertext > path { fill: var(--surface) !important; fill-opacity: 1 !important;
  stroke: var(--line) !important }
"""
