# SPDX-License-Identifier: Apache-2.0

"""What we write, read by Nova's own parsers."""

import itertools
import json
from unittest import mock

from nova import conf as nova_config
from nova import objects
from nova.compute import pci_placement_translator
from nova.pci import request as pci_request
from nova.pci import stats
from nova.pci import whitelist
from oslo_config import cfg
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.configuration import common_aliases
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links
from tests import machines
from tests import sysfs_trees
from tests.unit.host import test_linking


@pytest.fixture
def read_options(tmp_path):
    """Read a fragment with oslo.config, by Nova's own options."""

    def read_text(text):
        path = tmp_path / "fragment.conf"
        path.write_text(text)
        conf = cfg.ConfigOpts()
        nova_config.pci.register_opts(conf)
        nova_config.scheduler.register_opts(conf)
        conf(
            ["--config-file", str(path)],
            project="nova",
            default_config_dirs=[],
        )
        return conf

    return read_text


def in_nova(function):
    """The device as Nova's PCI tracker has it from libvirt."""
    return objects.PciDevice(
        compute_node_id=1,
        address=str(function.address),
        vendor_id=f"{function.vendor_id:04x}",
        product_id=f"{function.product_id:04x}",
        dev_type=function.nova_type,
        parent_addr=None if function.physfn is None else str(function.physfn),
        numa_node=function.numa_node,
        status="available",
        extra_info={},
        uuid="6b0a1b9a-7d5e-4a8d-9f00-000000000000",
    )


def pools_of(text, read_options, functions):
    """The pools that nova-compute makes of a fragment and its devices."""
    conf = read_options(text)
    # Nova asks the sysfs of the machine it runs on.
    pfs = {str(one.address) for one in functions if one.is_pf}

    def is_pf(domain, bus, slot, function):
        return f"{domain}:{bus}:{slot}.{function}" in pfs

    with (
        mock.patch("nova.pci.utils.is_physical_function", side_effect=is_pf),
        # A device spec of Nova asks for it in the options of the process.
        mock.patch("nova.pci.devspec.CONF", conf, create=True),
    ):
        specs = whitelist.Whitelist(conf.pci.device_spec)
        pci_stats = stats.PciDeviceStats(
            objects.NUMATopology(cells=[]), dev_filter=specs
        )
        for function in functions:
            device = in_nova(function)
            if specs.device_assignable(
                {
                    "vendor_id": device.vendor_id,
                    "product_id": device.product_id,
                    "address": device.address,
                    "parent_addr": device.parent_addr,
                }
            ):
                pci_stats.add_device(device)
        return pci_stats.pools, specs


@pytest.fixture
def hgx(build, read):
    host = read(build("hgx_h100"))
    return host, linking.join(
        host,
        linking.Sources(
            topo=("topo.txt", test_linking.NV18),
            query=test_linking.QUERY,
            fabric=test_linking.FABRIC,
        ),
    )


def test_pools_of_nova_carry_the_tags_that_we_write(hgx, read_options):
    text = fragment.write(*hgx, fragment.Options())
    pools, _ = pools_of(text, read_options, hgx[0].functions)
    assert len(pools) == 8
    by_address = {pool["address"]: pool for pool in pools}
    assert sorted(by_address) == sorted(sysfs_trees.HGX_H100_GPUS)
    pool = by_address["0000:0f:00.0"]
    assert pool["gpu_links"] == (
        "nv18:0,pix:0,node:0,fabric:0/8,fabric:2/4,fabric:5/2,fabric:11/1"
    )
    assert (pool["dev_type"], pool["count"]) == ("type-PF", 1)
    topology = host_topologies.build_from_pools(
        [
            (address, by_address[address]["gpu_links"], pool["numa_node"])
            for address, pool in sorted(by_address.items())
        ]
    )
    assert topology == machines.on_pcie_switches(
        machines.hgx_h100_partitions()
    )


def test_traits_that_we_write_make_the_same_topology(hgx):
    host, host_links = hgx
    options = fragment.Options()
    devices = fragment.choose_devices(host, options)
    described = host_links.build_device_links(devices)
    topology = host_topologies.build_from_traits(
        [
            (
                str(one.address),
                fragment.write_device_spec(
                    one, described[one.address], options
                )["traits"].split(","),
                one.numa_node,
            )
            for one in devices
        ]
    )
    assert topology == machines.on_pcie_switches(
        machines.hgx_h100_partitions()
    )


