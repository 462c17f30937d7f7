# SPDX-License-Identifier: Apache-2.0

"""Fabric partitions: activated before a guest starts, and given back after.

``library`` and ``fmpm`` are the two ways to Fabric Manager, ``fabric_manager``
is what both offer, and what its codes mean.
"""
