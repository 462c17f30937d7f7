# SPDX-License-Identifier: Apache-2.0

"""A cloud whose compute host is an emulated machine."""

from concurrent import futures

import pytest

from cloud import control
from tests.cloud import user as users
from tests.hardware import parts as parts_lib
from tests.node import kinds
from tests.node import nodes
from tests.node import offers

pytest.register_assert_rewrite("tests.node.servers")


@pytest.fixture(scope="session")
def parts():
    """QEMU, a kernel, and what goes with it."""
    return parts_lib.get()


@pytest.fixture(scope="session")
def _cloud_and_node(tmp_path_factory, parts, request):
    """Start both side by side: a machine that boots uses one processor."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    cloud = control.Cloud(tmp_path_factory.mktemp("cloud"), report=say)
    node = nodes.Node(cloud, kinds.K2, parts, number=1)
    try:
        with (
            cloud.state.exclusive(),
            futures.ThreadPoolExecutor(1) as thread,
        ):
            is_up = thread.submit(cloud.up, hosts={})
            node.boot()
            is_up.result()
        yield cloud, node
    finally:
        node.guest.remove()
        with cloud.state.exclusive():
            cloud.down()


@pytest.fixture(scope="session")
def cloud(_cloud_and_node):
    """A control plane of its own, without compute hosts."""
    cloud, _ = _cloud_and_node
    # There is one host, on which a resized server has to stay.
    with open(cloud.files.path("nova/nova.conf"), "a") as file:
        file.write("[DEFAULT]\nallow_resize_to_same_host = True\n")
    return cloud


@pytest.fixture(scope="session")
def node(cloud, _cloud_and_node):
    """The compute host, with everything that an operator does to it."""
    _, node = _cloud_and_node
    node.prepare()
    node.configure_controller()
    node.start()
    node.start_agent()
    return node


@pytest.fixture(scope="session")
def _booting(cloud, parts, node, request):
    """A second host of the same kind, which boots while others are tested.

    None where no test needs it.
    """
    wanted = any(
        "other_node" in item.fixturenames for item in request.session.items
    )
    if not wanted:
        yield None
        return
    other = nodes.Node(
        cloud, kinds.K2, parts, 2, "k2-other", has_old_names=True
    )
    # QEMU ends with the thread that has started it.
    with futures.ThreadPoolExecutor(1) as thread:
        booted = thread.submit(other.boot)
        try:
            yield other, booted
        finally:
            futures.wait([booted])
            other.guest.remove()


@pytest.fixture(scope="session")
def all_nodes(node, _booting):
    """What must be free after each test."""
    return [node]


@pytest.fixture(scope="module")
def other_node(node, all_nodes, _booting):
    """The second host, to which a server can go."""
    other, booted = _booting
    booted.result()
    other.prepare()
    other.start()
    other.start_agent()
    nodes.introduce(node, other)
    all_nodes.append(other)
    yield other
    all_nodes.remove(other)


@pytest.fixture(scope="session")
def user(cloud, parts):
    """The administrator, who has made an image and flavors for the host."""
    offers.make(cloud, parts, [kinds.K2])
    return users.User(cloud)


@pytest.fixture(autouse=True)
def _leave_nothing(cloud, all_nodes, user):
    """Delete the servers of a test, and see that their devices are free."""
    yield
    assert user.delete(user.servers()) == []

    def is_free() -> bool:
        view = nodes.look(cloud, *all_nodes)
        held = {**view.nova, **view.placement, **view.libvirt}
        return (
            not held
            and view.pools == sum(node.gpus for node in all_nodes)
            and not nodes.reserved(cloud)
        )

    assert nodes.wait_until(is_free), (
        nodes.look(cloud, *all_nodes),
        nodes.reserved(cloud),
        *(node.agent_log() for node in all_nodes),
    )
