# SPDX-License-Identifier: Apache-2.0

"""A cloud whose compute host is an emulated machine."""

import pytest

from cloud import bootstrap
from cloud import control
from tests.cloud import user as users
from tests.cloud import waiting
from tests.hardware import emulated_machines
from tests.hardware import parts as parts_lib
from tests.node import nodes


@pytest.fixture(scope="session")
def cloud(tmp_path_factory, request):
    """A control plane of its own, without compute hosts."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    cloud = control.Cloud(tmp_path_factory.mktemp("cloud"), report=say)
    with cloud.state.exclusive():
        cloud.up(hosts={})
    # There is one host, on which a resized server has to stay.
    with open(cloud.files.path("nova/nova.conf"), "a") as file:
        file.write("[DEFAULT]\nallow_resize_to_same_host = True\n")
    yield cloud
    with cloud.state.exclusive():
        cloud.down()


@pytest.fixture(scope="session")
def parts():
    """QEMU, a kernel, and what goes with it."""
    return parts_lib.get()


@pytest.fixture(scope="session")
def node(cloud, parts):
    """The compute host, with everything that an operator does to it."""
    node = nodes.Node(cloud, emulated_machines.K2_NODE, parts)
    try:
        node.prepare()
        node.start()
        node.start_agent()
        yield node
    finally:
        node.guest.remove()


@pytest.fixture(scope="session")
def user(cloud, parts):
    """The administrator, who has made an image and flavors for the host."""
    connection = bootstrap.connect(cloud.state)
    kernel = connection.create_image(
        f"{nodes.IMAGE}-kernel",
        filename=str(parts.payload),
        container_format="aki",
        disk_format="aki",
        wait=True,
    )
    connection.create_image(
        nodes.IMAGE,
        # It is never read: the guest boots from its kernel.
        data=b"\0" * (1 << 20),
        container_format="ami",
        disk_format="ami",
        wait=True,
        kernel_id=kernel.id,
        # The payload looks at one bus, and a q35 has its devices on others.
        hw_machine_type="pc",
    )
    for name, specs in {
        "k2.1": {"pci_passthrough:alias": f"{nodes.ALIAS}:1"},
        "k2.1.other": {"pci_passthrough:alias": f"{nodes.ALIAS}:1"},
        "k2.2": {
            "pci_passthrough:alias": f"{nodes.ALIAS}:2",
            "gpu:link": "pix",
        },
    }.items():
        flavor = connection.compute.create_flavor(
            name=name, ram=64, vcpus=1, disk=0
        )
        connection.compute.create_flavor_extra_specs(flavor, specs)
    return users.User(cloud)


@pytest.fixture(autouse=True)
def _leave_nothing(cloud, node, user):
    """Delete the servers of a test, and see that their devices are free."""
    yield
    assert user.delete(user.servers()) == []

    def is_free() -> bool:
        view = nodes.look(cloud, node)
        held = {**view.nova, **view.placement, **view.libvirt}
        return not held and view.pools == 2 and not nodes.reserved(cloud)

    assert waiting.until(is_free, 300), (
        nodes.look(cloud, node),
        nodes.reserved(cloud),
        node.agent_log(),
    )
