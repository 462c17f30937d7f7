# SPDX-License-Identifier: Apache-2.0

import shutil

import pytest

from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.saved import kept
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import captures

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
REGIONS = "/sys/kernel/iommu_groups/41/reserved_regions"
MSI = "0x00000000fee00000 0x00000000feefffff msi"


def context_of(host):
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    return Context(files, inventory)


def findings(host, check, *severities):
    return [
        one
        for one in readiness.check(context_of(host))
        if one.check == check and one.severity in severities
    ]


# iommu_group_resv_type_string in drivers/iommu/iommu.c.
@pytest.mark.parametrize(
    ("kind", "errors"),
    [
        ("direct", 2),
        ("direct-relaxable", 0),
        ("reserved", 0),
        ("msi", 0),
        ("", 0),
    ],
)
def test_a_group_that_must_be_mapped_one_to_one_is_refused(
    build, kind, errors
):
    host = build("k2_host")
    host.write(REGIONS, f"{MSI}\n0x00000000bdf83000 0x00000000bdf84fff {kind}")
    found = findings(host, "group", ERROR)
    assert len(found) == errors
    for finding in found:
        assert "one to one" in finding.summary
        assert len(finding.evidence) == 1


@pytest.mark.parametrize(
    ("cpu", "cmdline"),
    [
        ("vendor_id\t: GenuineIntel", "intel_iommu=on iommu=pt"),
        ("vendor_id\t: AuthenticAMD", "iommu=pt"),
        ("vendor_id\t: HygonGenuine", "iommu=pt"),
        ("vendor_id\t:   Shanghai  ", "intel_iommu=on iommu=pt"),
        ("CPU implementer\t: 0x41", "iommu.passthrough=1"),
        ("isa\t\t: rv64imafdch_zicbom", "iommu.passthrough=1"),
        ("cpu\t\t: POWER9, altivec supported", ""),
        ("CPU Family\t\t: Loongson-64bit", "loongarch_iommu=on"),
        ("vendor_id       : IBM/S390", ""),
    ],
)
def test_the_arguments_are_those_of_the_processor(build, cpu, cmdline):
    host = build("k2_host")
    host.write("/proc/cpuinfo", f"processor : 0\n{cpu}\n")
    assert binding.write_cmdline(context_of(host), ()).strip() == cmdline
    # A capture has to tell the processor, too.
    keep = kept.find("/proc/cpuinfo")
    lines = keep(None, host.path("/proc/cpuinfo").read_text())
    host.write("/proc/cpuinfo", "\n".join(lines))
    assert binding.write_cmdline(context_of(host), ()).strip() == cmdline


@pytest.mark.parametrize(
    ("cmdline", "notes"),
    [
        ("iommu=pt", 0),
        ("iommu.passthrough=1", 0),
        ("iommu.passthrough=on", 0),
        ("iommu.passthrough=0", 1),
        ("quiet", 1),
    ],
)
@pytest.mark.parametrize("machine", ["k2_host", "gb200_tray"])
def test_devices_of_the_host_may_go_past_the_iommu(
    build, machine, cmdline, notes
):
    host = build(machine)
    host.write("/proc/cmdline", cmdline)
    assert len(findings(host, "iommu", NOTE)) == notes


def test_interrupts_of_hygon_are_checked_as_amds(build):
    host = build("k2_host")
    host.write("/proc/cpuinfo", "vendor_id\t: HygonGenuine\n")
    host.write("/proc/interrupts", " 24: 1 PCI-MSI 0-edge x")
    assert findings(host, "interrupt-remapping", ERROR)


def test_what_switched_interrupt_remapping_off_is_named(build):
    host = build("k2_host")
    host.write("/proc/interrupts", " 24: 1 PCI-MSI 0-edge x")
    host.write("/proc/cmdline", "iommu=pt intremap=off")
    (finding,) = findings(host, "interrupt-remapping", ERROR)
    assert finding.cures[0].startswith("# take intremap=off from")


