# SPDX-License-Identifier: Apache-2.0

"""Files of named machines, as Linux shows them, below a directory.

A machine is a list of :class:`Pci` and a few other files. What a row does not
say is as on most machines.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib

MIB = 1 << 20
GIB = 1 << 30

_MEM = 0x40200
_MEM_64_PREFETCH = 0x14220C


@dataclasses.dataclass(frozen=True)
class Pci:
    """One PCI function and its files."""

    address: str
    parent: str
    """The root bus (``pci0000:3f``), or the address of the bridge above."""
    ids: str
    """``10de:11bf``."""
    class_code: int
    subsystem: str = "0000:0000"
    revision: int = 0
    numa: int = -1
    group: int | None = None
    driver: str | None = None
    override: str | None = None
    bars: tuple[int, ...] = ()
    """Sizes; those of 256 MiB and more are 64-bit prefetchable."""
    reset: str | None = "flr bus"
    """The file reset_method; None: a kernel without it."""
    totalvfs: int | None = None
    vf_ids: str = ""
    physfn: str | None = None
    boot_vga: bool | None = None
    link: tuple[str, int] | None = ("16.0 GT/s PCIe", 16)
    net: str | None = None
    rdma: str | None = None
    mdev: tuple[tuple[str, str, int], ...] = ()


PCI_IDS = """\
#
#	List of PCI ID's
#
1002  Advanced Micro Devices, Inc. [AMD/ATI]
	74a1  Aqua Vanjaram [Instinct MI300X]
10de  NVIDIA Corporation
	0fbb  GM204 High Definition Audio Controller
	11bf  GK104GL [GRID K2]
		10de 100a  GRID K2 board
	1aef  GA102 High Definition Audio Controller
	1ad6  TU102 USB 3.1 Host Controller
	1ad7  TU102 USB Type-C UCSI Controller
	10f7  TU102 High Definition Audio Controller
	1e07  TU102 [GeForce RTX 2080 Ti]
	1f9d  TU117M [GeForce GTX 1650 Mobile / Max-Q]
	20b2  GA100 [A100 SXM4 80GB]
	20f1  GA100 [A100 PCIe 40GB]
	22a3  GH100 [H100 NVSwitch]
	2330  GH100 [H100 SXM5 80GB]
	2901  GB100 [B200]
	2941  GB100 [HGX GB200]
	1db1  GV100GL [Tesla V100 SXM2 16GB]
15b3  Mellanox Technologies
	1021  MT2910 Family [ConnectX-7]
	101e  ConnectX Family mlx5Gen Virtual Function
8086  Intel Corporation
	3e9b  CoffeeLake-H GT2 [UHD Graphics 630]
	56c0  ATS-M [Data Center GPU Flex 170]
		8086 4905  Flex 170
C 02  Network controller
	00  Ethernet controller
	07  Infiniband controller
C 03  Display controller
	00  VGA compatible controller
		00  VGA controller
	02  3D controller
	80  Display controller
C 04  Multimedia controller
	03  Audio device
C 06  Bridge
	00  Host bridge
	04  PCI bridge
	80  Bridge
C 0c  Serial bus controller
	03  USB controller
	80  Serial bus controller
C 12  Processing accelerators
	00  Processing accelerators
