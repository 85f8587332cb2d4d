"""The agent: what it makes of what kernel and engine tell, whom it answers, and what it keeps to itself."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyRequest

from swarmgate.agent.containers import Containers, Engine, Running, counters_of, running_of
from swarmgate.agent.document import (
    MOST_TASKS,
    BadDocument,
    Document,
    NodeCounters,
    TaskCounters,
    decoded,
    encoded,
)
from swarmgate.agent.node import octets_of_cards, sample
from swarmgate.agent.proof import is_proof, proof
from swarmgate.agent.server import AgentResource, Sampler, read_token
from swarmgate.config.load import ConfigurationError, load_agent
from swarmgate.fetch import NoAnswer
from swarmgate.structure import Address

NODE = NodeCounters(2, 100.0, (0.5, 0.25, 0.125), 8000, 3000, 900, 300, 10, 20, 30, 40)
WEB = TaskCounters(1.5, 64, 128, 1, 2, 3, 4)
LABELS = {
    "com.docker.swarm.task.id": "t1",
    "com.docker.swarm.task.name": "web.3.t1",
    "com.docker.swarm.service.name": "web",
    "com.example.password": "SECRET",
}
# What engines with cgroups of version 1 and 2 answer, shortened.
STATS_1: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
    "memory_stats": {"usage": 1000, "limit": 500, "stats": {"inactive_file": 5, "total_inactive_file": 400}},
    "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 8, "op": "Read", "value": 7},
            {"major": 8, "op": "Write", "value": 8},
            {"major": 8, "op": "Total", "value": 15},
        ]
    },
}
STATS_2: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
    "memory_stats": {"usage": 1000, "limit": 8000, "stats": {"inactive_file": 400}},
    "networks": {"eth0": {"rx_bytes": 11, "tx_bytes": 22}},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 7}, {"op": "write", "value": 8}]},
}


class DocumentTests(SynchronousTestCase):
    def test_both_ways(self) -> None:
        """What is written is read again."""
        document = Document(1.5, 2.5, NODE, {"t1": WEB, "t2": attrs.evolve(WEB, memory_limit=None)}, "no engine")
        self.assertEqual(decoded(encoded(document)), document)

    def test_strict(self) -> None:
        """Nothing is taken for a number that is none, and nothing below zero, endless or too much."""
        told = json.loads(encoded(Document(1.5, 2.5, NODE, {"t1": WEB})))
        for path, value in (
            (("at",), "1"),
            (("at",), True),
            (("seconds",), float("nan")),
            (("seconds",), float("inf")),
            (("node", "busy"), -1),
            (("node", "cpus"), 1.5),
            (("node", "load"), [1, 2]),
            (("node", "memory_used"), 2**70),
            (("node", "received"), "x"),
            (("tasks",), [1]),
            (("tasks", "t1", "memory"), None),
            (("tasks", "t1"), {}),
            (("fault",), "x" * 501),
            (("fault",), None),
        ):
            changed = json.loads(json.dumps(told))
            at = changed
            for name in path[:-1]:
                at = at[name]
            at[path[-1]] = value
            with self.assertRaises(BadDocument, msg=str(path)):
                decoded(json.dumps(changed).encode())
        for body in (b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"at": 1}'):
            with self.assertRaises(BadDocument):
                decoded(body)

    def test_newer_agents(self) -> None:
        """What a newer agent tells besides is left alone."""
        told = json.loads(encoded(Document(1.5, 2.5, NODE, {"t1": WEB})))
        told["more"] = told["node"]["more"] = told["tasks"]["t1"]["more"] = {"a": 1}
        self.assertEqual(decoded(json.dumps(told).encode()), Document(1.5, 2.5, NODE, {"t1": WEB}))

    def test_too_many_tasks(self) -> None:
        """No agent has the gate keep as many tasks as it likes."""
        document = Document(1.0, 1.0, NODE, {f"t{number}": WEB for number in range(MOST_TASKS)})
        told = json.loads(encoded(document))
        told["tasks"]["one more"] = told["tasks"]["t1"]
        with self.assertRaises(BadDocument):
            decoded(json.dumps(told).encode())

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["at", "seconds", "node", "tasks", "fault", "cpus", "busy", "load"]), inner
                )
            ),
        )
    )
    def test_anything(self, value: Any) -> None:
        """Whatever JSON an agent answers with is a document or a BadDocument."""
        try:
            decoded(json.dumps(value).encode())
        except BadDocument:
            return


class ContainerTests(SynchronousTestCase):
    def test_counters(self) -> None:
        """Both versions of cgroups tell the same; files that were not used lately take no memory."""
        self.assertEqual(counters_of(STATS_1, 8000), TaskCounters(2.5, 600, 500, 11, 22, 7, 8))
        self.assertEqual(counters_of(STATS_2, 8000), TaskCounters(2.5, 600, None, 11, 22, 7, 8))

    def test_nothing_told(self) -> None:
        """What an engine leaves out is nothing: a container without a network, or one that is just ending."""
        nothing = {"cpu_stats": {}, "memory_stats": {}, "blkio_stats": {"io_service_bytes_recursive": None}}
        self.assertEqual(counters_of(nothing, 8000), TaskCounters(0.0, 0))

    def test_running(self) -> None:
        """Only tasks' containers count, the newest first; of labels the names are kept and nothing else."""
        found = running_of(
            [
                {"Id": "c1", "Created": 5, "Labels": LABELS},
                {"Id": "c2", "Created": 9, "Labels": {**LABELS, "com.docker.swarm.task.id": "t2"}},
                {"Id": "c3", "Created": 7, "Labels": {}},
                {"Id": "c4", "Created": 7},
            ]
        )
        self.assertEqual(found, [Running("c2", "t2", "web", "3", 9), Running("c1", "t1", "web", "3", 5)])
        self.assertNotIn("SECRET", repr(found))