def test_nova_makes_of_class_and_traits_what_stands_there(hgx, read_options):
    text = fragment.write(*hgx, fragment.Options())
    _, specs = pools_of(text, read_options, hgx[0].functions)
    tags = specs.specs[0].get_tags()
    provider = pci_placement_translator.PciResourceProvider("x")
    device = in_nova(hgx[0].gpus[0])
    provider.add_parent(device, tags)
    assert provider.resource_class == "CUSTOM_GPU_H100_SXM5_80GB"
    written = set(tags["traits"].split(","))
    assert provider.traits == written | {"COMPUTE_MANAGED_PCI_DEVICE"}
    assert written == {
        "CUSTOM_GPU_MODEL_H100_SXM5_80GB",
        "CUSTOM_GPU_ARCHITECTURE_HOPPER",
        "CUSTOM_GPU_CUDA_COMPUTE_CAPABILITY_V9_0",
        "CUSTOM_GPU_LINK_NV18_0",
        "CUSTOM_GPU_LINK_PIX_0",
        "CUSTOM_GPU_LINK_NODE_0",
        "CUSTOM_GPU_FABRIC_0_8",
        "CUSTOM_GPU_FABRIC_2_4",
        "CUSTOM_GPU_FABRIC_5_2",
        "CUSTOM_GPU_FABRIC_11_1",
    }


def test_a_compute_capability_of_os_traits_is_used_where_there_is_one(
    build, read
):
    gpu = read(build("k2_host")).gpus[0]
    assert naming.name_traits(gpu) == (
        "CUSTOM_GPU_MODEL_GRID_K2",
        "CUSTOM_GPU_ARCHITECTURE_KEPLER",
        "HW_GPU_CUDA_COMPUTE_CAPABILITY_V3_0",
    )


ALL = fragment.Options(
    nics=True,
    nvswitches=True,
    whole_cards=True,
    managed="no",
    live_migratable=True,
    report_in_placement=True,
    one_time_use=True,
)


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
@pytest.mark.parametrize("options", [fragment.Options(), ALL])
def test_nova_offers_exactly_the_chosen_devices_of_each_machine(
    build, read, read_options, machine, options
):
    host = read(build(machine))
    text = fragment.write(host, linking.join(host), options)
    pools, specs = pools_of(text, read_options, host.functions)
    offered = sorted(
        device.address for pool in pools for device in pool["devices"]
    )
    chosen = [
        str(one.address) for one in fragment.choose_devices(host, options)
    ]
    assert offered == sorted(chosen)
    assert len(specs.specs) == len(chosen)


def test_further_tags_are_written_where_they_are_asked_for(build, read):
    host = read(build("k2_host"))
    spec = fragment.write_device_spec(host.gpus[0], None, ALL)
    assert (spec["managed"], spec["live_migratable"]) == ("no", "yes")
    plain = fragment.write_device_spec(host.gpus[0], None, fragment.Options())
    assert {
        *("managed", "live_migratable", "gpu_links", "one_time_use")
    }.isdisjoint(plain)


def test_whole_devices_are_of_one_time_use_where_it_is_asked_for(build, read):
    options = fragment.Options(one_time_use=True, report_in_placement=True)
    gpu = read(build("k2_host")).gpus[0]
    assert (
        fragment.write_device_spec(gpu, None, options)["one_time_use"]
        == "true"
    )
    # nova-compute does not start with it on a VF.
    for vf in fragment.choose_devices(
        read(build("flex_with_vfs", vfs=2)), options
    ):
        assert "one_time_use" not in fragment.write_device_spec(
            vf, None, options
        )


def test_a_card_is_specified_as_a_whole_where_it_is_asked_for(build, read):
    host = read(build("rtx_with_audio_and_usb"))
    assert len(fragment.choose_devices(host, fragment.Options())) == 1
    whole = fragment.choose_devices(host, fragment.Options(whole_cards=True))
    assert [one.address.function for one in whole] == [0, 1, 2, 3]
    names = [
        naming.name_resource_class(one, naming.Choices()) for one in whole
    ]
    assert len(set(names)) == 4


def test_vfs_are_offered_in_the_place_of_their_gpu(build, read):
    host = read(build("flex_with_vfs", vfs=3))
    chosen = fragment.choose_devices(host, fragment.Options())
    assert [one.nova_type for one in chosen] == ["type-VF"] * 3
    assert naming.name_resource_class(chosen[0], naming.Choices()) == (
        "CUSTOM_GPU_DATA_CENTER_GPU_FLEX_170_VF"
    )


def test_the_console_is_offered_only_if_it_is_named(build, read):
    host = read(build("laptop"))
    assert [
        str(one.address)
        for one in fragment.choose_devices(host, fragment.Options())
    ] == ["0000:01:00.0"]
    named = fragment.Options(only=(PciAddress.parse("00:02.0"),))
    assert [
        str(one.address) for one in fragment.choose_devices(host, named)
    ] == ["0000:00:02.0"]


