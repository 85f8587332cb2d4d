"""``python -m tests.differential``: mutated requests through a gate to servers of all kinds."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from pathlib import Path

import uvloop

from tests.differential.grammar import sequence
from tests.differential.lanes import Finding, Lane, run, shrunk
from tests.differential.origins import NAMES, Origin, running
from tests.e2e.gate import Gate, free_port


def gate_for(origins: list[Origin]) -> tuple[Gate, list[Lane]]:
    """A gate, and a lane to each of *origins*."""
    lanes = [Lane(origin, free_port(), free_port()) for origin in origins]
    routers, services = [], []
    options = []
    for lane, origin in zip(lanes, origins, strict=True):
        name = origin.name
        routers.append(f"    {name}: {{rule: 'PathPrefix(`/`)', entryPoints: [{name}], service: {name}}}")
        services.append(f"    {name}: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{lane.relay.port}'}}]}}}}")
        options.append(f"--entrypoints.{name}.address=127.0.0.1:{lane.port}")
    return Gate("\n".join(["http:", "  routers:", *routers, "  services:", *services, ""]), *options), lanes


def _minimal(finding: Finding, origins: list[Origin], lanes: list[Lane], port_of: dict[str, Lane]) -> bytes:
    """The octets of *finding* without what it doesn't need."""

    def fails(octets: bytes) -> bool:
        async def play() -> bool:
            lane = port_of[finding.origin]
            lane.findings.clear()
            lane._count = None
            await lane.relay.start()
            await lane.play(finding.number, octets)
            lane.drop()
            lane.relay.stop()
            return bool(lane.findings)

        return uvloop.run(play())

    return shrunk(finding.octets, fails) if finding.octets and fails(finding.octets) else finding.octets


def main() -> None:
    """Run a piece, or all, and tell what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many in all")
    parser.add_argument("--seconds", type=float, default=1e9, help="how long this piece may take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="a file that remembers how far the pieces have come")
    parser.add_argument("--origins", default=",".join(NAMES), help="the servers, separated by commas")
    parser.add_argument("--show", type=int, help="only write the sequence of that number")
    parser.add_argument("--replay", type=int, help="play only the sequence of that number")
    options = parser.parse_args()
    if options.show is not None:
        print(sequence(options.seed, options.show))
        return
    state = {"next": 0, "tally": {}, "seconds": 0.0}
    if options.state and options.state.exists():
        state = json.loads(options.state.read_text())
    total: Counter[str] = Counter(state["tally"])
    done = sum(count for name, count in total.items() if name.endswith(" requests"))
    left = options.requests - done
    if left <= 0:
        print(f"all {done} requests are done: {options.state}")
        return
    with running(tuple(options.origins.split(","))) as origins:
        gate, lanes = gate_for(origins)
        try:
            began = time.monotonic()
            first = state["next"] if options.replay is None else options.replay
            left = left if options.replay is None else 1
            following = uvloop.run(run(lanes, options.seed, itertools.count(first), left, options.seconds))
            took = time.monotonic() - began
            findings = [finding for lane in lanes for finding in lane.findings]
            for lane in lanes:
                total.update({f"{lane.origin.name} {name}": count for name, count in lane.tally.items()})
                print(f"{lane.origin.name:9} {dict(sorted(lane.tally.items()))}")
            done = sum(count for name, count in total.items() if name.endswith(" requests"))
            print(
                f"{done} requests so far, {took:.0f} s, {len(findings)} findings, seed {options.seed}, next {following}"
            )
            by_name = {lane.origin.name: lane for lane in lanes}
            for finding in findings[:20]:
                print(finding)
            for finding in findings[:3]:
                print("    shrunk:", _minimal(finding, origins, lanes, by_name))
        finally:
            gate.stop()
    if options.state:
        total["findings"] += len(findings)
        options.state.write_text(json.dumps({"next": following, "tally": total, "seconds": state["seconds"] + took}))
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
