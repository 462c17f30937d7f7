# SPDX-License-Identifier: Apache-2.0

import shutil

import pytest

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks import findings
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees

ERROR, WARNING, NOTE, OK = (
    Severity.ERROR,
    Severity.WARNING,
    Severity.NOTE,
    Severity.OK,
)


@pytest.fixture
def check():
    """Check a machine's files."""

    def check_machine(host, *only):
        files = tree.Tree(str(host.root))
        inventory = reader.read(files)
        asked = tuple(map(PciAddress.parse, only))
        return readiness.check(Context(files, inventory, asked))

    return check_machine


def told(found, *severities):
    """(check, device) of the findings of these severities."""
    return {
        (one.check, one.device) for one in found if one.severity in severities
    }


def one(found, check, device=None):
    """The finding of a check that is no note."""
    (finding,) = [
        finding
        for finding in found
        if finding.check == check
        and finding.device == device
        and finding.severity is not NOTE
    ]
    return finding


def evidence(finding):
    return [str(evidence) for evidence in finding.evidence]


# Machine -> errors, warnings, exit code.
EXPECTED = {
    "h200_nvl": (set(), set(), 0),
    "hgx_b200": (set(), set(), 0),
    "gb200_tray": (
        set(),
        {
            ("boot", f"{domain}:01:00.0")
            for domain in ("0008", "0009", "0018", "0019")
        },
        1,
    ),
    "k2_host": (
        set(),
        {("group", "0000:85:00.0"), ("group", "0000:86:00.0")},
        1,
    ),
    "hgx_h100": (set(), set(), 0),
    "a100_bridge_pairs": (
        {("driver", f"0000:{bus}:00.0") for bus in ("01", "21", "81", "a1")},
        {("boot", f"0000:{bus}:00.0") for bus in ("01", "21", "81", "a1")},
        2,
    ),
    "rtx_with_audio_and_usb": (
        {("driver", "0000:01:00.1"), ("driver", "0000:01:00.2")},
        {
            ("boot", "0000:01:00.0"),
            ("boot", "0000:01:00.1"),
            ("boot", "0000:01:00.2"),
            ("boot", "0000:01:00.3"),
            ("reset", "0000:01:00.0"),
        },
        2,
    ),
    "mi300x": (
        {("driver", "0000:05:00.0"), ("driver", "0000:85:00.0")},
        {
            (check, address)
            for check in ("boot", "reset")
            for address in ("0000:05:00.0", "0000:85:00.0")
        },
        2,
    ),
    "flex_with_vfs": (set(), set(), 0),
    "laptop": (
        {("driver", "0000:01:00.0")},
        {("boot", "0000:01:00.0")},
        2,
    ),
    "vm_without_iommu": (
        {("iommu", None)},
        {("vfio", None), ("boot", "0000:01:00.0")},
        2,
    ),
    "dgx1_v100": (
        {
            ("driver", f"0000:{bus}:00.0")
            for bus in ("06", "07", "0a", "0b", "85", "86", "89", "8a")
        },
        {
            ("boot", f"0000:{bus}:00.0")
            for bus in ("06", "07", "0a", "0b", "85", "86", "89", "8a")
        },
        2,
    ),
}


def test_every_machine_has_a_verdict():
    assert set(EXPECTED) == set(sysfs_trees.MACHINES)


@pytest.mark.parametrize("machine", EXPECTED)
def test_each_machine_gets_the_findings_that_it_deserves(
    build, check, machine
):
    found = check(build(machine))
    errors, warnings, code = EXPECTED[machine]
    assert told(found, ERROR) == errors
    assert told(found, WARNING) == warnings
    assert findings.compute_exit_code(found) == code


@pytest.mark.parametrize("machine", EXPECTED)
def test_every_finding_that_asks_for_action_says_where_and_what(
    build, check, machine
):
    for finding in check(build(machine)):
        assert finding.evidence
        if finding.severity in (ERROR, WARNING) and finding.check != "reset":
            assert finding.cures


def test_worse_findings_come_first(build, check):
    order = [finding.severity for finding in check(build("vm_without_iommu"))]
    assert order == sorted(order, key=list(Severity).index)


# IOMMU