def test_a_device_that_nova_ignores_is_a_comment(tmp_path, read):
    files = sysfs_trees.Host(tmp_path / "host")
    files.add(
        sysfs_trees.Pci("10000:01:00.0", "pci10000:00", "10de:11bf", 0x030000)
    )
    host = read(files)
    text = fragment.write(host, linking.join(host), fragment.Options())
    assert "device_spec" not in text.split("[pci]")[1]
    assert "Nova ignores devices in PCI domains above ffff" in text


def test_what_is_not_known_of_links_stands_in_the_fragment(build, read):
    host = read(build("a100_bridge_pairs"))
    text = fragment.write(host, linking.join(host), fragment.Options())
    assert "# NVLink: unknown for 0000:01:00.0" in text
    assert '"gpu_links": "node:0"' in text


def test_without_links_no_tag_and_no_trait_of_links_is_written(hgx):
    text = fragment.write(*hgx, fragment.Options(links=False))
    assert "CUSTOM_GPU_LINK" not in text
    assert '"gpu_links"' not in text


def test_nics_share_link_groups_with_the_gpus_beside_them(hgx):
    host, host_links = hgx
    devices = fragment.choose_devices(host, fragment.Options(nics=True))
    topology = host_topologies.build_from_pools(
        [
            (
                str(one.address),
                fragment.write_device_spec(
                    one,
                    host_links.build_device_links(devices)[one.address],
                    fragment.Options(),
                ).get("gpu_links"),
                one.numa_node,
            )
            for one in devices
        ]
    )
    known = host_links.build_topology(devices)
    for a, b in itertools.combinations(range(len(devices)), 2):
        assert topology.links[a][b] == known.links[a][b]
    place = {str(one.address): i for i, one in enumerate(devices)}
    gpu, nic = place["0000:0f:00.0"], place["0000:0d:00.0"]
    assert topology.links[gpu][nic] == links.PIX


def test_our_own_check_finds_nothing_wrong_with_what_we_write(
    build, read, tmp_path
):
    from nova_gpu_filter.host.checks import conf_device_specs
    from nova_gpu_filter.host.sysfs import reader
    from nova_gpu_filter.host.sysfs import tree

    for number, machine in enumerate(sysfs_trees.MACHINES):
        files = tree.Tree(str(build(machine).root))
        host = reader.read(files)
        path = tmp_path / f"{number}.conf"
        path.write_text(
            fragment.write(
                host,
                linking.join(host),
                fragment.Options(report_in_placement=True),
            )
        )
        found = conf_device_specs.check(
            host,
            reader.read(files, everything=True).functions,
            pci_options.read(str(path)),
        )
        assert list(found) == [], machine


# Aliases


@pytest.fixture
def requests_of(read_options):
    """PCI requests that Nova makes of a flavor and a fragment."""

    def translate(text, extra_spec):
        conf = read_options(text)
        with (
            mock.patch.object(pci_request, "CONF", conf),
            mock.patch.object(
                pci_request,
                "get_alias_from_config",
                pci_request.get_alias_from_config.__wrapped__
                if hasattr(pci_request.get_alias_from_config, "__wrapped__")
                else pci_request.get_alias_from_config,
            ),
        ):
            flavor = objects.Flavor(
                extra_specs={"pci_passthrough:alias": extra_spec}
            )
            return pci_request.get_pci_requests_from_flavor(flavor).requests

    return translate


@pytest.mark.parametrize("placement", [False, True])
def test_nova_makes_requests_of_our_aliases_that_our_pools_meet(
    hgx, read_options, requests_of, placement
):
    options = fragment.Options(nics=True, report_in_placement=placement)
    text = common_aliases.write([hgx], options, numa_policy="preferred")
    requests = requests_of(text, "h100-sxm5-80gb:4,connectx-7:4")
    assert [one.count for one in requests] == [4, 4]
    assert {one.numa_policy for one in requests} == {"preferred"}
    pools, _ = pools_of(
        fragment.write(*hgx, options), read_options, hgx[0].functions
    )
    pci_stats = stats.PciDeviceStats(objects.NUMATopology(cells=[]))
    pci_stats.pools = pools
    assert pci_stats.support_requests(requests, provider_mapping=None)


def test_a_fleet_has_one_alias_for_each_kind_of_device(build, read):
    fleet_hosts = []
    for machine in ("hgx_h100", "k2_host", "flex_with_vfs", "mi300x"):
        host = read(build(machine))
        fleet_hosts.append((host, linking.join(host)))
    made, by_alias = common_aliases.make_aliases(
        fleet_hosts, fragment.Options()
    )
    assert [(one["name"], one["device_type"]) for one in made] == [
        ("instinct-mi300x", "type-PF"),
        ("grid-k2", "type-PCI"),
        ("h100-sxm5-80gb", "type-PF"),
        ("data-center-gpu-flex-170-vf", "type-VF"),
    ]
    assert by_alias["grid-k2"] == ["k2-1"]


