# SPDX-License-Identifier: Apache-2.0

"""What can keep the agent from its work: one clear line each."""

from nova_gpu_filter import exception


class AgentError(exception.GpuFilterError):
    """Base class of what can go wrong on a compute node."""

    message = "%(reason)s"


class CannotRead(AgentError):
    """Something that has to be known cannot be read now."""

    message = "%(source)s: %(error)s"


class NoProvider(AgentError):
    """Placement has no such compute node."""

    message = (
        "Placement has no resource provider '%(name)s': set"
        " [gpu_agent]hypervisor_hostname to the name that 'openstack resource"
        " provider list' shows for this compute node, or start nova-compute"
    )


class LedgerUnusable(AgentError):
    """The file of the ledger cannot be made, read or written."""

    message = (
        "[gpu_agent]ledger = %(path)s: %(error)s; no device can be cleaned"
        " or given back without it"
    )


class UnknownDevice(AgentError):
    """A person named a device that the agent does not manage."""

    message = (
        "no device '%(device)s' is managed here; devices are %(known)s."
        " See [gpu_agent]devices and [pci]device_spec"
    )


class NotNow(AgentError):
    """What a person asked for is not possible in the device's state."""

    message = "device %(device)s is %(state)s: %(problem)s"


class NoAgent(AgentError):
    """The daemon does not answer on its socket."""

    message = (
        "%(path)s: %(error)s; is the service nova-gpu-agent running? Name"
        " another socket with --socket"
    )


class StrangeAnswer(AgentError):
    """What answers on the socket is no daemon of this release."""

    message = (
        "%(path)s: an answer that this release does not know: %(error)s."
        " Restart the service nova-gpu-agent, or name another socket with"
        " --socket"
    )


class Occupied(AgentError):
    """Another guest has GPUs of the partition, as far as is known."""

    message = (
        "partition %(partition)s cannot be activated: %(owner)s owns partition"
        " %(other)s with the same GPUs; see 'nova-gpu-agent fabric audit'"
    )


class Suspected(AgentError):
    """A GPU of the partition is about to be quarantined."""

    message = "device %(device)s is being quarantined: %(reason)s"


class NoOrder(AgentError):
    """It is not known in which order the VFs belong to the partition."""

    message = (
        "partition %(partition)s: Fabric Manager does not list the PCI"
        " addresses of its GPUs, so that the order of the VFs %(vfs)s is not"
        " known; bind the GPUs to the driver nvidia"
    )
