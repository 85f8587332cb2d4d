"""Tests for swarmgate.providers.swarm.configs, against an engine that is none: what it is asked for, and refusals."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from swarmgate.providers.swarm.configs import Config, DockerConfigs
from swarmgate.providers.swarm.engine import Endpoint
from swarmgate.providers.swarm.interface import SwarmError
from tests.test_acme_authority import Serving

#: What docs/certificates.rst tells a socket proxy to allow.
ALLOWED = (
    r"GET /version",
    r"GET /v1\.[0-9]+/configs",
    r"POST /v1\.[0-9]+/configs/(create|[a-z0-9]+/update)",
    r"DELETE /v1\.[0-9]+/configs/[a-z0-9]+",
    r"GET /v1\.[0-9]+/events",
)


class DockerConfigsTests(TestCase):
    """Calls over HTTP."""

    timeout = 20

    def setUp(self) -> None:
        self.refusal: tuple[int, str] | None = None
        self.serving = Serving(self.answer)
        self.addCleanup(self.serving.stop)
        self.configs = DockerConfigs(reactor, Endpoint(self.serving.url.replace("http:", "tcp:"), timeout=5))
        self.addCleanup(self.configs.close)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        told: Any = {"ApiVersion": "1.44"}
        if path != "/version" and self.refusal is not None:
            status, message = self.refusal
            return status, {}, json.dumps({"message": message}).encode()
        if method == "DELETE":
            return 204, {}, b""
        if path.endswith("/create"):
            return 201, {}, b'{"ID": "abc"}'
        if "/configs?" in path:
            one = {
                "ID": "abc1",
                "Version": {"Index": 12},
                "CreatedAt": "2026-01-02T03:04:05.123456789Z",
                "Spec": {"Name": "s.c.1", "Labels": {"a": "b"}, "Data": base64.b64encode(b"data").decode()},
            }
            other = one | {"Spec": {"Name": "x.s.c.1"}}
            told = [one, other]
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()

    async def test_calls(self) -> None:
        """Nothing is asked for but what the documentation tells a socket proxy to allow."""
        (config,) = await self.configs.find(["s.c."])
        self.assertEqual((b"data", {"a": "b"}, 12), (config.data, dict(config.labels), config.version))
        self.assertEqual(1767323045, int(config.created))
        await self.configs.create("s.c.2", {}, b"x")
        await self.configs.relabel(config, {})
        await self.configs.remove(config)
        self.assertEqual(5, len(self.serving.asked))
        for method, path, _ in self.serving.asked:
            call = f"{method} {path.partition('?')[0]}"
            self.assertTrue(any(re.fullmatch(allowed, call) for allowed in ALLOWED), call)

    async def test_update(self) -> None:
        """An update names the version that it is based on, and leaves name and data as they are."""
        await self.configs.relabel(Config("abc1", "s.lease", 12, {}, b"data"), {"n": "1"})
        _, path, body = self.serving.asked[-1]
        self.assertEqual("/v1.44/configs/abc1/update?version=12", path)
        data = base64.b64encode(b"data").decode()
        self.assertEqual({"Name": "s.lease", "Labels": {"n": "1"}, "Data": data}, json.loads(body))

    async def test_out_of_sequence(self) -> None:
        """Who comes second is told so, though Docker calls it an error of its own."""
        self.refusal = (500, "rpc error: code = Unknown desc = update out of sequence")
        self.assertFalse(await self.configs.relabel(Config("abc1", "s.lease", 12, {}, b"data"), {}))
        self.refusal = (409, "rpc error: code = AlreadyExists desc = config s.c.1 already exists")
        self.assertFalse(await self.configs.create("s.c.1", {}, b"x"))

    async def test_refused(self) -> None:
        """A proxy that does not allow it, and an engine that is no manager, are told of with what to do."""
        for refusal, hint in (
            ((403, "Forbidden"), "has to allow CONFIGS"),
            ((503, "This node is not a swarm manager."), "connect to a manager"),
            ((500, "raft: no leader"), "no leader"),
        ):
            self.refusal = refusal
            for call in (self.configs.find(["s"]), self.configs.create("s.c.1", {}, b"x")):
                error = await self.assertFailure(call, SwarmError)
                self.assertIn(hint, str(error))

    async def test_closed(self) -> None:
        """After it was closed calls fail."""
        await self.configs.close()
        await self.assertFailure(self.configs.find(["s"]), SwarmError)
