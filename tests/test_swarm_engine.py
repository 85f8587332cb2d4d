"""Tests for swarmgate.providers.swarm.engine, against an engine that is none, on a unix socket."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import struct
import threading
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from swarmgate.providers.swarm.engine import Endpoint, Engine, find_own_container, refusal
from swarmgate.providers.swarm.interface import Refused, SwarmError
from swarmgate.providers.swarm.operate import LogLine, Operation
from tests.fake_docker import FakeDocker, told_network, told_node, told_service, told_task


class EngineTests(TestCase):
    """Looks and subscriptions over HTTP."""

    timeout = 20

    def setUp(self) -> None:
        self.docker = FakeDocker()
        self.docker.start()
        self.addCleanup(self.docker.__exit__)
        self.swarm = self.engine()

    def engine(self, url: str = "", timeout: float = 5.0, **options) -> Engine:
        """Return an engine that is closed after the test."""
        engine = Engine(reactor, Endpoint(url=url or self.docker.url, timeout=timeout, **options))
        self.addCleanup(engine.close)
        return engine

    @inlineCallbacks
    def until(self, true):
        """Wait until something in another thread has come to be."""
        while not true():
            yield deferLater(reactor, 0.005, lambda: None)

    @inlineCallbacks
    def test_look(self):
        """A look has what the four lists tell."""
        seen = yield self.swarm.look()
        self.assertEqual(["svc1"], [service.name for service in seen.services])
        self.assertEqual([seen.services[0].id], [task.service_id for task in seen.tasks])
        self.assertEqual((["golf"], ["host1"]), ([n.name for n in seen.networks], [n.hostname for n in seen.nodes]))

    @inlineCallbacks
    def test_permissions(self):
        """Nothing is asked for but what a socket proxy allows with the permissions that the documentation names."""
        self.swarm.subscribe(lambda: None, lambda error: None)
        yield self.swarm.look()
        yield self.until(lambda: any("/events" in path for path in self.docker.requests))
        asked = {path.partition("?")[0].rpartition("/")[2] for path in self.docker.requests}
        self.assertEqual({"version", "services", "tasks", "networks", "nodes", "events"}, asked)

    @inlineCallbacks
    def test_versions(self):
        """Engines of any age from API 1.40 on are spoken to in a version that they know."""
        for oldest, newest in (
            ("1.12", "1.40"),
            ("1.12", "1.41"),
            ("1.24", "1.43"),
            ("1.44", "1.52"),
            ("1.40", "1.56"),
        ):
            with FakeDocker((oldest, newest)) as docker:
                engine = self.engine(docker.url)
                yield engine.look()
                self.assertIn(f"/v{newest}/services", docker.requests)
                yield engine.close()

    @inlineCallbacks
    def test_too_old(self):
        """An engine that is too old is refused, with what is needed."""
        with FakeDocker(("1.12", "1.39")) as docker:
            error = yield self.assertFailure(self.engine(docker.url).look(), SwarmError)
        self.assertIn("1.40", str(error))
        self.assertIn("1.39", str(error))

    @inlineCallbacks
    def test_upgraded(self):
        """An engine that comes back as another version, which no longer knows the old one's, is spoken to anew."""
        yield self.swarm.look()
        self.docker.stop()
        yield self.assertFailure(self.swarm.tasks(), SwarmError)
        self.docker.api = ("1.50", "1.52")
        self.docker.start()
        tasks = yield self.swarm.tasks()
        self.assertEqual(1, len(tasks))

    @inlineCallbacks
    def test_forbidden(self):
        """A socket proxy that forbids a path is named with the permission it lacks."""
        self.docker.refused["/nodes"] = (403, "")
        error = yield self.assertFailure(self.swarm.look(), SwarmError)
        self.assertIn("GET /nodes", str(error))
        self.assertIn("allow NODES", str(error))

    @inlineCallbacks
    def test_never_partial(self):
        """If one of the lists fails the look fails: no service is taken for gone."""
        for path in ("/services", "/tasks", "/networks", "/nodes"):
            self.docker.refused = {path: (500, "rpc error: deadline exceeded")}
            error = yield self.assertFailure(self.swarm.look(), SwarmError)
            self.assertIn("deadline exceeded", str(error))

    @inlineCallbacks
    def test_networks_of_managers_missing(self):
        """An engine that does not reach its managers yet tells of few networks and no error: it is asked again."""
        self.docker.lists["/networks"] = []
        looking = self.swarm.look()
        yield self.until(lambda: any("/networks" in path for path in self.docker.requests))
        self.docker.lists["/networks"] = [told_network()]
        seen = yield looking
        self.assertEqual(["golf"], [network.name for network in seen.networks])

    @inlineCallbacks
    def test_networks_of_the_node(self):
        """A network that is never told of, as the nodes' own, is waited for once."""
        self.docker.lists["/networks"] = []
        yield self.swarm.look()
        self.docker.requests.clear()
        seen = yield self.swarm.look()
        self.assertEqual((), seen.networks)
        self.assertEqual(1, sum("/networks" in path for path in self.docker.requests))

    @inlineCallbacks
    def test_cut_answer(self):
        """An answer that is no JSON, or not all of it, is an error and no empty Swarm."""
        for body in (b"", b"[", b"<html>", b'{"message":"x"}'):
            self.docker.lists["/tasks"] = body
            yield self.assertFailure(self.swarm.tasks(), SwarmError)

    @inlineCallbacks
    def test_not_there(self):
        """A socket that is not there is named with the reason."""
        error = yield self.assertFailure(self.engine("unix:///nowhere/docker.sock").look(), SwarmError)
        self.assertIn("unix:///nowhere/docker.sock", str(error))
        self.assertIn("No such file", str(error))

    @inlineCallbacks
    def test_docker_host(self):
        """Where no endpoint is given, DOCKER_HOST says where the engine is."""
        swarm = Engine(reactor, Endpoint(environ={"DOCKER_HOST": self.docker.url}))
        self.addCleanup(swarm.close)
        seen = yield swarm.look()
        self.assertEqual(1, len(seen.services))

    @inlineCallbacks
    def test_hangs(self):
        """An engine that does not answer is given up after the timeout."""
        self.docker.hanging.add("/tasks")
        error = yield self.assertFailure(self.engine(timeout=0.1).tasks(), SwarmError)
        self.assertIn("no answer in time", str(error))

    @inlineCallbacks
    def test_close_waits(self):
        """Closing waits for the look that is under way, and its thread is gone then."""
        self.docker.hanging.add("/tasks")
        look = self.swarm.tasks()
        yield self.until(lambda: any("/tasks" in path for path in self.docker.requests))
        closed = self.swarm.close()
        self.assertNoResult(closed)
        self.docker.let_go()
        yield closed
        self.successResultOf(look)
        self.assertFalse([thread for thread in threading.enumerate() if "swarm-" in thread.name])

    @inlineCallbacks
    def test_events(self):
        """Events ring, and the end of their stream is told once."""
        rings: list[None] = []
        lost: list[SwarmError] = []
        self.swarm.subscribe(lambda: rings.append(None), lost.append)
        yield self.until(lambda: rings)
        self.docker.event()
        yield self.until(lambda: len(rings) == 2)
        self.docker.event()
        yield self.until(lambda: len(rings) == 3)
        self.docker.end_events()
        yield self.until(lambda: lost)
        self.assertIn("ended", str(lost[0]))

    @inlineCallbacks
    def test_events_refused(self):
        """A subscription that can't begin is lost, with the reason."""
        self.docker.refused["/events"] = (403, "")
        lost: Deferred[SwarmError] = Deferred()
        self.swarm.subscribe(lambda: None, lost.callback)
        error = yield lost
        self.assertIn("allow EVENTS", str(error))

    @inlineCallbacks
    def test_events_cancelled(self):
        """A subscription that is cancelled ends its thread, though no event comes."""
        rings: list[None] = []
        lost: list[SwarmError] = []
        cancel = self.swarm.subscribe(lambda: rings.append(None), lost.append)
        yield self.until(lambda: rings)
        cancel()
        yield self.until(lambda: not [t for t in threading.enumerate() if t.name == "swarm-events"])
        self.assertEqual([], lost)

    @inlineCallbacks
    def test_large_swarm(self):
        """With thousands of tasks, an ordinary look decodes only what has changed."""
        self.docker.lists["/services"] = [told_service(each) for each in range(50)]
        self.docker.lists["/tasks"] = [told_task(each, each % 50) for each in range(500)]
        before = yield self.swarm.look()
        self.docker.lists["/tasks"][7] = told_task(7, 7, version=9999, state="failed")
        after = yield self.swarm.tasks()
        self.assertEqual([7], [old.slot for old, new in zip(before.tasks, after, strict=True) if old is not new])


