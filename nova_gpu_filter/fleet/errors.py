# SPDX-License-Identifier: Apache-2.0

"""What can keep us from knowing a cloud: one clear line each."""

from nova_gpu_filter import exception


class FleetError(exception.GpuFilterError):
    """Base class of what can go wrong when a cloud is asked."""


class NotAllowed(FleetError):
    """The credentials do not suffice."""

    message = (
        "%(service)s refuses GET %(path)s (HTTP %(status)s): this needs a user"
        " whom its policy lets read, as a rule with the role admin; check"
        " OS_CLOUD or the OS_* variables"
    )


class Unreachable(FleetError):
    """A service is not in the catalog, or does not answer."""

    message = "%(service)s cannot be reached: %(error)s"


class TooOld(FleetError):
    """A service does not know the microversion that we need."""

    message = (
        "%(service)s does not offer microversion %(microversion)s, which is"
        " needed here: %(error)s"
    )


class NotFound(FleetError):
    """A service does not know what was asked for."""

    message = "%(service)s: GET %(path)s: not found"


class Failed(FleetError):
    """A service answered, but not with what was asked for."""

    message = "%(service)s: GET %(path)s: HTTP %(status)s: %(error)s"


class NoDevices(FleetError):
    """The cloud has nothing to tell of."""

    message = (
        "Placement has no PCI devices: no provider below a compute node has a"
        " PCI address in its name. Set [pci]report_in_placement = true and"
        " [pci]device_spec in nova.conf of the compute nodes, then start"
        " nova-compute again"
    )


class Unknown(FleetError):
    """The operator named something that is not there."""

    message = "no %(kind)s '%(name)s'%(hint)s"


class BadAlias(FleetError):
    """A ``[pci]alias`` cannot be used."""

    message = "%(source)s: alias %(text)s: %(problem)s"


class BadFlavor(FleetError):
    """A flavor asks for something that cannot be read, or not be had."""

    message = "flavor %(flavor)s: %(problem)s"


class NoAlias(BadFlavor):
    """A flavor asks for an alias that we were not told of."""

    message = (
        "flavor %(flavor)s asks for alias %(alias)s, which is not in"
        " %(source)s. No API shows aliases: give the nova.conf of a controller"
        " with --nova-conf, or --alias"
        " '{\"name\": \"%(alias)s\", \"resource_class\": \"...\"}'"
    )

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.alias = values["alias"]


class NotWritten(FleetError):
    """A file cannot be written."""

    message = "%(path)s: %(error)s"


class NotRead(FleetError):
    """A file cannot be read."""

    message = "%(path)s: %(error)s"
