# SPDX-License-Identifier: Apache-2.0

"""Which driver a device gets at boot, and what has to be written for it."""
