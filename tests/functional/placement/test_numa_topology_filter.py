# SPDX-License-Identifier: Apache-2.0

"""What NUMATopologyFilter lets pass of stock's answers, and of ours.

Hosts, guests and NUMA policies are drawn; the host goes through the filters
that nova-scheduler has, with the candidates of Placement and with those of the
extension. A server that boots without the extension boots with it.
"""

import dataclasses
import os
import random

from demo import threads  # noqa: F401

# isort: split

from nova import conf as nova_conf
from nova import objects
from nova.pci import stats
from nova.scheduler import host_manager
from nova.scheduler.filters import numa_topology_filter
from nova.scheduler.filters import pci_passthrough_filter
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter.pools import alike
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
from tests.functional.placement import service

CASES = int(os.environ.get("NUMA_FILTER_CASES", "20"))
POLICIES = ("required", "preferred", "legacy", "socket")
PRODUCTS = {"CUSTOM_GPU": "2330", "CUSTOM_NIC": "1021"}


@pytest.fixture(scope="module", autouse=True)
def _nova():
    """Make the objects of Nova known, and its options have their defaults."""
    objects.register_all()
    nova_conf.CONF([], project="nova", default_config_files=[])
    yield
    nova_conf.CONF.reset()


@dataclasses.dataclass(frozen=True)
class Device:
    """A device of the host, and what its pool and its provider say."""

    name: str
    rc: str
    node: int | None
    is_free: bool
    traits: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """A host and a request."""

    sockets: tuple[int, ...]
    """CPU socket of each NUMA node of the host."""
    devices: tuple[Device, ...]
    asked: dict[str, int]
    """Resource class -> number of devices."""
    policy: str
    cells: int
    """NUMA nodes of the guest."""
    limit: int

    @property
    def query(self) -> str:
        """What Nova asks of Placement."""
        groups = "".join(
            f"&resources{getattr(uuids, rc)}-{number}={rc}:1"
            for rc, count in self.asked.items()
            for number in range(count)
        )
        return f"resources=VCPU:1{groups}&group_policy=none&limit={self.limit}"

    def providers(self):
        """List what nova-compute reports of the host."""
        yield service.Provider(
            "host", inventories={"VCPU": service.Inventory(64)}
        )
        for device in self.devices:
            inventory = service.Inventory(1, used=int(not device.is_free))
            yield service.Provider(
                device.name, "host", {device.rc: inventory}, device.traits
            )

    def host_state(self, answer):
        """Make the host state, with the candidates of an answer."""
        state = host_manager.HostState("host", "host", uuids.cell)
        state.numa_topology = objects.NUMATopology(
            cells=[
                objects.NUMACell(
                    id=node,
                    cpuset=set(range(node * 16, node * 16 + 16)),
                    pcpuset=set(),
                    memory=65536,
                    cpu_usage=0,
                    memory_usage=0,
                    pinned_cpus=set(),
                    siblings=[],
                    mempages=[],
                    socket=socket,
                    network_metadata=objects.NetworkMetadata(
                        physnets=set(), tunneled=False
                    ),
                )
                for node, socket in enumerate(self.sockets)
            ]
        )
        state.pci_stats = stats.PciDeviceStats(
            state.numa_topology,
            objects.PciDevicePoolList(
                objects=[
                    objects.PciDevicePool(
                        vendor_id="10de",
                        product_id=PRODUCTS[device.rc],
                        numa_node=device.node,
                        count=1,
                        tags={
                            "dev_type": "type-PCI",
                            "rp_uuid": service.provider_uuid(device.name),
                        },
                    )
                    for device in self.devices
                    if device.is_free
                ]
            ),
        )
        state.ram_allocation_ratio = state.cpu_allocation_ratio = 1.0
        state.allocation_candidates = answer["allocation_requests"]
        return state

    def request_spec(self):
        """Make the request spec of a server with that flavor."""
        return objects.RequestSpec(
            instance_uuid=uuids.instance,
            flavor=objects.Flavor(extra_specs={}),
            image=objects.ImageMeta(properties=objects.ImageMetaProps()),
            numa_topology=objects.InstanceNUMATopology(
                cells=[
                    objects.InstanceNUMACell(
                        id=cell, cpuset={cell}, pcpuset=set(), memory=1024
                    )
                    for cell in range(self.cells)
                ]
            ),
            pci_requests=objects.InstancePCIRequests(
                requests=[
                    objects.InstancePCIRequest(
                        count=count,
                        request_id=getattr(uuids, rc),
                        alias_name=rc.lower(),
                        numa_policy=self.policy,
                        spec=[
                            {"vendor_id": "10de", "product_id": PRODUCTS[rc]}
                        ],
                    )
                    for rc, count in self.asked.items()
                ]
            ),
        )


