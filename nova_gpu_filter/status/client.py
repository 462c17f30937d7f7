# SPDX-License-Identifier: Apache-2.0

"""Ask Placement as a service of Nova does."""

import functools

from keystoneauth1 import exceptions as ks_exc
from nova import utils

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors

MICROVERSION = "1.36"
"""What nova-scheduler asks with (nova/cmd/status.py)."""


class PlacementError(Exception):
    """Placement did not answer; the message says why, and the cure."""


_CURES = (
    (
        ks_exc.MissingAuthPlugin,
        "nova.conf has no credentials for Placement: set [placement]auth_type,"
        " auth_url, username, password, project_name and the domains.",
    ),
    (
        errors.NotAuthenticated,
        "Keystone refuses the credentials in [placement] of nova.conf:"
        " correct [placement]username and password.",
    ),
    (
        errors.NotAllowed,
        "Placement refuses the user in [placement] of nova.conf: give it the"
        " roles service and admin in [placement]project_name.",
    ),
    (
        ks_exc.EndpointNotFound,
        "The service catalog has no endpoint of Placement for"
        " [placement]region_name and valid_interfaces.",
    ),
    (
        errors.NotFound,
        "Something else than Placement answers at its endpoint: correct the"
        " endpoint in the service catalog, or [placement]endpoint_override.",
    ),
    (
        (ks_exc.ConnectionError, ks_exc.DiscoveryFailure),
        "Placement or Keystone cannot be reached: start the API, or correct"
        " its endpoint or [placement]auth_url.",
    ),
)


class Client:
    """Asks Placement; once it could not be reached, it is asked no more."""

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self._unreachable: PlacementError | None = None

    @functools.cached_property
    def _ask(self) -> api.Get:
        return api.make_getter(
            utils.get_ksa_adapter("placement"), "Placement", MICROVERSION
        )

    def get(self, path: str) -> api.Answer:
        """Ask for a path.

        :raises PlacementError: there is no usable answer.
        """
        if self._unreachable is not None:
            raise self._unreachable
        try:
            return self._ask(path)
        except (errors.FleetError, ks_exc.ClientException) as exc:
            # The cause says more of what is wrong than the line for operators
            # of a cloud, whose credentials are not in nova.conf.
            causes = (exc, exc.__cause__)
            for kinds, cure in _CURES:
                if any(isinstance(cause, kinds) for cause in causes):
                    self._unreachable = PlacementError(cure)
                    raise self._unreachable from exc
            raise PlacementError(
                f"{exc}. If this is no Placement, correct its endpoint in the"
                " service catalog, or [placement]endpoint_override."
            ) from exc
