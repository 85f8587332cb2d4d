"""The dashboard of a gate that runs, in Chromium."""

from __future__ import annotations

import base64
import datetime
import http.server
import json
import shutil
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

from axe_core_python.selenium import Axe
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from twisted.trial.unittest import SynchronousTestCase

from tests.browser import chromium
from tests.e2e.gate import Gate, free_port
from tests.e2e.test_metrics import Echo
from tests.pki import authority

PAGES = ("overview", "routers", "services", "middlewares", "swarm", "certificates", "changes", "why")
ROUTES = """\
http:
  routers:
    golf: {rule: Host(`golf.example`), service: golf, middlewares: [slim]}
    lost: {rule: Host(`lost.example`), service: gofl}
  middlewares:
    slim: {stripPrefix: {prefixes: [/v1]}}
  services:
    golf: {loadBalancer: {servers: [{url: "http://127.0.0.1:%d"}]}}
"""
MANY = "".join(f"    many{number}: {{rule: Host(`m{number}.example`), service: golf}}\n" for number in range(2000))


class PageTests(SynchronousTestCase):
    """What tests of the page begin with: a gate that runs, and a browser."""

    browser: Any
    folder: Path

    def open(self, address: str, **fields: str) -> None:
        """Start a browser and let it open *address*, with *fields* in each of its requests."""
        self.browser = chromium.start(self.folder)
        self.addCleanup(self.browser.quit)
        self.browser.set_window_size(1280, 900)
        if fields:
            self.browser.execute_cdp_cmd("Network.enable", {})
            self.browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": fields})
        self.browser.get(address)

    def until(self, text: str, within: str = "main") -> None:
        """Wait until the page says *text*."""

        def says(browser: Any) -> bool:
            # In one go: between two questions the page may have been drawn anew.
            shown = browser.execute_script("return document.querySelector(arguments[0])?.innerText || ''", within)
            return text in shown

        WebDriverWait(self.browser, 20).until(says, f"{text!r} in {within}")

    def drawn(self, page: str) -> None:
        """Wait until *page* is there, whole."""
        there = "return document.getElementById('main').dataset.page === arguments[0]"
        WebDriverWait(self.browser, 20).until(lambda browser: browser.execute_script(there, page), page)

    def go(self, page: str, text: str) -> None:
        """Click on a page in the navigation, and wait until it says *text*."""
        self.browser.find_element(By.CSS_SELECTOR, f"nav a[href='#{page}']").click()
        self.until(text)