"""


class Host:
    """A host's files below a directory."""

    def __init__(self, root: pathlib.Path, hostname: str = "gpu-1") -> None:
        self.root = root
        self._places: dict[str, str] = {}
        self.write("/proc/sys/kernel/hostname", hostname)
        self.write("/proc/sys/kernel/osrelease", "6.8.0-60-generic")
        self.write("/usr/share/hwdata/pci.ids", PCI_IDS)
        self.mkdir("/sys/bus/pci/devices")

    def path(self, path: str) -> pathlib.Path:
        """Where a file of the host is on this machine."""
        return self.root / path.lstrip("/")

    def mkdir(self, path: str) -> None:
        self.path(path).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: str | int | bytes) -> None:
        """Write a file, text with a line feed as sysfs has it."""
        if not isinstance(content, bytes):
            text = str(content)
            content = (text if text.endswith("\n") else f"{text}\n").encode()
        place = self.path(path)
        # Most directories are there: a host has thousands of files.
        try:
            place.write_bytes(content)
        except FileNotFoundError:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def link(self, path: str, target: str) -> None:
        """Make a relative link, as in sysfs; ``target`` is a host's path."""
        place = self.path(path)
        to = os.path.relpath(target, os.path.dirname(path))
        try:
            place.symlink_to(to)
        except FileNotFoundError:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(to)

    def remove(self, path: str) -> None:
        self.path(path).unlink()

    def nodes(self, count: int) -> None:
        """Put NUMA nodes online."""
        self.write(
            "/sys/devices/system/node/online",
            f"0-{count - 1}" if count > 1 else "0",
        )

    def bridge(
        self,
        address: str,
        parent: str,
        group: int | None = None,
        ids: str = "8086:2030",
    ) -> str:
        """Add a root port or a port of a switch."""
        self.add(
            Pci(
                address,
                parent,
                ids,
                0x060400,
                group=group,
                driver="pcieport",
                reset="pm",
            )
        )
        return address

    def switch(
        self,
        root: str,
        port: str,
        upstream: str,
        downstream: Sequence[str],
        groups: Sequence[int | None] = (),
    ) -> None:
        """Add a root port and below it a switch.

        :param groups: IOMMU groups of root port, upstream port and the
            downstream ports; none if empty.
        """
        every = [port, upstream, *downstream]
        number = dict(zip(every, groups, strict=True)) if groups else {}
        self.bridge(port, root, number.get(port))
        self.bridge(upstream, port, number.get(upstream), "1000:c030")
        for address in downstream:
            self.bridge(address, upstream, number.get(address), "1000:c030")

    def add(self, device: Pci) -> None:
        """Add a function and all its files."""
        above = self._places.get(device.parent)
        if above is None:
            assert device.parent.startswith("pci"), device.parent
            above = f"/sys/devices/{device.parent}"
        place = f"{above}/{device.address}"
        self._places[device.address] = place
        self.link(f"/sys/bus/pci/devices/{device.address}", place)
        vendor, product = device.ids.split(":")
        subvendor, subproduct = device.subsystem.split(":")
        files = {
            "class": f"0x{device.class_code:06x}",
            "vendor": f"0x{vendor}",
            "device": f"0x{product}",
            "subsystem_vendor": f"0x{subvendor}",
            "subsystem_device": f"0x{subproduct}",
            "revision": f"0x{device.revision:02x}",
            "numa_node": device.numa,
            "driver_override": device.override or "(null)",
            "resource": _resource(device.bars),
            "remove": "",
            "rescan": "",
            "power_state": "D0",
            "modalias": (
                f"pci:v0000{vendor.upper()}d0000{product.upper()}"
                f"sv0000{subvendor.upper()}sd0000{subproduct.upper()}"
                f"bc{device.class_code >> 16:02X}"
                f"sc{device.class_code >> 8 & 255:02X}"
                f"i{device.class_code & 255:02X}"
            ),
        }
        if device.reset is not None:
            files["reset_method"] = device.reset
        if device.link is not None and device.physfn is None:
            files["current_link_speed"], files["current_link_width"] = (
                device.link
            )
            files["max_link_speed"], files["max_link_width"] = device.link
        if device.boot_vga is not None:
            files["boot_vga"] = int(device.boot_vga)
        if device.totalvfs is not None:
            files["sriov_totalvfs"] = device.totalvfs
            files["sriov_numvfs"] = 0
            files["sriov_vf_device"] = device.vf_ids.split(":")[-1]
        for name, content in files.items():
            self.write(f"{place}/{name}", content)
        if device.driver:
            self.mkdir(f"/sys/bus/pci/drivers/{device.driver}")
            self.link(
                f"{place}/driver", f"/sys/bus/pci/drivers/{device.driver}"
            )
        if device.group is not None:
            group = f"/sys/kernel/iommu_groups/{device.group}"
            self.mkdir(f"{group}/devices")
            self.link(f"{group}/devices/{device.address}", place)
            self.link(f"{place}/iommu_group", group)
        if device.net:
            self.mkdir(f"{place}/net/{device.net}")
            self.link(
                f"/sys/class/net/{device.net}", f"{place}/net/{device.net}"
            )
        if device.rdma:
            self.mkdir(f"{place}/infiniband/{device.rdma}")
        for type_id, name, available in device.mdev:
            folder = f"{place}/mdev_supported_types/{type_id}"
            self.write(f"{folder}/name", name)
            self.write(f"{folder}/available_instances", available)
            self.mkdir(f"{folder}/devices")
        if device.physfn:
            self._add_vf(device, place)

    def make_mdev(self, address: str, type_id: str, uuid: str) -> None:
        """Make a mediated device of a device that has the type."""
        place = f"{self._places[address]}/{uuid}"
        self.mkdir(place)
        self.link(f"/sys/bus/mdev/devices/{uuid}", place)
        types = f"{self._places[address]}/mdev_supported_types"
        self.link(f"{types}/{type_id}/devices/{uuid}", place)

    def _add_vf(self, device: Pci, place: str) -> None:
        assert device.physfn is not None
        parent = self._places[device.physfn]
        self.link(f"{place}/physfn", parent)
        number = int(self.path(f"{parent}/sriov_numvfs").read_text())
        self.write(f"{parent}/sriov_numvfs", number + 1)
        self.link(f"{parent}/virtfn{number}", place)

    def iommu(self, vendor: str = "intel") -> None:
        """Turn the IOMMU on, with interrupt remapping and vfio loaded."""
        if vendor == "intel":
            self.write("/sys/firmware/acpi/tables/DMAR", b"DMAR")
            self.mkdir("/sys/class/iommu/dmar0")
            cpu, parameter = "GenuineIntel", "intel_iommu=on "
        else:
            self.write("/sys/firmware/acpi/tables/IVRS", b"IVRS")
            self.mkdir("/sys/class/iommu/ivhd0")
            cpu, parameter = "AuthenticAMD", ""
        self.write("/proc/cpuinfo", f"processor\t: 0\nvendor_id\t: {cpu}\n")
        self.write(
            "/proc/cmdline",
            f"BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 {parameter}iommu=pt",
        )
        self.write(
            "/proc/interrupts",
            "           CPU0\n"
            " 24:   11  IR-PCI-MSI-0000:00:1c.0    0-edge      PCIe PME\n",
        )
        self.vfio()

    def vfio(self) -> None:
        """Load the modules of VFIO."""
        for module in ("vfio", "vfio_pci", "vfio_iommu_type1"):
            self.mkdir(f"/sys/module/{module}")

    def vfio_at_boot(self, *ids: str) -> None:
        """Have vfio-pci take devices at boot, before their own drivers."""
        self.write(
            "/etc/modprobe.d/vfio.conf",
            f"options vfio-pci ids={','.join(ids)}\n"
            "softdep nouveau pre: vfio-pci\n"
            "softdep nvidia pre: vfio-pci\n"
            "softdep snd_hda_intel pre: vfio-pci\n"
            "softdep xhci_pci pre: vfio-pci\n"
            "softdep amdgpu pre: vfio-pci\n"
            "softdep xe pre: vfio-pci\n"
            "softdep i915 pre: vfio-pci\n"
            "softdep nvidiafb pre: vfio-pci\n",
        )


