# SPDX-License-Identifier: Apache-2.0

"""What an instance asks for: PCI requests in the form that matchers read."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import operator
from typing import Any
from typing import TypeAlias

from oslo_utils import strutils

from nova_gpu_filter.nova_rules import device_types
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import policy

Pool: TypeAlias = Mapping[str, Any]
"""One pool of like free devices, as ``PciDeviceStats.pools`` holds it.

Keys: ``vendor_id``, ``product_id``, ``dev_type``, ``numa_node`` (int or
None), ``count`` (free devices), with PCI in Placement ``rp_uuid``, and every
tag of the device spec. Read only for us: all filters share one host state.
"""

ProviderMapping: TypeAlias = Mapping[str, list[str]]
"""``mappings`` of an allocation candidate: suffix -> provider UUIDs."""

# Placement matches these, so nova does not compare them with pools:
# PciDeviceStats.ignored_spec_tags in nova/pci/stats.py.
_TAGS_MATCHED_BY_PLACEMENT = frozenset(
    ("resource_class", "traits", "rp_uuids")
)

# Few values occur ('true', 'false', 'True', ...) and every pool of every host
# asks, so the answers are kept.
_is_true = functools.lru_cache(maxsize=128)(strutils.bool_from_string)


def _fold(value: Any) -> Any:
    """Lower-case a string; nova compares tags without case, numbers as is."""
    return value.lower() if isinstance(value, str) else value


def _matches_spec(spec: tuple[tuple[str, Any], ...], pool: Pool) -> bool:
    """Whether every property of one spec holds for the pool.

    The rule is that of ``pci_device_prop_match`` in nova/pci/utils.py. Values
    of ``spec`` are folded already, and equal values need no folding.
    """
    for key, wanted in spec:
        offered = pool.get(key)
        if offered != wanted and _fold(offered) != wanted:
            return False
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One PCI request: ``count`` devices that match any of ``specs``.

    Made once a scheduling request and asked of every pool of every host.
    """

    request_id: str | None
    """Prefix of the suffixes of its request groups (``<request_id>-<n>``)."""
    alias_name: str | None
    """The ``[pci]alias``; None for a Neutron port."""
    count: int
    """Devices asked for; 0 where a flavor says so, which Nova accepts."""
    specs: tuple[tuple[tuple[str, Any], ...], ...]
    """Alternatives, each a tuple of (property, value in lower case)."""
    numa_policy: str
    """``required``, ``legacy``, ``preferred`` or ``socket``."""
    rp_uuids: tuple[str, ...]
    """Providers already allocated, one entry a device, else empty."""
    wants_pf: bool
    wants_vdpa: bool
    wants_remote_managed: bool
    live_migratable: str | None
    """``"true"`` or ``"false"`` when every spec says so, else None."""
    _keys: tuple[str, ...] = dataclasses.field(
        init=False, compare=False, repr=False
    )
    """Keys of a pool that :meth:`drop` reads, beside ``remote_managed``."""
    _values: Callable[[Pool], Any] = dataclasses.field(
        init=False, compare=False, repr=False
    )
    """Reads their values, where a pool has all of them."""
    _drop_by_kind: dict[tuple[Any, ...], "refusal.Drop | None"] = (
        dataclasses.field(
            init=False, compare=False, repr=False, default_factory=dict
        )
    )
    """What :meth:`drop` said, by the values of these keys."""

    _own_suffixes: dict[tuple[str, ...], tuple[str, ...]] = dataclasses.field(
        init=False, compare=False, repr=False, default_factory=dict
    )
    """Suffixes of this request, by all suffixes of a candidate."""

    def __post_init__(self) -> None:
        keys = {"dev_type"}
        keys.update(key for spec in self.specs for key, _ in spec)
        if self.live_migratable is not None:
            keys.add("live_migratable")
        object.__setattr__(self, "_keys", tuple(keys))
        object.__setattr__(self, "_values", operator.itemgetter(*keys))

    @classmethod
    def from_nova(cls, request: Any) -> "DeviceRequest":
        """Read a ``nova.objects.InstancePCIRequest`` (any version)."""
        specs: list[dict[str, Any]] = request.spec
        numa_policy = None
        if "numa_policy" in request:
            numa_policy = request.numa_policy
        alias_name: str | None = request.alias_name
        allocated = specs[0].get("rp_uuids") if specs else None
        live_migratable = {spec.get("live_migratable") for spec in specs}
        return cls(
            request_id=request.request_id,
            alias_name=alias_name,
            count=request.count,
            specs=tuple(
                tuple(
                    (key, _fold(value))
                    for key, value in spec.items()
                    if key not in _TAGS_MATCHED_BY_PLACEMENT
                )
                for spec in specs
            ),
            # nova/pci/stats.py: "we default to the 'legacy' policy for...of
            # course...legacy reasons"
            numa_policy=numa_policy or "legacy",
            # The field is a dict of strings, so nova joins the list. Neutron
            # ports are not in Placement yet, whatever their spec says.
            rp_uuids=tuple(allocated.split(","))
            if allocated and alias_name is not None
            else (),
            wants_pf=any(
                spec.get("dev_type") == device_types.PF for spec in specs
            ),
            wants_vdpa=any(
                spec.get("dev_type") == device_types.VDPA for spec in specs
            ),
            wants_remote_managed=any(
                _is_true(spec.get("remote_managed")) for spec in specs
            ),
            live_migratable=live_migratable.pop()
            if live_migratable in ({"true"}, {"false"})
            else None,
        )

    @property
    def name(self) -> str:
        """What people call it: the alias, or the Neutron port request."""
        return self.alias_name or f"port request {self.request_id}"

    def drop(self, pool: Pool) -> "refusal.Drop | None":
        """Say why a pool cannot serve the request, None if it can.

        In the order of ``PciDeviceStats._filter_pools``.
        """
        # A cloud has few kinds of pool, and every host is asked about its own.
        try:
            values = self._values(pool)
        except KeyError:  # Few pools lack a property that is asked for.
            values = tuple(map(pool.get, self._keys))
        kind = values, pool.get("remote_managed")
        try:
            return self._drop_by_kind[kind]
        except KeyError:
            self._drop_by_kind[kind] = drop = self._work_out_drop(pool)
            return drop

    def _work_out_drop(self, pool: Pool) -> "refusal.Drop | None":
        for spec in self.specs:
            if _matches_spec(spec, pool):
                break
        else:
            return refusal.Drop.PROPERTIES
        dev_type = pool.get("dev_type")
        if dev_type == device_types.PF and not self.wants_pf:
            return refusal.Drop.UNREQUESTED_PF
        if dev_type == device_types.VDPA and not self.wants_vdpa:
            return refusal.Drop.UNREQUESTED_VDPA
        remote_managed = pool.get("remote_managed")
        if (
            remote_managed is not None
            and not self.wants_remote_managed
            and _is_true(remote_managed)
        ):
            return refusal.Drop.REMOTE_MANAGED
        if (
            self.live_migratable is not None
            and pool.get("live_migratable") != self.live_migratable
        ):
            return refusal.Drop.LIVE_MIGRATABLE
        return None

    def collect_rp_uuids(self, mapping: ProviderMapping | None) -> list[str]:
        """List the providers that a candidate gives, one entry a device.

        :param mapping: the candidate's ``mappings``; empty or None when the
            request itself says what was allocated.
        :returns: empty when any pool may serve (no PCI in Placement).
        """
        if self.alias_name is None:
            return []
        if not mapping:
            return list(self.rp_uuids)
        return [mapping[suffix][0] for suffix in self.list_suffixes(mapping)]

    def list_suffixes(self, mapping: ProviderMapping) -> tuple[str, ...]:
        """List the request groups of a candidate that are of this request,
        one a device; none of a port."""
        if self.alias_name is None:
            return ()
        # The same suffixes in all candidates of all hosts.
        suffixes = tuple(mapping)
        own = self._own_suffixes.get(suffixes)
        if own is None:
            prefix = str(self.request_id)
            own = tuple(s for s in suffixes if s.startswith(prefix))
            self._own_suffixes[suffixes] = own
        return own


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceRequests:
    """All PCI requests of one instance, and how their devices are chosen.

    The request named first in the flavor is the one for GPUs; ``link_policy``
    is about its devices. The others are their companions.
    """

    requests: tuple[DeviceRequest, ...]
    """In the order of the request spec: aliases of the flavor, then ports."""
    link_policy: policy.LinkPolicy | None = None
    """What the flavor asks with ``gpu:link``; None for nothing."""
    bad_link_policy: str | None = None
    """What is wrong with ``gpu:link``, ``gpu:link_policy`` or ``gpu:spread``
    of the flavor."""
    spread: policy.Spread | None = None
    """Whether VFs of the first alias come from many devices; None: no
    matter."""
    seed: int = 0
    """Spreads instances over equal sets: the int of the instance's UUID."""
    request_mix: fragmentation.Mix = fragmentation.DEFAULT_MIX
    """Request sizes that the operator expects: (devices, weight)."""
    first_fit: bool = False
    """Whether nova-compute will take the first devices that match, whatever
    the allocation says, as it does when it moves a server."""

    def collect_rp_uuids(
        self, mapping: ProviderMapping | None
    ) -> frozenset[str]:
        """Collect the providers that a candidate gives, of all requests.

        :param mapping: see :meth:`DeviceRequest.collect_rp_uuids`.
        """
        return frozenset(
            rp_uuid
            for asked in self.requests
            for rp_uuid in asked.collect_rp_uuids(mapping)
        )