class DashboardTests(PageTests):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-browser-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.routes = ROUTES % server.server_address[1]
        self.port = free_port()
        options = (f"--entrypoints.traefik.address=127.0.0.1:{self.port}", "--api.insecure")
        self.gate = Gate(self.routes, *options)
        self.addCleanup(self.gate.stop)
        self.open(f"http://127.0.0.1:{self.port}/")

    def test_pages(self) -> None:
        """Problems come first; each page shows what it should, and nothing is written to the browser's console."""
        self.until("lost@file")
        self.assertTrue(self.browser.find_element(By.TAG_NAME, "h2").text == "Problems")
        self.until("did you mean golf?")
        self.go("routers", "Host(`golf.example`)")
        self.go("services", "1 of 1 up")
        self.go("middlewares", "/v1")
        self.go("swarm", "looks at no Swarm")
        self.go("certificates", "Nothing of that kind")
        self.go("changes", "Nothing has changed")
        self.go("why", "Why does a request")
        self.browser.find_element(By.NAME, "url").send_keys("http://golf.example/x", Keys.ENTER)
        self.until("router golf@file takes it")
        self.assertEqual([entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"], [])

    def test_live(self) -> None:
        """What changes is seen without asking, and so is what is requested."""
        self.go("routers", "golf@file")
        more = "    shop: {rule: Host(`s.example`), service: golf}\n  middlewares:\n"
        self.gate.rewrite(self.routes.replace("  middlewares:\n", more, 1))
        self.until("shop@file")
        self.go("changes", "shop@file")
        self.go("overview", "Requests a second")
        for _ in range(50):
            request = urllib.request.Request(f"http://127.0.0.1:{self.gate.port}/", b"x", {"Host": "golf.example"})
            urllib.request.urlopen(request, timeout=10).close()
        figure = "return parseFloat(document.querySelector('.figure').innerText) > 0"
        WebDriverWait(self.browser, 20).until(lambda browser: browser.execute_script(figure), "requests a second")

    def test_old(self) -> None:
        """When the gate does not answer the page says how old it is."""
        self.until("live", "#state")
        self.gate.stop()
        self.until("the gate does not answer", "#state")

    def test_many(self) -> None:
        """With 2,000 routers a page of them is shown, and any is found."""
        self.gate.rewrite(self.routes.replace("  middlewares:\n", f"{MANY}  middlewares:\n", 1))
        self.until("2,00")
        self.go("routers", "Page 1")
        self.browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("m1234.example")
        self.until("many1234@file")
        self.assertEqual(len(self.browser.find_elements(By.CSS_SELECTOR, "tbody tr")), 1)

    def test_accessible(self) -> None:
        """axe finds nothing serious, in the light and in the dark, and on a phone nothing is wider than the screen."""
        for theme in ("light", "dark"):
            self.browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
            for page in PAGES:
                self.browser.find_element(By.CSS_SELECTOR, f"nav a[href='#{page}']").click()
                self.drawn(page)
                told = Axe().run(self.browser)
                serious = [
                    (one["id"], one["nodes"][0]["html"])
                    for one in told["violations"]
                    if one["impact"] in ("serious", "critical")
                ]
                self.assertEqual(serious, [], f"{page}, {theme}")
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        )
        for page in PAGES:
            self.browser.execute_script("location.hash = arguments[0]", page)
            self.drawn(page)
            width = self.browser.execute_script("return document.documentElement.scrollWidth")
            self.assertLessEqual(width, 390, page)

    def test_keyboard(self) -> None:
        """All can be reached with the keyboard, and what has the focus can be seen."""
        self.until("lost@file")
        body = self.browser.find_element(By.TAG_NAME, "body")
        body.send_keys(Keys.TAB)
        self.assertIn("Skip", self.browser.switch_to.active_element.text)
        self.browser.switch_to.active_element.send_keys(Keys.TAB)
        self.browser.switch_to.active_element.send_keys(Keys.TAB)
        self.assertEqual(self.browser.switch_to.active_element.text, "Routers")
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual(self.browser.execute_script(outline), "solid")
        self.browser.switch_to.active_element.send_keys(Keys.ENTER)
        self.until("Host(`golf.example`)")


OPERATED = """\
http:
  routers:
    board:
      rule: PathPrefix(`/api`) || PathPrefix(`/dashboard`)
      service: api@internal
      middlewares: [auth]
  middlewares:
    auth: {basicAuth: {users: ["ann:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="]}}
tls:
  certificates: [{certFile: "%s", keyFile: "%s"}, {certFile: "%s", keyFile: "%s"}]
"""


class OperatingTests(PageTests):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-browser-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        now = datetime.datetime.now(datetime.UTC)
        fresh = authority().issue("shop.example", "www.shop.example", start=now - datetime.timedelta(1), days=90)
        ending = authority().issue("golf.example", start=now - datetime.timedelta(80), days=85)
        files = (*fresh.write(self.folder, "fresh"), *ending.write(self.folder, "ending"))
        self.gate = Gate(
            OPERATED % files,
            "--providers.swarm",
            "--api.operations",
            "--api.logs",
            f"--api.auditlog.filepath={self.folder}/audit.log",
            program="from tests.browser.town import main; main()",
        )
        self.addCleanup(self.gate.stop)
        user = base64.b64encode(b"ann:test").decode()
        self.open(f"http://127.0.0.1:{self.gate.port}/dashboard/", Authorization=f"Basic {user}")

    def click(self, text: str, within: str) -> None:
        """Click on the first button in *within* that says *text*, once it is there."""
        found = (
            "const one = [...document.querySelectorAll(arguments[1] + ' button')].find("
            "(each) => each.innerText === arguments[0]); one?.focus(); one?.click(); return Boolean(one)"
        )
        WebDriverWait(self.browser, 20).until(lambda browser: browser.execute_script(found, text, within), text)

    def swarm(self) -> None:
        """Go to the Swarm, and open the service shop."""
        self.go("swarm", "shop")
        script = "const one = document.querySelectorAll('details')[1]; if (one) one.open = true; return Boolean(one)"
        WebDriverWait(self.browser, 20).until(lambda browser: browser.execute_script(script), "shop")
        self.until("Roll back")

    def test_certificates(self) -> None:
        """Certificates are shown by their end, and one that ends soon is a problem."""
        self.until("certificate for golf.example")
        self.go("certificates", "www.shop.example")
        rows = [row.text for row in self.browser.find_elements(By.CSS_SELECTOR, "tbody tr")]
        self.assertEqual(["golf.example" in row for row in rows], [True, False])
        self.assertIn("4 days left", rows[0])
        self.assertIn("test root", rows[1])

    def test_scale(self) -> None:
        """A service is scaled after one question, and the audit log says by whom; tasks that failed say why."""
        self.until("non-zero exit (3)")
        self.swarm()
        self.until("2 of 2 running", "details:nth-of-type(2)")
        self.click("Scale", "details:nth-of-type(2)")
        field = self.browser.find_element(By.CSS_SELECTOR, "dialog input")
        self.assertEqual(field, self.browser.switch_to.active_element)
        field.clear()
        field.send_keys("3", Keys.ENTER)
        self.until("scale shop to 3: done", "dialog")
        self.click("Close", "dialog")
        self.until("3 of 3 running", "details:nth-of-type(2)")
        audit = [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]
        self.assertEqual([(one["user"], one["operation"], one["status"]) for one in audit], [("ann", "scale", 200)])

    def test_refusal(self) -> None:
        """What the engine refuses is said in its words, and the focus goes back to where the question came from."""
        self.swarm()
        self.click("Roll back", "details:nth-of-type(2)")
        self.click("Roll back", "dialog")
        self.until("does not have a previous spec", "dialog")
        self.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        focus = "return document.querySelector('dialog') === null && document.activeElement.innerText"
        WebDriverWait(self.browser, 20).until(lambda browser: browser.execute_script(focus) == "Roll back", "focus")

    def test_node(self) -> None:
        """A node is drained, and can be activated then."""
        self.swarm()
        self.click("Drain", ".nodes")
        self.click("Drain", "dialog")
        self.until("done", "dialog")
        self.click("Close", "dialog")
        self.until("Activate", ".nodes")

    def test_logs(self) -> None:
        """What a service logs is shown, and searched; axe finds nothing serious in it."""
        self.swarm()
        self.click("Logs", "details:nth-of-type(2)")
        self.until("order 29 is paid", "dialog")
        told = [one["id"] for one in Axe().run(self.browser)["violations"] if one["impact"] in ("serious", "critical")]
        self.assertEqual(told, [])
        self.browser.find_element(By.CSS_SELECTOR, "dialog input").send_keys("TIMEOUT")
        self.until("1 line", "dialog")
        self.until("timeout while asking", "dialog .lines")