class Fake:
    """Answers as an engine, and has the URLs that it was asked for."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[str] = []
        self._answers = answers

    def __call__(self, url: str, *, seconds: float, longest: int) -> Deferred[bytes]:
        self.asked.append(url.partition("?")[0])
        key = url.partition("?")[0].rsplit("/", 2)[-2]
        answer = self._answers[key]
        return fail(answer) if isinstance(answer, Exception) else succeed(json.dumps(answer).encode())


class EngineTests(SynchronousTestCase):
    def test_look(self) -> None:
        """Each container is asked for once; one that has ended meanwhile costs only itself."""
        two = {**LABELS, "com.docker.swarm.task.id": "t2"}
        fake = Fake(
            containers=[{"Id": "c1", "Labels": LABELS}, {"Id": "c2", "Labels": two}],
            c1=STATS_2,
            c2=NoAnswer("it answers 404"),
        )
        told = self.successResultOf(Engine(fake, "http://engine").look(8000))
        self.assertEqual((list(told.counters), list(told.running), told.fault), (["t1"], ["t1"], ""))
        self.assertEqual(
            fake.asked,
            ["http://engine/containers/json"] + [f"http://engine/containers/c{one}/stats" for one in (1, 2)],
        )

    def test_faults(self) -> None:
        """An engine that does not answer, or answers with something else, is told of."""
        for answer, reason in (
            (NoAnswer("connection refused"), "connection refused"),
            (NoAnswer("it answers 403: no"), "a socket proxy has to allow CONTAINERS"),
            ({"a": 1}, "its answer can't be read"),
        ):
            told = self.successResultOf(Engine(Fake(containers=answer), "http://engine").look(8000))
            self.assertIn(reason, told.fault)
            self.assertEqual(told.counters, {})
        fake = Fake(containers=[{"Id": "c1", "Labels": LABELS}], c1=NoAnswer("not allowed"))
        self.assertIn("not allowed", self.successResultOf(Engine(fake, "http://engine").look(8000)).fault)


class NodeTests(SynchronousTestCase):
    def test_sample(self) -> None:
        """This machine has processors and memory, and some of it is in use."""
        found = sample(Path("/sys"), "/")
        self.assertGreater(found.cpus, 0)
        self.assertGreater(found.busy, 0)
        self.assertTrue(0 < found.memory_used < found.memory_total)
        self.assertTrue(0 < found.disk_used <= found.disk_total)

    def test_cards(self) -> None:
        """Only cards count: what bridges and tunnels pass on has come through one."""
        sys = Path(self.mktemp())
        self.assertIsNone(octets_of_cards(sys))
        for name, is_card in (("eth0", True), ("eth1", True), ("docker0", False), ("lo", False)):
            folder = sys / "class" / "net" / name
            (folder / "statistics").mkdir(parents=True)
            (folder / "statistics" / "rx_bytes").write_text("100\n")
            (folder / "statistics" / "tx_bytes").write_text("7\n")
            if is_card:
                (folder / "device").mkdir()
        self.assertEqual(octets_of_cards(sys), (200, 14))


class SamplerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.nodes: list[Deferred[NodeCounters]] = []
        self.containers = Containers({"t1": WEB}, {"t1": Running("c1", "t1", "web", "3", 5)})
        self.sampler = Sampler(self.node, lambda memory: succeed(self.containers), lambda: 1e9, self.clock.seconds)

    def node(self) -> Deferred[NodeCounters]:
        self.nodes.append(Deferred())
        return self.nodes[-1]

    def test_shared(self) -> None:
        """However many ask, the node is looked at once a second at most."""
        asking = [self.sampler.sample() for _ in range(3)]
        self.assertEqual(len(self.nodes), 1)
        self.nodes[0].callback(NODE)
        first, *others = [self.successResultOf(one) for one in asking]
        self.assertEqual(others, [first, first])
        self.clock.advance(0.9)
        self.successResultOf(self.sampler.sample())
        self.assertEqual(len(self.nodes), 1)
        self.clock.advance(0.2)
        self.sampler.sample()
        self.assertEqual(len(self.nodes), 2)

    def test_after_a_failure(self) -> None:
        """A node that can't be looked at for once is looked at again."""
        asking = self.sampler.sample()
        self.nodes[0].errback(OSError("no"))
        self.failureResultOf(asking, OSError)
        asking = self.sampler.sample()
        self.nodes[1].callback(NODE)
        self.assertEqual(self.successResultOf(asking).document.node, NODE)

    def ask(self, path: bytes, token: bytes = b"", given: bytes = b"", method: bytes = b"GET") -> Any:
        request: Any = DummyRequest([])
        request.method, request.path, request.uri = method, path, path
        if given:
            request.requestHeaders.setRawHeaders(b"authorization", [given])
        request.getHost = lambda: IPv4Address("TCP", "10.1.0.1", 9181)
        answer = AgentResource(self.sampler, "n1", token, lambda: 5000.0).render(request)
        if answer is NOT_DONE_YET:
            self.nodes[-1].callback(NODE)
        else:
            request.write(answer)
        return request

    def test_usage(self) -> None:
        """A gate is told a document that it can read."""
        request = self.ask(b"/usage")
        self.assertEqual(request.responseCode, 200)
        self.assertEqual(decoded(b"".join(request.written)).tasks, {"t1": WEB})

    def test_metrics(self) -> None:
        """Prometheus is told by names of node, service and slot; no ids, so that series outlive their tasks."""
        text = b"".join(self.ask(b"/metrics").written).decode()
        self.assertIn('swarmgate_node_cpu_seconds_total{node="n1"} 100.0', text)
        self.assertIn('swarmgate_task_memory_bytes{node="n1",service="web",task="web.3"} 64.0', text)
        self.assertNotIn("t1", text)

    def test_grafana(self) -> None:
        """The dashboard for Grafana asks agents for nothing that there isn't."""
        text = b"".join(self.ask(b"/metrics").written).decode()
        told = set(re.findall(r"^(swarmgate_\w+)\{", text, re.MULTILINE))
        board = Path(__file__).parent.parent / "deploy" / "monitoring" / "grafana.json"
        asked = set(re.findall(r"swarmgate_[a-z_0-9]+", board.read_text()))
        self.assertGreater(len(asked), 8)
        self.assertEqual(asked - told, set())

    def test_replaced_task(self) -> None:
        """While a task is replaced its series is the newer container's."""
        self.containers = Containers(
            {"t1": WEB, "t2": attrs.evolve(WEB, memory=99)},
            {"t1": Running("c1", "t1", "web", "3", 5), "t2": Running("c2", "t2", "web", "3", 9)},
        )
        text = b"".join(self.ask(b"/metrics").written).decode()
        self.assertIn('task="web.3"} 99.0', text)
        self.assertEqual(text.count("swarmgate_task_memory_bytes{"), 1)

    def test_global_task(self) -> None:
        """A global service's task is called by its node's name."""
        self.containers = Containers({"t1": WEB}, {"t1": Running("c1", "t1", "log", "k3x0nodeid", 5)})
        self.assertIn('task="log.n1"} 64.0', b"".join(self.ask(b"/metrics").written).decode())

    def test_token(self) -> None:
        """With a token nobody is told anything who does not know it; a health check needs none."""
        token = b"0123456789abcdef"
        for wrong in (b"", b"Bearer x", b"Basic " + token, token, b"Bearer " + token + b"0"):
            request = self.ask(b"/usage", token, wrong)
            self.assertEqual(request.responseCode, 401)
            self.assertEqual(self.nodes, [])
            self.assertNotIn(token, b"".join(request.written))
        self.assertEqual(self.ask(b"/ping", token).responseCode, 200)
        self.assertEqual(self.ask(b"/metrics", token, b"Bearer " + token).responseCode, 200)

    def test_proof(self) -> None:
        """A gate does not tell the token: what it makes of it is of use at the address it is sent to, and for now."""
        token = b"0123456789abcdef"
        good = proof(token, "10.1.0.1", 9181, 5200.7)
        self.assertNotIn(token.decode(), good)
        for wrong in (
            proof(token, "10.1.0.2", 9181, 5200),
            proof(token, "10.1.0.1", 9182, 5200),
            proof(token, "10.1.0.1", 9181, 5301),
            proof(token, "10.1.0.1", 9181, 4699),
            proof(token + b"0", "10.1.0.1", 9181, 5200),
            good.replace("5200", "5201"),
            good[:-1],
            "Swarmgate 5200",
            "Swarmgate x y",
            "Swarmgate 5200 \xe9",
        ):
            self.assertEqual(self.ask(b"/usage", token, wrong.encode("latin-1")).responseCode, 401, wrong)
        self.assertEqual(self.ask(b"/usage", token, good.encode()).responseCode, 200)
        mapped = proof(token, "10.0.0.1", 1, 0).encode()
        self.assertTrue(is_proof(mapped, token, "::ffff:10.0.0.1", 1, 0))

    def test_nothing_else(self) -> None:
        """There is nothing else to ask, and nothing to change."""
        self.assertEqual(self.ask(b"/containers/json").responseCode, 404)
        self.assertEqual(self.ask(b"/usage", method=b"POST").responseCode, 405)


