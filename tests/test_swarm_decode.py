"""Tests for swarmgate.providers.swarm.decode: what engines tell becomes values, cheaply."""

from __future__ import annotations

import json

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.providers.swarm.decode import (
    ListDecoder,
    nanoseconds,
    network_from,
    node_from,
    refuse,
    service_fault,
    service_from,
    task_fault,
    task_from,
)
from swarmgate.providers.swarm.snapshot import Address, Network, Node, Port, SwarmService, Task, UpdateStatus
from tests.fake_docker import told_network, told_node, told_service, told_task


def compact(told: object) -> bytes:
    """Return JSON as Go writes it."""
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


class ValueTests(SynchronousTestCase):
    """One element of a list becomes one value."""

    def test_service(self) -> None:
        """A service has all that routing needs."""
        self.assertEqual(
            SwarmService(
                id="service000000000000000001",
                name="svc1",
                version=11,
                created=1769860800_500_000_000,
                labels=(("a.b", "c"),),
                image="app:1",
                networks=("net1",),
                vips=(Address("net1", "10.0.1.2"),),
                ports=(Port(80, 8080, "host"),),
                replicas=3,
            ),
            attrs.evolve(service_from(told_service(a_b="c")), spec=""),
        )

    def test_dnsrr(self) -> None:
        """A service without a virtual address says so, as Docker 20.10 tells of it: with an endpoint that is empty."""
        told = told_service()
        told["Spec"]["EndpointSpec"] = {"Mode": "dnsrr"}
        told["Endpoint"] = {"Spec": {}}
        service = service_from(told)
        self.assertEqual(("dnsrr", (), ()), (service.endpoint_mode, service.vips, service.ports))

    def test_host_network(self) -> None:
        """A virtual address without an address, as the host network has, is none."""
        told = told_service()
        told["Endpoint"]["VirtualIPs"] = [{"NetworkID": "host"}]
        self.assertEqual((), service_from(told).vips)

    def test_global_service(self) -> None:
        """A service with a task on each node has no number of replicas."""
        told = told_service()
        told["Spec"]["Mode"] = {"Global": {}}
        self.assertIsNone(service_from(told).replicas)

    def test_bare_service(self) -> None:
        """What an engine leaves out because it is empty is empty."""
        service = service_from({"ID": "x", "Spec": {"Name": "bare"}})
        self.assertEqual(SwarmService("x", "bare", replicas=None), service)

    def test_task(self) -> None:
        """A task has its place, its state and its addresses without their prefix."""
        self.assertEqual(
            Task(
                id="task000000000000000000001",
                service_id="service000000000000000001",
                slot=1,
                node_id="node1",
                state="running",
                container="1".rjust(64, "0"),
                addresses=(Address("net1", "10.0.0.1"),),
            ),
            attrs.evolve(task_from(told_task()), spec=""),
        )

    def test_spec(self) -> None:
        """A task is as its service is now until that is updated; where tasks may be placed does not count."""
        template = {"ContainerSpec": {"Image": "app:1"}, "ForceUpdate": 0, "Placement": {"Constraints": ["a==b"]}}
        told = {"ID": "s", "Spec": {"Name": "web", "TaskTemplate": {**template, "Runtime": "container"}}}
        task = task_from({**told_task(), "Spec": {**template, "Placement": {}}})
        self.assertEqual(service_from(told).spec, task.spec)
        told["Spec"] = {"Name": "web", "TaskTemplate": {**template, "ForceUpdate": 1}}
        self.assertNotEqual(service_from(told).spec, task.spec)

    def test_new_task(self) -> None:
        """A task that no node has yet has neither node nor container nor address."""
        told = told_task(state="pending")
        for key in ("NodeID", "Slot", "NetworksAttachments"):
            del told[key]
        told["Status"] = {"State": "pending"}
        task = task_from(told)
        self.assertEqual(
            ("", 0, "", (), False), (task.node_id, task.slot, task.container, task.addresses, task.is_running)
        )

    def test_network_and_node(self) -> None:
        """Networks and nodes have their names; a node has its role, and one of the managers leads."""
        self.assertEqual(Network("net1", "ingress", "overlay", True), network_from(told_network(1, "ingress", True)))
        self.assertEqual(Node("node1", "host1", "active", "ready", "manager"), node_from(told_node(1)))
        self.assertTrue(node_from({**told_node(1), "ManagerStatus": {"Leader": True}}).leader)

    def test_update(self) -> None:
        """A service tells how far its last update is; one that was never updated has nothing to tell."""
        told = {"ID": "s", "Spec": {"Name": "web"}}
        self.assertIsNone(service_from(told).update)
        status = {"State": "updating", "StartedAt": "1970-01-01T00:00:02Z", "Message": "update in progress"}
        update = service_from({**told, "UpdateStatus": status}).update
        self.assertEqual(UpdateStatus("updating", "update in progress", 2_000_000_000), update)
        status = {"State": "paused", "Message": "update paused due to failure", "CompletedAt": "0001-01-01T00:00:00Z"}
        update = service_from({**told, "UpdateStatus": status}).update
        self.assertEqual(UpdateStatus("paused", "update paused due to failure"), update)

    def test_nanoseconds(self) -> None:
        """Times compare as they are, though Go leaves out zeros at their end."""
        times = [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.09Z",
            "2026-01-31T12:00:00.1Z",
            "2026-01-31T12:00:00.123456789Z",
        ]
        self.assertEqual(sorted(times, key=nanoseconds), times)
        self.assertEqual(nanoseconds("2026-01-31T12:00:00.5Z"), nanoseconds("2026-01-31T14:00:00.500+02:00"))
        self.assertEqual(0, nanoseconds(""))
        self.assertRaises(ValueError, nanoseconds, "yesterday")


