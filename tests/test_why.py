"""``why``, ``why --service`` and ``lint``."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.model import Configuration, Router
from swarmgate.dynamic.rules import parse_rule
from swarmgate.dynamic.table import EntryPointFacts, compile_table
from swarmgate.http.errors import BadRequest
from swarmgate.http.paths import PathPolicy
from swarmgate.middlewares import KINDS
from swarmgate.providers.swarm.decide import Options
from swarmgate.providers.swarm.decode import service_from
from swarmgate.testing import network, node, service, snapshot, task
from swarmgate.why.disabled import disabled
from swarmgate.why.requests import question, why
from swarmgate.why.services import World, implies, why_service
from swarmgate.why.stack import StackError, lint

WEB = {"web": EntryPointFacts()}
GOOD = {
    "traefik.http.routers.web.rule": "Host(`web.example`)",
    "traefik.http.services.web.loadbalancer.server.port": "80",
}
RULE, PORT = GOOD
HASH = "ann:$apr1$x$y"


@attrs.frozen
class Case:
    """A way to get it wrong, as labels (None takes one away), and what has to be said of it."""

    labels: dict[str, str | None]
    says: str
    networks: tuple[str, ...] = ("golf",)
    container: dict[str, str] = attrs.field(factory=dict)
    exposed: bool = True
    constraints: str = ""
    other: dict[str, str] = attrs.field(factory=dict)
    replicas: int = 1
    ports: tuple[int, ...] = ()
    state: str = "running"
    error: str = ""
    is_hint: bool = False
    #: False: a stack file does not show it.
    lint_knows: bool = True


def moved(label: str, to: str) -> dict[str, str | None]:
    """The change that spells a label otherwise."""
    return {label: None, to: GOOD[label]}


CASES = {
    "not enabled": Case({}, "no label enables it", exposed=False),
    "switched off": Case({"traefik.enable": "false"}, "it is not enabled"),
    "enable is neither true nor false": Case({"traefik.enable": "yep"}, "traefik.enable=yep"),
    "enable misspelt": Case({"traefik.enabel": "true"}, "did you mean enable", exposed=False),
    "prefix misspelt": Case(moved(RULE, "trafik.http.routers.web.rule"), "did you mean traefik.http.routers.web.rule"),
    "prefix after a space": Case(moved(RULE, " traefik.http.routers.web.rule"), "did you mean traefik.http"),
    "section misspelt": Case(moved(RULE, "traefik.htpp.routers.web.rule"), "did you mean http"),
    "routers misspelt": Case(moved(RULE, "traefik.http.router.web.rule"), "did you mean routers"),
    "rule misspelt": Case(moved(RULE, "traefik.http.routers.web.rulle"), "did you mean rule"),
    "option without name": Case(moved(RULE, "traefik.http.routers.rule"), "an option after"),
    "port misspelt": Case(moved(PORT, "traefik.http.services.web.loadbalancer.server.prot"), "did you mean port"),
    "load balancer misspelt": Case(moved(PORT, "traefik.http.services.web.loadbalanser.server.port"), "loadBalancer"),
    "port unknown": Case({PORT: None}, "the port that its tasks listen on is not known"),
    "port is no number": Case({PORT: "http"}, "server.port=http"),
    "matcher unknown": Case({RULE: "Hots(`web.example`)"}, "did you mean Host"),
    "rule without back quotes": Case({RULE: "Host(web.example)"}, "at character"),
    "rule without its end": Case({RULE: "Host(`web.example`"}, "at character"),
    "network not shared": Case({}, "docker service update --network-add golf", networks=("other",)),
    "network misspelt": Case({"traefik.swarm.network": "gofl"}, "there is no network gofl"),
    "network of the label is not the gate's": Case(
        {"traefik.swarm.network": "other"}, "the gate is not on its network", networks=("golf", "other")
    ),
    "network of the label is not the service's": Case({"traefik.swarm.network": "other"}, "not on the network other"),
    "network label misspelt": Case({"traefik.swarm.netwrok": "golf"}, "did you mean network"),
    "labels of the containers": Case(
        {RULE: None, PORT: None}, "these are labels of its containers", container=dict(GOOD), exposed=False
    ),
    "entry point unknown": Case({"traefik.http.routers.web.entrypoints": "wbe"}, "no such entry point"),
    "middleware unknown": Case({"traefik.http.routers.web.middlewares": "auth"}, "there is no such middleware"),
    "middleware of unknown kind": Case({"traefik.http.middlewares.a.basicaut.users": "x"}, "did you mean basicAuth"),
    "service unknown": Case({"traefik.http.routers.web.service": "wep"}, "there is no such service"),
    "two services": Case({"traefik.http.services.b.loadbalancer.server.port": "81"}, "which of the services"),
    "router name taken": Case(
        {RULE: "Host(`mine.example`)"}, "has a router of this name", other={**GOOD, RULE: "Host(`theirs.example`)"}
    ),
    "rule never reached": Case(
        {},
        "is asked before it",
        other={
            "traefik.http.routers.all.rule": "HostRegexp(`.+`)",
            "traefik.http.routers.all.priority": "1000",
            "traefik.http.services.all.loadbalancer.server.port": "80",
        },
    ),
    "constraints": Case({}, "do not satisfy", constraints="Label(`tier`, `public`)"),
    "priority is no number": Case({"traefik.http.routers.web.priority": "high"}, "priority=high"),
    "only TCP": Case({RULE: None, PORT: None, "traefik.tcp.routers.web.rule": "HostSNI(`*`)"}, "no routing of TCP"),
    "scaled to nothing": Case({}, "scaled to 0", replicas=0),
    "ports of the routing mesh": Case({}, "it publishes 8080 in ingress mode", ports=(8080,), is_hint=True),
    "image without a health check": Case({}, "it sets no health check", is_hint=True),
    "no node for its tasks": Case(
        {},
        "no task of it runs (pending): no suitable node",
        state="pending",
        error="no suitable node",
        lint_knows=False,
    ),
    "rule of another stack is asked first": Case(
        {RULE: "Host(`web.example`) && Path(`/a`)", "traefik.http.routers.web.priority": "1"},
        "is asked before it",
        other={
            "traefik.http.routers.theirs.rule": "Host(`web.example`)",
            "traefik.http.services.theirs.loadbalancer.server.port": "80",
        },
    ),
}


def labels_of(case: Case) -> dict[str, str]:
    return {label: value for label, value in {**GOOD, **case.labels}.items() if value is not None}


def world_of(case: Case) -> World:
    """The Swarm with the case's service in it."""
    mine = service(
        "web",
        labels_of(case),
        networks=case.networks,
        container_labels=tuple(case.container.items()),
        replicas=case.replicas,
        created=2,
        ports=case.ports,
    )
    parts = [mine, network("golf"), network("other"), node()]
    if case.replicas:
        addresses = {name: f"10.0.{number}.1" for number, name in enumerate(case.networks)}
        parts.append(task(mine, networks=addresses, state=case.state, error=case.error))
    if case.other:
        older = service("older", case.other, created=1)
        parts += [older, task(older, ip="10.0.9.9")]
    options = Options(kinds=KINDS, exposed_by_default=case.exposed, constraints=case.constraints)
    return World.of(snapshot(*parts), options, WEB, frozenset({"net-golf"}), gate="gate")


