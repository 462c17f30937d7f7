# SPDX-License-Identifier: Apache-2.0

"""The services of a cloud, as whoever reads it is connected to them."""

from collections.abc import Callable
import functools
from typing import Any

from nova_gpu_filter.fleet import api


class Services:
    """The services of the cloud that we ask, each when it is first needed."""

    def __init__(
        self, adapters: Any, access: Callable[[], Any] = lambda: None
    ) -> None:
        """Nothing is asked yet.

        :param adapters: has keystoneauth adapters as attributes: a
            ``Connection`` of openstacksdk.
        :param access: returns the ``AccessInfo`` of the token; None where the
            user has none.
        """
        self._adapters = adapters
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

    @functools.cached_property
    def placement(self) -> api.Get:
        """Asks Placement."""
        return self._make_getter(
            "placement", "Placement", api.PLACEMENT_MICROVERSION
        )

    @functools.cached_property
    def write_placement(self) -> api.Send:
        """Writes to Placement."""
        return self._make_placement_sender("PUT")

    @functools.cached_property
    def create_in_placement(self) -> api.Send:
        """Makes something in Placement."""
        return self._make_placement_sender("POST")

    @functools.cached_property
    def delete_in_placement(self) -> api.Send:
        """Deletes something in Placement."""
        return self._make_placement_sender("DELETE")

    def _make_placement_sender(self, method: str) -> api.Send:
        return api.make_sender(
            _Adapter(self._adapters, "placement"),
            "Placement",
            api.PLACEMENT_MICROVERSION,
            method,
        )

    @functools.cached_property
    def compute(self) -> api.Get:
        """Asks Nova."""
        return self._make_getter("compute", "Nova", api.COMPUTE_MICROVERSION)

    @functools.cached_property
    def compute_with_images(self) -> api.Get:
        """Asks Nova for servers with the properties of their images."""
        return self._make_getter(
            "compute", "Nova", api.IMAGE_PROPERTIES_MICROVERSION
        )

    @functools.cached_property
    def image(self) -> api.Get:
        """Asks Glance."""
        return self._make_getter("image", "Glance", None)

    @functools.cached_property
    def identity(self) -> api.Get:
        """Asks Keystone."""
        return self._make_getter("identity", "Keystone", None)

    def _make_getter(
        self, attribute: str, name: str, microversion: str | None
    ) -> api.Get:
        return api.make_getter(
            _Adapter(self._adapters, attribute), name, microversion
        )


class _Adapter:
    """Finds its endpoint with the first question, so that a failure is told
    as that of any question."""

    def __init__(self, adapters: Any, attribute: str) -> None:
        self._adapters = adapters
        self._attribute = attribute

    def __getattr__(self, method: str) -> Any:
        return getattr(getattr(self._adapters, self._attribute), method)
