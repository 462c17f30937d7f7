# SPDX-License-Identifier: Apache-2.0

"""Why a guest must not start, whatever Fabric Manager would say."""

from nova_gpu_filter.agent import errors


class Occupied(errors.AgentError):
    """Another guest has GPUs of the partition, as far as is known."""

    message = (
        "partition %(partition)s cannot be activated: %(owner)s owns partition"
        " %(other)s with the same GPUs; see 'nova-gpu-agent fabric audit'"
    )


class Suspected(errors.AgentError):
    """A GPU of the partition is about to be quarantined."""

    message = "device %(device)s is being quarantined: %(reason)s"


class NoOrder(errors.AgentError):
    """It is not known in which order the VFs belong to the partition."""

    message = (
        "partition %(partition)s: Fabric Manager does not list the PCI"
        " addresses of its GPUs, so that the order of the VFs %(vfs)s is not"
        " known; bind the GPUs to the driver nvidia"
    )