class OperationTests(TestCase):
    """Changes and logs over HTTP."""

    timeout = 20

    def setUp(self) -> None:
        self.docker = FakeDocker()
        self.docker.start()
        self.addCleanup(self.docker.__exit__)
        self.swarm = Engine(reactor, Endpoint(url=self.docker.url, timeout=5.0))
        self.addCleanup(self.swarm.close)
        self.told = told_service(1, "web")
        self.docker.items["/services/web"] = self.told
        self.docker.items["/nodes/host1"] = told_node(1)

    @inlineCallbacks
    def test_changes(self):
        """All of a specification but what was asked for stays, and the version that it is based on is named."""
        spec = self.told["Spec"]
        path = f"/services/{self.told['ID']}/update"
        yield self.swarm.operate(Operation("scale", "web", 7))
        yield self.swarm.operate(Operation("restart", "web"))
        yield self.swarm.operate(Operation("rollback", "web"))
        yield self.swarm.operate(Operation("drain", "host1"))
        template = {**spec["TaskTemplate"], "ForceUpdate": 1}
        self.assertEqual(
            [
                (path, "version=11", {**spec, "Mode": {"Replicated": {"Replicas": 7}}}),
                (path, "version=11", {**spec, "TaskTemplate": template}),
                (path, "version=11&rollback=previous", spec),
                ("/nodes/node1/update", "version=5", {"Role": "manager", "Availability": "drain"}),
            ],
            self.docker.changes,
        )

    @inlineCallbacks
    def test_global(self):
        """A service that is on each node can't be scaled, and is not touched."""
        self.told["Spec"]["Mode"] = {"Global": {}}
        error = yield self.assertFailure(self.swarm.operate(Operation("scale", "web", 7)), Refused)
        self.assertEqual((400, "web can't be scaled: its mode is Global"), (error.status, str(error)))
        self.assertEqual([], self.docker.changes)

    @inlineCallbacks
    def test_out_of_sequence(self):
        """A change that somebody else's comes before is tried again, not for ever."""
        said = (500, "rpc error: code = Unknown desc = update out of sequence")
        self.docker.refusals = [said]
        yield self.swarm.operate(Operation("restart", "web"))
        self.assertEqual(2, len(self.docker.changes))
        self.docker.refusals = [said] * 9
        error = yield self.assertFailure(self.swarm.operate(Operation("restart", "web")), Refused)
        self.assertEqual((500, 5), (error.status, len(self.docker.changes)))

    @inlineCallbacks
    def test_refusals(self):
        """The engine's words are shown as they are; a socket proxy that has none is explained."""
        self.docker.refusals = [(409, "the Swarm is locked"), (403, "")]
        error = yield self.assertFailure(self.swarm.operate(Operation("restart", "web")), Refused)
        self.assertEqual((409, "the Swarm is locked"), (error.status, str(error)))
        error = yield self.assertFailure(self.swarm.operate(Operation("restart", "web")), Refused)
        self.assertIn("SERVICES and POST", str(error))
        error = yield self.assertFailure(self.swarm.operate(Operation("restart", "../nodes/x")), Refused)
        self.assertEqual(404, error.status)
        self.assertIn("/services/..%2Fnodes%2Fx", self.docker.requests[-1])

    @inlineCallbacks
    def test_log(self):
        """Lines come with time, task, node and stream, in the order of their times."""
        details = b"com.docker.swarm.node.id=node1,com.docker.swarm.service.id=s,com.docker.swarm.task.id=t1"

        def frame(stream: int, second: int, text: bytes) -> bytes:
            line = b"2026-01-31T12:00:%02d.000000000Z %b %b\n" % (second, details, text)
            return struct.pack(">BxxxI", stream, len(line)) + line

        self.docker.items["/services/web/logs"] = frame(2, 7, b"late one") + frame(1, 5, b"early") + b"\1\0\0\0\0"
        log = yield self.swarm.log("web", 10)
        self.assertEqual(
            (
                LogLine("2026-01-31T12:00:05.000000000Z", "t1", "node1", "stdout", "early"),
                LogLine("2026-01-31T12:00:07.000000000Z", "t1", "node1", "stderr", "late one"),
            ),
            log.lines,
        )
        self.assertEqual(1, len((yield self.swarm.log("web", 1)).lines))
        self.docker.items["/services/web/logs"] = b"2026-01-31T12:00:05Z %b on a terminal\r\n" % details
        self.assertEqual("on a terminal", (yield self.swarm.log("web", 1)).lines[0].text)

    @inlineCallbacks
    def test_log_of_another_service(self):
        """The lines of a task are not told of where it is another service's."""
        self.docker.lists["/tasks"] = []
        error = yield self.assertFailure(self.swarm.log("web", 10, "task9"), Refused)
        self.assertEqual(404, error.status)

    @inlineCallbacks
    def test_logs_at_once(self):
        """Logs that hang leave threads to look at the Swarm."""
        self.docker.hanging = {"/services/web/logs"}
        logs = [self.swarm.log("web", 1) for _ in range(2)]
        error = yield self.assertFailure(self.swarm.log("web", 1), Refused)
        self.assertEqual(503, error.status)
        yield self.swarm.look()
        self.docker.items["/services/web/logs"] = b""
        self.docker.let_go()
        for log in logs:
            self.assertEqual((), (yield log).lines)

    @inlineCallbacks
    def test_failed(self):
        """Tasks that have failed are told of with the error and the code that they have ended with."""
        bad = told_task(2, state="failed")
        bad["DesiredState"] = "shutdown"
        bad["Status"] |= {"Err": "task: non-zero exit (3)"}
        bad["Status"]["ContainerStatus"]["ExitCode"] = 3
        done = {**told_task(3, state="complete"), "DesiredState": "shutdown"}
        self.docker.lists["/tasks"] = [told_task(1), bad, done]
        (task,) = yield self.swarm.failed()
        self.assertEqual((bad["ID"], "task: non-zero exit (3)", 3), (task.id, task.error, task.exit_code))
        self.assertGreater(task.ended, 0)


