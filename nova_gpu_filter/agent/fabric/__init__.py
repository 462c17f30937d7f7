# SPDX-License-Identifier: Apache-2.0

"""Fabric partitions: activated before a guest starts, and given back after.

``codes`` and ``layouts`` are what NVIDIA's headers say, ``library`` and
``fmpm`` the two ways to Fabric Manager, ``client`` what both offer,
``listing`` what each connection begins with.
"""
