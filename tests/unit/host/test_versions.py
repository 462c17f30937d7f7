# SPDX-License-Identifier: Apache-2.0

"""Versions of programs: what a host has, and what Nova and NVIDIA demand."""

import json

import pytest

from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.host.sysfs import tree
from tests import captures
from tests.sysfs_trees import Host

CACHE = f"{packages.QEMU_CACHE}/926803a9278e.xml"
CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"


def dpkg(**versions):
    return "".join(
        f"Package: {name.replace('_', '-')}\nStatus: install ok installed\n"
        f"Priority: optional\nVersion: {version}\nDescription: x\n a\n\n"
        for name, version in versions.items()
    )


def qemu_cache(libvirt, qemu):
    return (
        "<qemuCaps>\n  <emulator>/usr/bin/qemu-system-x86_64</emulator>\n"
        f"  <selfvers>{libvirt}</selfvers>\n  <version>{qemu}</version>\n"
        "</qemuCaps>\n"
    )


@pytest.fixture
def installed(tmp_path):
    """Give the packages of a host with these files."""

    def read(**files):
        host = Host(tmp_path / "host")
        for path, content in files.items():
            host.write(path, content)
        return packages.Packages(tree.Tree(str(host.root)))

    return read


@pytest.mark.parametrize(
    ("files", "libvirt", "qemu"),
    [
        ({}, None, None),
        (
            # Ubuntu 24.04.
            {
                packages.DPKG: dpkg(
                    libvirt_daemon_system="10.0.0-2ubuntu8.8",
                    qemu_system_x86="1:8.2.2+ds-0ubuntu1.10",
                )
            },
            (10, 0, 0),
            (8, 2, 2),
        ),
        (
            # Debian 12.
            {
                packages.DPKG: dpkg(
                    libvirt_daemon="9.0.0-4+deb12u2",
                    qemu_system_common="1:7.2+dfsg-7+deb12u13",
                )
            },
            (9, 0, 0),
            (7, 2),
        ),
        # RHEL and others: what libvirt keeps of itself and of QEMU.
        ({CACHE: qemu_cache(11003000, 10000000)}, (11, 3, 0), (10, 0, 0)),
        (
            {
                packages.DPKG: "Package: libvirt0\n"
                "Status: deinstall ok config-files\nVersion: 8.0.0-1\n\n"
            },
            None,
            None,
        ),
    ],
)
def test_versions_are_read_and_nothing_is_run(installed, files, libvirt, qemu):
    found = installed(**files)
    assert [one and one.numbers for one in (found.libvirt, found.qemu)] == [
        libvirt,
        qemu,
    ]


@pytest.fixture
def check(build, tmp_path, capsys):
    """Check a host with further files; gives (severity, finding)."""

    def run(machine, files=(), conf=None):
        host = build(machine)
        for path, content in dict(files).items():
            host.write(path, content)
        arguments = ["check", "--sysfs-root", str(host.root), "--all"]
        arguments += ["-f", "value", "-c", "Severity", "-c", "Finding"]
        if conf is not None:
            (tmp_path / "nova.conf").write_text(conf)
            arguments += ["--nova-conf", str(tmp_path / "nova.conf")]
        app.main(arguments)
        return [
            tuple(line.split(" ", 1))
            for line in capsys.readouterr().out.splitlines()
        ]

    return run


def conf(tag, more=""):
    return (
        '[pci]\ndevice_spec = {"vendor_id": "10de", "product_id": "11bf",'
        f' "live_migratable": "{tag}"}}\n{more}'
    )


OLD = {packages.DPKG: dpkg(libvirt0="8.0.0-1", qemu_system_x86="1:6.2-2")}
HALF = {packages.DPKG: dpkg(libvirt0="10.0.0-1", qemu_system_x86="8.2.1")}
NEW = {CACHE: qemu_cache(10000000, 8002002)}


@pytest.mark.parametrize("tag", ["yes", "no"])
@pytest.mark.parametrize(
    ("files", "severity", "words"),
    [
        ({}, "note", "or newer"),
        (OLD, "error", "this host has libvirt 8.0.0 and QEMU 6.2"),
        (HALF, "error", "this host has QEMU 8.2.1"),
        (NEW, None, None),
        # One of the two is not known.
        ({packages.DPKG: dpkg(libvirt0="10.0.0-1")}, "note", "or newer"),
    ],
)
def test_the_tag_live_migratable_demands_versions_in_any_value(
    check, tag, files, severity, words
):
    found = [
        one
        for one in check("k2_host", files, conf(tag))
        if "with the tag live_migratable" in one[1]
    ]
    assert [one[0] for one in found] == ([severity] if severity else [])
    assert all(words in one[1] for one in found)


@pytest.mark.parametrize(
    ("tag", "permit", "is_told"),
    [
        ("yes", "true", True),
        ("no", "true", False),
        ("yes", "false", False),
    ],
)
def test_post_copy_and_the_tag_exclude_each_other(check, tag, permit, is_told):
    more = f"[libvirt]\nlive_migration_permit_post_copy = {permit}\n"
    found = check("k2_host", NEW, conf(tag, more))
    assert any("post_copy is true" in one[1] for one in found) is is_told