class TLSTests(TestCase):
    """An engine that is reached over TCP with TLS."""

    timeout = 20

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.ca, authority = certificate(self.folder, "ca", None)
        server, _ = certificate(self.folder, "server", authority)
        self.cert, _ = certificate(self.folder, "client", authority)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(server, self.folder / "server-key.pem")
        tls.load_verify_locations(self.ca)
        tls.verify_mode = ssl.CERT_REQUIRED
        self.docker = FakeDocker(tls=tls)
        self.docker.start()
        self.addCleanup(self.docker.__exit__)

    def look(self, **options) -> Deferred:
        """Return a look with these options of the endpoint."""
        engine = Engine(reactor, Endpoint(timeout=5.0, **options))
        self.addCleanup(engine.close)
        return engine.look()

    @inlineCallbacks
    def test_certificates(self):
        """With the client's certificate, and the authority that has signed the engine's, looks succeed."""
        key = str(self.folder / "client-key.pem")
        seen = yield self.look(url=self.docker.url, ca=str(self.ca), cert=str(self.cert), key=key)
        self.assertEqual(1, len(seen.services))

    @inlineCallbacks
    def test_environment(self):
        """The certificates can come from the folder that DOCKER_CERT_PATH names."""
        for old, new in (("client.pem", "cert.pem"), ("client-key.pem", "key.pem")):
            (self.folder / old).rename(self.folder / new)
        environ = {"DOCKER_HOST": self.docker.url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(self.folder)}
        seen = yield self.look(environ=environ)
        self.assertEqual(1, len(seen.services))

    @inlineCallbacks
    def test_untrusted(self):
        """An engine with a certificate of somebody else's is not spoken to, unless that is asked for."""
        options = {"url": self.docker.url, "cert": str(self.cert), "key": str(self.folder / "client-key.pem")}
        error = yield self.assertFailure(self.look(**options), SwarmError)
        self.assertIn("certificate", str(error).lower())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3 says with every request that it does not verify
            yield self.look(insecure_skip_verify=True, **options)

    @inlineCallbacks
    def test_missing_file(self):
        """A certificate that is not there is an error that says so."""
        error = yield self.assertFailure(self.look(url=self.docker.url, cert="/nowhere", key="/nowhere"), SwarmError)
        self.assertIn("certificate", str(error))