class OptionTests(SynchronousTestCase):
    def test_token_file(self) -> None:
        """A token that anybody might guess, or that no field can hold, is refused."""
        with tempfile.NamedTemporaryFile() as file:
            for text, good in ((b"0123456789abcdef\n", True), (b"short", False), (b"0123456789 abcdefgh", False)):
                Path(file.name).write_bytes(text)
                if good:
                    self.assertEqual(read_token(file.name), text.strip())
                else:
                    self.assertRaises(ValueError, read_token, file.name)
        self.assertEqual(read_token(""), b"")

    def test_load(self) -> None:
        """An agent's options come from where a gate's do; DOCKER_HOST counts where none is given."""
        options = load_agent(["--agent.address=:9999"], {"DOCKER_HOST": "tcp://10.0.0.1:2375"}).agent
        self.assertEqual((options.address, options.endpoint), (Address("", 9999), "tcp://10.0.0.1:2375"))
        options = load_agent(["--agent.endpoint=unix:///a"], {"DOCKER_HOST": "tcp://10.0.0.1:2375"}).agent
        self.assertEqual(options.endpoint, "unix:///a")

    def test_wrong(self) -> None:
        """What is wrong is told, all of it, with the nearest right one."""
        with self.assertRaises(ConfigurationError) as caught:
            load_agent(["--agent.tokenFil=a", "--agent.endpoint=ssh://x", "--ping"], {})
        text = "\n".join(str(fault) for fault in caught.exception.faults)
        for part in ("did you mean tokenFile", "tcp://HOST:PORT", "ping"):
            self.assertIn(part, text)
