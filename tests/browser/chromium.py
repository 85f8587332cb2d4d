"""Chromium, driven."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service


def start(folder: Path, *arguments: str, logs: Sequence[str] = ("browser",)) -> Any:
    """A browser of its own, whose profile is in *folder*; whoever starts it quits it.

    :param logs: what it writes down: ``browser`` for errors of pages, ``performance`` for what it loads.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    own = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile")
    for argument in (*own, *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    return webdriver.Chrome(options, Service(shutil.which("chromedriver")))
