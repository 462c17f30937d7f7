# SPDX-License-Identifier: Apache-2.0

"""Makes the databases, the accounts and what a first server needs."""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
import subprocess

import openstack
import openstack.connection

from cloud import configs
from cloud import errors
from cloud import processes
from cloud import services
from cloud import state as states

IMAGE = "tiny"
FLAVOR_SIZES = (1, 2, 4, 6, 8)
"""GPUs of the flavors that are there from the start."""

_ENDPOINTS = {
    # Service: type and path.
    "glance": ("image", ""),
    "placement": ("placement", ""),
    "neutron": ("network", ""),
    "nova": ("compute", "/v2.1"),
}
COMPUTE_MICROVERSION = "2.96"
PLACEMENT_MICROVERSION = "1.39"


def flavor(gpus: int) -> str:
    """Name the flavor with so many H100."""
    return f"gpu.h100.{gpus}"


def connect(
    state: states.State, project: str = "admin"
) -> openstack.connection.Connection:
    """Connect to the cloud as its administrator.

    Proxies of the environment are for other addresses than 127.0.0.1.

    :param project: that servers belong to which are made.
    """
    connection = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth={
            "auth_url": f"{state.url('keystone')}/v3",
            "username": "admin",
            "password": state.password,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        region_name=configs.REGION,
        compute_default_microversion=COMPUTE_MICROVERSION,
        placement_default_microversion=PLACEMENT_MICROVERSION,
    )
    connection.session.session.trust_env = False
    return connection


class Bootstrap:
    """The steps, each to be done once, in the order of the methods."""

    def __init__(
        self,
        state: states.State,
        files: configs.Configs,
        running: processes.Processes,
    ) -> None:
        """Nothing is done yet."""
        self._state = state
        self._files = files
        self._processes = running

    def database_files(self) -> None:
        """Lay down an empty MariaDB, and what it does whenever it starts."""
        path = self._files.path("mariadb/init.sql")
        path.parent.mkdir(exist_ok=True)
        lines = [
            f"CREATE DATABASE IF NOT EXISTS {name};"
            for name in configs.DATABASES
        ]
        password = self._state.password
        lines += [
            "CREATE USER IF NOT EXISTS openstack@'127.0.0.1'"
            f" IDENTIFIED BY '{password}';",
            "GRANT ALL ON *.* TO openstack@'127.0.0.1';",
            "DELETE FROM mysql.global_priv"
            " WHERE User NOT IN ('openstack', 'mariadb.sys');",
            "FLUSH PRIVILEGES;",
        ]
        path.write_text("\n".join(lines) + "\n")
        self._run(
            "mariadb-install",
            [
                "mariadb-install-db",
                "--no-defaults",
                "--user=root",
                f"--datadir={self._state.data_of('mariadb')}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
        )

    def queue_files(self) -> None:
        """Write what RabbitMQ reads when it starts first."""
        path = self._files.path("rabbitmq/rabbitmq.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._state.port('rabbitmq')}"
            "\ndefault_user = openstack\n"
            f"default_pass = {self._state.password}\n"
            "disk_free_limit.absolute = 50MB\n"
            "log.console = true\n"
            "log.console.level = warning\n"
        )
        path.with_name("enabled_plugins").write_text("[].\n")
        path.with_name("rabbitmq-env.conf").write_text("")

    def keystone_tables(self) -> None:
        """Tables, keys and the administrator."""
        conf = self._files.path("keystone/keystone.conf")
        url = f"{self._state.url('keystone')}/v3"

        def manage(step: str, *arguments: str) -> None:
            self._run(
                f"keystone-{step}",
                [
                    *("keystone-manage", "--config-file", str(conf)),
                    step,
                    *arguments,
                ],
            )

        manage("db_sync")
        owner = ("--keystone-user", "root", "--keystone-group", "root")
        manage("fernet_setup", *owner)
        manage("credential_setup", *owner)
        manage(
            "bootstrap",
            *("--bootstrap-password", self._state.password),
            *("--bootstrap-public-url", url),
            *("--bootstrap-internal-url", url),
            *("--bootstrap-admin-url", url),
            *("--bootstrap-region-id", configs.REGION),
        )

    def glance_tables(self) -> None:
        """Tables of Glance."""
        self._manage("glance", "glance/glance-api.conf", "db_sync")

    def placement_tables(self) -> None:
        """Tables of Placement."""
        self._manage("placement", "placement/placement.conf", "db", "sync")

    def neutron_tables(self) -> None:
        """Tables of Neutron."""
        self._run(
            "neutron-db-manage",
            [
                "neutron-db-manage",
                "--config-file",
                str(self._files.path("neutron/neutron.conf")),
                "upgrade",
                "heads",
            ],
        )

    def nova_tables(self) -> None:
        """Tables of Nova, and its one cell."""
        self.nova_manage("api_db", "sync")
        self.nova_manage(
            *("cell_v2", "map_cell0", "--database_connection"),
            self._files.database("nova_cell0"),
        )
        self.nova_manage("db", "sync")
        self.nova_manage("cell_v2", "create_cell", "--name", "cell1")

    def discover_hosts(self) -> None:
        """Tell Nova which cell its new compute hosts are in."""
        self.nova_manage("cell_v2", "discover_hosts")

    def nova_manage(self, *arguments: str) -> None:
        """Run nova-manage.

        :raises CloudError: it failed.
        """
        self._manage("nova", "nova/nova.conf", *arguments)

    def accounts(self) -> None:
        """Register services, their endpoints and the users they act as."""
        identity = connect(self._state).identity
        domain = "default"
        project = identity.create_project(name="service", domain_id=domain)
        roles = [
            identity.find_role(name, ignore_missing=False)
            for name in ("admin", "service")
        ]
        for name, (kind, path) in _ENDPOINTS.items():
            user = identity.create_user(
                name=name, domain_id=domain, password=self._state.password
            )
            for role in roles:
                identity.assign_project_role_to_user(project, user, role)
            service = identity.create_service(name=name, type=kind)
            for interface in ("public", "internal"):
                identity.create_endpoint(
                    service_id=service.id,
                    interface=interface,
                    region_id=configs.REGION,
                    url=f"{self._state.url(name)}{path}",
                )

    def image_and_flavors(self) -> None:
        """Make what the first server is made of."""
        connection = connect(self._state)
        connection.create_image(
            IMAGE,
            data=b"\0" * 1024,
            container_format="bare",
            disk_format="raw",
            visibility="public",
            wait=True,
        )
        for gpus in FLAVOR_SIZES:
            made = connection.compute.create_flavor(
                name=flavor(gpus), ram=512, vcpus=1, disk=1
            )
            connection.compute.create_flavor_extra_specs(
                made, {"pci_passthrough:alias": f"h100:{gpus}"}
            )

    def _manage(self, project: str, conf: str, *arguments: str) -> None:
        self._run(
            f"{project}-manage",
            [
                f"{project}-manage",
                "--config-file",
                str(self._files.path(conf)),
                *arguments,
            ],
        )

    def _run(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command to its end; what it prints goes to a log."""
        command = services.BIN / argv[0]
        log = self._processes.log(f"bootstrap-{name}")
        with open(log, "a") as file:
            print("$", *argv, file=file, flush=True)
            done = subprocess.run(
                [str(command) if command.exists() else argv[0], *argv[1:]],
                env=self._processes.environment(env or {}),
                cwd=self._state.directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                umask=0o077,
            )
        if done.returncode:
            raise errors.CloudError(
                f"{' '.join(argv[:1])} failed with exit status"
                f" {done.returncode}. The end of {log}:\n"
                + processes.tail(pathlib.Path(log))
            )
