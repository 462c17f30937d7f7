# SPDX-License-Identifier: Apache-2.0

"""Replay a workload on a cloud, through our scheduler and through Nova's.

Host states, filters, weighers and their handlers are the real ones; what
stands in for services is small: :mod:`cloud` keeps the host states as the
claims of servers would leave them, :mod:`placement_model` answers as Placement
would. No database, message bus or API is needed.
"""