def _resource(bars: Sequence[int]) -> str:
    lines = []
    start = 0x380000000000
    for size in bars:
        flags = _MEM_64_PREFETCH if size >= 256 * MIB else _MEM
        lines.append((start, start + size - 1, flags))
        start += max(size, MIB) * 2
    lines += [(0, 0, 0)] * (13 - len(lines))
    return "\n".join(
        f"0x{start:016x} 0x{end:016x} 0x{flags:016x}"
        for start, end, flags in lines
    )


def k2_host(root: pathlib.Path) -> Host:
    """Two GPUs of a GRID K2 board behind its PLX switch.

    There is no ACS, so both are in one IOMMU group.
    """
    host = Host(root, "k2-1")
    host.nodes(2)
    host.iommu()
    host.switch(
        "pci0000:80",
        "0000:80:02.0",
        "0000:83:00.0",
        ["0000:84:08.0", "0000:84:10.0"],
        [40, 41, 41, 41],
    )
    for address, parent in (
        ("0000:85:00.0", "0000:84:08.0"),
        ("0000:86:00.0", "0000:84:10.0"),
    ):
        host.add(
            Pci(
                address,
                parent,
                "10de:11bf",
                0x030000,
                subsystem="10de:100a",
                revision=0xA1,
                numa=1,
                group=41,
                driver="vfio-pci",
                bars=(16 * MIB, 128 * MIB, 32 * MIB),
                reset="bus",
                link=("8.0 GT/s PCIe", 16),
                boot_vga=False,
            )
        )
    host.vfio_at_boot("10de:11bf")
    return host


