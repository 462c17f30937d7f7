# SPDX-License-Identifier: Apache-2.0

"""GPU passthrough scheduling for Nova: filters, weighers, pool matchers."""
