# SPDX-License-Identifier: Apache-2.0

"""Memory layouts that libnvfm.so expects.

Source: the structures of NVIDIA's nv_fm_types.h (package
nvidia-fabricmanager-dev) and "Fabric Manager SDK" in NVIDIA's Fabric Manager
User Guide. All numbers are ``unsigned int``; a structure that begins with a
version holds its own size in the low 24 bits, and its number above them.
"""

import ctypes
from typing import Final

STRING: Final = 256
UUID: Final = 80
BUS_ID: Final = 32
GPUS: Final = 16
PARTITIONS: Final = 64
INET: Final = 1
UNIX: Final = 2
"""Kinds of an address in :class:`ConnectV2`."""


class ConnectV1(ctypes.Structure):
    """``fmConnectParams_v1``, of releases before R580."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("address", ctypes.c_char * STRING),
        ("timeout_ms", ctypes.c_uint),
        ("is_unix", ctypes.c_uint),
    ]
    number = 1


class ConnectV2(ctypes.Structure):
    """``fmConnectParams_v2``."""

    _fields_ = [*ConnectV1._fields_, ("kind", ctypes.c_int)]
    number = 2


class PciDevice(ctypes.Structure):
    """``fmPciDevice_t``."""

    _fields_ = [
        (name, ctypes.c_uint)
        for name in ("domain", "bus", "device", "function")
    ]


class Gpu(ctypes.Structure):
    """``fmFabricPartitionGpuInfo_t``."""

    _fields_ = [
        ("physical_id", ctypes.c_uint),
        ("uuid", ctypes.c_char * UUID),
        ("bus_id", ctypes.c_char * BUS_ID),
        ("links_available", ctypes.c_uint),
        ("links_most", ctypes.c_uint),
        ("line_rate_mbps", ctypes.c_uint),
    ]


class Partition(ctypes.Structure):
    """``fmFabricPartitionInfo_t``."""

    _fields_ = [
        ("id", ctypes.c_uint),
        ("is_active", ctypes.c_uint),
        ("count", ctypes.c_uint),
        ("gpus", Gpu * GPUS),
    ]


class PartitionList(ctypes.Structure):
    """``fmFabricPartitionList_v2``, whose version is 1 all the same."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("count", ctypes.c_uint),
        ("most", ctypes.c_uint),
        ("partitions", Partition * PARTITIONS),
    ]
    number = 1


class ActivatedList(ctypes.Structure):
    """``fmActivatedFabricPartitionList_v1``."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("count", ctypes.c_uint),
        ("ids", ctypes.c_uint * PARTITIONS),
    ]
    number = 1


Versioned = ConnectV1 | ConnectV2 | PartitionList | ActivatedList


def set_version(structure: Versioned) -> None:
    """Set the version, as MAKE_FM_PARAM_VERSION of the header."""
    structure.version = ctypes.sizeof(structure) | structure.number << 24