@pytest.fixture
def plain(tmp_path):
    """A physical host whose IOMMU is off, with one GPU."""
    host = sysfs_trees.Host(tmp_path)
    host.write("/proc/cpuinfo", "vendor_id\t: GenuineIntel\n")
    host.write("/proc/cmdline", "quiet")
    host.vfio()
    port = host.bridge("0000:00:01.0", "pci0000:00")
    host.add(
        sysfs_trees.Pci(
            "0000:01:00.0",
            port,
            "10de:11bf",
            0x030000,
            driver="vfio-pci",
            bars=(1 << 24,),
        )
    )
    return host


@pytest.mark.parametrize(
    ("files", "summary", "cure"),
    [
        ({}, "the firmware announces no IOMMU", "# switch on VT-d"),
        (
            {"/proc/cpuinfo": "vendor_id\t: AuthenticAMD\n"},
            "the firmware announces no IOMMU",
            "# switch on AMD-Vi",
        ),
        (
            {"/sys/firmware/acpi/tables/DMAR": "x"},
            "but the kernel does not use it",
            "intel_iommu=on iommu=pt",
        ),
        (
            {
                "/sys/firmware/acpi/tables/DMAR": "x",
                "/proc/cmdline": "intel_iommu=off",
            },
            "switched off on the kernel command line: intel_iommu=off",
            "# take intel_iommu=off from",
        ),
        (
            {
                "/sys/firmware/acpi/tables/IVRS": "x",
                "/proc/cmdline": "iommu=off",
            },
            "switched off on the kernel command line: iommu=off",
            "# take iommu=off from",
        ),
        (
            {"/proc/cpuinfo": "vendor_id : x\nflags : fpu hypervisor\n"},
            "this is a virtual machine without an IOMMU",
            "# give the virtual machine a virtual IOMMU",
        ),
    ],
)
def test_an_iommu_that_is_off_is_an_error_with_its_cause(
    plain, check, files, summary, cure
):
    for path, content in files.items():
        plain.write(path, content)
    finding = one(check(plain), "iommu")
    assert finding.severity is ERROR
    assert summary in finding.summary
    assert any(cure in line for line in finding.cures)
    assert any(
        line.startswith("/proc/cmdline: ") for line in evidence(finding)
    )


@pytest.mark.parametrize(
    ("path", "commands"),
    [
        (
            "/usr/sbin/grubby",
            (
                'grubby --update-kernel=ALL --args="intel_iommu=on iommu=pt"',
                "reboot",
            ),
        ),
        (
            "/etc/default/grub",
            (
                "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on iommu=pt /'"
                " /etc/default/grub",
                "grub2-mkconfig -o /boot/grub2/grub.cfg",
                "reboot",
            ),
        ),
    ],
)
def test_the_cure_is_in_the_words_of_the_distribution(
    plain, check, path, commands
):
    plain.write("/sys/firmware/acpi/tables/DMAR", "x")
    plain.write(path, "")
    assert one(check(plain), "iommu").cures == commands


@pytest.mark.parametrize(
    ("interrupts", "unsafe", "severity"),
    [
        (" 24: 1 IR-PCI-MSI 0-edge x", None, OK),
        (" 24: 1 DMAR-MSI 0-edge x\n 25: 1 IR-IO-APIC 1", None, OK),
        (" 24: 1 PCI-MSI 0-edge x", None, ERROR),
        (" 24: 1 PCI-MSI 0-edge x", "N", ERROR),
        (" 24: 1 PCI-MSI 0-edge x", "Y", WARNING),
    ],
)
def test_interrupts_must_be_remapped(
    build, check, interrupts, unsafe, severity
):
    host = build("k2_host")
    host.write("/proc/interrupts", interrupts)
    if unsafe:
        host.write(
            "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
            unsafe,
        )
    finding = one(check(host), "interrupt-remapping")
    assert finding.severity is severity


def test_vfio_without_an_iommu_is_warned_of(build, check):
    host = build("hgx_h100")
    host.write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
    warnings = [
        finding for finding in check(host) if finding.severity is WARNING
    ]
    assert [finding.check for finding in warnings] == ["iommu"]


# VFIO and boot


