# SPDX-License-Identifier: Apache-2.0

"""Pictures of hosts and clouds: one model, as text and as SVG."""
