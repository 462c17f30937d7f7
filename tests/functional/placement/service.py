# SPDX-License-Identifier: Apache-2.0

"""A real Placement in memory, stock and wrapped, and providers in it."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
from typing import Any
import uuid

import fixtures
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_db.sqlalchemy import enginefacade
from placement import conf as placement_conf
from placement import db_api
from placement import deploy
from placement.db.sqlalchemy import migration
from placement.db.sqlalchemy import models
from placement.tests.functional.fixtures import placement as placement_fixture
import sqlalchemy as sa
import webob

from nova_gpu_filter.placement import extension

LATEST = "1.39"


@dataclasses.dataclass(frozen=True)
class Inventory:
    """An inventory of one resource class, and what others have of it."""

    total: int
    used: int = 0
    reserved: int = 0
    min_unit: int = 1
    max_unit: int | None = None
    """None for all of ``total``."""
    step_size: int = 1
    allocation_ratio: float = 1.0


@dataclasses.dataclass(frozen=True)
class Provider:
    """A resource provider."""

    name: str
    parent: str | None = None
    inventories: Mapping[str, Inventory] = dataclasses.field(
        default_factory=dict
    )
    traits: tuple[str, ...] = ()
    aggregates: tuple[str, ...] = ()


def provider_uuid(name: str) -> str:
    """Return the UUID that the provider of a name gets."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