@pytest.mark.parametrize(
    ("dep", "severity"),
    [
        (None, WARNING),
        (
            "kernel/drivers/vfio/pci/vfio-pci.ko.zst: x\n"
            "kernel/drivers/vfio/vfio.ko:\n"
            "kernel/drivers/vfio/vfio_iommu_type1.ko:\n",
            WARNING,
        ),
        ("kernel/drivers/other.ko:\n", ERROR),
    ],
)
def test_modules_of_vfio_must_be_loaded_or_be_there(
    build, check, dep, severity
):
    host = build("k2_host")
    for module in ("vfio", "vfio_pci", "vfio_iommu_type1"):
        shutil.rmtree(host.path(f"/sys/module/{module}"))
    if dep is not None:
        host.write("/lib/modules/6.8.0-60-generic/modules.dep", dep)
    assert one(check(host), "vfio").severity is severity


def test_a_device_bound_now_and_lost_at_the_next_boot_is_warned_of(
    build, check
):
    host = build("hgx_h100")
    host.remove("/etc/modprobe.d/vfio.conf")
    finding = one(check(host), "boot", "0000:0f:00.0")
    assert finding.severity is WARNING
    assert "nothing keeps nouveau or nvidia" in finding.summary
    assert finding.cures[0] == (
        "nova-gpu-host config --modprobe > /etc/modprobe.d/nova-gpu-host.conf"
    )


def test_a_device_like_one_that_the_host_keeps_is_bound_by_its_address(
    build, check
):
    host = build("hgx_h100")
    host.remove("/etc/modprobe.d/vfio.conf")
    host.write("/sys/bus/pci/devices/0000:10:00.0/boot_vga", 1)
    finding = one(check(host), "boot", "0000:0f:00.0")
    assert finding.cures == (
        "nova-gpu-host config --udev"
        " > /etc/udev/rules.d/70-nova-gpu-host.rules",
        "echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
    )


def test_a_race_between_modules_at_boot_is_warned_of(build, check):
    host = build("hgx_h100")
    host.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2330")
    finding = one(check(host), "boot", "0000:0f:00.0")
    assert "may be loaded before vfio-pci" in finding.summary
    assert (
        "/etc/modprobe.d/vfio.conf: options vfio-pci ids=10de:2330"
        in evidence(finding)
    )


# Devices


def test_the_driver_is_told_with_its_link_and_commands_to_change_it(
    build, check
):
    finding = one(check(build("a100_bridge_pairs")), "driver", "0000:01:00.0")
    assert evidence(finding) == [
        "/sys/bus/pci/devices/0000:01:00.0/driver: nvidia"
    ]
    assert finding.cures == (
        "modprobe vfio-pci",
        "systemctl stop nvidia-persistenced",
        "echo vfio-pci > /sys/bus/pci/devices/0000:01:00.0/driver_override",
        "echo 0000:01:00.0 > /sys/bus/pci/devices/0000:01:00.0/driver/unbind",
        "echo 0000:01:00.0 > /sys/bus/pci/drivers_probe",
    )


@pytest.mark.parametrize(
    "driver", ["nvidia", "nouveau", "amdgpu", "xe", "i915", "radeon"]
)
def test_a_gpu_in_use_by_the_host_is_not_ready(tmp_path, check, driver):
    host = sysfs_trees.Host(tmp_path)
    host.iommu()
    port = host.bridge("0000:00:01.0", "pci0000:00", 1)
    host.add(
        sysfs_trees.Pci(
            "0000:01:00.0",
            port,
            "10de:11bf",
            0x030000,
            group=2,
            driver=driver,
            bars=(1 << 24,),
        )
    )
    assert one(check(host), "driver", "0000:01:00.0").severity is ERROR


@pytest.mark.parametrize("driver", [None, "vfio-pci", "pci-stub"])
def test_a_gpu_that_nobody_uses_is_ready(tmp_path, check, driver):
    host = sysfs_trees.Host(tmp_path)
    host.iommu()
    host.vfio_at_boot("10de:11bf")
    port = host.bridge("0000:00:01.0", "pci0000:00", 1)
    host.add(
        sysfs_trees.Pci(
            "0000:01:00.0",
            port,
            "10de:11bf",
            0x030000,
            group=2,
            driver=driver,
            bars=(1 << 24,),
        )
    )
    found = check(host)
    assert findings.compute_exit_code(found) == 0
    assert ("device", "0000:01:00.0") in told(found, OK)


