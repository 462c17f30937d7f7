# SPDX-License-Identifier: Apache-2.0

"""What ``nova-gpu-status upgrade check`` looks at, one module a concern.

A check is a function that takes a :class:`~nova_gpu_filter.status.node.Node`
and returns an ``oslo_upgradecheck.upgradecheck.Result``. Its details name the
option that is wrong and what to write instead.
"""
