# SPDX-License-Identifier: Apache-2.0

"""A host whose files behave as Linux and the drivers of PFs do.

The rules are those of drivers/pci/pci-sysfs.c and drivers/pci/iov.c, and, for
vGPU types, of NVIDIA's Virtual GPU Software User Guide: VFs of one GPU have
types of one size, as many as its memory holds.
"""

import dataclasses
import errno
import os
import pathlib
import shutil

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.vgpu import state
from nova_gpu_filter.host.vgpu import types
from tests import sysfs_trees

A40 = "0000:41:00.0"
A40_2 = "0000:81:00.0"
NIC = "0000:c1:00.0"
NVME = "0000:e1:00.0"

# (number, name, how many fit into the GPU)
A40_TYPES = (
    (557, "NVIDIA A40-1B", 32),
    (562, "NVIDIA A40-4Q", 12),
    (563, "NVIDIA A40-8Q", 6),
    (566, "NVIDIA A40-48Q", 1),
)


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclasses.dataclass
class Device:
    """A PF: how many VFs, and where they are."""

    pci: sysfs_trees.Pci
    vf_driver: str | None
    types: tuple[tuple[int, str, int], ...] = ()


class FakeHost:
    """Two A40 under NVIDIA's driver, a ConnectX and an NVMe."""

    def __init__(self, root: pathlib.Path, with_names: bool = True) -> None:
        self.host = sysfs_trees.Host(root, "vgpu-1")
        self.host.nodes(1)
        self.host.iommu()
        self.steps: list[str] = []
        self.devices: dict[str, Device] = {}
        self.busy: set[str] = set()
        self._group = 100
        self.host.write(state.SRIOV_MANAGE, "#!/bin/bash")
        if with_names:
            self.host.write(
                types.CONFIG,
                "\n".join(
                    f'<vgpuType id="{number:#x}" name="{name}" class="x">'
                    for number, name, _ in A40_TYPES
                ),
            )
        for address, bus, ids, code, driver, vf_driver, total, of_vf in (
            (A40, "0", "10de:2235", 0x030200, "nvidia", "nvidia", 32, 1),
            (A40_2, "8", "10de:2235", 0x030200, "nvidia", "nvidia", 32, 1),
            (NIC, "c", "15b3:1021", 0x020000, "mlx5_core", "mlx5_core", 8, 0),
            (NVME, "e", "1b36:0010", 0x010802, "nvme", "nvme", 4, 0),
        ):
            port = self.host.bridge(
                f"0000:{bus:0>2}:02.0", f"pci0000:{bus:0>2}"
            )
            pci = sysfs_trees.Pci(
                address,
                port,
                ids,
                code,
                group=self._next_group(),
                driver=driver,
                totalvfs=total,
                vf_ids=ids,
            )
            self.host.add(pci)
            self.host.write(self.path(address, "sriov_drivers_autoprobe"), 1)
            self.host.write(
                f"{state.SLOTS}/{bus}/address", address.rpartition(".")[0]
            )
            self.devices[address] = Device(
                pci, vf_driver, A40_TYPES if of_vf else ()
            )

    def _next_group(self) -> int:
        self._group += 1
        return self._group

    def path(self, address: str, name: str) -> str:
        return f"{address_lib.DEVICES}/{address}/{name}"

    def read(self, address: str, name: str) -> str:
        return self.host.path(self.path(address, name)).read_text().strip()

    def vfs(self, pf: str) -> list[str]:
        """The VFs that there are, in the order of their numbers."""
        folder = self.host.path(f"{address_lib.DEVICES}/{pf}")
        return sorted(
            os.path.basename(os.readlink(one))
            for one in folder.iterdir()
            if one.name.startswith("virtfn")
        )

    def given(self, pf: str) -> list[int]:
        """The vGPU types of a PF's VFs."""
        return [
            int(self.read(vf, "nvidia/current_vgpu_type"))
            for vf in self.vfs(pf)
        ]

    def hold(self, address: str, pid: int = 4711) -> None:
        """Have a guest use a device."""
        self.busy.add(address)
        group = os.path.basename(
            os.readlink(self.host.path(self.path(address, "iommu_group")))
        )
        self.host.write(f"/proc/{pid}/comm", "qemu-system-x86")
        folder = self.host.path(f"/proc/{pid}/fd")
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / str(number)).symlink_to(f"/dev/vfio/{group}")

    # What can be changed: applying.Machine

    def write(self, path: str, text: str) -> None:
        self.steps.append(f"{path} {text}")
        address, name = path.removeprefix(f"{address_lib.DEVICES}/").split(
            "/", 1
        )
        if name == "sriov_numvfs":
            self._set_number(address, int(text))
        elif name == "sriov_drivers_autoprobe":
            self.host.write(path, text)
        elif name == "nvidia/current_vgpu_type":
            self._set_type(address, int(text))
        else:
            raise fail(errno.ENOENT)

    def run(self, arguments: tuple[str, ...]) -> None:
        self.steps.append(" ".join(arguments))
        program, option, address = arguments
        assert program == state.SRIOV_MANAGE
        total = int(self.read(address, "sriov_totalvfs"))
        self._set_number(address, {"-e": total, "-d": 0}[option])

    def _set_number(self, pf: str, number: int) -> None:
        current = int(self.read(pf, "sriov_numvfs"))
        if number > int(self.read(pf, "sriov_totalvfs")):
            raise fail(errno.ERANGE)
        if number == current:
            return
        if not self.host.path(self.path(pf, "driver")).is_symlink():
            raise fail(errno.ENOENT)
        if number and current:
            raise fail(errno.EBUSY)
        for vf in self.vfs(pf):
            # Linux waits for the guest here, without an end.
            assert vf not in self.busy, f"{vf} is taken from a guest"
            self._remove(pf, vf)
        self.host.write(self.path(pf, "sriov_numvfs"), 0)
        for index in range(number):
            self._add(pf, index)
        if number and self.devices[pf].types:
            self._offer(pf)

    def _add(self, pf: str, index: int) -> None:
        device = self.devices[pf]
        function = index + 4
        vf = f"{pf[:8]}{function >> 3:02x}.{function & 7}"
        probed = self.read(pf, "sriov_drivers_autoprobe") == "1"
        self.host.add(
            sysfs_trees.Pci(
                vf,
                device.pci.parent,
                device.pci.ids,
                device.pci.class_code,
                group=self._next_group(),
                driver=device.vf_driver if probed else None,
                physfn=pf,
            )
        )
        if device.types:
            self.host.write(self.path(vf, "nvidia/current_vgpu_type"), 0)

    def _remove(self, pf: str, vf: str) -> None:
        folder = self.host.path(f"{address_lib.DEVICES}/{pf}")
        for one in folder.iterdir():
            if one.name.startswith("virtfn") and (
                os.path.basename(os.readlink(one)) == vf
            ):
                one.unlink()
        link = self.host.path(f"{address_lib.DEVICES}/{vf}")
        place = link.resolve()
        link.unlink()
        shutil.rmtree(place)

    def _set_type(self, vf: str, number: int) -> None:
        path = self.path(vf, "nvidia/current_vgpu_type")
        if vf in self.busy:
            raise fail(errno.EBUSY)
        if number and f"{number} :" not in self.read(
            vf, "nvidia/creatable_vgpu_types"
        ):
            raise fail(errno.EINVAL)
        self.host.write(path, number)
        link = self.host.path(self.path(vf, "physfn"))
        self._offer(os.path.basename(os.readlink(link)))

    def _offer(self, pf: str) -> None:
        """Write what the VFs of a GPU can still become."""
        given = [number for number in self.given(pf) if number]
        lines = [
            f"{number} : {name}"
            for number, name, most in self.devices[pf].types
            if not given or (number == given[0] and len(given) < most)
        ]
        for vf in self.vfs(pf):
            own = self.read(vf, "nvidia/current_vgpu_type")
            self.host.write(
                self.path(vf, "nvidia/creatable_vgpu_types"),
                "\n".join(["ID : vGPU Name", *lines]) if own == "0" else "",
            )