def group_with(tmp_path, driver, code=0x020000):
    """A GPU in one IOMMU group with a device of another slot."""
    host = sysfs_trees.Host(tmp_path)
    host.iommu()
    host.vfio_at_boot("10de:11bf")
    for index, ids, class_code, bound in (
        (1, "10de:11bf", 0x030000, "vfio-pci"),
        (2, "8086:1533", code, driver),
    ):
        host.bridge(f"0000:00:{index:02x}.0", "pci0000:00", 1)
        host.add(
            sysfs_trees.Pci(
                f"0000:{index:02x}:00.0",
                f"0000:00:{index:02x}.0",
                ids,
                class_code,
                group=1,
                driver=bound,
                bars=(1 << 24,),
            )
        )
    return host


@pytest.mark.parametrize(
    ("driver", "severity"),
    [("igb", ERROR), ("vfio-pci", WARNING), (None, WARNING)],
)
def test_strangers_in_the_iommu_group_are_told(
    tmp_path, check, driver, severity
):
    finding = one(check(group_with(tmp_path, driver)), "group", "0000:01:00.0")
    assert finding.severity is severity
    assert "0000:02:00.0 (Ethernet controller)" in finding.summary
    assert evidence(finding) == [
        "/sys/kernel/iommu_groups/1/devices/0000:02:00.0: 8086:1533"
        f" {driver or 'no driver'}"
    ]
    assert "ACS" in finding.cures[0]


def test_bridges_in_the_group_do_no_harm(tmp_path, check):
    found = check(group_with(tmp_path, "pcieport", 0x060400))
    assert not [finding for finding in found if finding.check == "group"]


def test_a_device_without_a_group_is_an_error_where_others_have_one(
    build, check
):
    host = build("k2_host")
    host.remove("/sys/bus/pci/devices/0000:85:00.0/iommu_group")
    assert one(check(host), "group", "0000:85:00.0").severity is ERROR


@pytest.mark.parametrize(
    ("reset", "severity"),
    [("flr bus", None), ("bus", None), ("", WARNING), ("pm", WARNING)],
)
def test_a_device_must_be_reset_between_guests(build, check, reset, severity):
    host = build("hgx_h100")
    host.write("/sys/bus/pci/devices/0000:0f:00.0/reset_method", reset)
    found = [
        finding
        for finding in check(host)
        if (finding.check, finding.device) == ("reset", "0000:0f:00.0")
    ]
    assert [finding.severity for finding in found] == (
        [severity] if severity else []
    )


def test_bars_without_an_address_are_an_error(build, check):
    host = build("hgx_h100")
    host.write("/sys/bus/pci/devices/0000:0f:00.0/resource", "")
    finding = one(check(host), "bars", "0000:0f:00.0")
    assert "Above 4G Decoding" in finding.cures[0]


def test_large_bars_and_pinned_memory_are_noted(build, check):
    notes = [
        finding.summary
        for finding in check(build("hgx_h100"))
        if finding.check == "memory"
    ]
    assert any("128 GiB a GPU, 1 TiB in all" in note for note in notes)
    assert any("pins all memory" in note for note in notes)


def test_domains_above_ffff_are_an_error(tmp_path, check):
    host = sysfs_trees.Host(tmp_path)
    host.iommu()
    host.add(
        sysfs_trees.Pci(
            "10000:01:00.0",
            "pci10000:00",
            "10de:11bf",
            0x030000,
            group=1,
            driver="vfio-pci",
            bars=(1 << 24,),
        )
    )
    finding = one(check(host), "address", "10000:01:00.0")
    assert finding.severity is ERROR
    assert "Nova ignores" in finding.summary


def test_vfs_of_a_gpu_are_noted_and_their_pf_may_keep_its_driver(build, check):
    found = check(build("flex_with_vfs"))
    assert any("31 VFs are on" in finding.summary for finding in found)
    assert ("driver", "0000:4d:00.0") not in told(found, ERROR)


def test_vfs_bound_to_a_host_driver_are_warned_of(build, check):
    host = build("flex_with_vfs", vfs=2)
    link = "/sys/bus/pci/devices/0000:4d:00.1/driver"
    host.remove(link)
    host.path(link).symlink_to("../../../bus/pci/drivers/i915")
    finding = one(check(host), "sr-iov", "0000:4d:00.0")
    assert finding.summary == "1 of 2 VFs are bound to i915"


def test_vfs_with_a_migration_driver_may_be_live_migrated(build, check):
    host = build("flex_with_vfs", vfs=1)
    link = "/sys/bus/pci/devices/0000:4d:00.1/driver"
    host.remove(link)
    host.path(link).symlink_to("../../../bus/pci/drivers/xe-vfio-pci")
    (note,) = [
        finding for finding in check(host) if finding.check == "live-migration"
    ]
    assert '"live_migratable": "yes" may be set' in note.summary


