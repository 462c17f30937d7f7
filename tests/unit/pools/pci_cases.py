# SPDX-License-Identifier: Apache-2.0

"""Generated questions to a host: its pools, PCI requests and candidates.

A :class:`Case` is plain data, so that what hypothesis prints after a failure
can be pasted into a test as it is. The alphabets are small and most values of
a request are taken from a pool: requests that nothing can match say little.
"""

from collections.abc import Mapping
import dataclasses
import pprint
from typing import Any

from hypothesis import strategies as st
from nova import objects
from nova.pci import stats

ABSENT = "absent"
"""In the strategies only: leave the key out."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One question to one host.

    ``pools`` and ``requests`` are the arguments of ``PciDevicePool.from_dict``
    and ``InstancePCIRequest``.
    """

    pools: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    mappings: list[dict[str, list[str]] | None]
    """``mappings`` of each allocation candidate."""
    numa_cells: list[int] | None = None
    """Host NUMA cells of the guest."""
    sockets: list[int | None] | None = None
    """CPU socket of each host NUMA cell; None: no NUMA topology known."""

    def __repr__(self) -> str:
        fields = "".join(
            f"  {field.name}="
            + pprint.pformat(getattr(self, field.name), sort_dicts=False)
            + ",\n"
            for field in dataclasses.fields(self)
        )
        return f"Case(\n{fields})"

    def pci_stats(self) -> stats.PciDeviceStats:
        """Make what a host state holds, from what the database holds."""
        return stats.PciDeviceStats(
            None
            if self.sockets is None
            else objects.NUMATopology(
                cells=[
                    objects.NUMACell(id=cell, socket=socket)
                    for cell, socket in enumerate(self.sockets)
                ]
            ),
            stats=objects.PciDevicePoolList(
                objects=[
                    objects.PciDevicePool.from_dict(pool)
                    for pool in self.pools
                ]
            ),
        )

    def pci_requests(self) -> list[objects.InstancePCIRequest]:
        """Make the requests of a request spec."""
        return [
            objects.InstancePCIRequest(**request) for request in self.requests
        ]

    def instance_cells(self) -> list[objects.InstanceNUMACell] | None:
        """Make the guest's NUMA cells, placed on the host."""
        if self.numa_cells is None:
            return None
        return [objects.InstanceNUMACell(id=cell) for cell in self.numa_cells]


PROPERTIES: Mapping[str, tuple[Any, ...]] = {
    "vendor_id": ("10de", "10de", "10DE", "15b3"),
    "product_id": ("2330", "2330", "2330", "101e"),
    "numa_node": (None, 0, 0, 1, 1, 2),
    "count": (1, 1, 2, 2, 3, 0),
}
TAGS: Mapping[str, tuple[Any, ...]] = {
    "dev_type": ("type-PCI",) * 5 + ("type-PF", "type-VF", "vdpa", ABSENT),
    "rp_uuid": ("rp1", "rp2", "rp3", "rp4", "rp5", "rp6", ABSENT, None),
    "remote_managed": (ABSENT,) * 5 + ("false", "true", "True", "No", None),
    "live_migratable": (ABSENT,) * 4 + ("true", "false", "True", "", None),
    "physical_network": (ABSENT,) * 4 + ("net1", "NET1", "net2", None),
    "rack": (ABSENT,) * 5 + ("A", "a", None),
    "resource_class": (ABSENT,) * 4 + ("CUSTOM_H100",),
    "address": ("0000:01:00.0", "0000:02:00.0", ABSENT),
}

# dev_type is decided for pool and request as a whole; these make a request
# whose specs differ from every pool now and then.
_SPEC_VALUES: Mapping[str, tuple[str | None, ...]] = {
    "vendor_id": ("10de", "10DE", "15b3"),
    "product_id": ("2330", "101e"),
    "dev_type": ("type-PCI", "type-PF", "type-VF", "vdpa", "TYPE-PF", None),
    "remote_managed": ("true", "True", "false", None),
    "live_migratable": ("true", "false", "True", None),
    "physical_network": ("net1", "NET1", "net2", None),
    "rack": ("A", "a", None),
    "resource_class": ("CUSTOM_A100",),
    "traits": ("CUSTOM_FAST",),
}


@st.composite
def pools(draw) -> list[dict[str, Any]]:
    """Free devices of a host: one pool a device, or as in former days."""
    made = draw(st.lists(_pool(), min_size=1, max_size=5))
    for index in draw(st.sampled_from(((), (), (), (0,), (0, 0)))):
        made.append(dict(made[index]))
    if draw(st.booleans()):
        # Most hosts give each pool a provider of its own.
        for number, pool in enumerate(made):
            pool["rp_uuid"] = f"rp{number + 1}"
    return draw(st.permutations(made))


