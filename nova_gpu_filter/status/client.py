# SPDX-License-Identifier: Apache-2.0

"""Ask Placement as a service of Nova does."""

from collections.abc import Mapping
import functools
from typing import Any

from keystoneauth1 import exceptions as ks_exc
from nova import utils

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
        ks_exc.Unauthorized,
        "Keystone refuses the credentials in [placement] of nova.conf:"
        " correct [placement]username and password.",
    ),
    (
        ks_exc.Forbidden,
        "Placement refuses the user in [placement] of nova.conf: give it the"
        " roles service and admin in [placement]project_name.",
    ),
    (
        ks_exc.EndpointNotFound,
        "The service catalog has no endpoint of Placement for"
        " [placement]region_name and valid_interfaces.",
    ),
    (
        ks_exc.NotFound,
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
    def _adapter(self) -> Any:
        return utils.get_ksa_adapter("placement")

    def get(self, path: str) -> tuple[Any, Mapping[str, str]]:
        """Ask for a path.

        :returns: the body, from JSON, and the headers.
        :raises PlacementError: there is no usable answer.
        """
        if self._unreachable is not None:
            raise self._unreachable
        try:
            response = self._adapter.get(
                path, microversion=MICROVERSION, raise_exc=True
            )
            return response.json(), response.headers
        except ks_exc.ClientException as exc:
            for types, cure in _CURES:
                if isinstance(exc, types):
                    self._unreachable = PlacementError(cure)
                    raise self._unreachable from exc
            raise PlacementError(
                f"Placement does not answer GET {path}: {exc}"
            ) from exc
        except ValueError as exc:
            raise PlacementError(
                f"Placement answers GET {path} with something that is no"
                " JSON: correct its endpoint in the service catalog, or"
                " [placement]endpoint_override."
            ) from exc