# Module Ids as NVIDIA's guide has them for this board, by GPU in PCI order.
HGX_H100_GPUS = (
    "0000:0f:00.0",
    "0000:10:00.0",
    "0000:41:00.0",
    "0000:44:00.0",
    "0000:86:00.0",
    "0000:87:00.0",
    "0000:b8:00.0",
    "0000:bb:00.0",
)
HGX_H100_MODULES = (5, 7, 6, 8, 1, 3, 2, 4)


def hgx_h100(root: pathlib.Path, driver: str = "vfio-pci") -> Host:
    """HGX H100: 4 PCIe switches, each with 2 GPUs and 2 NICs, 4 NVSwitches."""
    host = Host(root, "hgx-1")
    host.nodes(2)
    host.iommu()
    group = 100
    for index, (first, second) in enumerate(
        zip(HGX_H100_GPUS[::2], HGX_H100_GPUS[1::2], strict=True)
    ):
        node = index // 2
        base = int(first[5:7], 16) - 5
        bus = f"pci0000:{base:02x}"
        downstream = [f"0000:{base + 2:02x}:{slot:02x}.0" for slot in range(4)]
        host.switch(
            bus,
            f"0000:{base:02x}:01.0",
            f"0000:{base + 1:02x}:00.0",
            downstream,
            range(group, group + 6),
        )
        group += 6
        for port, address in zip(downstream, (first, second), strict=False):
            host.add(
                Pci(
                    address,
                    port,
                    "10de:2330",
                    0x030200,
                    subsystem="10de:16c1",
                    revision=0xA1,
                    numa=node,
                    group=group,
                    driver=driver,
                    bars=(16 * MIB, 128 * GIB, 32 * MIB),
                    totalvfs=16,
                    vf_ids="10de:2330",
                    link=("32.0 GT/s PCIe", 16),
                )
            )
            group += 1
        for place, port in enumerate(downstream[2:]):
            number = 2 * index + place
            host.add(
                Pci(
                    f"0000:{base + 3 + place:02x}:00.0",
                    port,
                    "15b3:1021",
                    0x020700,
                    subsystem="15b3:0051",
                    numa=node,
                    group=group,
                    driver="mlx5_core",
                    bars=(32 * MIB,),
                    totalvfs=16,
                    vf_ids="15b3:101e",
                    net=f"ibs{number}",
                    rdma=f"mlx5_{number}",
                    link=("32.0 GT/s PCIe", 16),
                )
            )
            group += 1
    host.switch(
        "pci0000:c0",
        "0000:c0:01.0",
        "0000:c1:00.0",
        [f"0000:c2:{slot:02x}.0" for slot in range(4)],
        range(300, 306),
    )
    for number in range(4):
        host.add(
            Pci(
                f"0000:{0xC3 + number:02x}:00.0",
                f"0000:c2:{number:02x}.0",
                "10de:22a3",
                0x068000,
                subsystem="10de:1796",
                revision=0xA1,
                numa=1,
                group=310 + number,
                driver="nvidia-nvswitch",
                bars=(32 * MIB,),
                link=("16.0 GT/s PCIe", 2),
            )
        )
    host.write(
        "/usr/share/nvidia/nvswitch/fabricmanager.cfg",
        "# Fabric Manager\nLOG_LEVEL=4\nFABRIC_MODE=1\n",
    )
    host.vfio_at_boot("10de:2330")
    return host


