# SPDX-License-Identifier: Apache-2.0

"""How each service is started, and how it is asked whether it is ready."""

from collections.abc import Callable
import contextlib
import dataclasses
import os
import pathlib
import socket
import sys
import urllib.error
import urllib.request

import amqp
import pymysql

from cloud import configs
from cloud import packages
from cloud import state as states

BIN = pathlib.Path(sys.executable).parent
"""Where the commands of the environment are."""
KEEPALIVE_SECONDS = 5
"""How long a web server keeps a connection that is idle, as Apache does."""
_POLLED_KEEPALIVE_SECONDS = 8
"""The same of Nova's API: ``--wait`` of the openstack command asks it every 5
seconds, and would now and then meet the end of its connection.
"""


@dataclasses.dataclass(frozen=True)
class Service:
    """One process."""

    argv: tuple[str, ...]
    env: dict[str, str]
    is_ready: Callable[[], bool]
    """Asks it; may raise OSError, which is no."""


class Services:
    """The processes of a cloud by name."""

    def __init__(self, state: states.State, files: configs.Configs) -> None:
        """Nothing is started."""
        self._state = state
        self._files = files

    def mariadb(self) -> Service:
        """The database, as root, which is the only account that we have."""
        data = self._state.data_of("mariadb")
        return Service(
            (
                str(packages.MARIADB),
                "--no-defaults",
                "--user=root",
                f"--datadir={data}",
                # Relative to the data: a path has 107 characters at most.
                "--socket=mariadb.sock",
                f"--pid-file={data}/mariadb.pid",
                f"--init-file={self._files.path('mariadb/init.sql')}",
                "--bind-address=127.0.0.1",
                f"--port={self._state.port('mariadb')}",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--max-connections=1000",
                "--innodb-buffer-pool-size=256M",
                # Data outlive the process at once, the machine after 1 s.
                "--innodb-flush-log-at-trx-commit=2",
                "--performance-schema=OFF",
            ),
            {},
            self._mariadb_answers,
        )

    def _mariadb_answers(self) -> bool:
        with contextlib.suppress(pymysql.MySQLError):
            pymysql.connect(
                host="127.0.0.1",
                port=self._state.port("mariadb"),
                user="openstack",
                password=self._state.password,
                connect_timeout=5,
            ).close()
            return True
        return False

    @property
    def _erlang(self) -> dict[str, str]:
        return {
            "ERL_EPMD_PORT": str(self._state.port("epmd")),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def epmd(self) -> Service:
        """Erlang's directory of nodes; RabbitMQ would start a common one."""
        port = self._state.port("epmd")
        return Service(
            ("epmd", "-port", str(port), "-address", "127.0.0.1"),
            self._erlang,
            lambda: is_open(port),
        )

    def rabbitmq(self) -> Service:
        """The message queue."""
        data = self._state.data_of("rabbitmq")
        etc = self._files.path("rabbitmq")
        return Service(
            (str(packages.RABBITMQ),),
            {
                **self._erlang,
                "RABBITMQ_NODENAME": "rabbit@localhost",
                "RABBITMQ_CONF_ENV_FILE": str(etc / "rabbitmq-env.conf"),
                "RABBITMQ_CONFIG_FILE": str(etc / "rabbitmq.conf"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(etc / "advanced.config"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(etc / "enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(data),
                "RABBITMQ_LOG_BASE": str(self._state.logs),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_DIST_PORT": str(
                    self._state.port("rabbitmq-distribution")
                ),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                    "-kernel inet_dist_use_interface {127,0,0,1}"
                    # Do not spin while there is nothing to do.
                    " +sbwt none +sbwtdcpu none +sbwtdio none"
                ),
                # The script becomes the server in the place of its parent.
                "RUNNING_UNDER_SYSTEMD": "true",
            },
            self._rabbitmq_answers,
        )

    def _rabbitmq_answers(self) -> bool:
        with contextlib.suppress(amqp.AMQPError), self._queue_connection():
            return True
        return False

    def _queue_connection(self) -> amqp.Connection:
        return amqp.Connection(
            f"127.0.0.1:{self._state.port('rabbitmq')}",
            userid="openstack",
            password=self._state.password,
            connect_timeout=5,
            read_timeout=10,
        )

    def listens_to_queue(self, topic: str, host: str) -> bool:
        """Whether a service of Nova takes what is sent to it."""
        with (
            contextlib.suppress(amqp.AMQPError),
            self._queue_connection() as connection,
        ):
            queue = connection.channel().queue_declare(
                f"{topic}.{host}", passive=True
            )
            return queue.consumer_count > 0
        return False

    def keystone(self) -> Service:
        """The Identity API."""
        return self._api(
            "keystone",
            "keystone.wsgi.api:application",
            OS_KEYSTONE_CONFIG_FILES=self._files.path(
                "keystone/keystone.conf"
            ),
        )

    def glance(self) -> Service:
        """The Image API."""
        return self._api(
            "glance",
            "glance.wsgi.api:application",
            OS_GLANCE_CONFIG_DIR=self._files.path("glance"),
        )

    def placement(self) -> Service:
        """The Placement API behind our extension."""
        return self._api(
            "placement",
            "nova_gpu_filter.placement.wsgi:application",
            OS_PLACEMENT_CONFIG_DIR=self._files.path("placement"),
        )

    def stock_placement(self) -> Service:
        """The Placement API alone, to compare with."""
        return self._api(
            "placement",
            "placement.wsgi.api:application",
            OS_PLACEMENT_CONFIG_DIR=self._files.path("placement"),
        )

    def neutron(self) -> Service:
        """The Networking API; there are no agents."""
        return self._api(
            "neutron",
            "neutron.wsgi.api:application",
            OS_NEUTRON_CONFIG_DIR=self._files.path("neutron"),
            OS_NEUTRON_CONFIG_FILES="neutron.conf",
        )

    def nova_api(self) -> Service:
        """The Compute API."""
        return self._api(
            "nova",
            "nova.wsgi.osapi_compute:application",
            OS_NOVA_CONFIG_DIR=self._files.path("nova"),
        )

    def _api(
        self, name: str, application: str, **env: str | os.PathLike[str]
    ) -> Service:
        """Serve an application with gunicorn.

        Applications read the arguments of the command, so that there must be
        none, and make threads when they are loaded, so that this must be in
        the worker.
        """
        keepalive_seconds = (
            _POLLED_KEEPALIVE_SECONDS if name == "nova" else KEEPALIVE_SECONDS
        )
        path = self._files.path(f"gunicorn/{name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"wsgi_app = {application!r}\n"
            f"bind = '127.0.0.1:{self._state.port(name)}'\n"
            "worker_class = 'gthread'\n"
            f"workers = {configs.workers(name)}\n"
            "threads = 16\n"
            "timeout = 600\n"
            "graceful_timeout = 5\n"
            # For as long, workers of nova-scheduler share a connection to
            # Placement that their parent has opened.
            f"keepalive = {keepalive_seconds}\n"
            "control_socket_disable = True\n"
        )
        return Service(
            (str(BIN / "gunicorn"),),
            {
                "GUNICORN_CMD_ARGS": f"-c {path}",
                **{key: os.fspath(value) for key, value in env.items()},
            },
            lambda: answers(self._state.url(name)),
        )

    def nova_conductor(self) -> Service:
        """What has the database."""
        return self._nova("conductor", "nova.conf")

    def nova_scheduler(self, host: str = configs.CONTROLLER) -> Service:
        """What chooses hosts and devices.

        :param host: another name than the controller's for a second one.
        """
        files = ["nova.conf"]
        if host != configs.CONTROLLER:
            files.append(f"{host}.conf")
            self._files.path(f"nova/{host}.conf").write_text(
                configs.render({"DEFAULT": {"host": host}})
            )
        return self._nova("scheduler", *files, host=host)

    def _nova(
        self, topic: str, *files: str, host: str = configs.CONTROLLER
    ) -> Service:
        return Service(
            (str(BIN / f"nova-{topic}"), *self._config_files(*files)),
            {},
            lambda: self.listens_to_queue(topic, host),
        )

    def nova_compute(self, host: str) -> Service:
        """A compute host; what it has is in the file of its inventory."""
        return Service(
            (
                *(sys.executable, "-m", "cloud.compute"),
                str(self._files.path(f"nova/{host}.inventory.json")),
                host,
                str(self._state.data_of("guests") / host),
                *self._config_files(
                    "nova-compute.conf", f"{host}.conf", f"{host}.pci.conf"
                ),
            ),
            {"PYTHONPATH": str(states.ROOT)},
            lambda: self.listens_to_queue("compute", host),
        )

    def _config_files(self, *names: str) -> list[str]:
        arguments = []
        for name in names:
            arguments += [
                "--config-file",
                str(self._files.path(f"nova/{name}")),
            ]
        return arguments


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1; OSError is no."""
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True


def answers(url: str) -> bool:
    """Whether an API answers; what it answers is for others to judge."""
    try:
        with urllib.request.urlopen(url, timeout=30):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        # Glance lists its versions as 300, others want a token.
        return error.code < 500
