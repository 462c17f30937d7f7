# SPDX-License-Identifier: Apache-2.0

"""Unit tests read nova's objects, which have to be registered once."""

from nova import objects

objects.register_all()