def test_interrupts_without_a_source_are_warned_of(build):
    host = build("k2_host")
    host.write("/proc/cmdline", "iommu=pt intremap=nosid")
    assert findings(host, "interrupt-remapping", WARNING)


@pytest.mark.parametrize(
    "value", ["downstream", "downstream,multifunction", "id:10de:1b38"]
)
def test_groups_that_are_made_up_are_warned_of(build, value):
    host = build("hgx_h100")
    assert not findings(host, "group", WARNING)
    host.write("/proc/cmdline", f"iommu=pt pcie_acs_override={value}")
    (finding,) = findings(host, "group", WARNING)
    assert "pcie_acs_override" in finding.summary


@pytest.mark.parametrize(("mode", "errors"), [("Y", 1), ("N", 0)])
def test_groups_without_an_iommu_are_not_taken_for_one(build, mode, errors):
    host = build("k2_host")
    host.write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", mode)
    groups = list(host.path(device_paths.GROUPS).iterdir())
    for group in groups[1:]:
        host.write(f"{device_paths.GROUPS}/{group.name}/name", "vfio-noiommu")
    # One of the IOMMU's own: it is on.
    assert not findings(host, "iommu", ERROR)
    if mode == "Y":
        host.write(
            f"{device_paths.GROUPS}/{groups[0].name}/name", "vfio-noiommu"
        )
    assert len(findings(host, "iommu", ERROR)) == errors


def test_an_smmu_that_the_firmware_has_off_is_an_error(build):
    host = build("gb200_tray")
    shutil.rmtree(host.path("/sys/kernel/iommu_groups"))
    shutil.rmtree(host.path("/sys/class/iommu"))
    (finding,) = findings(host, "iommu", ERROR)
    assert "SMMU switched off" in finding.summary
    assert not any("intel_iommu" in cure for cure in finding.cures)


@pytest.mark.parametrize("value", ["iommu=soft", "intel_iommu=on,off"])
def test_each_way_to_switch_the_iommu_off_is_known(build, value):
    host = build("k2_host")
    shutil.rmtree(host.path("/sys/kernel/iommu_groups"))
    host.write("/proc/cmdline", value)
    (finding,) = findings(host, "iommu", ERROR)
    assert "switched off on the kernel command line" in finding.summary


@pytest.mark.parametrize(
    ("machine", "is_named"), [("hgx_h100", True), ("gb200_tray", False)]
)
def test_a_machine_type_is_named_where_the_default_will_not_do(
    build, machine, is_named
):
    cures = [
        cure
        for finding in findings(build(machine), "memory", NOTE)
        for cure in finding.cures
    ]
    assert any("hw_firmware_type" in cure for cure in cures)
    assert any("q35" in cure for cure in cures) is is_named


def test_a_host_under_xen_is_told_why_it_has_no_groups(build):
    host = build("k2_host")
    shutil.rmtree(host.path("/sys/kernel/iommu_groups"))
    host.write("/sys/hypervisor/type", "xen")
    (found,) = findings(host, "iommu", ERROR)
    assert "runs under Xen" in found.summary
    assert found.evidence[-1].path == "/sys/hypervisor/type"


SNP = "/sys/module/kvm_amd/parameters/sev_snp"


@pytest.mark.parametrize(
    ("snp", "arguments", "notes"),
    [("Y", "", 0), ("1", "", 0), ("N", "iommu=pt", 1), (None, "iommu=pt", 1)],
)
def test_snp_goes_without_passthrough_of_the_hosts_devices(
    build, snp, arguments, notes
):
    host = build("mi300x")
    host.write("/proc/cmdline", "quiet")
    if snp is not None:
        host.write(SNP, snp)
    assert binding.write_cmdline(context_of(host), ()).strip() == arguments
    assert len(findings(host, "iommu", NOTE)) == notes


DEVICE_TREE = "/sys/firmware/devicetree/base"
TABLES = "/sys/firmware/acpi/tables"
UNIT = "/sys/class/iommu/smmu3.0x0000000011000000"


