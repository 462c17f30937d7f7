# SPDX-License-Identifier: Apache-2.0

"""VFs that Linux makes of a device with SR-IOV, as a file declares them."""

import json

import pytest

from tests.hardware import emulated_machines

# It does not run before the monitor says so, and holds the VF meanwhile.
_GUEST = (
    "qemu-system-x86_64 -accel tcg -machine q35 -m 32M -nodefaults"
    " -no-user-config -display none -S -device vfio-pci,host={address}"
)


@pytest.fixture(scope="module")
def host(boot):
    """A machine with an NVMe that can have 4 VFs."""
    return boot(emulated_machines.SRIOV)


@pytest.fixture(scope="module")
def pf(host):
    """Where the NVMe is."""
    return host.shell(
        "basename $(dirname /sys/bus/pci/devices/*/sriov_totalvfs)"
    ).strip()


def _declare(host, pf, vfs):
    path = host.state / "etc" / "nova-gpu" / "vgpu.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "physical_functions:\n"
        f"  - address: {pf}\n    vfs: {vfs}\n    autoprobe: false\n"
    )


def _run(host, action):
    answer = host.host("vgpu", action, "-f", "json")
    return answer.code, json.loads(answer.out)


def _vfs(host, pf):
    found = host.shell(
        f"for one in /sys/bus/pci/devices/{pf}/virtfn*;"
        " do [ -e $one ] && basename $(readlink $one); done; true"
    )
    return sorted(found.split())


def test_vfs_are_made_and_stay(host, pf):
    assert _vfs(host, pf) == []
    _declare(host, pf, 2)
    code, rows = _run(host, "plan")
    assert (code, {row["Status"] for row in rows}) == (1, {"to do"})
    code, rows = _run(host, "apply")
    assert (code, {row["Status"] for row in rows}) == (0, {"done"})
    made = _vfs(host, pf)
    assert len(made) == 2
    # The driver of the host was kept away.
    for vf in made:
        host.shell(f"[ ! -e /sys/bus/pci/devices/{vf}/driver ]")
    for action in ("apply", "plan"):
        code, rows = _run(host, action)
        assert (code, [row["Status"] for row in rows]) == (0, ["as declared"])
    assert _vfs(host, pf) == made


def test_what_a_guest_has_is_not_taken_away(host, pf):
    vf = _vfs(host, pf)[0]
    path = f"/sys/bus/pci/devices/{vf}"
    host.shell(
        "modprobe vfio-pci;"
        f" echo vfio-pci > {path}/driver_override;"
        f" echo {vf} > /sys/bus/pci/drivers_probe"
    )
    host.shell(
        f"({_GUEST.format(address=vf)} >/tmp/qemu 2>&1 & echo $! >/tmp/pid)"
    )
    group = host.shell(f"basename $(readlink {path}/iommu_group)").strip()
    host.shell(
        f"until ls -l /proc/$(cat /tmp/pid)/fd | grep -q /dev/vfio/{group};"
        " do [ -e /proc/$(cat /tmp/pid) ] || { cat /tmp/qemu; exit 1; };"
        " sleep 1; done"
    )
    pid = host.shell("cat /tmp/pid").strip()
    _declare(host, pf, 3)
    for action in ("plan", "apply"):
        code, rows = _run(host, action)
        assert (code, [row["Status"] for row in rows]) == (2, ["refused"])
        assert vf in rows[0]["Reason"]
        assert f"({pid})" in rows[0]["Reason"]
    assert len(_vfs(host, pf)) == 2
    host.shell(
        f"kill {pid}; while [ -e /proc/{pid} ] &&"
        f" ! grep -q '^State:.Z' /proc/{pid}/status; do sleep 1; done"
    )
    code, rows = _run(host, "apply")
    assert (code, [row["Status"] for row in rows]) == (0, ["done"] * 2)
    assert len(_vfs(host, pf)) == 3


def test_a_reboot_forgets_them_and_the_file_makes_them_again(host, pf):
    host.reboot()
    assert _vfs(host, pf) == []
    assert _run(host, "apply")[0] == 0
    assert len(_vfs(host, pf)) == 3
    _declare(host, pf, 0)
    assert _run(host, "apply")[0] == 0
    assert _vfs(host, pf) == []
