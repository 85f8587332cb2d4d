"""What happens during the load: each scenario is a value with the application's deployment and the change."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from bench.rollout import proxies
from tests.swarm import lab as swarm
from tests.swarm.lab import Engine, Lab, LabError, run, wait_until

APP = "web"
HOST = "web.example"
_ASK = Path(swarm.__file__).with_name("ask.py")
_HEALTHY = "python3 -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:8083/health', timeout=1)\""
_CHECKED = ("--health-cmd", _HEALTHY, "--health-interval", "1s", "--health-timeout", "2s", "--health-retries", "2")
_START_FIRST = ("--update-order", "start-first", "--update-delay", "0s")
_STOP_FIRST = ("--update-order", "stop-first", "--update-delay", "0s")


@attrs.frozen
class Stage:
    """Where a scenario takes place."""

    lab: Lab
    places: tuple[str, ...]
    short: bool

    def update(self, service: str, *options: str, seconds: float = 180) -> None:
        """Update a service, and block until the Swarm says that this, or the roll back from it, is done."""
        self.lab.docker("service", "update", "--detach", "--quiet", *options, service)
        time.sleep(0.5)
        ends = ("completed", "rollback_completed", "paused", "rollback_paused")

        def done() -> bool:
            (told,) = self.lab.inspect(service)
            return (told.get("UpdateStatus") or {}).get("State", "") in ends

        wait_until(done, f"{service}'s update", seconds, 0.3)

    def scale(self, replicas: int) -> None:
        """Scale the application and block until it is."""
        self.lab.docker("service", "scale", "--detach", f"{APP}={replicas}")
        self.lab.await_running(APP, replicas)

    def engine_of(self, task: Any) -> Engine:
        """Return the engine that a task runs on."""
        (node,) = self.lab.inspect(task["NodeID"])
        (engine,) = [engine for engine in self.lab.engines if engine.host == node["Description"]["Hostname"]]
        return engine

    def container(self, number: int) -> tuple[Engine, str]:
        """Return a container of the application, and its engine; numbers beyond the last begin anew."""
        tasks = self.lab.running(APP)
        task = tasks[number % len(tasks)]
        return self.engine_of(task), task["Status"]["ContainerStatus"]["ContainerID"]

    def status(self, at: str, host: str) -> int:
        """Ask a proxy once and return the status of its answer, 0 for none."""
        told = self.lab.lan.run(sys.executable, str(_ASK), at, host, timeout=30)
        return int(json.loads(told.splitlines()[0])["status"] or 0)


Change = Callable[[Stage], str]


@attrs.frozen
class Scenario:
    """One row of the report.

    :ivar replicas: of the application, with ``options`` of ``docker service create`` and ``arguments`` of its own.
    :ivar change: what happens; it returns when it is over, with a remark for the report or an empty string.
    :ivar path: what is asked for.
    :ivar rate: requests a second at most, 0 for as many as the run has.
    :ivar turn: whoever is refused a connection turns to the proxy's other node.
    :ivar spared: a node whose proxy is not asked.
    :ivar short: it is part of a short run.
    """

    name: str
    title: str
    change: Change
    replicas: int = 6
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    path: str = "/"
    rate: int = 0
    posts: bool = True
    turn: bool = False
    spared: str = ""
    short: bool = False


def labels(name: str) -> dict[str, str]:
    """Return the labels that route ``NAME.example`` to a service."""
    return {
        "traefik.enable": "true",
        f"traefik.http.routers.{name}.rule": f"Host(`{name}.example`)",
        f"traefik.http.services.{name}.loadbalancer.server.port": "8083",
    }


def roll(stage: Stage) -> str:
    """Replace all tasks."""
    stage.update(APP, "--force")
    return ""


def add_domain(stage: Stage) -> str:
    """Add a service with a host of its own, and tell when that is answered."""
    stage.lab.service("new", labels=labels("new"), networks=[proxies.NETWORK])
    stage.lab.await_running("new", 1)
    running = time.monotonic()
    for at in stage.places:
        wait_until(lambda at=at: stage.status(at, "new.example") == 200, f"new.example at {at}", 40)  # type: ignore[misc]
    return f"new domain answers {time.monotonic() - running:.1f} s after its task is seen to run"


def break_update(stage: Stage) -> str:
    """Update to tasks that never get healthy; the Swarm rolls back."""
    stage.update(APP, "--health-cmd", "false", "--health-interval", "500ms", "--health-retries", "1")
    (told,) = stage.lab.inspect(APP)
    return str(told["UpdateStatus"]["State"]).replace("_", " ")


def scale(stage: Stage) -> str:
    """More tasks, then as few as before."""
    times = 1 if stage.short else 2
    for _ in range(times):
        stage.scale(12)
        time.sleep(3)
        stage.scale(2)
        time.sleep(2)
    return f"{times} times"


def kill(stage: Stage) -> str:
    """Kill one container, several times."""
    times = 2 if stage.short else 5
    for number in range(times):
        engine, container = stage.container(number)
        engine.docker("kill", container)
        time.sleep(2)
        stage.lab.await_running(APP, 6)
        time.sleep(1)
    return f"{times} times"


def pause(stage: Stage) -> str:
    """Pause one container for 15 s."""
    engine, container = stage.container(0)
    engine.docker("pause", container)
    try:
        time.sleep(15)
    finally:
        engine.docker("unpause", container)
    return ""


def cut(stage: Stage) -> str:
    """Cut the link of a node that no request goes to."""
    seconds = 20 if stage.short else 60
    link = ("ip", "-n", stage.lab.lan.name, "link", "set", "p3")
    run(*link, "down")
    try:
        time.sleep(seconds)
    finally:
        run(*link, "up")
    wait_until(stage.lab.is_settled, "all managers to be back", 120)
    return f"for {seconds} s"


def change_leader(stage: Stage) -> str:
    """Demote the leader of the managers, and promote it again."""
    told = stage.lab.docker("node", "ls", "--format", "{{.Hostname}} {{.ID}} {{.ManagerStatus}}").splitlines()
    leaders = [line.split() for line in told if line.endswith("Leader")]
    if not leaders:
        raise LabError("no node is the leader of the managers")
    host, leader, _ = leaders[0]
    other = next(engine for engine in stage.lab.engines if engine.host != host)
    own = next(engine for engine in stage.lab.engines if engine.host == host)
    other.docker("node", "demote", leader)
    wait_until(lambda: "Leader" in other.docker("node", "ls"), "another leader")
    time.sleep(3)
    other.docker("node", "promote", leader)
    manages = ("info", "--format", "{{.Swarm.ControlAvailable}}")
    wait_until(lambda: own.docker(*manages) == "true", f"{host} to be a manager again", 60)
    return ""


def roll_proxy(stage: Stage) -> str:
    """Replace both replicas of the proxy."""
    stage.update(proxies.SERVICE, "--force")
    return ""


SCENARIOS = (
    Scenario("domain", "a domain is added", add_domain, short=True),
    Scenario("start-first", "6 tasks rolled, start-first", roll, options=_START_FIRST, short=True),
    Scenario("stop-first", "6 tasks rolled, stop-first", roll, options=_STOP_FIRST, short=True),
    Scenario(
        "single",
        "1 task with a health check rolled, start-first",
        roll,
        replicas=1,
        options=(*_START_FIRST, *_CHECKED),
        arguments=("--start", "1"),
    ),
    Scenario(
        "parallel",
        "6 tasks rolled, 3 at once, stop-first",
        roll,
        options=(*_STOP_FIRST, "--update-parallelism", "3"),
    ),
    Scenario(
        "rollback",
        "update that never gets healthy is rolled back",
        break_update,
        replicas=3,
        options=(
            *(*_START_FIRST, *_CHECKED),
            *("--update-failure-action", "rollback", "--update-monitor", "2s", "--update-max-failure-ratio", "0"),
            *("--rollback-order", "start-first"),
        ),
    ),
    Scenario("scale", "scaled 2, 12, 2", scale, replicas=2),
    Scenario("kill", "1 of 6 containers killed", kill, short=True),
    Scenario("pause", "1 of 6 containers paused for 15 s", pause),
    Scenario("cut", "a node's link cut", cut, spared="n3"),
    Scenario("leader", "another leader of the managers", change_leader),
    Scenario(
        "slow",
        "answers of 5 s, application drains, rolled start-first",
        roll,
        replicas=3,
        options=(*_START_FIRST, "--stop-grace-period", "20s"),
        arguments=("--drain",),
        path="/slow?5",
        rate=20,
    ),
    Scenario("proxy", "the proxy itself rolled, start-first", roll_proxy, turn=True),
)
