# SPDX-License-Identifier: Apache-2.0

"""What the exporter knows of a cloud, and how it comes to know it."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Any
from typing import Final
from typing import TypeVar

from nova_gpu_filter.exporter import projects
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import hosts as hosts_
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.fleet import reserving
from nova_gpu_filter.fleet import summary
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.topology import fragmentation

LOG = logging.getLogger(__name__)

PLACEMENT: Final = "placement"
NOVA: Final = "nova"
KEYSTONE: Final = "keystone"

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class HostSummary:
    """One host, and its models in numbers."""

    host: model.Host
    models: tuple[summary.ModelSummary, ...]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was found out at one time."""

    hosts: tuple[HostSummary, ...] = ()
    servers_by_flavor: Mapping[str, int] = dataclasses.field(
        default_factory=dict
    )
    """How many more fit over the cloud, each flavor alone."""
    usage: tuple[projects.Usage, ...] = ()
    usage_by_host: tuple[projects.HostUsage, ...] = ()
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of projects, by UUID, as far as they are known."""
    asked: tuple[str, ...] = ()
    """Services that were asked; each may fail by itself."""
    failed: tuple[str, ...] = ()
    """Of these, those that gave no answer."""
    seconds: float = 0.0
    """What it took."""
    finished_at: float = 0.0
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True)
class Scope:
    """What of the cloud is of interest."""

    alias_by_name: Mapping[str, Alias]
    """By name; flavors with others are passed over."""
    resource_classes: frozenset[str] = frozenset()
    """Empty for all devices."""
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX


class Reader:
    """Reads a cloud as often as it is asked to; a failure is never raised."""

    def __init__(
        self,
        services: Any,
        scope: Scope,
        usage: projects.UsageReader | None = None,
        owner_requests: int = 0,
    ) -> None:
        """Nothing is asked yet.

        :param services: has a ``fleet.api.Get`` as attribute ``placement``
            and ``compute``.
        :param usage: None for no usage by project.
        :param owner_requests: how often to ask Placement each time who has
            devices; 0 for no usage by project and host.
        """
        self._services = services
        self._scope = scope
        self._usage = usage
        self._owner_requests = owner_requests
        self._owner_reader = ownership.OwnerReader(services.placement)
        # Services that gave no answer while the cloud was read last.
        self._failed: list[str] = []
        self._logged: dict[str, str] = {}

    def read(self) -> Reading:
        """Ask the services."""
        started = time.monotonic()
        failed: list[str] = []
        self._failed = failed
        asked = [PLACEMENT, NOVA]
        no_hosts: Sequence[model.Host] = ()
        hosts = self._ask(PLACEMENT, self._read_hosts, no_hosts)
        hosts = self._ask(NOVA, lambda: self._add_services(hosts), hosts)
        demands: Sequence[demand.Demand] = ()
        usage: tuple[projects.Usage, ...] = ()
        if self._scope.alias_by_name and NOVA not in failed:
            demands = self._ask(NOVA, self._read_demands, ())
        if self._usage is not None:
            asked.append(KEYSTONE)
            self._ask(KEYSTONE, self._usage.read_projects, None)
            if PLACEMENT not in failed:
                usage = self._ask(PLACEMENT, self._usage.read_usage, ())
        owners: ownership.Owners | None = None
        if self._owner_requests > 0 and PLACEMENT not in failed:
            owners = self._ask(
                PLACEMENT,
                lambda: self._owner_reader.read(hosts, self._owner_requests),
                None,
            )
        summaries = tuple(map(self._summarize, hosts))
        known = {
            found.resource_class for one in summaries for found in one.models
        }
        return Reading(
            hosts=summaries,
            servers_by_flavor={}
            if PLACEMENT in failed
            else {
                wanted.name: sum(
                    host_fit.count_fitting(host, wanted) for host in hosts
                )
                for wanted in demands
            },
            # A project uses other things as well.
            usage=tuple(one for one in usage if one.resource_class in known),
            usage_by_host=()
            if owners is None
            else tuple(
                usage
                for one in summaries
                for found in one.models
                for usage in projects.sum_by_project(
                    one.host.name, found, owners
                )
            ),
            names={} if self._usage is None else self._usage.names,
            asked=tuple(asked),
            failed=tuple(failed),
            seconds=time.monotonic() - started,
            finished_at=time.time(),
        )

    def _ask(self, source: str, ask: Callable[[], _T], otherwise: _T) -> _T:
        """Ask a service; log a failure once, until it is another one."""
        try:
            answer = ask()
        except Exception as exc:
            self._failed.append(source)
            text = str(exc)
            if self._logged.get(source) != text:
                self._logged[source] = text
                LOG.error(
                    "%s",
                    text,
                    # What is not ours to explain is a fault of this program.
                    exc_info=not isinstance(exc, errors.FleetError),
                )
            return otherwise
        if self._logged.pop(source, None) is not None:
            LOG.info("%s answers again", source.capitalize())
        return answer

    def _read_hosts(self) -> Sequence[model.Host]:
        get = self._services.placement
        try:
            return reserving.assign(get, provider_trees.read_hosts(get))
        except errors.NoDevices:
            # Computes may report none yet.
            return ()

    def _add_services(
        self, hosts: Sequence[model.Host]
    ) -> Sequence[model.Host]:
        """Ask which hosts take servers."""
        get = self._services.compute
        return hosts_.assign_services(get, hosts, hosts_.read_services(get))

    def _read_demands(self) -> list[demand.Demand]:
        flavors = compute.read_flavors(self._services.compute)
        aliases = self._scope.alias_by_name
        found = []
        for flavor in known_aliases.choose_flavors(flavors):
            try:
                found.append(demand.calculate(flavor, aliases, "the aliases"))
            except errors.BadFlavor as exc:
                key = f"flavor {flavor.name}"
                if self._logged.get(key) != str(exc):
                    self._logged[key] = str(exc)
                    LOG.warning("Capacity not calculated: %s", exc)
        return found

    def _summarize(self, host: model.Host) -> HostSummary:
        wanted = self._scope.resource_classes
        models = (
            found
            for found in summary.summarize(host, self._scope.mix)
            if not wanted or found.resource_class in wanted
        )
        return HostSummary(host, tuple(models))
