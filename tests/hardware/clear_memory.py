# SPDX-License-Identifier: Apache-2.0

"""Runs in a machine: clears the memory of an emulated GPU.

It takes the options of gpu-admin-tools that the agent gives, and drives the
device by VFIO: so it works only where no guest has the device, vfio-pci does,
and registers and DMA work. Numbers are those of include/uapi/linux/vfio.h.
"""

import argparse
import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

_SET_IOMMU, _SET_CONTAINER, _GET_DEVICE_FD = 0x3B66, 0x3B68, 0x3B6A
_GET_REGION_INFO, _MAP_DMA = 0x3B6C, 0x3B71
_TYPE1_IOMMU = 1
_MAP_READ = 1
_CONFIG_REGION = 7
_COMMAND, _MEMORY_AND_MASTER = 4, 6

# docs/specs/edu.rst of QEMU; QEMU 7.2 aborts when the last byte is asked for.
_EDU_ID = 0x010000ED
_EDU_SOURCE, _EDU_TARGET, _EDU_COUNT, _EDU_COMMAND = 0x80, 0x88, 0x90, 0x98
_EDU_BUFFER, _EDU_BYTES = 0x40000, 4095
# Where the device sees our zeros; edu has 28 bits.
_IOVA = 0x100000
_PAGE = 4096
_IVSHMEM_MEMORY = 2
_SECONDS = 60


class Device:
    """A device that this process alone has."""

    def __init__(self, address: str) -> None:
        link = os.readlink(f"/sys/bus/pci/devices/{address}/iommu_group")
        self._container = os.open("/dev/vfio/vfio", os.O_RDWR)
        group = os.open(f"/dev/vfio/{os.path.basename(link)}", os.O_RDWR)
        fcntl.ioctl(group, _SET_CONTAINER, struct.pack("i", self._container))
        fcntl.ioctl(self._container, _SET_IOMMU, _TYPE1_IOMMU)
        self._device = fcntl.ioctl(
            group, _GET_DEVICE_FD, bytearray(f"{address}\0".encode()), True
        )
        _, config = self._region(_CONFIG_REGION)
        os.pwrite(
            self._device,
            struct.pack("<H", _MEMORY_AND_MASTER),
            config + _COMMAND,
        )

    def _region(self, number: int) -> tuple[int, int]:
        """Find the size of a region, and where it is in the file."""
        info = bytearray(struct.pack("=IIIIQQ", 32, 0, number, 0, 0, 0))
        fcntl.ioctl(self._device, _GET_REGION_INFO, info, True)
        size, offset = struct.unpack("=QQ", info[16:])
        return size, offset

    def map(self, bar: int) -> mmap.mmap:
        """Map a BAR."""
        size, offset = self._region(bar)
        return mmap.mmap(self._device, size, offset=offset)

    def show_zeros(self) -> None:
        """Let the device read a page of zeros by DMA."""
        self._zeros = mmap.mmap(-1, _PAGE)
        place = ctypes.addressof(ctypes.c_char.from_buffer(self._zeros))
        fcntl.ioctl(
            self._container,
            _MAP_DMA,
            struct.pack("=IIQQQ", 32, _MAP_READ, place, _IOVA, _PAGE),
        )


def _clear(device: Device) -> str:
    registers = device.map(0)

    def register(offset: int) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_buffer(registers, offset)

    if register(0).value != _EDU_ID:
        memory = device.map(_IVSHMEM_MEMORY)
        memory[:] = bytes(len(memory))
        return f"{len(memory)} bytes of a BAR"
    device.show_zeros()
    for offset, value in (
        (_EDU_SOURCE, _IOVA),
        (_EDU_TARGET, _EDU_BUFFER),
        (_EDU_COUNT, _EDU_BYTES),
        (_EDU_COMMAND, 1),
    ):
        register(offset).value = value
    until = time.monotonic() + _SECONDS
    while register(_EDU_COMMAND).value & 1:
        if time.monotonic() > until:
            raise TimeoutError("the DMA does not end")
        time.sleep(0.05)
    return f"{_EDU_BYTES} bytes by DMA"


def main() -> int:
    """Clear the memory, or say why not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu-bdf", required=True)
    for option in ("--reset-with-sbr", "--clear-memory"):
        parser.add_argument(option, action="store_true", required=True)
    address = parser.parse_args().gpu_bdf
    # The kernel's is that of the bus, where a device has no better one.
    with contextlib.closing(
        open(f"/sys/bus/pci/devices/{address}/reset", "w", encoding="ascii")
    ) as file:
        file.write("1")
    print(f"{address}: cleared {_clear(Device(address))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