def test_names_can_be_chosen(hgx):
    names = naming.Choices(
        resource_classes=naming.parse_choices(
            "--resource-class", ["10de:2330=gpu h100"]
        ),
        aliases=naming.parse_choices("--alias", ["h100"]),
    )
    made, _ = common_aliases.make_aliases([hgx], fragment.Options(names=names))
    assert made == [
        {
            "name": "h100",
            "vendor_id": "10de",
            "product_id": "2330",
            "device_type": "type-PF",
            "resource_class": "CUSTOM_GPU_H100",
        }
    ]


@pytest.mark.parametrize(
    "values",
    [["10de=x"], ["10de:2330="], [""], ["10de:2330=a", "10DE:2330=b"]],
)
def test_wrong_names_are_refused(values):
    with pytest.raises(exception.BadInput):
        naming.parse_choices("--alias", values)


def test_one_name_for_two_kinds_is_made_two_names(build, read, tmp_path):
    first = read(build("a100_bridge_pairs"))
    files = sysfs_trees.Host(tmp_path / "other", "a100-2")
    files.add(
        sysfs_trees.Pci(
            "0000:01:00.0", "pci0000:00", "10de:20f1", 0x030200, numa=0
        )
    )
    second = read(files)
    fleet_hosts = [(one, linking.join(one)) for one in (first, second)]
    made, _ = common_aliases.make_aliases(fleet_hosts, fragment.Options())
    assert [one["name"] for one in made] == [
        "a100-pcie-40gb-10de-20f1-pci",
        "a100-pcie-40gb-10de-20f1-pf",
    ]
    assert any(
        "10de:20f1 is type-PCI and type-PF" in line
        for line in common_aliases.find_differences(
            fleet_hosts, fragment.Options()
        )
    )


# Drift


@pytest.fixture
def twins(tmp_path, read):
    """Three equal hosts; the third can be changed before it is read."""

    def make(change):
        read_hosts = []
        for number in range(3):
            files = sysfs_trees.a100_bridge_pairs(tmp_path / str(number))
            files.write("/proc/sys/kernel/hostname", f"a100-{number}")
            if number == 2:
                change(files)
            host = read(files)
            read_hosts.append((host, linking.join(host)))
        return read_hosts

    return make


FIRST = "/sys/bus/pci/devices/0000:01:00.0"


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("/proc/sys/kernel/osrelease", "5.15.0", "kernel 5.15.0; 6.8.0"),
        (f"{FIRST}/numa_node", 1, "NUMA nodes 1x 0, 3x 1; 2x 0, 2x 1"),
        (f"{FIRST}/revision", "0xa2", "revision 3x a1, 1x a2; a1"),
        (f"{FIRST}/subsystem_device", "0x1", "board 1x 10de:0001"),
        (f"{FIRST}/current_link_width", 8, "x8"),
        (f"{FIRST}/sriov_totalvfs", 0, "type 1x type-PCI, 3x type-PF"),
    ],
)
def test_a_host_that_differs_from_the_others_is_told(
    twins, path, content, words
):
    found = common_aliases.find_differences(
        twins(lambda files: files.write(path, content)), fragment.Options()
    )
    assert any(line.startswith("a100-2: ") and words in line for line in found)


def test_equal_hosts_have_no_drift(twins):
    assert (
        common_aliases.find_differences(
            twins(lambda files: None), fragment.Options()
        )
        == []
    )


def test_a_missing_gpu_is_drift(twins):
    def change(files):
        files.remove("/sys/bus/pci/devices/0000:a1:00.0")

    found = common_aliases.find_differences(twins(change), fragment.Options())
    assert "a100-2: 10de:20f1: number 3; 4 on 2 of 3 hosts" in found


def test_one_host_name_twice_is_told(twins):
    def change(files):
        files.write("/proc/sys/kernel/hostname", "a100-1")

    found = common_aliases.find_differences(twins(change), fragment.Options())
    assert found == ["a100-1: this host name stands in several inventories"]


def test_drift_stands_in_the_fragment_as_comments(twins, read_options):
    def change(files):
        files.write("/proc/sys/kernel/osrelease", "5.15.0")

    text = common_aliases.write(twins(change), fragment.Options())
    assert "# Drift: a100-2: kernel 5.15.0" in text
    (alias,) = read_options(text).pci.alias
    assert json.loads(alias)["name"] == "a100-pcie-40gb"
