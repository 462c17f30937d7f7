# SPDX-License-Identifier: Apache-2.0

"""What a user of the cloud needs: an openrc to source, a clouds.yaml."""

import json

from cloud import bootstrap
from cloud import configs
from cloud import services
from cloud import state as states

OPENRC = "openrc"
CLOUDS_YAML = "clouds.yaml"
NAMES = (OPENRC, CLOUDS_YAML)


def environment(state: states.State) -> dict[str, str]:
    """Return what the ``openstack`` command reads, as variables."""
    return {
        "OS_AUTH_TYPE": "password",
        "OS_AUTH_URL": f"{state.url('keystone')}/v3",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": state.password,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": configs.REGION,
        "OS_COMPUTE_API_VERSION": bootstrap.COMPUTE_MICROVERSION,
        "OS_PLACEMENT_API_VERSION": bootstrap.PLACEMENT_MICROVERSION,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def write(state: states.State) -> None:
    """Write both files into the directory of the cloud."""
    variables = environment(state)
    lines = [f"export {name}={value}" for name, value in variables.items()]
    lines.append(f'export PATH="{services.BIN}:$PATH"')
    (state.directory / OPENRC).write_text("\n".join(lines) + "\n")
    cloud = {
        "auth_type": "password",
        "auth": {
            "auth_url": variables["OS_AUTH_URL"],
            "username": variables["OS_USERNAME"],
            "password": variables["OS_PASSWORD"],
            "project_name": variables["OS_PROJECT_NAME"],
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": configs.REGION,
        "compute_api_version": bootstrap.COMPUTE_MICROVERSION,
        "compute_default_microversion": bootstrap.COMPUTE_MICROVERSION,
        "placement_api_version": bootstrap.PLACEMENT_MICROVERSION,
        "placement_default_microversion": bootstrap.PLACEMENT_MICROVERSION,
    }
    # JSON is YAML.
    (state.directory / CLOUDS_YAML).write_text(
        json.dumps({"clouds": {"gpu": cloud}}, indent=2) + "\n"
    )


def first_commands(state: states.State) -> list[str]:
    """Return commands that show that it works."""
    return [
        f". {state.directory / OPENRC}",
        f"openstack server create --flavor {bootstrap.flavor(4)}"
        f" --image {bootstrap.IMAGE} --nic none --wait gpu-1",
        "openstack resource provider allocation show"
        " $(openstack server show -f value -c id gpu-1)",
        "openstack resource provider list",
        f"less {state.logs / 'nova-scheduler.log'}",
    ]
