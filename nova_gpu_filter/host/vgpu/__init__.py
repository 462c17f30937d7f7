# SPDX-License-Identifier: Apache-2.0

"""The VFs of a host and their vGPU types: as declared, and as they are."""
