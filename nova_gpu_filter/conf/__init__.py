# SPDX-License-Identifier: Apache-2.0

"""Every option of the product, one module an option group."""

from nova_gpu_filter.conf import gpu_filter
from nova_gpu_filter.conf import mix


def register_opts(conf):
    """Register all our options with ``conf`` (an oslo ConfigOpts)."""
    gpu_filter.register_opts(conf)


def list_opts():
    """List our options for oslo-config-generator and the documentation.

    :returns: [(group, [option, ...]), ...]
    """
    return gpu_filter.list_opts()


request_mix = mix.read
