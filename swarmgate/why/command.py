"""The commands ``swarmgate why``, which asks a running gate, and ``swarmgate lint``, which asks nobody."""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

from swarmgate.config.load import ConfigurationError
from swarmgate.why import stack

_TIMEOUT = 10.0  # Seconds.


def say(line: object) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


class _Refused(Exception):
    """The words of a command can't be understood."""


class _Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(f"{message}: expected {self.usage}")


def fetch(url: str) -> tuple[int, bytes]:
    """Status and body of an answer.

    :param url: name and password in it are sent as basic authentication (RFC 7617).
    :raises OSError: there is none.
    """
    url, credentials = _parted(url)
    request = urllib.request.Request(url)  # noqa: S310 - the user says which
    if credentials:
        request.add_header("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def _parted(url: str) -> tuple[str, str]:
    """A URL without name and password, and these as ``name:password``, ``""`` for none."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)) if at else url, unquote(user)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _cause(error: Exception) -> str:
    """Why there is no answer, or no file, in the operating system's words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__


def why(words: Sequence[str], fetch: Callable[[str], tuple[int, bytes]] = fetch) -> int:
    """Ask a running gate, and print what it says in sentences.

    :param fetch: gives status and body for a URL.
    :return: 0; 1 where there is no answer, or something keeps requests away; 2 for words that can't be understood.
    """
    usage = "URL [-X METHOD] [-H 'Name: value'] [--client ADDRESS], or --service NAME; and [--api URL]"
    parser = _Words("swarmgate why", usage, add_help=False)
    parser.add_argument("url", nargs="?", metavar="URL")
    parser.add_argument("-X", "--method", default="GET")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("--client", default="")
    parser.add_argument("--service")
    parser.add_argument("--api", default="http://127.0.0.1:8080")
    try:
        given = parser.parse_args(list(words))
        if bool(given.url) == bool(given.service):
            both = f"{given.url} and --service {given.service}: " if given.url else ""
            raise _Refused(f"{both}expected either a URL, as https://shop.example/cart, or --service NAME")
        if not _is_url(given.api):
            raise _Refused(f'--api "{given.api}": expected a URL as http://127.0.0.1:8080')
    except _Refused as error:
        return _complain("why", str(error), 2)
    if given.service:
        query = [("service", given.service)]
    else:
        query = [("url", given.url), ("method", given.method), ("client", given.client)]
        query += [("header", each) for each in given.header]
    asked = f"{given.api.rstrip('/')}/api/why"
    address = f"{asked}?{urlencode(query)}"
    asked, _ = _parted(asked)  # What is printed has no password in it.
    try:
        status, body = fetch(address)
    except (OSError, http.client.HTTPException) as error:
        expected = "expected a gate with api.insecure there, or --api URL that says where its API is"
        return _complain("why", f"{asked}: {_cause(error)}: {expected}", 1)
    try:
        told = json.loads(body)
    except ValueError:
        return _complain("why", f"{asked}: status {status} and no JSON: is it a gate's API, open to this client?", 1)
    if status != 200:
        return _complain("why", str(told.get("message", status)) if isinstance(told, dict) else str(status), 1)
    return _print_findings(told) if given.service else _print_answers(told)


def _print_findings(told: Any) -> int:
    findings = told["findings"]
    for one in findings:
        say(f"{one['service']}: {'hint: ' if one['is_hint'] else ''}{one['sentence']}")
    faults = [one for one in findings if not one["is_hint"]]
    if not faults:
        say(f"{told['service']}: nothing keeps it from being routed")
    return 1 if faults else 0


def _print_answers(told: Any) -> int:
    for one in told["answers"]:
        say("\n".join(one["sentences"]))
    for one in told["disabled"]:
        say(one["sentence"])
    return 0 if any(one["is_routed"] for one in told["answers"]) else 1


def lint(words: Sequence[str]) -> int:
    """Print what is wrong with a stack file.

    :param words: its path, then ``--stack NAME`` and options of the gate, if any.
    :return: 0; 1 if something is wrong beside hints; 2 if it can't be read.
    """
    usage = "FILE [--stack NAME], and options of the gate as --providers.swarm.exposedByDefault=false"
    parser = _Words("swarmgate lint", usage, add_help=False, allow_abbrev=False)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--stack", default="")
    try:
        given, options = parser.parse_known_args(list(words))
        text = Path(given.file).read_text("utf-8")
        findings = stack.lint(text, given.stack or "stack", options)
    except _Refused as error:
        return _complain("lint", str(error), 2)
    except OSError as error:
        return _complain("lint", f"{given.file}: expected a stack file that can be read ({_cause(error)})", 2)
    except UnicodeDecodeError:
        return _complain("lint", f"{given.file}: expected a stack file, a text in UTF-8", 2)
    except stack.StackError as error:
        return _complain("lint", f"{given.file}: {error}", 2)
    except ConfigurationError as error:
        return _complain("lint", "; ".join(map(str, error.faults)), 2)
    for one in findings:
        say(one)
    faults = [one for one in findings if not one.is_hint]
    if not faults:
        say(f"{given.file}: nothing is wrong with its labels and networks")
    return 1 if faults else 0


def _complain(command: str, text: str, status: int) -> int:
    sys.stderr.write(f"swarmgate: {command}: {text}\n")
    return status
