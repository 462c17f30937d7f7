# SPDX-License-Identifier: Apache-2.0

"""Through nova's weight handler, so that normalizing and multipliers count."""

import pathlib
import random
import re

from nova import objects
from nova.pci import stats
from nova.scheduler import host_manager
from nova.scheduler import weights
from nova.scheduler import weights as nova_weights
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler import views
from nova_gpu_filter.scheduler import weights as gpu_weights
from nova_gpu_filter.scheduler.weights import gpu_fragmentation
from nova_gpu_filter.scheduler.weights import gpu_further_set
from nova_gpu_filter.scheduler.weights import gpu_topology
from tests import machines
from tests import pools

DOCUMENTATION = pathlib.Path(__file__).parents[4] / "doc" / "source"

WEIGHERS = {
    "fragmentation": gpu_fragmentation.GpuFragmentationWeigher,
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


def asking(count, **extra_specs):
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
        num_instances=1,
        instance_group=None,
        numa_topology=None,
        scheduler_hints={},
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        flavor=objects.Flavor(
            name="gpu",
            vcpus=1,
            memory_mb=1,
            root_gb=1,
            ephemeral_gb=0,
            swap=0,
            extra_specs=extra_specs,
        ),
        pci_requests=objects.InstancePCIRequests(requests=requests),
    )


