# SPDX-License-Identifier: Apache-2.0

"""Machines by their model, as Nova's fake libvirt describes them."""

from collections.abc import Sequence
import dataclasses

from demo import threads  # noqa: F401

# isort: split

from nova.tests.fixtures import libvirt as fakelibvirt

GRID_K2 = "10de:11bf"
H100 = "10de:2330"
A40 = "10de:2235"


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a compute host is made of."""

    model: str
    """What people call it."""
    pci_info: fakelibvirt.HostPCIDevicesInfo
    host_info: fakelibvirt.HostInfo


def _host_info(memory_gb: int) -> fakelibvirt.HostInfo:
    """Describe two sockets of two cores.

    Nova's fixture can show 16 CPUs at most, and the story needs no more.
    """
    return fakelibvirt.HostInfo(
        cpu_nodes=2,
        cpu_sockets=1,
        cpu_cores=2,
        cpu_threads=2,
        kB_mem=memory_gb * 1024 * 1024,
    )


def _no_devices() -> fakelibvirt.HostPCIDevicesInfo:
    return fakelibvirt.HostPCIDevicesInfo(num_pci=0, num_pfs=0, num_vfs=0)


def build_plain_host() -> Machine:
    """Build a host that has no PCI device to give away."""
    return Machine("no GPU", _no_devices(), _host_info(memory_gb=64))


def grid_k2() -> Machine:
    """Build a host with the two GPUs of a GRID K2 board ``[10de:11bf]``.

    They sit at 0000:85:00.0 and 0000:86:00.0, on the second socket.
    """
    devices = _no_devices()
    for group, bus in enumerate((0x85, 0x86)):
        devices.add_device(
            dev_type="PCI",
            bus=bus,
            slot=0,
            function=0,
            iommu_group=40 + group,
            numa_node=1,
            vend_id="10de",
            vend_name="NVIDIA Corporation",
            prod_id="11bf",
            prod_name="GK104GL [GRID K2]",
            driver_name="vfio-pci",
        )
    return Machine("2 x GRID K2", devices, _host_info(memory_gb=64))


# Bus numbers of the GPUs of a DGX H100, as nvidia-smi shows them there;
# the first four belong to the first socket.
_HGX_H100_BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)


def hgx_h100() -> Machine:
    """Build a host with 8 H100 SXM5 80GB ``[10de:2330]``, 4 a socket."""
    devices = _build_h100_devices(
        _HGX_H100_BUSES, "2330", "GH100 [H100 SXM5 80GB]"
    )
    return Machine("8 x H100 SXM5", devices, _host_info(memory_gb=256))


_H100_NVL_BUSES = (0x21, 0x31, 0x41, 0xA1, 0xB1, 0xC1)


def h100_nvl() -> Machine:
    """Build a host with 6 PCIe boards H100 NVL ``[10de:2321]``, 3 a socket.

    Which of them are bridged is not said here, since libvirt does not know.
    """
    devices = _build_h100_devices(_H100_NVL_BUSES, "2321", "GH100 [H100 NVL]")
    return Machine("6 x H100 NVL", devices, _host_info(memory_gb=256))


def _build_h100_devices(
    buses: Sequence[int], product_id: str, name: str
) -> fakelibvirt.HostPCIDevicesInfo:
    devices = _no_devices()
    for group, bus in enumerate(buses, 40):
        devices.add_device(
            dev_type="PF",
            bus=bus,
            slot=0,
            function=0,
            iommu_group=group,
            numa_node=0 if bus < 0x80 else 1,
            # SR-IOV is there, no virtual function is made: passthrough.
            vf_ratio=0,
            vend_id="10de",
            vend_name="NVIDIA Corporation",
            prod_id=product_id,
            prod_name=name,
            driver_name="vfio-pci",
        )
    return devices


_A40_BUSES = (0x41, 0xA1)


def a40_with_vfs(vfs: int = 4) -> Machine:
    """Build a host with two A40 ``[10de:2235]``, one a socket, divided.

    :param vfs: how many VFs of each hold a vGPU, from function 1 on.
    """
    devices = _no_devices()
    group = 40
    for node, bus in enumerate(_A40_BUSES):
        for function in range(vfs + 1):
            devices.add_device(
                dev_type="VF" if function else "PF",
                bus=bus,
                slot=0,
                function=function,
                iommu_group=group,
                numa_node=node,
                vf_ratio=vfs,
                parent=(bus, 0, 0) if function else None,
                vend_id="10de",
                vend_name="NVIDIA Corporation",
                prod_id="2235",
                prod_name="GA102GL [A40]",
                driver_name="nvidia",
            )
            group += 1
    return Machine(
        f"2 x A40, {vfs} VFs each", devices, _host_info(memory_gb=64)
    )
