# SPDX-License-Identifier: Apache-2.0

"""What Nova, Placement, Keystone and Glance answer, damaged on the way.

Whatever is wrong with an answer, a command shows something or ends in one
line, and the exporter and the simulator know it for a fault of the service.
"""

import contextlib
import copy
import random
import types

from demo import threads  # noqa: F401

# isort: split

from hypothesis import given
from hypothesis import strategies as st
from osc_lib import exceptions
import pytest

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.exporter import projects
from nova_gpu_filter.fleet import connection
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.osc import base
from nova_gpu_filter.simulate import errors as simulate_errors
from nova_gpu_filter.simulate import real_cloud
from tests.functional.fleet import adapters
from tests.functional.osc import shell
from tests.functional.osc import worlds
from tests.functional.placement import service
from tests.fuzz import hostile
from tests.fuzz import test_inventory_json

COMMANDS = (
    "device list",
    "device list --long",
    "device list --server train-1",
    "device show hgx-1_0000:1b:00.0",
    "device quarantine hgx-1_0000:1b:00.0",
    "device release hgx-1_0000:1b:00.0",
    "pool show remote",
    "host list",
    "host show hgx-1",
    "topology show hgx-1",
    "capacity ALIASES",
    "capacity --by-host ALIASES",
    "explain --flavor h100.4.fabric --image cuda ALIASES",
    "explain --server train-3 --migrate live ALIASES",
    "explain --flavor h100.2 --project lab --availability-zone nova ALIASES",
    "flavor check l40s.1 --image cuda ALIASES",
    "quota ALIASES",
    "quota --project lab ALIASES",
    "drift ALIASES",
)
SERVICES = ("placement", "compute", "identity", "image")
QUOTA = {
    "id": worlds.PROJECT,
    **{
        name: {"limit": 99, "in_use": 3, "reserved": 0}
        for name in ("instances", "cores", "ram")
    },
}
MIGRATION = {
    "id": 1,
    "uuid": worlds.consumer("a migration"),
    "instance_uuid": worlds.consumer("train-2"),
    "migration_type": "resize",
    "status": "finished",
    "source_node": "hgx-1",
    "dest_node": "hgx-2",
}
IMAGE = {
    "id": worlds.consumer("an image"),
    "name": "cuda",
    "tags": [],
    "hw_machine_type": "q35",
    "hw_disk_bus": "virtio",
    "hw_maxphysaddr_mode": "emulate",
    "hw_maxphysaddr_bits": "46",
    "trait:CUSTOM_A": "required",
}
MISSING = object()
values = (
    hostile.values
    | st.just(MISSING)
    | st.integers()
    | st.floats()
    | st.sampled_from((1 << 31, (1 << 63) - 1, 1 << 64, 10**400, "1e9", "-1"))
)


class _Glance:
    def get(self, path, **_kwargs):
        if path.startswith("/images/"):
            return adapters.Response(200, IMAGE)
        return adapters.Response(200, {"images": [IMAGE]})


class _Nova(adapters.Nova):
    def get(self, path, **kwargs):
        if path == "/":
            return adapters.Response(200, {"version": {"version": "2.104"}})
        if path == "/os-availability-zone":
            zones = [{"zoneName": "nova"}]
            return adapters.Response(200, {"availabilityZoneInfo": zones})
        return super().get(path, **kwargs)


class _Damaging:
    """Answers as a service once did, and some answers otherwise."""

    def __init__(self, adapter):
        self._adapter = adapter
        self._known = {}
        self.damage = None

    def get(self, path, **kwargs):
        if path not in self._known:
            self._known[path] = self._adapter.get(path, **kwargs)
        answer = self._known[path]
        if self.damage is None:
            return answer
        return adapters.Response(
            answer.status_code, self.damage(path, answer.body)
        )

    def put(self, _path, **_kwargs):
        return adapters.Response(200, {})