# Fabric Manager


def of_fabric_manager(found):
    return [
        one
        for one in found
        if "Fabric Manager" in one[1] and one[0] not in ("ok", "note")
    ]


MANAGER = {packages.DPKG: dpkg(nvidia_fabricmanager_550="550.127.05-1")}
LOG = {
    packages.FABRIC_MANAGER_LOG: "[Mar 1 2025 12:00:00] [INFO] [tid 9]"
    " Fabric Manager version 550.127.05 is running with the following\n"
}


@pytest.mark.parametrize("files", [MANAGER, LOG])
@pytest.mark.parametrize(
    ("module", "severity"),
    [("550.127.05", None), ("550.120", "error"), ("570.86.15", "error")],
)
@pytest.mark.parametrize("machine", ["hgx_h100", "hgx_b200"])
def test_fabric_manager_has_the_version_of_the_driver(
    check, machine, files, module, severity
):
    files = files | {packages.NVIDIA_MODULE: module}
    if packages.DPKG in files:
        files[packages.DPKG] += dpkg(nvlsm="2025.03.1-1")
    found = of_fabric_manager(check(machine, files))
    assert [one[0] for one in found] == ([severity] if severity else [])


def test_fabric_manager_of_a_host_without_its_driver_is_no_matter(check):
    assert of_fabric_manager(check("hgx_h100", MANAGER)) == []


def test_boards_whose_switches_are_no_pci_devices_need_nvlsm(check):
    ((severity, _),) = of_fabric_manager(check("hgx_b200", MANAGER))
    assert severity == "warning"


def test_older_boards_need_no_nvlsm(check):
    assert of_fabric_manager(check("hgx_h100", MANAGER)) == []


RESET = "GPUs with NVLink 5 have to be reset"


@pytest.mark.parametrize(
    ("machine", "mode", "is_told"),
    [
        ("hgx_b200", 1, True),
        # Nobody gives them away.
        ("hgx_b200", 0, False),
        # No source says so of vGPUs, or of other boards.
        ("hgx_b200", 2, False),
        ("hgx_h100", 1, False),
        ("gb200_tray", 1, False),
    ],
)
def test_gpus_with_nvlink_5_have_to_be_reset(check, machine, mode, is_told):
    found = check(machine, {CONFIG: f"FABRIC_MODE={mode}\n"})
    told = [one for one in found if RESET in one[1]]
    assert [one[0] for one in told] == ["note"] * is_told
    # Those of this host rest on vfio-pci.
    assert all("does not reach the 8 of 8 GPUs" in one[1] for one in told)


@pytest.mark.parametrize("machine", ["hgx_h100", "hgx_b200"])
@pytest.mark.parametrize(
    ("mode", "severity", "words"),
    [
        (2, "warning", "is for vGPUs, and 8 GPUs are given"),
        (3, "error", "is no mode"),
    ],
)
def test_a_mode_that_does_not_fit_is_told(
    check, machine, mode, severity, words
):
    found = check(machine, {CONFIG: f"FABRIC_MODE={mode}\n"})
    assert [one[0] for one in found if words in one[1]] == [severity]


def test_a_capture_tells_the_same_versions(build, tmp_path, capsys):
    host = build("gb200_tray")
    release = "/boot/config-6.14.0-1015-nvidia-64k"
    for path, content in {
        packages.DPKG: dpkg(nvidia_fabricmanager="550.127.05", bash="5.2"),
        packages.NVIDIA_MODULE: "550.120",
        packages.FABRIC_MANAGER_LOG: LOG[packages.FABRIC_MANAGER_LOG],
        CACHE: qemu_cache(10000000, 8002002),
        release: "CONFIG_X=y\n# CONFIG_VFIO_GROUP is not set\n",
        "/sys/devices/system/node/has_cpu": "0-1",
        "/sys/devices/system/node/has_memory": "0-2",
        "/sys/module/kvm_intel/parameters/tdx": "Y",
        CONFIG: "FABRIC_MODE=7\n",
    }.items():
        host.write(path, content)
    archive = tmp_path / "host.tar"
    root = str(host.root)
    assert app.main(["capture", "--sysfs-root", root, str(archive)]) == 0
    there = captures.unpack(archive, tmp_path / "there")
    capsys.readouterr()
    shown = []
    for place in (root, str(there)):
        app.main(["check", "--sysfs-root", place, "-f", "json"])
        rows = json.loads(capsys.readouterr().out)
        shown.append([(row["Finding"], row["Evidence"]) for row in rows])
    assert shown[0] == shown[1]
    text = (there / packages.DPKG.lstrip("/")).read_text()
    assert "bash" not in text
    assert "CONFIG_X" not in (there / release.lstrip("/")).read_text()
