"""The dashboard of a gate on a real Swarm, in Chromium.

The browser and what drives it run in the laboratory's LAN, as all clients do. With ``SWARMGATE_PICTURES=FOLDER``
pictures of the pages are left there: on a desktop and on a phone, light and dark.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from axe_core_python.selenium import Axe
from selenium.webdriver.common.keys import Keys

from tests.browser import chromium
from tests.swarm import suite_gate
from tests.swarm.lab import IMAGE, LabError, wait_until
from tests.swarm.shared import lab
from tests.swarm.suite_gate import GateCase, measured

PORT = 8087
SOON = 2.0  # seconds from a service's creation, or its task's start, until the page shows it
GENEROUS = 30.0  # seconds for what is usually there at once
USER = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # ann, secret; of SHA-1, so that nothing waits for bcrypt
AUTHORIZATION = "Basic YW5uOnNlY3JldA=="
PAGES = ("overview", "routers", "services", "swarm", "middlewares", "certificates", "changes", "why")
PICTURES = os.environ.get("SWARMGATE_PICTURES", "")
LOAD = Path(__file__).with_name("load.py")
COMMAND = (
    "--providers.swarm.exposedbydefault=false",
    "--providers.swarm.network=golf",
    "--entrypoints.web.address=:80",
    "--ping.entrypoint=web",
    "--api.operations=true",
    "--api.logs=true",
    "--workers=1",
)
LABELS = {
    "traefik.enable": "true",
    "traefik.http.routers.board.rule": "Host(`gate.example`) && (PathPrefix(`/api`) || PathPrefix(`/dashboard`))",
    "traefik.http.routers.board.service": "api@internal",
    "traefik.http.routers.board.middlewares": "auth",
    "traefik.http.middlewares.auth.basicauth.users": USER,
}
# Healthy a second after its start: a task is seen on its way.
HEALTH = (
    "python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:8083/health\", timeout=2)'",
    *("--health-interval", "500ms", "--health-retries", "20"),
)


class DashboardTests(GateCase):
    """One gate with the dashboard, on the node n1, and one browser on the LAN."""

    def setUp(self) -> None:
        # Only this one gate: the pair of the stack file would take its time.
        self.stacks = suite_gate._stacks or suite_gate.Stacks(lab())
        self.lab = self.stacks.lab
        self.addCleanup(self.clear)
        with contextlib.suppress(LabError):
            self.lab.network("golf")  # another suite may have made it
        options = [word for label, value in LABELS.items() for word in ("--label", f"{label}={value}")]
        self.address = self.gate("board", COMMAND, PORT, self.lab.engines[0].socket, options=options)
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-browser-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        # From here to the end this thread is on the LAN, the engines' sockets are files and reached from anywhere.
        inside = contextlib.ExitStack()
        inside.enter_context(self.lab.lan.entered())
        self.addCleanup(inside.close)
        names = f"--host-resolver-rules=MAP *.example {self.address.partition(':')[0]}"
        self.browser = chromium.start(self.folder, names, "--no-proxy-server")
        self.addCleanup(self.browser.quit)
        self.browser.set_window_size(1280, 900)
        self.board = f"http://gate.example:{PORT}/dashboard/"

    # What a person does and sees.

    def shown(self, within: str = "main") -> str:
        """What a part of the page says."""
        script = "return document.querySelector(arguments[0])?.innerText || ''"
        return str(self.browser.execute_script(script, within))

    def until(self, text: str, within: str = "main", seconds: float = GENEROUS) -> float:
        """Block until a part of the page says *text*; return when that was seen, in seconds since 1970."""
        self.soon(lambda: text in self.shown(within), f"{text!r} in {within}", seconds)
        return time.time()

    def soon(self, true: Callable[[], bool], what: str, seconds: float = GENEROUS) -> None:
        """Block until ``true()`` says so; if that takes too long, tell what the page says."""
        try:
            wait_until(true, what, seconds, 0.03)
        except LabError as error:
            raise LabError(f"{error}; it says:\n{self.shown()}\nthe gate: {self.log('board', 'n1')}") from None

    def go(self, page: str, text: str = "") -> None:
        """Click on a page in the navigation, and wait until it is there, and says *text*."""
        self.run_script("document.querySelector(`nav a[href='#${arguments[0]}']`).click()", page)
        there = "return document.getElementById('main').dataset.page === arguments[0]"
        self.soon(lambda: bool(self.run_script(there, page)), page)
        self.until(text)

    def run_script(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def click(self, text: str, within: str = "main") -> None:
        """Click on the first button in a part of the page that says *text*, once it is there."""
        script = (
            "const one = [...document.querySelectorAll(arguments[1] + ' button')].find("
            "(each) => each.innerText === arguments[0]); one?.focus(); one?.click(); return Boolean(one)"
        )
        self.soon(lambda: bool(self.run_script(script, text, within)), f"a button {text}")

    def opened(self, service: str) -> None:
        """Go to a service, from the page Swarm."""
        if not self.run_script("return location.hash.startsWith('#swarm')"):
            self.go("swarm")
        self.run_script("if (location.hash !== '#swarm') location.hash = 'swarm'")
        script = "const one = document.querySelector(arguments[0]); one?.click(); return Boolean(one)"
        self.soon(lambda: bool(self.run_script(script, f"tr[data-service='{service}'] a")), f"{service} on the page")
        self.until(service, "h1")

    def follow(self, text: str) -> None:
        """Click on the first link of the page that says *text*, once it is there."""
        script = (
            "const one = [...document.querySelectorAll('main a')].find((each) => each.innerText === arguments[0]);"
            "one?.click(); return Boolean(one)"
        )
        self.soon(lambda: bool(self.run_script(script, text)), f"a link {text}")

    def audit(self) -> list[Any]:
        """The lines of the audit log."""
        lines = [line.partition("audit: ")[2] for line in self.log("board", "n1").splitlines() if "audit: {" in line]
        return [json.loads(line) for line in lines]

    def picture(self, name: str) -> None:
        """Leave a picture of the page, if pictures are wanted."""
        if PICTURES:
            self.browser.save_screenshot(f"{PICTURES}/{name}.png")

    # What is tested.

    def test_all(self) -> None:
        """A person's way through the dashboard of a Swarm; one test, as each gate takes its time to start."""
        self.closed()
        self.deployed()
        self.misspelt()
        self.updated()
        self.failing()
        self.operated()
        self.foreign()
        self.judged()

    def closed(self) -> None:
        """Who does not say who they are gets neither the page nor what it shows, and can change nothing."""
        self.browser.get(self.board)
        self.assertNotIn("Overview", self.shown("body"))
        asked = "return fetch(location.origin + arguments[0], arguments[1]).then((answer) => answer.status)"
        self.browser.get(self.board.replace("//", "//ann:secret@"))
        self.until("Traffic")
        order = {"operation": "scale", "service": "board", "replicas": 0}
        fields = {"Content-Type": "application/json", "X-Swarmgate-Operation": "1"}
        post = {"method": "POST", "headers": fields, "body": json.dumps(order), "credentials": "omit"}
        self.assertEqual(401, self.run_script(asked, "/api/operations", post))
        for path in ("/api/swarm", "/api/events", "/dashboard/", "/dashboard/app.js"):
            self.assertEqual(401, self.run_script(asked, path, {"credentials": "omit"}), path)
        self.assertEqual(200, self.run_script(asked, "/api/swarm", {}))
        # What was refused here was asked for without a password on purpose: the console has it, and is emptied of it.
        self.browser.get_log("browser")

    def deployed(self) -> None:
        """A service that is deployed is on the page soon, and so is its task once it runs."""
        self.go("swarm", "board")
        self.lab.service("shop", labels=self.routed("shop"), networks=["golf"])
        created = time.time()
        seen = self.until("shop")
        self.opened("shop")
        running = self.until("1 of 1 running")
        (task,) = self.lab.running("shop")
        began = moment(task["Status"]["Timestamp"])
        measured(
            f"the page shows a service {max(0, seen - created):.2f} s after it was created, "
            f"and its task {running - began:.2f} s after it runs"
        )
        self.assertLess(seen - created, SOON)
        self.assertLess(running - began, SOON)
        self.go("routers", "shop@swarm")

    def misspelt(self) -> None:
        """A label that is misspelt is the first that the page says, with the right spelling."""
        labels = self.routed("slip")
        labels["traefik.http.routers.slip.rulle"] = labels.pop("traefik.http.routers.slip.rule")
        self.lab.service("slip", labels=labels, networks=["golf"])
        wrong = {key.replace("traefik.", "trafik."): value for key, value in self.routed("slop").items()}
        self.lab.service("slop", labels=wrong, networks=["golf"])
        self.go("overview")
        self.until("did you mean rule")
        self.until("did you mean traefik.enable")
        self.picture("overview-problems")

    def updated(self) -> None:
        """A rolling update is seen task by task under load: old ones beside new ones, with what each answers."""
        self.go("swarm", "shop")
        self.lab.docker("service", "rm", "shop", "slip", "slop")
        self.soon(lambda: "shop" not in self.shown(), "the page to see the end of shop")
        update = ("--update-order", "start-first", "--update-parallelism", "1", "--update-delay", "2s")
        health = ("--health-cmd", *HEALTH)
        self.lab.service(
            "shop",
            labels=self.routed("shop"),
            networks=["golf"],
            replicas=3,
            options=(*update, *health),
            arguments=("--start", "1", "--drain", "--delay", "0.02"),
        )
        self.opened("shop")
        self.until("3 of 3 running")
        load = self.lab.lan.popen(
            *(sys.executable, str(LOAD), self.address, "shop.example", "--users", "10", "--interval", "0.1"),
            stdout=subprocess.PIPE,
        )
        try:
            self.soon(lambda: min(self.rates(), default=0) > 0, "requests on each task")
            self.run_script(_WATCH)
            self.lab.docker("service", "update", "--detach", "--quiet", "--env-add", "EDITION=2", "shop")
            self.until("Rolling update")
            self.until("of 3 replaced", "[data-update=going]")
            self.until("update in progress", "[data-update=going]")
            self.soon(self.answer_both, "requests on old and new tasks")
            self.picture("swarm-update")
            self.soon(lambda: self.edition("shop") == [2, 2, 2], "the end of the update")
            self.soon(lambda: "Rolling update" not in self.shown(), "the page to see the end")
            self.until("update completed", "[data-update=ended]")
        finally:
            load.send_signal(signal.SIGTERM)
            told, _ = load.communicate(timeout=30)
        result = json.loads(told.splitlines()[-1])
        frames = self.run_script("return window.frames")
        # Until the update begins those are running that are to be replaced.
        of_update = itertools.dropwhile(lambda frame: not any(row["old"] for row in frame), frames)
        by_frame = [{(row["name"], row["old"]): row for row in frame} for frame in of_update]
        for name in ("shop.1", "shop.2", "shop.3"):
            both = [rows for rows in by_frame if (name, True) in rows and (name, False) in rows]
            self.assertTrue(both, f"{name}: the old task was never seen beside the new one")
            states = list(dict.fromkeys(rows[name, False]["state"] for rows in by_frame if (name, False) in rows))
            self.assertGreater(len(states), 1, f"{name}: {states}")
            self.assertEqual("running", states[-1])
            for old in (True, False):
                rates = [rows[name, old]["rate"] for rows in by_frame if (name, old) in rows]
                self.assertGreater(max(rates), 0, f"{name}, {'old' if old else 'new'}: no request was seen on it")
        measured(
            f"a rolling update under load, seen in {len(frames)} drawings: {result['asked']} requests, "
            f"{result['failed']} failed"
        )
        self.assertEqual([], result["failures"])

    def rates(self) -> list[float]:
        """Requests a second of each task of shop, as the page has them."""
        return [float(row["rate"]) for row in self.run_script(_ROWS)]

    def lines(self) -> dict[str, float]:
        """Requests a second of the old and of the new tasks, as the page has them."""
        return {row[0]: float(row[3]) for row in self.run_script(_LINES) if row[3] != "\u2013"}

    def answer_both(self) -> bool:
        """Whether the page has requests on old and on new tasks."""
        found = self.lines()
        return len(found) == 2 and min(found.values()) > 0

    def edition(self, service: str) -> list[int]:
        """How often each running task's service has been updated, by the environment that the update gave it."""
        tasks = self.lab.running(service)
        return [2 if "EDITION=2" in task["Spec"]["ContainerSpec"]["Env"] else 1 for task in tasks]

    def failing(self) -> None:
        """Why a service's tasks do not stay is said, and what they log is shown, and searched."""
        command = ["/usr/bin/python3", "-u", "-c", "import sys; print('hello out'); print('good bye'); sys.exit(3)"]
        mount = ("--mount", "type=bind,source=/usr,target=/usr,readonly")
        self.lab.docker(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "brief", *mount),
            *("--restart-delay", "2s", "--restart-max-attempts", "2", "--network", "golf", IMAGE, *command),
        )
        self.go("overview")
        self.until("non-zero exit (3)")
        self.opened("brief")
        self.until("non-zero exit (3)")
        self.follow("Logs")
        self.until("What brief logs", "h1")
        self.until("hello out", ".lines")
        self.picture("logs")
        self.run_script("document.querySelector('main input[type=search]').focus()")
        self.browser.switch_to.active_element.send_keys("GOOD")
        self.soon(lambda: "hello out" not in self.shown(".lines"), "the lines searched for")
        self.until("good bye", ".lines")
        # A task's alone: as often as it was started it has said so, and it was started once.
        everything = self.shown(".lines").count("good bye")
        self.run_script(
            "const one = document.querySelector('main select'); one.selectedIndex = 1;"
            "one.dispatchEvent(new Event('change', {bubbles: true}))"
        )
        self.soon(lambda: self.shown(".lines").count("good bye") == 1, "the lines of one task")
        self.assertGreaterEqual(everything, 1)
        self.assertIn("task=", self.run_script("return location.hash"))

    def operated(self) -> None:
        """Scaled and rolled back from the page, the Swarm does so, and the audit log says who did it."""
        self.opened("shop")
        self.click("Scale")
        focused = "return document.activeElement.matches('dialog input')"
        self.soon(lambda: bool(self.run_script(focused)), "the field to write to")
        field = self.browser.switch_to.active_element
        field.clear()
        field.send_keys("4")
        self.picture("scale")
        field.send_keys(Keys.ENTER)
        self.until("scale shop to 4: done", "dialog")
        self.click("Close", "dialog")
        self.until("4 of 4 running")
        self.lab.await_running("shop", 4)
        self.click("Roll back")
        self.click("Roll back", "dialog")
        self.until("rollback shop: done", "dialog")
        self.click("Close", "dialog")
        self.until("3 of 3 running")
        self.lab.await_running("shop", 3)
        told = [(one["user"], one["operation"], one["service"], one["status"]) for one in self.audit()]
        self.assertEqual([("ann", "scale", "shop", 200), ("ann", "rollback", "shop", 200)], told)

    def foreign(self) -> None:
        """A page of another site can change nothing, not even with the password that the browser knows."""
        order = {"operation": "scale", "service": "shop", "replicas": 0}
        before = len(self.audit())
        self.browser.get(f"http://shop.example:{PORT}/")
        self.browser.execute_cdp_cmd("Network.enable", {})
        self.browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": AUTHORIZATION}})
        post = {"method": "POST", "mode": "no-cors", "credentials": "include", "body": json.dumps(order)}
        sent = "return fetch(arguments[0], arguments[1]).then((answer) => answer.type)"
        url = f"http://gate.example:{PORT}/api/operations"
        self.assertEqual("opaque", self.run_script(sent, url, post))
        self.browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})
        fields = {
            "Host": "gate.example",
            "Authorization": AUTHORIZATION,
            "Content-Type": "application/json",
            "X-Swarmgate-Operation": "1",
            "Origin": f"http://shop.example:{PORT}",
        }
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.request("POST", "/api/operations", json.dumps(order), fields)
        self.assertEqual(403, connection.getresponse().status)
        connection.close()
        told = [(one["user"], one["status"]) for one in self.audit()[before:]]
        self.assertEqual([("ann", 415), ("ann", 403)], told)
        self.assertEqual(3, len(self.lab.running("shop")))

    def judged(self) -> None:
        """With a Swarm to show, axe finds nothing serious on any page, and nothing is wider than a phone."""
        self.browser.get(self.board)
        self.until("Traffic")
        self.run_script("window.scrollTo(0, 0)")
        for size, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            for theme in ("light", "dark"):
                self.run_script("document.documentElement.dataset.theme = arguments[0]", theme)
                for page in PAGES:
                    self.go(page)
                    self.judge(page, size, theme, width)
                    if page == "swarm":
                        self.opened("shop")
                        self.judge("swarm-shop", size, theme, width)
        errors = [one["message"] for one in self.browser.get_log("browser") if one["level"] == "SEVERE"]
        self.assertEqual([], [one for one in errors if "app.js" in one])

    def judge(self, page: str, size: str, theme: str, width: int) -> None:
        """Fail if axe finds something serious, or if the page is wider than it may be."""
        serious = [
            (one["id"], one["nodes"][0]["html"])
            for one in Axe().run(self.browser)["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        self.assertEqual(serious, [], f"{page}, {size}, {theme}")
        self.picture(f"{page}-{size}-{theme}")
        wide = self.run_script("return document.documentElement.scrollWidth")
        self.assertLessEqual(wide, width, f"{page}, {size}")


# Tasks of shop as the page shows them.
_ROWS = """
return [...document.querySelectorAll("tr[data-task]")].map(({dataset, cells}) => ({
  name: dataset.task, state: dataset.state, old: dataset.old === "old", rate: parseFloat(cells[4].innerText) || 0}));
"""
_LINES = """
const rows = document.querySelectorAll("[data-update=going] tbody tr");
return [...rows].map((row) => [...row.cells].map((cell) => cell.innerText));
"""
# Keeps what the page shows of them each time that it is drawn anew.
_WATCH = f"""
window.frames = [];
const rows = () => {{ {_ROWS} }};
new MutationObserver(() => window.frames.push(rows())).observe(
  document.getElementById("main"), {{childList: true, subtree: true, characterData: true, attributes: true}});
"""


def moment(timestamp: str) -> float:
    """RFC 3339 as Docker writes it, in seconds since 1970."""
    return datetime.fromisoformat(timestamp[:26].rstrip("Z") + "+00:00").timestamp()
