# SPDX-License-Identifier: Apache-2.0

"""Whether Placement answers, and knows what the aliases ask for."""

from collections.abc import Iterable

import microversion_parse

from nova_gpu_filter.status import agreement
from nova_gpu_filter.status import client
from nova_gpu_filter.status import pci
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node


def check_api(node: Node) -> results.Result:
    """Ask Placement for its version, as nova-status does.

    :raises PlacementError: it does not answer.
    """
    try:
        body, _ = node.placement.get("/")
        newest = body["versions"][0]["max_version"]
    except (KeyError, IndexError, TypeError):
        return results.failure(
            "Something else than Placement answers at its endpoint: correct"
            " the endpoint in the service catalog, or"
            " [placement]endpoint_override."
        )
    needed = client.MICROVERSION
    if microversion_parse.parse_version_string(
        newest
    ) < microversion_parse.parse_version_string(needed):
        return results.failure(
            f"Placement knows microversion {newest}, Nova needs {needed}:"
            " upgrade Placement."
        )
    return results.success()


def check_names(node: Node) -> results.Result:
    """Look whether Placement knows what the aliases ask for.

    It refuses a question with a name that it does not know, so a server with
    such an alias ends in an error; nova-compute makes the names when it
    reports devices.

    :raises PlacementError: it does not answer.
    """
    try:
        aliases = pci.read_aliases(node)
    except pci.UnreadableError:
        return results.does_not_apply("[pci]alias cannot be read, see above.")
    asked = {
        name: agreement.asked_of_placement(specs[0])
        for name, specs in aliases.items()
    }
    body, _ = node.placement.get("/resource_classes")
    classes = {found["name"] for found in body["resource_classes"]}
    wanted = {trait for one in asked.values() for trait in one.traits}
    traits = _known_traits(node.placement, wanted)
    problems = []
    for name, one in sorted(asked.items()):
        unknown = [
            *({one.resource_class} - classes),
            *sorted(one.traits - traits),
        ]
        if unknown:
            problems.append(
                results.warning(
                    f"[pci]alias {name} asks for {' and '.join(unknown)},"
                    " which no host has reported: correct its resource_class"
                    " and traits, or those of [pci]device_spec on the"
                    " computes."
                )
            )
    return results.of(problems)


def _known_traits(
    placement: client.Client, wanted: Iterable[str]
) -> frozenset[str]:
    names = ",".join(sorted(wanted))
    if not names:
        return frozenset()
    body, _ = placement.get(f"/traits?name=in:{names}")
    return frozenset(body["traits"])