def order(weigher, hosts, count, **extra_specs):
    """Return the names of the hosts, best first."""
    weighed = weights.HostWeightHandler().get_weighed_objects(
        [WEIGHERS[weigher]()], hosts, asking(count, **extra_specs)
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


@pytest.mark.parametrize("weigher", ["fragmentation", "topology"])
def test_nothing_is_said_of_requests_without_devices(config, weigher):
    machine = machines.hgx_h100()
    hosts = [
        host("gpus", pools.of(machine)),
        host("few", pools.of(machine, [0])),
        host("none"),
    ]
    weighed = [weights.WeighedHost(state, 0) for state in hosts]
    made = WEIGHERS[weigher]()
    assert made.weigh_objects(weighed, asking(0)) == [0.0] * 3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_who_asks_for_no_link_is_kept_off_links(config, count):
    """Where the hosts are fragmented alike."""
    hosts = [
        host(name, pools.of(machine), range(count))
        for name, machine in (
            ("partitions", machines.hgx_h100_partitions()),
            ("nvswitch", machines.hgx_h100()),
            ("pcie", machines.pcie_node_sys()),
        )
    ]
    ranked = order("fragmentation", hosts, count)
    assert ranked == ["pcie", "nvswitch", "partitions"]


def test_the_host_with_the_better_set_is_best(config):
    hosts = [
        host("node", pools.of(machines.bridge_pairs_h100_nvl()), [0, 2]),
        host("nv12", pools.of(machines.bridge_pairs_h100_nvl()), [0, 1]),
        host("nv18", pools.of(machines.hgx_h100()), [0, 1]),
        host("sys", pools.of(machines.bridge_pairs_h100_nvl()), [0, 4]),
        host("broken", pools.of(machines.hgx_h100_partitions()), [0, 2]),
    ]
    ranked = order("topology", hosts, 2, **{"gpu:link": "nvlink"})
    assert ranked[:3] == ["nv18", "nv12", "node"]


@pytest.mark.parametrize("policy", ["required", "preferred"])
def test_a_link_over_pcie_need_not_be_better_than_asked(config, policy):
    hosts = [
        host("sys", pools.of(machines.pcie_node_sys()), [0, 4]),
        host("nvswitch", pools.of(machines.hgx_h100()), [0, 1]),
        host("node", pools.of(machines.pcie_node_sys()), [0, 1]),
        host("pix", pools.of(machines.pcie_pix_sys()), [0, 1]),
    ]
    weighed = [weights.WeighedHost(state, 0) for state in hosts]
    found = WEIGHERS["topology"]().weigh_objects(
        weighed, asking(2, **{"gpu:link": "node", "gpu:link_policy": policy})
    )
    assert found == [0, 1, 1, 1]


def test_without_a_link_asked_for_links_say_nothing(config):
    hosts = [
        host("pcie", pools.of(machines.pcie_node_sys()), [0, 1]),
        host("nvswitch", pools.of(machines.hgx_h100()), [0, 1]),
    ]
    weighed = [weights.WeighedHost(state, 0) for state in hosts]
    found = WEIGHERS["topology"]().weigh_objects(weighed, asking(2))
    assert found == [0, 0]


def rooms(name, machine, free, count):
    """A host on which RAM, CPUs and disks are as free as the GPUs."""
    state = host(name, pools.of(machine, free), range(count))
    state.free_ram_mb = state.total_usable_ram_mb = 131072 * len(free)
    state.free_disk_mb = 524288 * len(free)
    state.vcpus_total, state.vcpus_used = 128, 128 - 16 * len(free)
    state.cpu_allocation_ratio = 1.0
    state.hypervisor_version = 1
    state.instances = {}
    return state


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("left", [4, 5, 6])
def test_the_fullest_host_wins_with_all_weighers_of_nova(config, count, left):
    machine = machines.pcie_pix_node_sys()
    hosts = [
        rooms("7 free", machine, range(7), count),
        rooms(f"{left} free", machine, range(left), count),
        rooms("8 free", machine, range(8), count),
    ]
    spec_obj = asking(count)
    weighed = weights.HostWeightHandler().get_weighed_objects(
        [cls() for cls in nova_weights.all_weighers()]
        + [cls() for cls in gpu_weights.all_weighers()],
        hosts,
        spec_obj,
    )
    ours = order("fragmentation", hosts, count)
    assert [host.obj.host for host in weighed] == ours


@pytest.mark.parametrize("link", [None, "nvlink", "pix"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_nova_never_outweighs_ours_on_any_hosts(config, count, link):
    extra_specs = {"gpu:link": link} if link else {}
    spec_obj = asking(count, **extra_specs)
    ours = [cls() for cls in gpu_weights.all_weighers()]
    every = [cls() for cls in nova_weights.all_weighers()] + ours
    handler = weights.HostWeightHandler()
    for seed in range(10):
        chance = random.Random(seed)
        hosts = [
            rooms(
                f"host{i}",
                chance.choice(
                    (machines.hgx_h100_partitions, machines.pcie_node_sys)
                )(),
                sorted(chance.sample(range(8), chance.randint(count, 8))),
                count,
            )
            for i in range(30)
        ]
        by_ours = handler.get_weighed_objects(ours, hosts, spec_obj)
        best = {
            host.obj.host
            for host in by_ours
            if host.weight == by_ours[0].weight
        }
        chosen = handler.get_weighed_objects(every, hosts, spec_obj)[0]
        assert chosen.obj.host in best


def read_table_of_weights():
    """Read the table of weights in the documentation: weigher -> text."""
    text = (DOCUMENTATION / "admin" / "filter.rst").read_text()
    table = text.partition("Weights at the defaults\n")[2]
    table = table.partition("\n\nSoft affinity")[0]
    return {
        name: said
        for names, _, said in (
            row.partition("\n     - ") for row in table.split("   * - ")
        )
        for name in re.findall(r"``(\w+)``", names)
    }


def test_the_documentation_has_the_weights_of_all_weighers(config):
    said_by_name = read_table_of_weights()
    state = rooms("host", machines.hgx_h100(), range(8), 1)
    for cls in nova_weights.all_weighers() + gpu_weights.all_weighers():
        said = re.findall(r"-?[\d,]*\d", said_by_name[cls.__name__])
        multiplier = cls().weight_multiplier(state)
        if cls is gpu_further_set.GpuFurtherSetWeigher:
            multiplier = -multiplier
        assert f"{multiplier:,.0f}" in said


def test_servers_without_devices_go_where_nova_alone_sends_them(config):
    machine = machines.hgx_h100()
    hosts = [rooms(f"{n} free", machine, range(n), 0) for n in (3, 8, 1)]
    spec_obj = asking(0)
    found = []
    for classes in (
        nova_weights.all_weighers(),
        nova_weights.all_weighers() + gpu_weights.all_weighers(),
    ):
        weighed = weights.HostWeightHandler().get_weighed_objects(
            [cls() for cls in classes], hosts, spec_obj
        )
        found.append([(host.obj.host, host.weight) for host in weighed])
    assert found[0] == found[1]


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
    assert order("topology", hosts, 2, **{"gpu:link": "nvlink"}) == [
        "bridged",
        "pcie",
    ]


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


@pytest.mark.parametrize("weigher", WEIGHERS)
def test_a_flavor_that_asks_for_no_device_makes_all_hosts_alike(
    config, weigher
):
    spec_obj = asking(1)
    spec_obj.pci_requests.requests[0].count = 0  # pci_passthrough:alias=h100:0
    hosts = [host(name, pools.of(machines.hgx_h100())) for name in "ab"]
    weighed = [weights.WeighedHost(state, 0) for state in hosts]
    a, b = WEIGHERS[weigher]().weigh_objects(weighed, spec_obj)
    assert a == b


@pytest.mark.parametrize("weigher", WEIGHERS)
def test_what_fails_is_logged_and_prefers_no_host(config, weigher, caplog):
    spec_obj = asking(2)
    spec_obj.instance_uuid = "no UUID"
    weighed = [weights.WeighedHost(host(name), 0) for name in "ab"]
    assert WEIGHERS[weigher]().weigh_objects(weighed, spec_obj) == [0, 0]
    assert type(WEIGHERS[weigher]()).__name__ in caplog.text


def with_views(hosts):
    """List hosts and their views as the filter does."""
    return views.add_views(
        hosts,
        lambda candidate: frozenset(candidate["mappings"][f"{uuids.req}-0"]),
        64,
        lambda host: list,
    )


def test_hosts_are_weighed_as_if_there_were_no_views(config):
    def hosts():
        found = [
            host("empty", pools.of(machines.hgx_h100())),
            host("fuller", pools.of(machines.hgx_h100_partitions(), [0, 1])),
            host("other", pools.of(machines.dgx1_v100())),
        ]
        for state in found:
            state.allocation_candidates = [
                {"mappings": {f"{uuids.req}-0": [f"gpu{device}"]}}
                for device in range(len(state.pci_stats.pools))
            ]
        return found

    def weigh(states):
        return [
            (weighed.obj.host, weighed.weight)
            for weighed in weights.HostWeightHandler().get_weighed_objects(
                [weigher() for weigher in gpu_weights.all_weighers()],
                states,
                asking(1),
            )
        ]

    alone = weigh(hosts())
    among = weigh(with_views(hosts()))
    assert len(among) == 8 + 2 + 8
    assert among[:3] == alone
    assert all(weight < -900 for _, weight in among[3:])


def test_the_weigher_of_views_is_one_of_ours():
    assert gpu_further_set.GpuFurtherSetWeigher in gpu_weights.all_weighers()


def vf_host(name, free, *taken):
    """A host whose GPUs have so many free VFs, of which some are taken."""
    (pool,) = pools.of(machines.hgx_h100(), [0])
    return host(
        name,
        [
            {**pool, "count": count, "rp_uuid": f"gpu{number}"}
            for number, count in enumerate(free)
            if count
        ],
        first=taken,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("spread", "hosts", "expected"),
    [
        # One VF: of the fullest GPU, or of the emptiest.
        (
            "pack",
            {"empty": ([4, 4], 0), "half": ([4, 2], 1), "last": ([4, 1], 1)},
            ["last", "half", "empty"],
        ),
        (
            "spread",
            {"empty": ([4, 4], 0), "half": ([2, 3], 1), "last": ([1, 0], 0)},
            ["empty", "half", "last"],
        ),
        # Two: what one GPU gives is packed, whatever is left elsewhere.
        (
            "pack",
            {"two": ([1, 1], 0, 1), "one": ([4, 4], 0, 0)},
            ["one", "two"],
        ),
        (
            "spread",
            {"one": ([8], 0, 0), "two": ([1, 1], 0, 1)},
            ["two", "one"],
        ),
        # Of equals the fuller host, or the emptier one.
        (
            "pack",
            {"more": ([2, 4], 0, 0), "less": ([2, 1], 0, 0)},
            ["less", "more"],
        ),
        (
            "spread",
            {"less": ([4, 4, 1], 0, 1), "more": ([4, 4, 3], 0, 1)},
            ["more", "less"],
        ),
    ],
)
def test_hosts_are_compared_by_spread(config, spread, hosts, expected, seed):
    states = [vf_host(name, *taken) for name, taken in hosts.items()]
    random.Random(seed).shuffle(states)
    (count,) = {len(taken) - 1 for taken in hosts.values()}
    found = order("fragmentation", states, count, **{"gpu:spread": spread})
    assert found == expected


def test_a_host_without_devices_does_not_win_by_spread(config):
    hosts = [host("none"), vf_host("some", [1], 0)]
    for spread in ("pack", "spread"):
        found = order("fragmentation", hosts, 1, **{"gpu:spread": spread})
        assert found[0] == "some"
