# SPDX-License-Identifier: Apache-2.0

"""Neutron SR-IOV ports through our filter: requests without an alias."""

from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base
import pytest

from demo import chapter_2016
from demo import cloud as embedded
from demo import fake_machines

HOST = "nic-host"
VF = f"{fakelibvirt.PCI_VEND_ID}:{fakelibvirt.VF_PROD_ID}"
VF_SPEC = (
    f'{{"vendor_id": "{fakelibvirt.PCI_VEND_ID}",'
    f' "product_id": "{fakelibvirt.VF_PROD_ID}",'
    ' "physical_network": "physnet4"}'
)


@pytest.fixture(params=["legacy", "PCI in Placement"])
def nic_cloud(request, edited_conf):
    """A host with one NIC that has one VF, in either mode."""
    conf = edited_conf(
        "2016.conf",
        (
            'pci_passthrough_whitelist=[{ "vendor_id":"10de",'
            '"product_id":"11bf"}]',
            f"pci_passthrough_whitelist={VF_SPEC}",
        ),
    )
    files = [conf]
    if request.param != "legacy":
        files += ["report-in-placement.conf", "pci-in-placement.conf"]
    with embedded.EmbeddedCloud(*files) as cloud:
        cloud.services.neutron = cloud.services.useFixture(
            base.LibvirtNeutronFixture(cloud.services)
        )
        nic = fakelibvirt.HostPCIDevicesInfo(num_pfs=1, num_vfs=1)
        cloud.add_compute(
            HOST,
            fake_machines.Machine(
                "one NIC", nic, fake_machines.build_plain_host().host_info
            ),
        )
        cloud.create_flavor("plain", {})
        cloud.create_flavor(
            chapter_2016.FLAVOR,
            {"pci_passthrough:alias": chapter_2016.ALIAS},
        )
        yield cloud


def _port(cloud, port):
    cloud.services.neutron.create_port({"port": port})
    return [{"port": port["id"]}]


def test_a_port_gets_the_vf_and_the_next_one_is_refused(nic_cloud):
    networks = base.LibvirtNeutronFixture
    first = nic_cloud.boot(
        "first",
        "plain",
        networks=_port(nic_cloud, networks.network_4_port_1),
    )
    [device] = nic_cloud.devices(HOST)
    assert (first.status, device.product, device.server) == (
        "ACTIVE",
        VF,
        "first",
    )

    decisions = nic_cloud.decisions()
    second = nic_cloud.boot(
        "second",
        "plain",
        networks=_port(nic_cloud, networks.network_4_port_2),
    )

    assert second.status == "ERROR"
    [summary] = decisions.summaries()
    assert summary.startswith("GpuPciPassthroughFilter: 0 of 1 hosts: 1 ")
    [refused] = decisions.refusals()
    assert "port request" in refused


def test_a_server_without_devices_is_not_our_filters_business(nic_cloud):
    decisions = nic_cloud.decisions()
    server = nic_cloud.boot("plain", "plain")

    assert server.status == "ACTIVE"
    assert not decisions.summaries()
    assert not decisions.refusals()