@st.composite
def _pool(draw) -> dict[str, Any]:
    pool = {key: draw(st.sampled_from(v)) for key, v in PROPERTIES.items()}
    for tag, values in TAGS.items():
        value = draw(st.sampled_from(values))
        if value is not ABSENT:
            pool[tag] = value
    return pool


@st.composite
def _spec(draw, host: list[dict[str, Any]]) -> dict[str, str | None]:
    """Ask for some properties of one pool, and now and then for others."""
    like = draw(st.sampled_from(host))
    spec = {}
    for key in draw(st.sets(st.sampled_from(sorted(_SPEC_VALUES)))):
        value = like.get(key)
        if isinstance(value, str) and draw(st.sampled_from((0, 0, 1))):
            value = value.swapcase()
        spec[key] = value
    if like.get("dev_type") in ("type-PF", "vdpa") and draw(st.booleans()):
        spec["dev_type"] = like["dev_type"]
    for key in draw(st.sampled_from((0, 0, 0, 1))) * ("odd",):
        key = draw(st.sampled_from(sorted(_SPEC_VALUES)))
        spec[key] = draw(st.sampled_from(_SPEC_VALUES[key]))
    return spec


@st.composite
def _request(draw, request_id: str, host: list[dict[str, Any]]) -> dict:
    specs = draw(st.lists(_spec(host), min_size=1, max_size=2))
    count = draw(st.sampled_from((1, 1, 1, 2, 2, 3, 4, 0)))
    request = {
        "request_id": request_id,
        "alias_name": draw(st.sampled_from(("a1", "a1", "a1", None))),
        "count": count,
        "spec": specs,
    }
    numa_policy = draw(
        st.sampled_from(
            (ABSENT, None, "legacy", "preferred", "required", "socket")
        )
    )
    if numa_policy is not ABSENT:
        request["numa_policy"] = numa_policy
    if draw(st.sampled_from((0, 0, 1))):
        specs[0]["rp_uuids"] = ",".join(draw(_providers(host, count)))
    return request


@st.composite
def _providers(draw, host: list[dict[str, Any]], count: int) -> list[str]:
    """One provider a device, most of them with devices left for it."""
    known = [
        pool["rp_uuid"]
        for pool in host
        if pool.get("rp_uuid")
        for _ in range(pool["count"])
    ]
    if known and draw(st.sampled_from((1, 1, 1, 1, 0))):
        return draw(st.permutations(known))[: max(count, 1)]
    return draw(
        st.lists(
            st.sampled_from(("rp1", "rp1", "rp2", "rp3", "rp9")),
            min_size=1,
            max_size=4,
        )
    )


@st.composite
def _mapping(draw, host, requests) -> dict[str, list[str]] | None:
    """Map suffixes to providers as Placement does, or not at all."""
    kind = draw(st.sampled_from(("full", "full", "full", "full", {}, None)))
    if kind != "full":
        return kind
    mapping = {"": ["root"]} if draw(st.booleans()) else {}
    known = [
        pool["rp_uuid"]
        for pool in host
        if pool.get("rp_uuid")
        for _ in range(pool["count"])
    ]
    # One deal of the free devices over all requests is what Placement would
    # answer; the others check what Nova does with what it must not trust.
    dealt = iter(draw(st.permutations(known)))
    for request in requests:
        if draw(st.sampled_from((0,) * 9 + (1,))):
            continue
        if draw(st.sampled_from((1, 1, 1, 0))):
            rp_uuids = [
                rp_uuid
                for _, rp_uuid in zip(
                    range(request["count"]), dealt, strict=False
                )
            ]
        else:
            rp_uuids = draw(_providers(host, request["count"]))
        for number, rp_uuid in enumerate(rp_uuids):
            mapping[f"{request['request_id']}-{number}"] = [rp_uuid, "root"]
    return mapping


@st.composite
def cases(draw) -> Case:
    """Everything that ``PciDeviceStats.support_requests`` looks at."""
    host = draw(pools())
    # r1 is a prefix of r11: Nova compares suffixes by startswith.
    request_ids = draw(st.permutations(("r1", "r11", "r2")))
    requests = [
        draw(_request(request_id, host))
        for request_id in request_ids[: draw(st.sampled_from((1, 1, 2, 2, 3)))]
    ]
    numa_cells = draw(
        st.sampled_from((None, None, [], [0], [1], [0, 1], [1, 2]))
    )
    sockets = draw(
        st.sampled_from(
            (None, [0, 0, 1], [0, 1, 1], [0, 1, None], [None, None, None])
        )
    )
    if numa_cells and sockets is None:
        # A guest has cells on a host only where that host reports its own.
        sockets = [0, 0, 1]
    return Case(
        pools=host,
        requests=requests,
        mappings=draw(
            st.lists(_mapping(host, requests), min_size=1, max_size=3)
        ),
        numa_cells=numa_cells,
        sockets=sockets,
    )
