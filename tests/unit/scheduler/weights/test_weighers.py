# SPDX-License-Identifier: Apache-2.0

"""Through nova's weight handler, so that normalizing and multipliers count."""

from nova import objects
from nova.pci import stats
from nova.scheduler import host_manager
from nova.scheduler import weights
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler import in_flight
from nova_gpu_filter.scheduler import weights as gpu_weights
from nova_gpu_filter.scheduler.weights import gpu_fragmentation
from nova_gpu_filter.scheduler.weights import gpu_in_flight
from nova_gpu_filter.scheduler.weights import gpu_topology
from tests import machines
from tests import pools

WEIGHERS = {
    "fragmentation": gpu_fragmentation.GpuFragmentationWeigher,
    "in_flight": gpu_in_flight.GpuInFlightWeigher,
    "topology": gpu_topology.GpuTopologyWeigher,
}


@pytest.fixture
def config():
    conf.register_opts(cfg.CONF)
    with config_fixture.Config(cfg.CONF) as fixture:
        yield fixture


def host(name, host_pools=None, first=None, metadata=None):
    """A host state whose first candidate takes the devices ``first``."""
    state = host_manager.HostState(name, name, uuids.cell)
    state.aggregates = (
        [objects.Aggregate(metadata=metadata)] if metadata else []
    )
    state.allocation_candidates = []
    if host_pools is None:
        return state
    state.pci_stats = stats.PciDeviceStats(objects.NUMATopology(cells=[]))
    state.pci_stats.pools = host_pools
    mapping = {"": [uuids.root]}
    for number, device in enumerate(first or ()):
        mapping[f"{uuids.req}-{number}"] = [f"gpu{device}"]
    state.allocation_candidates = [{"mappings": mapping}]
    return state


def asking(count):
    requests = []
    if count:
        requests = [
            objects.InstancePCIRequest(
                count=count,
                request_id=uuids.req,
                alias_name="h100",
                spec=[dict(pools.H100)],
            )
        ]
    return objects.RequestSpec(
        instance_uuid=uuids.instance,
        flavor=objects.Flavor(name="gpu", extra_specs={}),
        pci_requests=objects.InstancePCIRequests(requests=requests),
    )


def order(weigher, hosts, count):
    """Return the names of the hosts, best first."""
    weighed = weights.HostWeightHandler().get_weighed_objects(
        [WEIGHERS[weigher]()], hosts, asking(count)
    )
    return [host.obj.host for host in weighed]


def test_the_host_that_is_damaged_least_is_best(config):
    machine = machines.hgx_h100_partitions()
    hosts = [
        host("breaks-a-quad", pools.of(machine), first=[0]),
        host("has-a-lone-gpu", pools.of(machine, [0, 4, 5]), first=[0]),
        host("breaks-a-pair", pools.of(machine, [0, 1]), first=[0]),
    ]
    assert order("fragmentation", hosts, 1) == [
        "has-a-lone-gpu",
        "breaks-a-pair",
        "breaks-a-quad",
    ]


def test_among_equals_the_fullest_host_is_best(config):
    machine = machines.hgx_h100()
    hosts = [
        host("empty", pools.of(machine), first=range(8)),
        host("other", pools.of(machines.redstone_a100()), first=range(4)),
    ]
    assert order("fragmentation", hosts, 4)[0] == "other"


def test_requests_without_devices_are_kept_off_gpu_hosts(config):
    machine = machines.hgx_h100()
    hosts = [
        host("gpus", pools.of(machine)),
        host("few", pools.of(machine, [0])),
        host("none"),
        host("nics", pools.of(machine, physical_network="physnet0")),
    ]
    ranked = order("fragmentation", hosts, 0)
    assert set(ranked[:2]) == {"none", "nics"}
    assert ranked[2:] == ["few", "gpus"]


def test_the_host_with_the_better_set_is_best(config):
    hosts = [
        host("node", pools.of(machines.bridge_pairs_h100_nvl()), [0, 2]),
        host("nv12", pools.of(machines.bridge_pairs_h100_nvl()), [0, 1]),
        host("nv18", pools.of(machines.hgx_h100()), [0, 1]),
        host("sys", pools.of(machines.bridge_pairs_h100_nvl()), [0, 4]),
        host("broken", pools.of(machines.hgx_h100_partitions()), [0, 2]),
    ]
    ranked = order("topology", hosts, 2)
    assert ranked[:3] == ["nv18", "nv12", "node"]


@pytest.mark.parametrize("count", [0, 1])
def test_links_do_not_matter_to_requests_without_pairs(config, count):
    machine = machines.hgx_h100()
    hosts = [host("a"), host("b", pools.of(machine), [0])]
    weigher = WEIGHERS["topology"]()
    weighed = [weights.WeighedHost(state, 0) for state in hosts]
    assert weigher.weigh_objects(weighed, asking(count)) == [0, 0]


def test_without_placement_the_best_set_stands_for_the_host(config):
    def legacy(machine):
        return pools.of(machine, in_placement=False)

    hosts = [
        host("pcie", legacy(machines.nested(4, numa=(0, 0, 1, 1)))),
        host("bridged", legacy(machines.bridge_pairs_four_numa_nodes())),
    ]
    assert order("topology", hosts, 2) == ["bridged", "pcie"]


