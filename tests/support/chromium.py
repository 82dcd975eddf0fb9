"""A real browser for pages: headless Chromium, found on the machine. In CI it is installed where there is none.

On anybody else's machine nothing is installed: that takes root, and who runs the tests has not been asked.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_INSTALL_S = 400
_RUN_S = 60

# Put into a copy of a page, before its other scripts. Tells the window around what became of the page: when it has been
# drawn, and when it has been drawn again after a change of its width.
_PROBE = """
const violations = [], errors = [];
addEventListener('securitypolicyviolation', event => violations.push(event.violatedDirective + ' ' + event.blockedURI));
addEventListener('error', event => errors.push(event.message));
const all = selector => [...document.querySelectorAll(selector)];
const tell = () => {
  const text = document.querySelector('.js-plotly-plot text');
  parent.postMessage({
    title: document.title,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    window: document.documentElement.clientWidth,
    page: document.documentElement.scrollWidth,
    ground: getComputedStyle(document.body).backgroundColor,
    text: getComputedStyle(document.body).color,
    label: text && getComputedStyle(text).fill,
    charts: Object.fromEntries(all('.js-plotly-plot').map(chart => {
      const frame = chart.getBoundingClientRect();
      const within = selector => [...chart.querySelectorAll(selector)].map(element => {
        const box = element.getBoundingClientRect();
        return {text: element.textContent, left: box.left - frame.left, right: box.right - frame.left,
                width: box.width, height: box.height, frame: frame.width};
      });
      return [chart.id, {bars: within('.bars .point path'), texts: within('.infolayer text'),
                         hover: within('.hoverlayer text').map(hover => hover.text)}];
    })),
    figures: Object.fromEntries(all('dl div').map(of => [of.children[0].textContent, of.children[1].textContent])),
    legend: all('#days li').map(item => item.textContent),
    tables: all('tbody').map(body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))),
    elements: Object.fromEntries(['a', 'b', 'img', 'iframe', 'script'].map(name => [name, all(name).length])),
    requests: performance.getEntriesByType('resource').map(entry => entry.name),
    violations, errors,
  }, '*');
};
addEventListener('load', () => {
  if (document.getElementById('chart-days')) {
    const [day] = document.getElementById('chart-days').data.at(-1).x;
    Plotly.Fx.hover('chart-days', {xval: Date.parse(day), yval: 0}, 'xy');
    Plotly.Fx.hover('chart-models', [{curveNumber: 0, pointNumber: 0}]);
  }
  setTimeout(tell, 500);
});
// In virtual time there may be no frame drawn, and so no such event, before the time is over.
addEventListener('message', () => { dispatchEvent(new Event('resize')); setTimeout(tell, 1000); });
"""

# The page in a frame: a window of Chromium's own is never narrower than 500 pixels.
_AROUND = """\
<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<iframe src="page.html" style="border: 0; width: 1280px; height: 3000px"></iframe><pre></pre>
<script>
const told = [];
addEventListener('message', event => {
  told.push(event.data);
  document.querySelector('pre').textContent = JSON.stringify(told);
  if (told.length == 1) {
    document.querySelector('iframe').style.width = '380px';
    event.source.postMessage('narrow', '*');
  }
});
</script>
"""


def executable() -> str:
    """The path of a Chromium. Where `CI` is set, one is installed if there is none and that is possible.

    Raises:
        RuntimeError: there is none; it says how to get one.
    """
    if (found := _found()) is None and "CI" in os.environ:
        _install()
        found = _found()
    if found is None:
        raise RuntimeError(
            "no browser for the page of `usage --html`: install Chromium or Chrome (on Debian and Ubuntu: "
            f"sudo apt-get install chromium), so that one of {', '.join(_NAMES)} is on PATH, or put its path into "
            "CHROMIUM"
        )
    return found


def _found() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def _install() -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    import fcntl

    # One worker installs, the others wait and find it.
    with (Path(tempfile.gettempdir()) / "konstruct-tests-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _found() is None:
            script = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
            environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(
                ["timeout", str(_INSTALL_S), "sh", "-c", script], env=environ, stdout=sys.stderr, check=False
            )


class Browser:
    """Opens pages. `folder` is an empty one of its own."""

    def __init__(self, path: str, folder: Path, scheme: Literal["light", "dark"] = "light") -> None:
        self._path = path
        self._folder = folder
        self._scheme = scheme

    def dom(self, page: str) -> str:
        """The document, as it is, after its scripts have run."""
        file = self._folder / "page.html"
        file.write_text(page, "utf-8")
        return self._dumped(file.as_uri())

    def dom_at(self, url: str) -> str:
        """The same of a page that a server of this machine has."""
        return self._dumped(url)

    def told(self, page: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a probe found in the page, 1280 pixels wide and then made 380 wide."""
        allowed = b64encode(sha256(_PROBE.encode()).digest()).decode()
        probed = page.replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
        probed = probed.replace("<title>", f"<script>{_PROBE}</script><title>", 1)
        (self._folder / "page.html").write_text(probed, "utf-8")
        around = self._folder / "around.html"
        around.write_text(_AROUND, "utf-8")
        match = re.search(r"<pre>(.+?)</pre>", self._dumped(around.as_uri()), re.DOTALL)
        assert match, "the page told nothing"
        wide, narrow = json.loads(html.unescape(match[1]))
        return wide, narrow

    def _dumped(self, url: str) -> str:
        command = [
            self._path,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--no-first-run", "--disable-component-update"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            *("--window-size=1300,900", f"--blink-settings=preferredColorScheme={int(self._scheme == 'light')}"),
            *(f"--user-data-dir={tempfile.mkdtemp(dir=self._folder)}", "--virtual-time-budget=10000", "--dump-dom"),
            url,
        ]
        # Into files: a child that outlived the browser would hold a pipe open.
        out, err = self._folder / "out", self._folder / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            status = subprocess.run(command, stdout=stdout, stderr=stderr, timeout=_RUN_S, check=False).returncode
        assert status == 0, err.read_text(errors="replace")[-2000:]
        return out.read_text("utf-8")
