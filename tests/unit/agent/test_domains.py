# SPDX-License-Identifier: Apache-2.0

"""Which domain has which device."""

import pytest

from nova_gpu_filter.agent import domains
from nova_gpu_filter.agent import errors
from tests.unit.agent import fakes

XML = """
<domain type='kvm'>
  <devices>
    <disk type='file'/>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <driver name='vfio'/>
      <source>
        <address domain='0x0000' bus='0x85' slot='0x00' function='0x0'/>
      </source>
      <address type='pci' domain='0x0000' bus='0x05' slot='0x00'
               function='0x0'/>
    </hostdev>
    <hostdev mode='subsystem' type='usb'>
      <source><address bus='1' device='3'/></source>
    </hostdev>
    <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
      <source><address uuid='0e6ba8a7-9a4e-4d3e-8d0b-3c5b6f4dce01'/></source>
    </hostdev>
    <interface type='hostdev' managed='yes'>
      <source>
        <address type='pci' domain='0x10000' bus='0x3b' slot='0x02'
                 function='0x7'/>
      </source>
    </interface>
    <interface type='bridge'><source bridge='br0'/></interface>
  </devices>
</domain>
"""


def test_pci_devices_of_a_domain_and_its_interfaces():
    found = set(domains.parse_hostdevs(XML))
    assert found == {"0000:85:00.0", "10000:3b:02.7"}


def test_what_is_no_xml_is_one_clear_line():
    with pytest.raises(errors.CannotRead) as raised:
        list(domains.parse_hostdevs("<domain>"))
    assert "libvirt" in str(raised.value)


def test_holders_are_read_from_all_domains():
    libvirt = fakes.Libvirt()
    one, two = fakes.Domain("0000:85:00.0"), fakes.Domain("0000:86:00.0")
    libvirt.domains = [one, two, fakes.Domain()]
    asked = domains.Libvirt("qemu:///system", libvirt)
    assert asked.read_holders() == {
        "0000:85:00.0": one.uuid,
        "0000:86:00.0": two.uuid,
    }
    assert libvirt.uri == "qemu:///system"
    assert asked.read_hostname() == "gpu-1"
    assert libvirt.opened == 1


def test_what_runs_is_read_without_domains_that_are_shut_off():
    libvirt = fakes.Libvirt()
    one, two = fakes.Domain("0000:85:00.0"), fakes.Domain("0000:86:00.0")
    two.is_active = False
    libvirt.domains = [one, two]
    asked = domains.Libvirt("qemu:///system", libvirt)
    assert asked.read_running() == {one.uuid: frozenset({"0000:85:00.0"})}


def test_a_domain_that_goes_while_it_is_read_is_left_out():
    libvirt = fakes.Libvirt()
    gone = fakes.Domain("0000:85:00.0")
    gone.error = fakes.LibvirtError("Domain not found", 42)
    libvirt.domains = [gone]
    assert domains.Libvirt("x", libvirt).read_holders() == {}


def test_another_error_of_a_domain_is_no_answer_at_all():
    libvirt = fakes.Libvirt()
    broken = fakes.Domain("0000:85:00.0")
    broken.error = fakes.LibvirtError("monitor is locked", 68)
    libvirt.domains = [broken]
    with pytest.raises(errors.CannotRead, match="monitor is locked"):
        domains.Libvirt("x", libvirt).read_holders()


def test_libvirt_that_was_away_is_connected_to_again():
    libvirt = fakes.Libvirt()
    asked = domains.Libvirt("qemu:///system", libvirt)
    libvirt.is_away = True
    for _ in range(2):
        with pytest.raises(errors.CannotRead) as raised:
            asked.read_holders()
        assert "qemu:///system" in str(raised.value)
    libvirt.is_away = False
    assert asked.read_holders() == {}


def test_events_are_registered_with_each_connection():
    libvirt = fakes.Libvirt()
    asked = domains.Libvirt("x", libvirt)
    seen = []
    asked.watch(lambda: seen.append(1))
    asked.read_holders()
    libvirt.callbacks[0]("connection", "domain", 5, 0, None)
    assert seen == [1]
    libvirt.is_away = True
    with pytest.raises(errors.CannotRead):
        asked.read_holders()
    libvirt.is_away = False
    asked.read_holders()
    # Domains, and devices that come and go: suspend and resume.
    assert len(libvirt.callbacks) == 2 * 3


VIRSH = """#!/bin/sh
test "$1 $2 $3" = "--readonly --connect qemu:///system" || exit 9
test -e {away} && {{ echo "error: no connection" >&2; exit 1; }}
case "$4 $5" in
    "list --all") echo 11111111-1111-1111-1111-111111111111; echo;;
    "dumpxml 1"*) cat {xml};;
    "hostname "*) echo gpu-1;;
esac
"""


def test_virsh_is_asked_where_the_binding_is_missing(tmp_path, monkeypatch):
    (tmp_path / "xml").write_text(fakes.domain_xml("0000:85:00.0"))
    virsh = tmp_path / "virsh"
    virsh.write_text(
        VIRSH.format(xml=tmp_path / "xml", away=tmp_path / "away")
    )
    virsh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    asked = domains.Virsh("qemu:///system")
    assert asked.read_holders() == {
        "0000:85:00.0": "11111111-1111-1111-1111-111111111111"
    }
    assert asked.read_hostname() == "gpu-1"
    (tmp_path / "away").write_text("")
    with pytest.raises(errors.CannotRead, match="no connection"):
        asked.read_holders()


def test_virsh_that_is_not_installed_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.CannotRead, match="virsh"):
        domains.Virsh("x").read_holders()