@pytest.mark.parametrize("weigher", WEIGHERS)
def test_the_multiplier_is_an_option_that_aggregates_override(config, weigher):
    name = f"gpu_{weigher}_weight_multiplier"
    config.config(group="filter_scheduler", **{name: 7.0})
    made = WEIGHERS[weigher]()
    assert made.weight_multiplier(host("a")) == 7.0
    assert made.weight_multiplier(host("a", metadata={name: "-2"})) == -2.0


@pytest.mark.parametrize("weigher", WEIGHERS)
def test_hosts_that_cannot_be_read_are_no_error(config, weigher):
    foreign = host("foreign")
    foreign.pci_stats = object()
    vfs = host("vfs", pools.of(machines.hgx_h100(), [0], count=4), [0, 0])
    assert len(order(weigher, [host("none"), vfs], 2)) == 2
    assert len(order(weigher, [foreign, vfs], 2)) == 2
    assert len(order(weigher, [foreign, vfs], 0)) == 2


@pytest.mark.parametrize("weigher", ["fragmentation", "topology"])
def test_a_flavor_that_asks_for_no_device_makes_all_hosts_alike(
    config, weigher
):
    spec_obj = asking(1)
    spec_obj.pci_requests.requests[0].count = 0  # pci_passthrough:alias=h100:0
    hosts = [host(name, pools.of(machines.hgx_h100())) for name in "ab"]
    weighed = [weights.WeighedHost(state, 0) for state in hosts]
    a, b = WEIGHERS[weigher]().weigh_objects(weighed, spec_obj)
    assert a == b


@pytest.mark.parametrize("weigher", ["fragmentation", "topology"])
def test_what_fails_is_logged_and_prefers_no_host(config, weigher, caplog):
    spec_obj = asking(2)
    spec_obj.instance_uuid = "no UUID"
    weighed = [weights.WeighedHost(host(name), 0) for name in "ab"]
    assert WEIGHERS[weigher]().weigh_objects(weighed, spec_obj) == [0, 0]
    assert type(WEIGHERS[weigher]()).__name__ in caplog.text


def weigh(hosts, instance, moved=False):
    """Weigh as nova does, with fragmentation before requests in flight."""
    spec_obj = asking(1)
    spec_obj.instance_uuid = instance
    if moved:
        spec_obj.requested_destination = objects.Destination(
            cell=objects.CellMapping()
        )
    weighed = weights.HostWeightHandler().get_weighed_objects(
        [WEIGHERS["fragmentation"](), WEIGHERS["in_flight"]()],
        hosts,
        spec_obj,
    )
    return [host.obj.host for host in weighed]


@pytest.fixture
def two_hosts():
    """The fuller one is better; each offers its first device."""
    machine = machines.hgx_h100()
    hosts = [
        host("empty", pools.of(machine), first=[0]),
        host("fuller", pools.of(machine, [0, 1]), first=[0]),
    ]
    for state in hosts:
        state.uuid = getattr(uuids, state.host)
    return hosts


def offer(memory, hosts, instance):
    memory.remember(instance, {h.uuid: frozenset(["gpu0"]) for h in hosts})


def test_requests_for_one_device_go_to_two_hosts(config, two_hosts):
    memory = in_flight.InFlight(seconds=60)
    for instance in (uuids.first, uuids.second, uuids.third):
        offer(memory, two_hosts, instance)
    assert weigh(two_hosts, uuids.first) == ["fuller", "empty"]
    assert weigh(two_hosts, uuids.second) == ["empty", "fuller"]
    # Both devices are somebody's by now: the better host is as good as any.
    assert weigh(two_hosts, uuids.third) == ["fuller", "empty"]


@pytest.mark.parametrize(
    ("moved", "expected"), [(False, "gpu1"), (True, "gpu0")]
)
def test_another_candidate_comes_first_where_there_is_one(
    config, two_hosts, moved, expected
):
    """But not for a server that moves, which gets the first devices anyway."""
    memory = in_flight.InFlight(seconds=60)
    fuller = two_hosts[1]
    fuller.allocation_candidates.append(
        {"mappings": {f"{uuids.req}-0": ["gpu1"]}}
    )
    for instance in (uuids.first, uuids.second):
        offer(memory, two_hosts, instance)
    weigh(two_hosts, uuids.first)
    order = weigh(two_hosts, uuids.second, moved=moved)
    assert order[0] == ("empty" if moved else "fuller")
    first = fuller.allocation_candidates[0]["mappings"]
    assert first[f"{uuids.req}-0"] == [expected]
    assert len(fuller.allocation_candidates) == 2


def test_nobody_is_moved_where_nothing_is_known(config, two_hosts):
    assert weigh(two_hosts, uuids.unknown) == ["fuller", "empty"]


def test_a_multiplier_of_zero_leaves_the_order_and_notes_nothing(
    config, two_hosts
):
    config.config(group="filter_scheduler", gpu_in_flight_weight_multiplier=0)
    memory = in_flight.InFlight(seconds=60)
    for instance in (uuids.first, uuids.second):
        offer(memory, two_hosts, instance)
        assert weigh(two_hosts, instance) == ["fuller", "empty"]
    choice = memory.choose(uuids.first, {uuids.fuller: [{"gpu0"}]})
    assert choice == in_flight.Choice()


def test_it_stands_last_among_ours():
    assert gpu_weights.all_weighers()[-1] is gpu_in_flight.GpuInFlightWeigher
