# SPDX-License-Identifier: Apache-2.0

"""The services of a cloud, as whoever reads it is connected to them."""

from collections.abc import Callable
import functools
from typing import Any

from nova_gpu_filter.fleet import api


class _Adapter:
    """Finds its endpoint with the first question, so that a failure is told
    as that of any question."""

    def __init__(self, adapters: Any, attribute: str) -> None:
        self._adapters = adapters
        self._attribute = attribute

    def __getattr__(self, method: str) -> Any:
        return getattr(getattr(self._adapters, self._attribute), method)


def _ask_service(
    attribute: str, service: str, microversion: str | None
) -> functools.cached_property[api.Get]:
    """Make a property that asks a service; see :func:`api.make_getter`."""
    return functools.cached_property(
        lambda services: api.make_getter(
            _Adapter(services.adapters, attribute), service, microversion
        )
    )


def _send_to_placement(method: str) -> functools.cached_property[api.Send]:
    return functools.cached_property(
        lambda services: api.make_sender(
            _Adapter(services.adapters, "placement"),
            "Placement",
            api.PLACEMENT_MICROVERSION,
            method,
        )
    )


class Services:
    """The services of the cloud that we ask, each when it is first needed."""

    placement = _ask_service(
        "placement", "Placement", api.PLACEMENT_MICROVERSION
    )
    write_placement = _send_to_placement("PUT")
    create_in_placement = _send_to_placement("POST")
    delete_in_placement = _send_to_placement("DELETE")
    compute = _ask_service("compute", "Nova", api.COMPUTE_MICROVERSION)
    compute_with_images = _ask_service(
        "compute", "Nova", api.IMAGE_PROPERTIES_MICROVERSION
    )
    """Servers have the properties of their images in its answers."""
    image = _ask_service("image", "Glance", None)
    identity = _ask_service("identity", "Keystone", None)

    def __init__(
        self, adapters: Any, access: Callable[[], Any] = lambda: None
    ) -> None:
        """Nothing is asked yet.

        :param adapters: has keystoneauth adapters as attributes: a
            ``Connection`` of openstacksdk.
        :param access: returns the ``AccessInfo`` of the token; None where the
            user has none.
        """
        self.adapters = adapters
        self._access = access

    @property
    def own_project(self) -> tuple[str, str] | None:
        """(UUID, name) of the project that the user works in; None without
        one."""
        access = self._access()
        if access is None or not access.project_id:
            return None
        return access.project_id, access.project_name or access.project_id

    @property
    def nova_ids(self) -> frozenset[str]:
        """UUIDs of Nova in Keystone, by the catalog of the token."""
        access = self._access()
        if access is None or not access.has_service_catalog():
            return frozenset()
        return frozenset(
            found["id"]
            for found in access.service_catalog.catalog
            if found.get("type") == "compute" and "id" in found
        )
