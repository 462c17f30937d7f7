# SPDX-License-Identifier: Apache-2.0

"""Every option of the product, one module an option group."""

from nova_gpu_filter.conf import gpu_filter

# Of nova-scheduler and nova-api; the agent and the Placement extension have
# theirs from their own modules.
register_opts = gpu_filter.register_opts
list_opts = gpu_filter.list_opts
request_mix = gpu_filter.read_request_mix
