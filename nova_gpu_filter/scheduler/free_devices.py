# SPDX-License-Identifier: Apache-2.0

"""Which devices of a host are free by now, asked of Placement."""

from collections.abc import Iterable

from nova.scheduler.client import report
from oslo_context import context
from oslo_log import log as logging

from nova_gpu_filter import printable
from nova_gpu_filter.pools.substitution import Amount

LOG = logging.getLogger(__name__)

# The first with in_tree for resource providers.
_MICROVERSION = "1.14"


def list_free(
    root: str, amounts: Iterable[Amount]
) -> dict[Amount, frozenset[str]] | None:
    """List the providers of a tree that have so much left.

    ``GET /resource_providers?in_tree={root}&resources={class}:{amount}``, one
    question for each resource class and amount.

    :param root: UUID of the compute node.
    :returns: their UUIDs; None where Placement does not say, which is logged.
    """
    found: dict[Amount, frozenset[str]] = {}
    current = context.get_current()
    for name, amount in amounts:
        url = f"/resource_providers?in_tree={root}&resources={name}:{amount}"
        try:
            response = report.report_client_singleton().get(
                url,
                version=_MICROVERSION,
                global_request_id=current and current.global_id,
            )
            if response.status_code != 200:
                raise ValueError(
                    f"status {response.status_code}, {response.text}"
                )
            found[name, amount] = frozenset(
                one["uuid"] for one in response.json()["resource_providers"]
            )
        except Exception as error:  # keystoneauth1 and requests have many
            LOG.warning(
                "Placement does not say which devices of the compute node"
                " %(root)s are free, see its log (GET %(url)s: %(error)s). The"
                " device sets that it listed before are claimed as they are.",
                {
                    "root": root,
                    "url": url,
                    "error": printable.shorten(
                        " ".join(f"{type(error).__name__}: {error}".split())
                    ),
                },
            )
            return None
    return found