def block(labels: dict[str, str], indent: str) -> str:
    return "".join(f'{indent}"{label}": "{value}"\n' for label, value in labels.items())


def stack_of(case: Case) -> str:
    """The stack file that would make the same Swarm."""
    command = ["--entrypoints.web.address=:80", f"--providers.swarm.exposedbydefault={str(case.exposed).lower()}"]
    if case.constraints:
        command.append(f"--providers.swarm.constraints={case.constraints}")
    text = f"services:\n  gate:\n    image: swarmgate:1\n    command: {command}\n    networks: [golf]\n"
    if case.other:
        text += (
            f"  older:\n    image: a\n    networks: [golf]\n    deploy:\n      labels:\n{block(case.other, ' ' * 8)}"
        )
    text += f"  web:\n    image: b\n    networks: [{', '.join(case.networks)}]\n"
    if case.ports:
        text += f"    ports: [{', '.join(f'{port}:{port}' for port in case.ports)}]\n"
    if case.container:
        text += f"    labels:\n{block(case.container, ' ' * 6)}"
    labels = block(labels_of(case), " " * 8) or "        {}\n"
    text += f"    deploy:\n      replicas: {case.replicas}\n      labels:\n{labels}"
    return text + "networks:\n  golf: {external: true}\n  other: {external: true}\n"