@pytest.fixture(scope="module")
def cloud():
    """The adapters of a small cloud, which say what they have said before."""
    with service.Placement() as placement:
        found = worlds.build(placement).adapters
        nova = found.compute
        odd = _Nova(nova.servers, nova.flavors, nova.hypervisors)
        odd.services = nova.services
        odd.quota_set = QUOTA
        odd.migrations = [MIGRATION]
        odd.aggregates = [
            {"name": "a", "hosts": ["hgx-1"], "metadata": {"gpu:rack": "1"}}
        ]
        keystone = adapters.Keystone(
            {worlds.PROJECT: "lab"},
            [("class:CUSTOM_GPU_H100", 8, None)],
            [(worlds.PROJECT, "class:CUSTOM_GPU_H100", 9, "region")],
        )
        yield types.SimpleNamespace(
            placement=_Damaging(found.placement),
            compute=_Damaging(odd),
            identity=_Damaging(keystone),
            image=_Damaging(_Glance()),
        )


def _damage(seed, changes, is_whole):
    """Make a function that puts values at places of answers, or removes what
    is there; the same ones whenever and by whichever thread it is asked."""

    def damage(path, body):
        choose = random.Random(f"{seed} {path}")
        if choose.random() < 0.4:
            return body
        if is_whole:
            return {} if changes[0] is MISSING else changes[0]
        body = copy.deepcopy(body)
        for value in changes:
            places = list(test_inventory_json.places(body))
            if not places:
                break
            place = choose.choice(places)
            if value is MISSING:
                test_inventory_json.remove(body, place)
            else:
                test_inventory_json.change(body, place, value)
        return body

    return damage


damages = st.fixed_dictionaries(
    {
        "of": st.sampled_from(SERVICES[:2] * 3 + SERVICES),
        "seed": st.integers(0, 9999),
        "changes": st.lists(values, min_size=1, max_size=3),
        "is_whole": st.sampled_from((False,) * 19 + (True,)),
    }
)


@pytest.fixture
def damaged(cloud, request):
    """Return a function that damages what a service says from now on."""

    def damage(of, **how):
        for name in SERVICES:
            getattr(cloud, name).damage = None
        getattr(cloud, of).damage = _damage(**how)

    yield damage
    for name in SERVICES:
        getattr(cloud, name).damage = None


@given(command=st.sampled_from(COMMANDS), damage=damages)
def test_a_command_shows_something_or_one_line(
    cloud, damaged, command, damage
):
    damaged(**damage)
    raised = []

    inner = base.GpuCommand.run

    def run(self, parsed_args):
        # The client makes one line of whatever a command raises.
        try:
            return inner(self, parsed_args)
        except exceptions.CommandError:
            raise
        except Exception as exc:
            raised.append(exc)
            raise

    words = command.replace(" ALIASES", "").split()
    if command.endswith("ALIASES"):
        words += worlds.alias_options()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base.GpuCommand, "run", run)
        result = shell.Shell(cloud).run("gpu", *words)
    if raised:
        raise raised[0]
    assert result.code in (0, 1), result.err
    assert "\x1b" not in result.out + result.err
    if result.code:
        assert result.err


@given(damage=damages)
def test_the_exporter_knows_it_for_a_fault_of_the_service(
    cloud, damaged, caplog, damage
):
    damaged(**damage)
    services = connection.Services(cloud)
    aliases = known_aliases.read([], list(worlds.ALIASES))
    caplog.clear()
    reader = cloud_reader.Reader(
        services,
        cloud_reader.Scope(alias_by_name=aliases.by_name),
        projects.UsageReader(services.identity, services.placement, 9),
        owner_requests=99,
    )
    reader.read()
    for record in caplog.records:
        assert not record.exc_info, record.exc_info


@given(damage=damages)
def test_the_simulator_reads_it_or_says_why_not(cloud, damaged, damage):
    damaged(**damage)
    services = connection.Services(cloud)
    with contextlib.suppress(errors.FleetError, simulate_errors.BadScenario):
        real_cloud.read(services.placement, {"CUSTOM_GPU_H100"})
