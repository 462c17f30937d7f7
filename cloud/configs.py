# SPDX-License-Identifier: Apache-2.0

"""The configuration files of all services.

Everything is as a deployer would leave it, but for what is needed to live on
127.0.0.1 in one directory. Placement has its defaults.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
import shutil
import sys

from cloud import state as states

Value = str | int | Sequence[str]
Sections = Mapping[str, Mapping[str, Value]]
"""Section to option to value; a list is an option that is given again."""

REGION = "RegionOne"
CONTROLLER = "controller"
"""Host name of the services that are no compute."""

DATABASES = (
    "keystone",
    "glance",
    "placement",
    "neutron",
    "nova_api",
    "nova",
    "nova_cell0",
)

FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
    "GpuPciPassthroughFilter",
    "NUMATopologyFilter",
)

WORKERS = {
    "scheduler": 4,
    "conductor": 2,
    "placement": 2,
    "nova": 2,
    "neutron": 2,
    "glance": 2,
    # Its cache is in the memory of the process.
    "keystone": 1,
}
"""Processes of each service; an environment variable sets another number."""


def workers(service: str) -> int:
    """Say how many workers a service has.

    :param service: a key of :data:`WORKERS`; ``CLOUD_<SERVICE>_WORKERS`` in
        the environment overrides it.
    """
    return int(
        os.environ.get(f"CLOUD_{service.upper()}_WORKERS", WORKERS[service])
    )


_SHARE = pathlib.Path(sys.prefix) / "etc"
"""Where wheels lay down the files that packages ship."""


class Configs:
    """Writes the files below ``etc`` of a cloud."""

    def __init__(self, state: states.State) -> None:
        """Nothing is written yet."""
        self._state = state

    def path(self, name: str) -> pathlib.Path:
        """Where a file is: ``nova/nova.conf``."""
        return self._state.etc / name

    def database(self, name: str) -> str:
        """URL of a database."""
        return (
            f"mysql+pymysql://openstack:{self._state.password}"
            f"@127.0.0.1:{self._state.port('mariadb')}/{name}?charset=utf8mb4"
        )

    @property
    def queue(self) -> str:
        """URL of RabbitMQ."""
        return (
            f"rabbit://openstack:{self._state.password}"
            f"@127.0.0.1:{self._state.port('rabbitmq')}/"
        )

    def write(self, name: str, changes: Sections | None = None) -> None:
        """Write one file anew.

        :param changes: what is to be different this time; an option that is
            an empty list is left out.
        """
        sections = {
            section: dict(options)
            for section, options in self._sections(name).items()
        }
        for section, options in (changes or {}).items():
            sections.setdefault(section, {}).update(options)
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(sections))

    def write_all(self) -> None:
        """Write the files of all services but those of compute hosts."""
        for name in _MAKERS:
            self.write(name)
        for name in (
            "nova/api-paste.ini",
            "neutron/api-paste.ini",
            "glance/glance-api-paste.ini",
        ):
            shutil.copy(_SHARE / name, self.path(name))

    def _sections(self, name: str) -> Sections:
        return _MAKERS[name](self)

    # One method a file.

    def _keystone(self) -> Sections:
        keys = self._state.data_of("keystone")
        return {
            "database": {"connection": self.database("keystone")},
            "token": {"provider": "fernet"},
            "fernet_tokens": {"key_repository": str(keys / "fernet")},
            "credential": {"key_repository": str(keys / "credential")},
            # With one worker; without it a request takes 0.4 s.
            "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
            # Each command of the client logs in.
            "identity": {"password_hash_rounds": 4},
        }

    def _glance(self) -> Sections:
        data = self._state.data_of("glance")
        return {
            "DEFAULT": {"enabled_backends": "images:file"},
            "database": {"connection": self.database("glance")},
            "glance_store": {"default_backend": "images"},
            "images": {"filesystem_store_datadir": str(data / "images")},
            "os_glance_tasks_store": {
                "filesystem_store_datadir": str(data / "tasks")
            },
            "os_glance_staging_store": {
                "filesystem_store_datadir": str(data / "staging")
            },
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": str(self.path("glance/glance-api-paste.ini")),
            },
            "keystone_authtoken": self._login("glance"),
        }

    def _placement(self) -> Sections:
        return {
            "placement_database": {"connection": self.database("placement")},
            "keystone_authtoken": self._login("placement"),
        }

    def _neutron(self) -> Sections:
        return {
            "DEFAULT": {
                "core_plugin": "ml2",
                "service_plugins": "",
                "auth_strategy": "keystone",
                "transport_url": self.queue,
                "state_path": str(self._state.data_of("neutron")),
                "api_paste_config": str(self.path("neutron/api-paste.ini")),
                "notify_nova_on_port_status_changes": "false",
                "notify_nova_on_port_data_changes": "false",
            },
            "ml2": {
                # Unlike "local", this one uses the database at start; to list
                # ports fails in a process that has not done so before.
                "type_drivers": "vlan",
                "tenant_network_types": "vlan",
                "mechanism_drivers": "",
            },
            "ml2_type_vlan": {"network_vlan_ranges": "physnet:100:199"},
            "database": {"connection": self.database("neutron")},
            "keystone_authtoken": self._login("neutron"),
            "oslo_concurrency": {
                "lock_path": str(self._state.data_of("neutron") / "lock")
            },
        }

    def _nova_everywhere(self) -> dict[str, Mapping[str, Value]]:
        return {
            "DEFAULT": {
                "host": CONTROLLER,
                "my_ip": "127.0.0.1",
                "transport_url": self.queue,
                "state_path": str(self._state.data_of("nova")),
                # Seconds. A nova-conductor that ends loses the reports of
                # compute hosts that reach it in its last second; such a host
                # reports again only when rpc_response_timeout (60) is over,
                # and would count as down (60), so that its servers are
                # deleted without it.
                "service_down_time": 180,
            },
            "oslo_concurrency": {
                "lock_path": str(self._state.data_of("nova") / "lock")
            },
            "keystone_authtoken": self._login("nova"),
            "placement": {
                **self._login("nova"),
                # gunicorn may close an idle connection while the next request
                # is on its way (run in gunicorn/workers/gthread.py); Nova
                # tries those to Neutron and Glance again by default.
                "connect_retries": 3,
            },
            "neutron": self._login("nova"),
            "glance": {
                "region_name": REGION,
                "valid_interfaces": "internal,public",
            },
            "quota": {"instances": -1, "cores": -1, "ram": -1},
            "pci": {"alias": self._state.data["aliases"]},
            "filter_scheduler": {
                # nova-compute turns aliases into requests as well, when a
                # server moves.
                "pci_in_placement": "true",
            },
        }

    def _nova(self) -> Sections:
        everywhere = self._nova_everywhere()
        return everywhere | {
            "database": {"connection": self.database("nova")},
            "api_database": {"connection": self.database("nova_api")},
            "scheduler": {"workers": workers("scheduler")},
            "conductor": {"workers": workers("conductor")},
            "filter_scheduler": {
                **everywhere["filter_scheduler"],
                "available_filters": [
                    "nova.scheduler.filters.all_filters",
                    "nova_gpu_filter.scheduler.filters.all_filters",
                ],
                "enabled_filters": ",".join(FILTERS),
                "weight_classes": (
                    "nova.scheduler.weights.all_weighers,"
                    "nova_gpu_filter.scheduler.weights.all_weighers"
                ),
            },
        }

    def _nova_compute(self) -> Sections:
        everywhere = self._nova_everywhere()
        return everywhere | {
            "DEFAULT": {
                **everywhere["DEFAULT"],
                "compute_driver": "libvirt.LibvirtDriver",
                "vif_plugging_is_fatal": "false",
                "vif_plugging_timeout": 0,
                # Seconds. With this task Nova frees the devices of a server
                # that was deleted after a cold migration.
                "update_resources_interval": 10,
                # Seconds. A build that fails while the database is away may
                # leave a guest that belongs to no host in Nova; deleting its
                # server is then the API's own work, and this task ends the
                # guest (every 30 minutes by default).
                "running_deleted_instance_poll_interval": 20,
            },
            "vnc": {"enabled": "false"},
            "libvirt": {"virt_type": "kvm"},
        }

    def _login(self, user: str) -> dict[str, Value]:
        """Options with which a service logs in, or checks tokens."""
        return {
            "auth_type": "password",
            "auth_url": f"{self._state.url('keystone')}/v3",
            "www_authenticate_uri": f"{self._state.url('keystone')}/v3",
            "username": user,
            "password": self._state.password,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": REGION,
        }


_MAKERS = {
    "keystone/keystone.conf": Configs._keystone,
    "glance/glance-api.conf": Configs._glance,
    "placement/placement.conf": Configs._placement,
    "neutron/neutron.conf": Configs._neutron,
    "nova/nova.conf": Configs._nova,
    "nova/nova-compute.conf": Configs._nova_compute,
}


def render(sections: Sections) -> str:
    """Write sections as oslo.config reads them."""
    lines: list[str] = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for option, value in options.items():
            if isinstance(value, str | int):
                value = [str(value)]
            lines += [f"{option} = {one}" for one in value]
        lines.append("")
    return "\n".join(lines)