def draw(seed, policy):
    """Draw a host and a request."""
    rng = random.Random(f"{policy} {seed}")
    nodes = rng.choice((1, 2, 2, 2, 4))
    counts = {"CUSTOM_GPU": rng.choice((4, 6, 8, 8))}
    asked = {"CUSTOM_GPU": rng.choice((2, 2, 3, 4))}
    if rng.random() < 0.4:
        counts = {"CUSTOM_GPU": 4, "CUSTOM_NIC": rng.choice((2, 4))}
        asked = {"CUSTOM_GPU": 2, "CUSTOM_NIC": rng.choice((1, 2))}
    told = rng.choice(("nothing", "nothing", "some", "all"))
    has_nodes = rng.random() < 0.9
    devices = []
    for rc, count in counts.items():
        for number in range(count):
            node = number * nodes // count
            traits = (
                {"CUSTOM_GPU_LINK_NV18_0"} if rc == "CUSTOM_GPU" else set()
            )
            if told == "all" or (told == "some" and rng.random() < 0.7):
                traits.add(f"CUSTOM_GPU_LINK_NODE_{node}")
            devices.append(
                Device(
                    f"{rc}{number}",
                    rc,
                    node if has_nodes else None,
                    rng.random() < 0.8,
                    tuple(traits),
                )
            )
    return Case(
        sockets=tuple(node * 2 // nodes for node in range(nodes)),
        devices=tuple(devices),
        asked=asked,
        policy=policy,
        cells=rng.choice((1, 1, 1, 2)),
        limit=1000,
    )


def boots(case, answer, pci_filter):
    """Whether the host with these candidates passes the filters."""
    state = case.host_state(answer)
    spec = case.request_spec()
    return all(
        one.host_passes(state, spec)
        for one in (pci_filter, numa_topology_filter.NUMATopologyFilter())
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_that_boots_with_stock_boots_with_us(placement, policy):
    stock_filter = pci_passthrough_filter.PciPassthroughFilter()
    our_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    booted = 0
    refused = 0
    for seed in range(CASES):
        case = draw(seed, policy)
        placement.replace_providers(case.providers())
        # Stock has every candidate where nothing limits it. The same devices
        # in another order are the same to the filters.
        every = placement.stock(
            "/allocation_candidates?" + case.query.partition("&limit")[0]
        ).json
        every["allocation_requests"] = list(
            {
                frozenset(found["allocations"]): found
                for found in every["allocation_requests"]
            }.values()
        )
        request_id = {"X-Openstack-Request-Id": f"req-{seed}"}
        response = placement.candidates(case.query, headers=request_id)
        assert response.is_composed
        ours = response.json
        if not boots(case, every, stock_filter):
            refused += bool(every["allocation_requests"])
            assert not boots(case, ours, stock_filter), case
            assert not boots(case, ours, our_filter), case
            continue
        booted += 1
        assert boots(case, ours, stock_filter), case
        assert boots(case, ours, our_filter), case
    assert booted > CASES / 4
    assert policy == "preferred" or refused


def _split_in_halves(n):
    return n // 8


def _take_turns(n):
    return n % 2


LINK = "CUSTOM_GPU_LINK_NV18_0"


@pytest.mark.parametrize(
    ("size", "node_of", "told", "traits"),
    [
        (2, _split_in_halves, (), ()),
        (5, _split_in_halves, (), (LINK,)),
        # Of two devices the node is told.
        (4, _take_turns, (0, 2), (LINK,)),
        (8, _take_turns, (0, 2), ()),
    ],
)
def test_sixteen_gpus_of_unknown_nodes_serve_a_guest_on_one(
    placement, size, node_of, told, traits
):
    """They have too many sets for all of them to be offered."""
    case = Case(
        sockets=(0, 1),
        devices=tuple(
            Device(
                f"CUSTOM_GPU{n}",
                "CUSTOM_GPU",
                node_of(n),
                True,
                traits + ("CUSTOM_GPU_LINK_NODE_0",) * (n in told),
            )
            for n in range(16)
        ),
        asked={"CUSTOM_GPU": size},
        policy="required",
        cells=1,
        limit=1000,
    )
    placement.replace_providers(case.providers())
    stock_filter = pci_passthrough_filter.PciPassthroughFilter()
    for number in range(2):
        request_id = {"X-Openstack-Request-Id": f"req-{number}"}
        response = placement.candidates(case.query, headers=request_id)
        assert response.is_composed
        assert boots(case, response.json, stock_filter)


def eleven_gpus_on_two_nodes():
    """Of devices that no trait tells apart every set is offered: 462."""
    return Case(
        sockets=(0, 1),
        devices=tuple(
            Device(f"CUSTOM_GPU{n}", "CUSTOM_GPU", int(n > 5), True, ())
            for n in range(11)
        ),
        asked={"CUSTOM_GPU": 5},
        policy="legacy",
        cells=2,
        limit=1000,
    )


def test_nova_is_not_asked_about_each_of_many_equal_sets(placement):
    case = eleven_gpus_on_two_nodes()
    placement.replace_providers(case.providers())
    answer = placement.candidates(case.query).json
    state, spec = case.host_state(answer), case.request_spec()
    assert len(state.allocation_candidates) == 462
    our_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    assert our_filter.host_passes(state, spec)
    # None to five are on the second node, and all five can be in one way.
    most = alike.MOST_OF_A_KIND
    assert len(state.allocation_candidates) == 5 * most + 1
    assert numa_topology_filter.NUMATopologyFilter().host_passes(state, spec)


def test_of_several_servers_each_has_every_set(placement):
    case = eleven_gpus_on_two_nodes()
    placement.replace_providers(case.providers())
    answer = placement.candidates(case.query).json
    state, spec = case.host_state(answer), case.request_spec()
    spec.num_instances = 2
    our_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    assert our_filter.host_passes(state, spec)
    assert len(state.allocation_candidates) == 462


@pytest.mark.parametrize("policy", POLICIES)
def test_the_sets_left_out_change_no_choice(placement, policy, monkeypatch):
    our_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    keep = alike.keep_some_of_each_kind
    left_out = 0
    for seed in range(CASES):
        case = draw(seed, policy)
        placement.replace_providers(case.providers())
        answer = placement.candidates(case.query).json
        chosen = []
        for wanted in (keep, lambda _pools, _asked, _mappings, found: found):
            monkeypatch.setattr(alike, "keep_some_of_each_kind", wanted)
            state, spec = case.host_state(answer), case.request_spec()
            our_filter.host_passes(state, spec)
            offered = len(state.allocation_candidates)
            numa_topology_filter.NUMATopologyFilter().host_passes(state, spec)
            chosen.append(
                (offered, (state.allocation_candidates or [None])[0])
            )
        assert chosen[0][1] == chosen[1][1], case
        left_out += chosen[1][0] - chosen[0][0]
    assert left_out