class ListDecoderTests(SynchronousTestCase):
    """Lists are decoded in parts, and parts that are known are not decoded again."""

    def tasks(self) -> tuple[ListDecoder[Task], list[str]]:
        """Return a decoder of tasks, and the list of the ids that it decodes."""
        decoded: list[str] = []

        def decode(told):
            decoded.append(told["ID"])
            return task_from(told)

        return ListDecoder[Task](decode, task_fault), decoded

    def test_sorted(self) -> None:
        """The order in which an engine tells of its tasks does not matter."""
        decoder, _ = self.tasks()
        one, two = told_task(1), told_task(2)
        self.assertEqual(decoder(compact([one, two])), decoder(compact([two, one])))
        self.assertEqual(decoder(compact([one, two])), (task_from(one), task_from(two)))

    def test_known(self) -> None:
        """Only what is new, or has another version, is decoded; what is known is the same object as before."""
        decoder, decoded = self.tasks()
        before = decoder(compact([told_task(1), told_task(2)]))
        decoded.clear()
        after = decoder(compact([told_task(1), told_task(2, version=999, state="failed"), told_task(3)]))
        self.assertEqual([told_task(2)["ID"], told_task(3)["ID"]], decoded)
        self.assertIs(before[0], after[0])
        self.assertEqual("failed", after[1].state)

    def test_forgotten(self) -> None:
        """What is no longer told of is not kept: memory is bounded by the Swarm's size."""
        decoder, decoded = self.tasks()
        decoder(compact([told_task(1)]))
        self.assertEqual((), decoder(b"[]\n"))
        decoded.clear()
        decoder(compact([told_task(1)]))
        self.assertEqual(1, len(decoded))

    def test_pretty(self) -> None:
        """JSON that is written in another way than Go's is read all the same."""
        decoder, _ = self.tasks()
        told = [told_task(1), told_task(2)]
        self.assertEqual(decoder(compact(told)), decoder(json.dumps(told, indent=2, sort_keys=True).encode()))

    def test_empty(self) -> None:
        """Nothing is an empty list, which Go may write as null."""
        decoder, _ = self.tasks()
        for nothing in (b"[]", b" [ ]\n", b"null\n"):
            self.assertEqual((), decoder(nothing), nothing)

    def test_refused(self) -> None:
        """What is no list of objects with an id is an error, and not an empty list."""
        decoder, _ = self.tasks()
        for wrong in (b"", b"{}", b"[", b"[1]", b'[{"ID":1}]', b'[{"ID":"a"', b'"x"', b"[" * 5000 + b"]" * 5000):
            with self.assertRaises(ValueError, msg=wrong[:20]):
                decoder(wrong)

    def test_fault(self) -> None:
        """An element that can't be read costs only itself, and says why."""
        decoder = ListDecoder[SwarmService](service_from, service_fault)
        broken = told_service(1, "broken")
        broken["Spec"]["TaskTemplate"] = "?"
        first, second = decoder(compact([broken, told_service(2)]))
        self.assertEqual(("broken", ""), (first.name, second.fault))
        self.assertIn("AttributeError", first.fault)

    def test_task_of_unknown_service(self) -> None:
        """A task that can't be read and doesn't say whose it is could be anybody's: then nothing is known."""
        decoder, _ = self.tasks()
        broken = told_task(1)
        del broken["ServiceID"]
        self.assertRaises(ValueError, decoder, compact([broken]))
        broken["ServiceID"] = "s"
        broken["Status"] = "?"
        self.assertEqual("s", decoder(compact([broken]))[0].service_id)

    def test_refuse(self) -> None:
        """A network that can't be read leaves nothing to go by."""
        decoder = ListDecoder[Network](network_from, refuse, first="Name")
        self.assertEqual(2, len(decoder(compact([told_network(1), told_network(2)]))))
        self.assertRaises(ValueError, decoder, compact([{"Name": "a", "Id": "1"}, {"Id": "2"}]))

    @given(
        st.lists(
            st.tuples(
                st.integers(1, 9),
                st.text(max_size=20)
                | st.sampled_from(['},{"ID":"', "}]", "[{", '"ID":"x","Version":{"Index":1}', "\\"]),
            ),
            max_size=6,
            unique_by=lambda pair: pair[0],
        )
    )
    def test_strings(self, tasks: list[tuple[int, str]]) -> None:
        """Whatever people write into their tasks, the list is cut where it should be."""
        told = []
        for number, text in tasks:
            each = told_task(number)
            each["Spec"]["ContainerSpec"]["Env"] = [text, text + "x"]
            each["Labels"] = {text: text}
            told.append(each)
        decoder, decoded = self.tasks()
        self.assertEqual(tuple(task_from(each) for each in sorted(told, key=lambda t: t["ID"])), decoder(compact(told)))
        self.assertEqual(len(tasks), len(decoded))