def a100_bridge_pairs(root: pathlib.Path, driver: str = "nvidia") -> Host:
    """Four A100 PCIe, each pair on one NUMA node, two NVLink bridges."""
    host = Host(root, "a100-1")
    host.nodes(2)
    host.iommu("amd")
    for index, bus in enumerate((0x01, 0x21, 0x81, 0xA1)):
        root_bus = f"pci0000:{bus - 1:02x}"
        port = host.bridge(
            f"0000:{bus - 1:02x}:01.1", root_bus, 20 + 2 * index, "1022:1483"
        )
        host.add(
            Pci(
                f"0000:{bus:02x}:00.0",
                port,
                "10de:20f1",
                0x030200,
                subsystem="10de:145f",
                revision=0xA1,
                numa=index // 2,
                group=21 + 2 * index,
                driver=driver,
                bars=(16 * MIB, 64 * GIB, 32 * MIB),
                totalvfs=16,
                vf_ids="10de:20f1",
            )
        )
    return host


def rtx_with_audio_and_usb(root: pathlib.Path) -> Host:
    """A consumer card: graphics, audio, USB and UCSI functions of one slot.

    Only the graphics are bound to vfio-pci.
    """
    host = Host(root, "rtx-1")
    host.nodes(1)
    host.iommu()
    port = host.bridge("0000:00:01.0", "pci0000:00", 1)
    for function, ids, code, driver, bars in (
        (
            0,
            "10de:1e07",
            0x030000,
            "vfio-pci",
            (16 * MIB, 256 * MIB, 32 * MIB),
        ),
        (1, "10de:10f7", 0x040300, "snd_hda_intel", (16384,)),
        (2, "10de:1ad6", 0x0C0330, "xhci_hcd", (256 * 1024,)),
        (3, "10de:1ad7", 0x0C8000, None, (4096,)),
    ):
        host.add(
            Pci(
                f"0000:01:00.{function}",
                port,
                ids,
                code,
                subsystem="1462:3711",
                revision=0xA1,
                group=1,
                driver=driver,
                bars=bars,
                reset="bus" if not function else "pm bus",
                boot_vga=False if not function else None,
            )
        )
    return host


def mi300x(root: pathlib.Path) -> Host:
    """Two AMD Instinct MI300X, of class 1200, bound to amdgpu."""
    host = Host(root, "mi300x-1")
    host.nodes(2)
    host.iommu("amd")
    for index, bus in enumerate((0x05, 0x85)):
        root_bus = f"pci0000:{bus - 5:02x}"
        host.switch(
            root_bus,
            f"0000:{bus - 5:02x}:01.1",
            f"0000:{bus - 4:02x}:00.0",
            [f"0000:{bus - 3:02x}:00.0"],
            range(10 * index, 10 * index + 3),
        )
        host.add(
            Pci(
                f"0000:{bus:02x}:00.0",
                f"0000:{bus - 3:02x}:00.0",
                "1002:74a1",
                0x120000,
                subsystem="1002:74a1",
                numa=index,
                group=10 * index + 5,
                driver="amdgpu",
                bars=(256 * GIB, 2 * MIB, 512 * 1024),
                totalvfs=8,
                vf_ids="1002:74b5",
                link=("32.0 GT/s PCIe", 16),
            )
        )
    return host


def flex_with_vfs(root: pathlib.Path, vfs: int = 31) -> Host:
    """An Intel Flex 170 with VFs, which bear the PF's product id."""
    host = Host(root, "flex-1")
    host.nodes(1)
    host.iommu()
    port = host.bridge("0000:4a:02.0", "pci0000:4a", 7)
    common = {
        "parent": port,
        "ids": "8086:56c0",
        "class_code": 0x038000,
        "subsystem": "8086:4905",
        "revision": 0x08,
    }
    host.add(
        Pci(
            "0000:4d:00.0",
            group=8,
            driver="i915",
            bars=(16 * MIB, 16 * GIB),
            totalvfs=31,
            vf_ids="8086:56c0",
            **common,
        )
    )
    for number in range(1, vfs + 1):
        host.add(
            Pci(
                f"0000:4d:{number >> 3:02x}.{number & 7}",
                group=8 + number,
                driver="vfio-pci",
                bars=(16 * MIB, 256 * MIB),
                physfn="0000:4d:00.0",
                **common,
            )
        )
    host.vfio_at_boot("8086:56c0")
    return host