def faults(findings: object, is_hint: bool = False) -> str:
    return "\n".join(str(one) for one in findings if one.is_hint == is_hint)  # type: ignore[attr-defined]


class ServiceTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        """Of a service that is routed nothing is said but hints."""
        self.assertEqual(faults(why_service("web", world_of(Case({}, "")))), "")

    def test_cases(self) -> None:
        """Each way to get labels or networks wrong is named by its cause."""
        self.assertGreaterEqual(len(CASES), 30)
        missing = {
            name: said
            for name, case in CASES.items()
            if case.says not in (said := faults(why_service("web", world_of(case)), case.is_hint))
        }
        self.assertEqual(missing, {})

    def test_unknown_service(self) -> None:
        """A name that no service has is answered with the nearest one."""
        self.assertIn("did you mean web?", faults(why_service("wbe", world_of(Case({}, "")))))

    def test_hints(self) -> None:
        """Ports of the routing mesh and a missing health check are hinted at."""
        mine = service("web", GOOD, ports=(8080,))
        world = World.of(snapshot(mine, task(mine)), Options(kinds=KINDS), WEB)
        said = [one.sentence for one in why_service("web", world) if one.is_hint]
        self.assertIn("8080 in ingress mode", said[0])
        self.assertIn("no health check", said[1])

    def test_part_of_a_whole(self) -> None:
        """That a new release's router is asked first is no fault where it leads to the old one as well."""
        canary = {
            "traefik.http.services.next.loadbalancer.server.port": "80",
            "traefik.http.services.canary.weighted.services[0].name": "next",
            "traefik.http.routers.canary.rule": GOOD[RULE],
            "traefik.http.routers.canary.priority": "1000",
            "traefik.http.routers.canary.service": "canary",
        }
        both = {**canary, "traefik.http.services.canary.weighted.services[1].name": "web"}
        for labels, said in ((both, ""), (canary, "is asked before it")):
            old, new = service("web", GOOD), service("next", labels)
            world = World.of(snapshot(old, new, task(old), task(new)), Options(kinds=KINDS), WEB)
            found = faults(why_service("web", world))
            self.assertTrue(said in found if said else not found, found)
            self.assertEqual(faults(why_service("next", world)), "")

    def test_whole_alone(self) -> None:
        """Nobody asks the tasks of a service whose labels only make others one: it may have none, on any network."""
        whole = {RULE: GOOD[RULE], "traefik.http.services.all.weighted.services[0].name": "old"}
        old = service("old", {PORT.replace("services.web", "services.old"): "80"})
        world = World.of(snapshot(service("web", whole, networks=()), old, task(old)), Options(kinds=KINDS), WEB)
        self.assertEqual(why_service("web", world), ())

    def test_told_by_docker(self) -> None:
        """Labels of containers and health checks are known as Docker tells of them."""
        container = {"Labels": {"traefik.enable": "true"}, "Healthcheck": {"Test": ["CMD", "true"]}}
        told = service_from({"ID": "x", "Spec": {"Name": "web", "TaskTemplate": {"ContainerSpec": container}}})
        self.assertEqual(told.container_labels, (("traefik.enable", "true"),))
        self.assertTrue(told.has_health_check)

    def test_tasks_that_do_not_run(self) -> None:
        """The state of tasks that do not run is told."""
        mine = service("web", GOOD)
        world = World.of(snapshot(mine, task(mine, state="preparing")), Options(kinds=KINDS), WEB)
        self.assertIn("no task of it runs (preparing)", faults(why_service("web", world)))


class LintTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        """Of a stack file without mistakes nothing is said but hints."""
        self.assertEqual(faults(lint(stack_of(Case({}, "")))), "")

    def test_cases(self) -> None:
        """Each mistake is named before the stack is deployed."""
        missing = {
            name: said
            for name, case in CASES.items()
            if case.lint_knows and case.says not in (said := faults(lint(stack_of(case)), case.is_hint))
        }
        self.assertEqual(missing, {})

    def test_mistakes_of_the_file(self) -> None:
        """What only a stack file can get wrong is named too."""
        for body, says in (
            ('deploy: {labels: ["traefik.enable: true"]}', "in a list labels are written name=value"),
            ("deploy: {labels: [traefik.enable: true]}", "is no label in a list"),
            ("deploy: {label: {traefik.enable: true}}", "did you mean deploy.labels"),
            ("deploi: {labels: {traefik.enable: true}}", "did you mean deploy"),
            ("networks: [nowhere]", "is not declared"),
            ("networks: [lan]", "reaches no other node"),
            ("network_mode: host", "network_mode"),
            (f"deploy: {{labels: {{traefik.http.middlewares.a.basicauth.users: '{HASH}'}}}}", "write $$ for each $"),
            ("deploy: {traefik.enable: true}", "below deploy.labels"),
        ):
            text = f"services:\n  web:\n    image: b\n    {body}\nnetworks:\n  lan: {{driver: bridge}}\n"
            self.assertIn(says, faults(lint(text)))

    def test_not_meant(self) -> None:
        """A service without labels is not meant to be routed: nothing is said of it."""
        self.assertEqual(lint("services:\n  db:\n    image: postgres\n"), ())

    def test_variables(self) -> None:
        """Variables are taken at their defaults."""
        text = (
            "services:\n  gate:\n    image: ${IMAGE:-swarmgate}\n    networks: [a]\n"
            "  web:\n    image: b\n    networks: [b]\n    deploy: {labels: {traefik.enable: 'true'}}\n"
            "networks:\n  a: {external: true, name: '${A:-golf}'}\n  b: {external: true}\n"
        )
        self.assertIn("docker service update --network-add golf stack_web", faults(lint(text)))

    def test_no_stack_file(self) -> None:
        """A file that is no stack file is refused with the place of the mistake."""
        self.assertIn("line 2", str(self.assertRaises(StackError, lint, "a: b\n\t- c")))
        self.assertIn("services", str(self.assertRaises(StackError, lint, "- a")))


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        mine = service("web", {**GOOD, RULE: "Host(`web.example`) && PathPrefix(`/api`) && Method(`GET`)"})
        world = World.of(snapshot(mine, task(mine), task(mine, 2)), Options(kinds=KINDS), WEB)
        self.table = world.table

    def test_taken(self) -> None:
        """The router, its service and each server are told, those that can't answer with the reason."""
        reasons = {("web@swarm", "http://10.0.0.2:80"): "its health check fails"}
        (answer,) = why(question("http://web.example/api/x"), self.table, reasons=reasons)
        self.assertEqual((answer.router, answer.service), ("web@swarm", "web@swarm"))
        self.assertEqual([server.reason for server in answer.servers], ["", "its health check fails"])
        self.assertIn("can answer", "\n".join(answer.sentences()))

    def test_close(self) -> None:
        """A router that almost took the request is told with what did not match."""
        (answer,) = why(question("http://web.example/other", "POST"), self.table)
        self.assertEqual(answer.router, "")
        (close,) = answer.close
        self.assertEqual(
            close.reasons,
            ("PathPrefix(`/api`) does not match the path /other", "Method(`GET`) does not match the method POST"),
        )

    def test_own_router(self) -> None:
        """A router of the gate's own is told of as such, and is nobody's who asks for a service."""
        own = Configuration(routers={"api": Router("api", "PathPrefix(`/api`)", "api@internal")})
        table = compile_table({"internal": own}, WEB, ("api@internal",))
        (answer,) = why(question("http://web.example/api/x"), table)
        self.assertEqual((answer.router, answer.is_own, answer.is_routed), ("api@internal", True, False))
        self.assertIn("the gate's own router api@internal takes it", "".join(answer.sentences()))
        (answer,) = why(question("http://web.example/api/x"), self.table)
        self.assertEqual((answer.is_own, answer.is_routed), (False, True))

    def test_disabled(self) -> None:
        """Of routers and services that name the host, those that are not in force are told of with what is wrong."""
        labels = {
            "broken": {**GOOD, "traefik.http.routers.web.rule": "Host(`web.example`) & Path(`/a`)"},
            "lost": {**GOOD, "traefik.http.routers.web.middlewares": "nobody"},
            "elsewhere": {**GOOD, "traefik.http.routers.web.entrypoints": "wbe"},
            "off": {**GOOD, "traefik.enable": "false"},
            "other": {**GOOD, "traefik.http.routers.web.rule": "Host(`www.web.example`) &"},
            "general": {**GOOD, "traefik.http.routers.web.rule": "PathPrefix(`/b`)", "traefik.swarm.network": "none"},
            "well": GOOD,
        }
        parts = []
        for name, one in labels.items():
            mine = service(name, {label.replace(".web.", f".{name}."): value for label, value in one.items()})
            parts += [mine, task(mine)]
        world = World.of(snapshot(*parts), Options(kinds=KINDS), WEB)
        configurations = {"swarm": world.decision.configuration}
        found = disabled(question("http://WEB.example/a"), world.table, configurations, world)
        said = {one.name: one.sentence() for one in found}
        self.assertEqual(
            sorted(said), ["router broken@swarm", "router elsewhere@swarm", "router lost@swarm", "service off"]
        )
        self.assertIn("at character", said["router broken@swarm"])
        self.assertIn("Router lost@swarm, Host(`web.example`), is disabled: ", said["router lost@swarm"])
        self.assertIn("no such middleware", said["router lost@swarm"])
        self.assertIn("did you mean web?", said["router elsewhere@swarm"])
        self.assertIn("Service off names the host and has no router: it is not enabled", said["service off"])
        self.assertEqual(disabled(question("http://unknown.example/"), world.table, configurations, world), ())

    def test_normal_path(self) -> None:
        """A path is matched in the form that the entry point routes by; one that it does not take is told as such."""

        def normalise(path: bytes) -> bytes:
            try:
                return PathPolicy().normalise(path)
            except BadRequest as error:
                raise ValueError(error.reason) from None

        for path, router in (("/x/..//%61pi", "web@swarm"), ("/api/../x", ""), ("/api%2Fx", "")):
            (answer,) = why(question(f"http://web.example{path}"), self.table, paths={"web": normalise})
            self.assertEqual(answer.router, router, path)
        self.assertEqual(answer.refused, "escape %2F in path")
        self.assertIn("answered 400", "".join(answer.sentences()))

    def test_scheme(self) -> None:
        """A request over TLS is told that the router takes none."""
        (answer,) = why(question("https://web.example/api"), self.table)
        self.assertEqual(answer.close[0].reasons, ("it takes only http",))

    def test_bad_questions(self) -> None:
        """A URL or header that is none is refused with what was expected."""
        for given in (("web.example",), ("http://a:99999/",), ("http://a/", "GET", ("nonsense",))):
            self.assertIn("expected", str(self.assertRaises(ValueError, question, *given)))

    def test_implies(self) -> None:
        """A rule is said to be covered only when it surely is."""
        for narrow, wide, expected in (
            ("Host(`a`) && Path(`/x`)", "Host(`a`)", True),
            ("Host(`a`)", "Host(`a`) && Path(`/x`)", False),
            ("Host(`a`)", "Host(`a`) || Host(`b`)", True),
            ("Host(`a`) || Host(`c`)", "Host(`a`) || Host(`b`)", False),
            ("Path(`/x/y`)", "PathPrefix(`/x`)", True),
            ("Host(`a`)", "PathPrefix(`/`)", True),
            ("!Host(`a`)", "Host(`b`)", False),
        ):
            self.assertEqual(implies(parse_rule(narrow), parse_rule(wide)), expected, (narrow, wide))
