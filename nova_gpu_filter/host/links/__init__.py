# SPDX-License-Identifier: Apache-2.0

"""How devices are connected: PCIe, and what vendors' tools say."""
