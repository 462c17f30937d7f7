# SPDX-License-Identifier: Apache-2.0

"""What can keep us from knowing a cloud: one clear line each."""

from collections.abc import Iterable
import difflib
from typing import Final

from nova_gpu_filter import exception

_SUGGESTIONS: Final = 3
_TOO_SHORT: Final = 2
"""So many letters are in any name."""
_LISTED: Final = 10
"""Most names that a message lists."""


class FleetError(exception.GpuFilterError):
    """Base class of what can go wrong when a cloud is asked."""

    def __init__(self, **values: object) -> None:
        super().__init__(**{"method": "GET", **values})


class NotAllowed(FleetError):
    """The credentials do not suffice."""

    message = (
        "%(service)s refuses %(method)s %(path)s (HTTP %(status)s): this needs"
        " a user whom its policy lets do it, as a rule with the role admin;"
        " check OS_CLOUD or the OS_* variables"
    )


class NotAuthenticated(NotAllowed):
    """Keystone does not know the credentials."""


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

    message = "%(service)s: %(method)s %(path)s: not found"


class Failed(FleetError):
    """A service answered, but not with what was asked for."""

    message = "%(service)s: %(method)s %(path)s: HTTP %(status)s: %(error)s"


class Conflict(Failed):
    """What was to be written has changed since it was read."""


class NoDevices(FleetError):
    """The cloud has nothing to show."""

    message = (
        "Placement has no PCI devices: no provider below a compute node has a"
        " PCI address in its name. Set [pci]report_in_placement = true and"
        " [pci]device_spec in nova.conf of the compute nodes, then start"
        " nova-compute again"
    )


class Unknown(FleetError):
    """The operator named something that is not there."""

    message = "no %(kind)s '%(name)s'%(hint)s"

    def __init__(
        self, kind: str, name: str, known: Iterable[str] = (), hint: str = ""
    ) -> None:
        """Suggest one of the names that are known, unless a hint is given."""
        hint = hint or find_hint(name, known)
        super().__init__(kind=kind, name=name, hint=hint)


class Ambiguous(FleetError):
    """The operator named something of which there are several."""

    message = (
        "there are %(number)s %(kind)ss '%(name)s': give a UUID, %(uuids)s"
    )

    def __init__(self, kind: str, name: str, uuids: Iterable[str]) -> None:
        """Say which there are of a kind, such as ``server``."""
        found = sorted(uuids)
        more = ", ..." if len(found) > _LISTED else ""
        super().__init__(
            kind=kind,
            name=name,
            number=len(found),
            uuids=" or ".join(found[:_LISTED]) + more,
        )


def find_hint(name: str, known: Iterable[str]) -> str:
    """Suggest what may have been meant by a name that is not there.

    :param known: all names that are.
    :returns: the nearest of them, else all if they are few; a clause to end a
        message with, empty if there is nothing to suggest.
    """
    others = sorted(set(known) - {name})
    folded = {other.casefold(): other for other in others}
    near = difflib.get_close_matches(
        name.casefold(), folded, n=_SUGGESTIONS, cutoff=0.5
    )
    if not near and len(name) > _TOO_SHORT:
        near = [other for other in folded if name.casefold() in other]
    if near:
        names = [folded[other] for other in near[:_SUGGESTIONS]]
        return f"; did you mean {' or '.join(names)}?"
    if not others:
        return ""
    more = ", ..." if len(others) > _LISTED else ""
    return f"; known: {', '.join(others[:_LISTED])}{more}"


class BadAlias(FleetError):
    """A ``[pci]alias`` cannot be used."""

    message = "%(source)s: alias %(text)s: %(problem)s"


class BadFlavor(FleetError):
    """A flavor asks for something that cannot be read, or not be had."""

    message = "flavor %(flavor)s: %(problem)s"

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.problem = str(values.get("problem", self))
        """Begins with the extra spec that it is about."""


class NoAliases(FleetError):
    """No alias is known at all."""

    message = "%(source)s: give --nova-conf <file> or --alias <json>"


class NoAlias(BadFlavor):
    """A flavor asks for an alias that is not known."""

    message = (
        "flavor %(flavor)s asks for alias %(alias)s, which is not in"
        " %(source)s: give --nova-conf <file> or --alias <json>"
    )

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.alias = values["alias"]


class NotTogether(FleetError):
    """An option was given without another one that it needs."""

    message = "%(option)s needs %(needed)s"


class PoolInUse(FleetError):
    """A pool cannot be deleted while servers use it."""

    message = "pool %(name)s is used by servers: %(servers)s"


class CellDown(FleetError):
    """Nova knows of a server no more than that it is there."""

    message = (
        "Nova does not reach the cell of server '%(server)s', so that its"
        " flavor is not known; try again when the cell is up, or give --flavor"
    )


class NotKept(FleetError):
    """What is reserved of a device would not stay so."""

    message = (
        "%(device)s is divided into mediated devices, of which nova-compute"
        " writes anew every minute how many there are: disable its host"
        " (openstack compute service set --disable), or take it out of"
        " [devices]enabled_mdev_types"
    )


class NotMoving(FleetError):
    """A server cannot move to the host where it is."""

    message = "%(server)s is on %(host)s: name another host, or none"


class NotWritten(FleetError):
    """A file cannot be written."""

    message = "%(path)s: %(error)s"