def certificate(folder: Path, name: str, issuer):
    """Write a certificate for 127.0.0.1 and its key; return its path, and what signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    signer, signing = issuer or (subject, key)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
        .sign(signing, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}-key.pem").write_bytes(private)
    return path, (subject, key)


class ExplanationTests(SynchronousTestCase):
    """What people are told."""

    def test_worker(self) -> None:
        """On a worker it is said that a manager is needed, not just 503."""
        message = b'{"message":"This node is not a swarm manager. Worker nodes can\'t be used to view cluster state."}'
        self.assertIn("connect to a manager", refusal("/services", 503, message))

    def test_password(self) -> None:
        """A password is in no representation of the endpoint."""
        endpoint = Endpoint(url="tcp://proxy:2375", username="gate", password="s3cret")
        self.assertNotIn("s3cret", f"{endpoint} {endpoint!r}")


class OwnContainerTests(SynchronousTestCase):
    """Which container we are in."""

    def find(self, mountinfo: str, hostname: str = "gate") -> str:
        proc = Path(self.mktemp())
        (proc / "self").mkdir(parents=True)
        (proc / "self" / "mountinfo").write_text(mountinfo)
        return find_own_container(proc, hostname)

    def test_mounts(self) -> None:
        """The id is in what Docker mounts, whatever the host name has been set to."""
        identity = "ab" * 32
        line = f"812 801 254:1 /var/lib/docker/containers/{identity}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        self.assertEqual(identity, self.find("1 2 0:1 / / rw - overlay overlay rw\n" + line))

    def test_hostname(self) -> None:
        """Docker's default host name is the beginning of the id."""
        self.assertEqual("0123456789ab", self.find("", "0123456789ab"))

    def test_outside(self) -> None:
        """A process on a machine that runs containers is in none of them."""
        mounts = "5 4 0:9 / /var/lib/docker/containers/" + "ab" * 32 + "/mounts/shm rw - tmpfs shm rw\n"
        self.assertEqual("", self.find(mounts))
