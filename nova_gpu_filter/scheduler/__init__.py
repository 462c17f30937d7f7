# SPDX-License-Identifier: Apache-2.0

"""What plugs into nova-scheduler: thin adapters, no decisions."""