@dataclasses.dataclass(frozen=True)
class Response:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as an object."""
        return json.loads(self.body)

    @property
    def is_composed(self) -> bool:
        """Whether the extension answered."""
        return self.headers.get("X-GPU-Candidates") == "composed"


class Placement(fixtures.Fixture):
    """Stock Placement, and the same with the extension, on one database."""

    def __init__(
        self,
        options: Mapping[tuple[str, str], Any] | None = None,
        database: str | None = None,
    ) -> None:
        """Nothing is started yet.

        :param options: (group, option) -> value of placement.conf.
        :param database: URL of a database that may be emptied; None for
            SQLite in memory.
        """
        super().__init__()
        self._options = options or {}
        self._database = database

    def _setUp(self) -> None:
        # It sleeps for green threads after each query, a tenth of the time.
        self.useFixture(
            fixtures.MonkeyPatch(
                "oslo_db.sqlalchemy.engines._thread_yield", lambda *_: None
            )
        )
        if self._database is None:
            fixture = placement_fixture.PlacementFixture(use_intercept=False)
        else:
            fixture = self._on_database(self._database)
        self.conf = self.useFixture(fixture).conf_fixture.conf
        for (group, option), value in self._options.items():
            self.conf.set_override(option, value, group=group)
        self._stock = deploy.loadapp(self.conf)
        self._wrapped = extension.wrap(self._stock, self.conf)

    def _on_database(
        self, database: str
    ) -> placement_fixture.PlacementFixture:
        """Make the tables that a database lacks; Placement's fixture fails.

        Placement configures its database once in a process, so that what a
        test before left would be used: this one is put in its place.
        """
        config = self.useFixture(config_fixture.Config(cfg.ConfigOpts()))
        placement_conf.register_opts(config.conf)
        config.config(connection=database, group="placement_database")
        config.conf([], default_config_files=[])
        manager = enginefacade.transaction_context()
        manager.configure(connection=database)
        restore = db_api.placement_context_manager.patch_factory(manager)
        self.addCleanup(restore)
        migration.create_schema(db_api.get_placement_engine())
        return placement_fixture.PlacementFixture(
            conf_fixture=config,
            db=False,
            use_intercept=False,
            register_opts=False,
        )

    @property
    def applications(self) -> dict[str, Any]:
        """The WSGI applications: ``stock``, and ``ours`` with the extension.

        For servers; the methods below ask them without one.
        """
        return {"stock": self._stock, "ours": self._wrapped}

    def set_option(self, option: str, value: Any, group: str) -> None:
        """Change an option of placement.conf."""
        self.conf.set_override(option, value, group=group)

    def stock(self, path: str, **kwargs: Any) -> Response:
        """Ask Placement as it is; see :meth:`_ask`."""
        return self._ask(self._stock, path, **kwargs)

    def ours(self, path: str, **kwargs: Any) -> Response:
        """Ask Placement with the extension; see :meth:`_ask`."""
        return self._ask(self._wrapped, path, **kwargs)

    def candidates(self, query: str, **kwargs: Any) -> Response:
        """Ask the extension for allocation candidates."""
        return self.ours(f"/allocation_candidates?{query}", **kwargs)

    def _ask(
        self,
        application: Any,
        path: str,
        method: str = "GET",
        body: Any = None,
        microversion: str = LATEST,
        headers: Mapping[str, str | None] | None = None,
    ) -> Response:
        """Ask an application.

        :param headers: what to change in the usual ones; None removes one.
        """
        request = webob.Request.blank(path, method=method)
        request.headers["X-Auth-Token"] = "admin"
        request.headers["OpenStack-API-Version"] = f"placement {microversion}"
        request.headers["Accept"] = "application/json"
        for name, value in (headers or {}).items():
            if value is None:
                del request.headers[name]
            else:
                request.headers[name] = value
        if body is not None:
            request.content_type = "application/json"
            request.body = json.dumps(body).encode()
        response = request.get_response(application)
        return Response(
            response.status_int, dict(response.headers), response.body
        )

    def allocate(
        self,
        candidate: Mapping[str, Any],
        ask: Callable[..., Response] | None = None,
        consumer: str | None = None,
    ) -> str:
        """Claim an allocation candidate; return the consumer.

        :param ask: :meth:`stock`, unless given, or :meth:`ours`.
        :param consumer: its UUID; a new one, unless given.
        :raises AssertionError: it was refused.
        """
        consumer = consumer or str(uuid.uuid4())
        response = (ask or self.stock)(
            f"/allocations/{consumer}",
            method="PUT",
            body={
                "allocations": candidate["allocations"],
                "mappings": candidate["mappings"],
                "project_id": "project",
                "user_id": "user",
                "consumer_generation": None,
                "consumer_type": "INSTANCE",
            },
        )
        assert response.status == 204, response.body
        return consumer

    def allocations(self, consumer: str) -> dict[str, Any]:
        """Return what a consumer has, as a candidate states it."""
        response = self.stock(f"/allocations/{consumer}")
        assert response.status == 200, response.body
        return {
            provider: {"resources": allocation["resources"]}
            for provider, allocation in response.json["allocations"].items()
        }

    def free(self, consumer: str) -> None:
        """Give back what a consumer has."""
        response = self.stock(f"/allocations/{consumer}", method="DELETE")
        assert response.status == 204, response.body

    def replace_providers(self, providers: Iterable[Provider]) -> None:
        """Remove all providers and create others, parents before children.

        Written to the database, since it is done for every generated case.
        """
        providers = list(providers)
        with db_api.get_placement_engine().connect() as connection:
            known_rcs, known_traits = (
                set(connection.scalars(sa.select(model.name)))
                for model in (models.ResourceClass, models.Trait)
            )
        rcs = {rc for p in providers for rc in p.inventories}
        for rc in sorted(rcs - known_rcs):
            if rc.startswith("CUSTOM_"):
                self.stock(f"/resource_classes/{rc}", method="PUT")
        traits = {t for p in providers for t in p.traits}
        for trait in sorted(traits - known_traits):
            self.create_trait(trait)
        with db_api.get_placement_engine().begin() as connection:
            _write(connection, providers)

    def create_trait(self, trait: str) -> None:
        """Create a custom trait, which no provider need have."""
        if trait.startswith("CUSTOM_"):
            self.stock(f"/traits/{trait}", method="PUT")


def _write(connection: sa.Connection, providers: list[Provider]) -> None:
    for table in (
        models.Allocation,
        models.Consumer,
        models.Inventory,
        models.ResourceProviderTrait,
        models.ResourceProviderAggregate,
        models.PlacementAggregate,
    ):
        connection.execute(sa.delete(table))
    connection.execute(
        sa.update(models.ResourceProvider).values(
            root_provider_id=None, parent_provider_id=None
        )
    )
    connection.execute(sa.delete(models.ResourceProvider))
    rc_ids = dict(
        connection.execute(
            sa.select(models.ResourceClass.name, models.ResourceClass.id)
        ).all()
    )
    trait_ids = dict(
        connection.execute(sa.select(models.Trait.name, models.Trait.id)).all()
    )
    aggregates = sorted({a for p in providers for a in p.aggregates})
    aggregate_ids = {a: index for index, a in enumerate(aggregates, 1)}
    ids = {p.name: index for index, p in enumerate(providers, 1)}
    parents = {p.name: p.parent for p in providers}
    rows: dict[Any, list[dict[str, Any]]] = {
        models.ResourceProvider: [
            {
                "id": ids[p.name],
                "uuid": provider_uuid(p.name),
                "name": p.name,
                "generation": 0,
                "parent_provider_id": ids.get(p.parent),
                "root_provider_id": ids[_root(p.name, parents)],
            }
            for p in providers
        ],
        models.Inventory: [
            {
                "resource_provider_id": ids[p.name],
                "resource_class_id": rc_ids[rc],
                "total": i.total,
                "reserved": i.reserved,
                "min_unit": i.min_unit,
                "max_unit": i.total if i.max_unit is None else i.max_unit,
                "step_size": i.step_size,
                "allocation_ratio": i.allocation_ratio,
            }
            for p in providers
            for rc, i in p.inventories.items()
        ],
        models.Allocation: [
            {
                "resource_provider_id": ids[p.name],
                "resource_class_id": rc_ids[rc],
                "consumer_id": str(uuid.UUID(int=1)),
                "used": i.used,
            }
            for p in providers
            for rc, i in p.inventories.items()
            if i.used
        ],
        models.ResourceProviderTrait: [
            {
                "resource_provider_id": ids[p.name],
                "trait_id": trait_ids[trait],
            }
            for p in providers
            for trait in p.traits
        ],
        models.PlacementAggregate: [
            {"id": aggregate_ids[a], "uuid": a} for a in aggregates
        ],
        models.ResourceProviderAggregate: [
            {
                "resource_provider_id": ids[p.name],
                "aggregate_id": aggregate_ids[a],
            }
            for p in providers
            for a in p.aggregates
        ],
    }
    for model, values in rows.items():
        if values:
            connection.execute(sa.insert(model), values)


def _root(name: str, parents: Mapping[str, str | None]) -> str:
    parent = parents[name]
    return name if parent is None else _root(parent, parents)
