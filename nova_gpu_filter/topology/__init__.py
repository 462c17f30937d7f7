# SPDX-License-Identifier: Apache-2.0

"""Which GPUs of a host belong together, and which of them to choose.

Nothing here imports nova or placement, and nothing does I/O. The devices of a
host are bits, 0 to n-1 in the order of their PCI addresses; a set of devices
is an int, its mask. Addresses stay with the caller, so that all hosts of a
kind have equal topologies and share every answer.
"""
