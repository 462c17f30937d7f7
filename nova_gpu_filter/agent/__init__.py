# SPDX-License-Identifier: Apache-2.0

"""What happens to a device between two servers.

``states`` is the heart: pure, and a table. ``ledger`` keeps it, ``providers``,
``domains`` and ``bus`` are the adapters to Placement, libvirt and sysfs,
``cleaning`` takes a device from its release to the next offer, and ``keeper``
holds all of them together.
"""
