"""Takes the pictures of the dashboard that the documentation shows: ``make pictures``.

What they show is ``swarmgate demo``, whose nodes are given a usage, as the agents of a Swarm would tell it.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.browser import chromium
from tests.e2e.gate import free_port
from tests.pki import authority

FOLDER = Path(__file__).parents[2] / "docs" / "images"
HISTORY = 110.0  # Seconds of traffic that the plots have to show.
PATIENCE = 45.0
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
PAGES = {
    "overview": "#overview",
    "routers": "#routers",
    "router": "#routers/shop@swarm",
    "services": "#services",
    "service": "#services/golf@swarm",
    "middlewares": "#middlewares",
    "swarm": "#swarm",
    "certificates": "#certificates",
    "changes": "#changes",
    "why": "#why?url=http://misspelt.localhost/",
    "logs": "#swarm/golf/logs",
}
PROGRAM = """
import sys
from twisted.internet import reactor
from swarmgate import demo
sys.exit(demo.run(reactor, int(sys.argv[1]), sys.argv[2:]))
"""
DARK = {"desktop": ("overview", "swarm"), "phone": ("overview", "services")}
# What agents would tell of the nodes and tasks of the demo.
USAGE = """
const tell = window.fetch;
const nodes = {n1: [0.31, 2.9], n2: [0.82, 6.6], n3: null};
window.fetch = async (url, options) => {
  const answer = await tell(url, options);
  if (!new URL(url).pathname.endsWith("/api/swarm")) return answer;
  const told = await answer.json();
  for (const node of told.nodes) {
    const one = nodes[node.hostname];
    const memory = {total: 8.2e9, used: one && one[1] * 1e9};
    node.usage = one && {cpus: 4, cpu: one[0], load: 4 * one[0], memory, error: null};
  }
  for (const {tasks} of told.services) for (const [at, task] of tasks.entries()) {
    const known = nodes[task.node] && task.state === "running";
    task.usage = known ? {cpu: 0.06 + 0.03 * at, memory: 48e6 + 7e6 * at, memoryLimit: 256e6} : null;
  }
  for (const service of told.services) {
    const known = service.tasks.map((task) => task.usage).filter(Boolean);
    const sum = (key) => known.reduce((total, one) => total + one[key], 0);
    service.usage = known.length ? {cpu: sum("cpu"), memory: sum("memory"), memoryLimit: null} : null;
  }
  return new Response(JSON.stringify(told), {status: answer.status, headers: answer.headers});
};
"""


class Album:
    """A browser that looks at the demo, and what it sees as files."""

    def __init__(self, folder: Path, board: str) -> None:
        self._browser = chromium.start(folder, "--hide-scrollbars")
        self._measures = SIZES["desktop"]
        self._run("Page.addScriptToEvaluateOnNewDocument", source=USAGE)
        self._browser.get(board)

    def close(self) -> None:
        self._browser.quit()

    def _run(self, command: str, **arguments: Any) -> Any:
        return self._browser.execute_cdp_cmd(command, arguments)

    def script(self, text: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self._browser.execute_script(text, *arguments)

    def until(self, text: str) -> None:
        """Wait until the script *text* returns something true."""
        end = time.monotonic() + PATIENCE
        while not self.script(text):
            if time.monotonic() > end:
                raise TimeoutError(text)
            time.sleep(0.1)

    def size(self, name: str) -> None:
        self._measures = SIZES[name]
        self._resize(*self._measures)

    def _resize(self, width: int, height: int) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._run("Emulation.setDeviceMetricsOverride", **screen)

    def theme(self, name: str) -> None:
        self.script("document.documentElement.dataset.theme = arguments[0]", name)

    def go(self, address: str) -> None:
        """Go to a page of the dashboard, and wait until it is there."""
        self.script("if (location.hash !== arguments[0]) location.hash = arguments[0]", address)
        time.sleep(0.3)
        self.until("return Boolean(document.getElementById('main').dataset.page)")
        time.sleep(1.2)  # Plots are drawn with the next second's traffic.
        self.script("document.activeElement.blur(); scrollTo(0, 0)")

    def take(self, name: str) -> None:
        """Keep what is seen now, to the page's end, but no more than two screens of it."""
        width, height = self._measures
        whole = self.script("return document.documentElement.scrollHeight")
        self._resize(width, max(height, min(whole, 2 * height)))
        time.sleep(0.4)
        data = self._run("Page.captureScreenshot", format="webp", quality=88)["data"]
        (FOLDER / f"dashboard-{name}.webp").write_bytes(base64.b64decode(data))
        self._resize(width, height)
        print(f"dashboard-{name}.webp", flush=True)


def visit(album: Album) -> None:
    """Take all pictures."""
    for size in SIZES:
        album.size(size)
        for theme in ("light", "dark"):
            album.theme(theme)
            for name, address in PAGES.items():
                if theme == "light" or name in DARK[size]:
                    album.go(address)
                    album.take(f"{name}-{size}" + ("-dark" if theme == "dark" else ""))
    # An update, once it is at its second task.
    for size, theme in (("desktop", "light"), ("phone", "dark")):
        album.size(size)
        album.theme(theme)
        album.go("#swarm/golf")
        album.until("return document.querySelector('[data-update=going] progress')?.value === 1")
        time.sleep(1.5)
        album.take(f"update-{size}" + ("-dark" if theme == "dark" else ""))
        album.until("return document.querySelector('[data-update=going]') === null")


def certificates(folder: Path) -> Path:
    """A file of dynamic configuration with some certificates, one of which ends soon."""
    now = datetime.datetime.now(datetime.UTC)
    lines = ["tls:", "  certificates:"]
    for names, age, days in (
        (("shop.localhost", "www.shop.localhost"), 20, 90),
        (("golf.localhost",), 78, 90),
        (("*.example.test", "example.test"), 3, 365),
    ):
        pair = authority().issue(*names, start=now - datetime.timedelta(age), days=days)
        certificate, key = pair.write(folder, names[-1])
        lines.append(f"    - {{certFile: {certificate}, keyFile: {key}}}")
    (folder / "tls.yml").write_text("\n".join(lines))
    return folder / "tls.yml"


def main() -> None:
    """Run the demo, and take them."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="swarmgate-demo-"))
    option = f"--providers.file.filename={certificates(home)}"
    demo = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port), option], stdout=subprocess.DEVNULL)
    try:
        board = f"http://127.0.0.1:{port + 1}/dashboard/"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(board, timeout=5).close()
                break
            time.sleep(0.2)
        with tempfile.TemporaryDirectory(prefix="swarmgate-browser-") as folder:
            album = Album(Path(folder), board)
            try:
                time.sleep(float(os.environ.get("HISTORY", HISTORY)))
                visit(album)
            finally:
                album.close()
    finally:
        demo.terminate()
        demo.wait(timeout=30)
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