def test_the_console_is_left_alone_unless_it_is_named(build, check):
    host = build("laptop")
    assert ("console", "0000:00:02.0") in told(check(host), NOTE)
    named = check(host, "0000:00:02.0")
    assert ("console", "0000:00:02.0") in told(named, WARNING)
    assert ("driver", "0000:00:02.0") in told(named, ERROR)
    assert not [
        finding for finding in named if finding.device == "0000:01:00.0"
    ]


def test_a_host_whose_only_gpu_is_the_console_is_warned(tmp_path, check):
    host = sysfs_trees.Host(tmp_path)
    host.iommu()
    host.vfio_at_boot("10de:11bf")
    host.add(
        sysfs_trees.Pci(
            "0000:01:00.0",
            "pci0000:00",
            "10de:11bf",
            0x030000,
            group=1,
            driver="vfio-pci",
            bars=(1 << 24,),
            boot_vga=True,
        )
    )
    assert told(check(host), WARNING) == {("console", "0000:01:00.0")}


def test_a_host_without_gpus_is_not_ready(tmp_path, check):
    host = sysfs_trees.Host(tmp_path)
    host.iommu()
    assert ("devices", None) in told(check(host), ERROR)


def test_a_network_card_in_use_is_a_note_unless_it_is_named(build, check):
    host = build("hgx_h100")
    assert ("driver", "0000:0d:00.0") in told(check(host), NOTE)
    named = check(host, "0000:0d:00.0")
    assert ("driver", "0000:0d:00.0") in told(named, WARNING)


# NVSwitches


@pytest.mark.parametrize(
    ("mode", "driver", "severity", "words"),
    [
        ("1", "nvidia", OK, "shared NVSwitch"),
        ("2", "nvidia", OK, "vGPU"),
        ("0", "nvidia", WARNING, "have no NVLink"),
        ("0", "vfio-pci", NOTE, "full passthrough"),
        ("1", "nvidia-nvswitch", OK, "shared NVSwitch"),
        ("1", "nvidia_nvswitch", OK, "shared NVSwitch"),
        ("1", "vfio-pci", ERROR, "4 of 4 are not"),
        ("2", "nouveau", ERROR, "4 of 4 are not"),
        (None, "nvidia", WARNING, "not installed"),
        (None, "vfio-pci", NOTE, "full passthrough"),
        ("", "nvidia", WARNING, "have no NVLink"),
    ],
)
def test_fabric_manager_and_nvswitches_must_fit_together(
    build, check, mode, driver, severity, words
):
    # vGPUs are made by the driver of the host.
    host = build("hgx_h100", driver="nvidia" if mode == "2" else "vfio-pci")
    config = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
    if mode is None:
        host.remove(config)
    else:
        host.write(config, f"FABRIC_MODE={mode}\n" if mode else "# empty\n")
    for bus in ("c3", "c4", "c5", "c6"):
        link = host.path(f"/sys/bus/pci/devices/0000:{bus}:00.0/driver")
        link.unlink()
        link.symlink_to(f"../../../bus/pci/drivers/{driver}")
    (finding,) = [
        finding for finding in check(host) if finding.check == "fabric-manager"
    ]
    assert finding.severity is severity
    assert words in finding.summary


@pytest.mark.parametrize("driver", [None, "vfio-pci", "pci-stub"])
def test_only_the_nvswitch_that_lost_its_driver_is_bound_again(
    build, check, driver
):
    host = build("hgx_h100")
    link = host.path("/sys/bus/pci/devices/0000:c6:00.0/driver")
    link.unlink()
    if driver:
        link.symlink_to(f"../../../bus/pci/drivers/{driver}")
    finding = one(check(host), "fabric-manager")
    assert "1 of 4 is not" in finding.summary
    echoed = [line for line in finding.cures if line.startswith("echo 0000:")]
    assert {line.split()[1] for line in echoed} == {"0000:c6:00.0"}
    assert echoed[-1].endswith("/sys/bus/pci/drivers/nvidia-nvswitch/bind")


def test_the_real_machine_is_checked_without_a_fault():
    files = tree.Tree()
    inventory = reader.read(files)
    found = readiness.check(Context(files, inventory))
    assert found
    assert findings.compute_exit_code(found) in (0, 1, 2)