def laptop(root: pathlib.Path) -> Host:
    """A laptop: the display is on Intel's GPU, the other is NVIDIA's."""
    host = Host(root, "laptop")
    host.nodes(1)
    host.iommu()
    host.add(
        Pci(
            "0000:00:02.0",
            "pci0000:00",
            "8086:3e9b",
            0x030000,
            subsystem="1028:0905",
            group=0,
            driver="i915",
            bars=(16 * MIB, 256 * MIB),
            boot_vga=True,
            link=None,
        )
    )
    port = host.bridge("0000:00:01.0", "pci0000:00", 1)
    host.add(
        Pci(
            "0000:01:00.0",
            port,
            "10de:1f9d",
            0x030200,
            subsystem="1028:0905",
            revision=0xA1,
            group=1,
            driver="nouveau",
            bars=(16 * MIB, 256 * MIB, 32 * MIB),
        )
    )
    return host


def vm_without_iommu(root: pathlib.Path) -> Host:
    """A virtual machine that was given a GPU, and no IOMMU of its own."""
    host = Host(root, "vm-1")
    host.nodes(1)
    host.write(
        "/proc/cpuinfo",
        "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme"
        " hypervisor\n",
    )
    host.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro")
    host.write("/proc/interrupts", " 24:  11  PCI-MSI-0000:00:02.0  0-edge\n")
    host.mkdir("/sys/kernel/iommu_groups")
    port = host.bridge("0000:00:02.0", "pci0000:00", ids="1b36:000c")
    host.add(
        Pci(
            "0000:01:00.0",
            port,
            "10de:20f1",
            0x030200,
            revision=0xA1,
            bars=(16 * MIB, 64 * GIB, 32 * MIB),
        )
    )
    return host