@pytest.mark.parametrize(
    ("directories", "words"),
    [
        ((DEVICE_TREE,), "the device tree has no unit of the SMMU"),
        ((DEVICE_TREE, UNIT), "the kernel does not use it"),
        ((TABLES,), "the firmware announces no IOMMU (no IORT table)"),
        ((TABLES, DEVICE_TREE), "the firmware announces no IOMMU"),
        ((f"{TABLES}/IORT",), "the firmware has the SMMU switched off"),
        ((f"{TABLES}/IORT", UNIT), "the kernel does not use it"),
    ],
)
def test_arm64_tells_its_iommu_by_acpi_or_device_tree(
    build, tmp_path, directories, words
):
    host = build("gb200_tray")
    for path in ("/sys/kernel/iommu_groups", TABLES, "/sys/class/iommu"):
        shutil.rmtree(host.path(path))
    for path in directories:
        if path.endswith("IORT"):
            host.write(path, b"IORT")
        else:
            host.mkdir(path)
    (finding,) = findings(host, "iommu", ERROR)
    assert words in finding.summary
    assert not any("intel_iommu" in cure for cure in finding.cures)
    top = captures.take(host.root, tmp_path)
    files = tree.Tree(str(top))
    inventory = reader.read(files)
    context = Context(files, inventory)
    assert finding.summary in [one.summary for one in readiness.check(context)]


def test_arm64_with_a_device_tree_is_ready_without_acpi(build):
    host = build("gb200_tray")
    shutil.rmtree(host.path(TABLES))
    host.mkdir(DEVICE_TREE)
    assert findings(host, "iommu", ERROR, WARNING, NOTE) == []


@pytest.mark.parametrize(
    ("cpu", "tables", "cmdline", "words"),
    [
        ("CPU Family\t\t: Loongson-64bit", "IVRS", "", "does not use it"),
        (
            "CPU Family\t\t: Loongson-64bit",
            "IVRS",
            "loongarch_iommu=off",
            "switched off on the kernel command line",
        ),
        ("CPU Family\t\t: Loongson-64bit", None, "", "no IVRS table"),
        (
            "vendor_id\t: GenuineIntel",
            "DMAR",
            "acpi=off intel_iommu=on",
            "command line: acpi=off",
        ),
    ],
)
def test_causes_are_those_of_the_processor(build, cpu, tables, cmdline, words):
    host = build("k2_host")
    shutil.rmtree(host.path("/sys/kernel/iommu_groups"))
    shutil.rmtree(host.path(TABLES))
    host.write("/proc/cpuinfo", f"{cpu}\n")
    host.write("/proc/cmdline", cmdline)
    host.mkdir(TABLES)
    if tables:
        host.write(f"{TABLES}/{tables}", b"x")
    (finding,) = findings(host, "iommu", ERROR)
    assert words in finding.summary
    wanted = "intel" if "Intel" in cpu else "loongarch"
    assert any(f"{wanted}_iommu=on" in cure for cure in finding.cures)


MODULES = "/lib/modules/6.14.0-1015-nvidia-64k/modules.dep"
NEEDED = "kernel/vfio.ko:\nkernel/vfio-pci.ko:\nkernel/vfio_iommu_type1.ko:\n"


@pytest.mark.parametrize(
    ("driver", "listed", "errors"),
    [
        ("vfio-pci", NEEDED, 1),
        ("nvidia", NEEDED, 1),
        ("nvidia", f"{NEEDED}kernel/nvgrace-gpu-vfio-pci.ko:\n", 0),
        ("nvidia", None, 0),
        ("nvgrace_gpu_vfio_pci", NEEDED, 0),
    ],
)
def test_the_kernel_has_the_drivers_that_gpus_need(
    build, driver, listed, errors
):
    host = build("gb200_tray", driver=driver)
    if listed:
        host.write(MODULES, listed)
    found = findings(host, "vfio", ERROR)
    assert len(found) == errors
    if found:
        assert "CONFIG_NVGRACE_GPU_VFIO_PCI" in found[0].cures[0]
