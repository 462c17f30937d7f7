# SPDX-License-Identifier: Apache-2.0

"""Everything that reads what others wrote, given what they should not write.

A short run is part of ``make test-quick``; ``make fuzz`` is a long one.
"""