def many_vfs(root: pathlib.Path, vfs: int = 125) -> Host:
    """The HGX H100 with that many VFs on each of its 8 NICs."""
    host = hgx_h100(root)
    group = 1000
    for index in range(8):
        base = int(HGX_H100_GPUS[index // 2 * 2][5:7], 16) - 5
        bus = base + 3 + index % 2
        for number in range(1, vfs + 1):
            host.add(
                Pci(
                    f"{0 if number < 250 else 1:04x}:{bus:02x}"
                    f":{number >> 3:02x}.{number & 7}",
                    f"0000:{base + 2:02x}:{2 + index % 2:02x}.0",
                    "15b3:101e",
                    0x020700,
                    numa=index // 4,
                    group=group,
                    driver="mlx5_core",
                    bars=(MIB,),
                    physfn=f"0000:{bus:02x}:00.0",
                )
            )
            group += 1
    return host


def dgx1_v100(root: pathlib.Path) -> Host:
    """DGX-1: 8 V100-SXM2, pairs on PCIe switches, two root ports a bus."""
    host = Host(root, "dgx1")
    host.nodes(2)
    host.iommu()
    group = 0
    for index, bus in enumerate((0x06, 0x0A, 0x85, 0x89)):
        node = index // 2
        root_bus = "pci0000:00" if not node else "pci0000:80"
        host.switch(
            root_bus,
            f"{root_bus[3:]}:{2 + index % 2:02x}.0",
            f"0000:{bus - 2:02x}:00.0",
            [f"0000:{bus - 1:02x}:{slot:02x}.0" for slot in (8, 16)],
            range(group, group + 4),
        )
        for place, slot in enumerate((8, 16)):
            host.add(
                Pci(
                    f"0000:{bus + place:02x}:00.0",
                    f"0000:{bus - 1:02x}:{slot:02x}.0",
                    "10de:1db1",
                    0x030200,
                    numa=node,
                    group=group + 5 + place,
                    driver="nvidia",
                    bars=(16 * MIB, 16 * GIB, 32 * MIB),
                )
            )
        group += 10
    return host


def gb200_tray(
    root: pathlib.Path,
    driver: str = "nvgrace_gpu_vfio_pci",
    ids: str = "10de:2941",
) -> Host:
    """A GB200 compute tray: arm64, four GPUs in four PCI domains.

    :param ids: of its GPUs; GB300 has the same form.
    """
    host = Host(root, "gb200-1")
    host.nodes(2)
    host.write("/proc/sys/kernel/osrelease", "6.14.0-1015-nvidia-64k")
    host.write("/sys/firmware/acpi/tables/IORT", b"IORT")
    host.mkdir("/sys/class/iommu/smmu3.0x0000000011000000")
    host.write(
        "/proc/cpuinfo",
        "processor\t: 0\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd4f\n",
    )
    host.write("/proc/cmdline", "root=/dev/nvme0n1p2 iommu.passthrough=1")
    host.write("/proc/meminfo", "Hugepagesize:     524288 kB\n")
    host.vfio()
    for index, domain in enumerate(("0008", "0009", "0018", "0019")):
        port = host.bridge(
            f"{domain}:00:00.0", f"pci{domain}:00", 10 + index, "10de:22b1"
        )
        host.add(
            Pci(
                f"{domain}:01:00.0",
                port,
                ids,
                0x030200,
                subsystem="10de:2046",
                revision=0xA1,
                numa=index // 2,
                group=20 + index,
                driver=driver,
                bars=(16 * MIB, 256 * GIB, 32 * MIB),
                totalvfs=16,
                vf_ids=ids,
                link=("32.0 GT/s PCIe", 16),
            )
        )
    return host


def hgx_b200(
    root: pathlib.Path, driver: str = "vfio-pci", ids: str = "10de:2901"
) -> Host:
    """HGX B200: 8 GPUs; NVSwitches are managed by two ConnectX-7.

    :param ids: of its GPUs; HGX B300 has the same form.
    """
    host = Host(root, "b200-1")
    host.nodes(2)
    host.iommu()
    for index in range(8):
        bus = 0x10 * index + 2
        port = host.bridge(
            f"0000:{bus - 1:02x}:01.0",
            f"pci0000:{bus - 1:02x}",
            10 + index,
        )
        host.add(
            Pci(
                f"0000:{bus:02x}:00.0",
                port,
                ids,
                0x030200,
                subsystem="10de:1999",
                numa=index // 4,
                group=30 + index,
                driver=driver,
                bars=(64 * MIB, 256 * GIB, 32 * MIB),
                totalvfs=16,
                vf_ids=ids,
            )
        )
    for index in range(2):
        bus = 0xA1 + index
        port = host.bridge(f"0000:a0:0{index + 1}.0", "pci0000:a0", 20 + index)
        host.add(
            Pci(
                f"0000:{bus:02x}:00.0",
                port,
                "15b3:1021",
                0x020700,
                numa=1,
                group=40 + index,
                driver="mlx5_core",
                bars=(32 * MIB,),
                rdma=f"mlx5_{index}",
            )
        )
        host.write(
            f"/sys/bus/pci/devices/0000:{bus:02x}:00.0/vpd",
            b"\x82\x08\x00Board 01\x90SMDL\x06SW_MNG",
        )
    host.write(
        "/usr/share/nvidia/nvswitch/fabricmanager.cfg", "FABRIC_MODE=1\n"
    )
    host.vfio_at_boot(ids)
    return host


def h200_nvl(
    root: pathlib.Path, gpus: int = 8, ids: str = "10de:233b"
) -> Host:
    """Cards below a root port each, four on a NUMA node.

    :param ids: H200 NVL; or any other GPU without NVSwitches.
    """
    host = Host(root, "h200-nvl-1")
    host.nodes(2)
    host.iommu()
    for index in range(gpus):
        bus = 0x10 * index + 2
        port = host.bridge(
            f"0000:{bus - 1:02x}:01.0",
            f"pci0000:{bus - 1:02x}",
            10 + index,
        )
        host.add(
            Pci(
                f"0000:{bus:02x}:00.0",
                port,
                ids,
                0x030200,
                numa=index // 4,
                group=30 + index,
                driver="vfio-pci",
                bars=(16 * MIB, 256 * GIB, 32 * MIB),
                totalvfs=16,
                vf_ids=ids,
            )
        )
    host.vfio_at_boot(ids)
    return host


MACHINES = {
    "h200_nvl": h200_nvl,
    "hgx_b200": hgx_b200,
    "gb200_tray": gb200_tray,
    "k2_host": k2_host,
    "hgx_h100": hgx_h100,
    "a100_bridge_pairs": a100_bridge_pairs,
    "rtx_with_audio_and_usb": rtx_with_audio_and_usb,
    "mi300x": mi300x,
    "flex_with_vfs": flex_with_vfs,
    "laptop": laptop,
    "vm_without_iommu": vm_without_iommu,
    "dgx1_v100": dgx1_v100,
}
