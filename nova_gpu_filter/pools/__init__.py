# SPDX-License-Identifier: Apache-2.0

"""Which devices of a host a request may have: pools, requests, matchers.

Nothing here imports nova: pools are the plain dicts that
``nova.pci.stats.PciDeviceStats.pools`` holds.
"""
