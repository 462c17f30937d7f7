# SPDX-License-Identifier: Apache-2.0

"""The samples can be used as they are, and a plugin that DevStack has not
fetched is missed."""

import re
import shutil
import subprocess

import pytest

from tests import sysfs_trees
from tests.unit.devstack import sandbox
from tests.unit.devstack import test_read_back

SAMPLES = {
    path.stem: path for path in (sandbox.PLUGIN / "samples").glob("*.conf")
}
README = (sandbox.PLUGIN / "README.rst").read_text()
ROLES = {
    **{role: role for role in sandbox.ROLES},
    "without-gpus": "all-in-one",
}
URL = "https://example.com/nova-gpu-filter"


def test_there_is_a_sample_for_each_role():
    assert set(SAMPLES) == set(ROLES)
    for name in SAMPLES:
        assert f"``{name}.conf``" in README


@pytest.fixture(params=SAMPLES)
def sampled(request, machine):
    """Make a machine with the GPUs of an HGX H100 and a sample's local.conf.

    The sample is used as it is, but for which services DevStack would run.
    """
    name = request.param
    sysfs_trees.hgx_h100(machine.path / "host")
    machine.use_host_tool(machine.path / "host")
    machine.role = ROLES[name]
    # compute.conf has no flavors, and would bind the GPUs of this machine.
    if name != "compute":
        machine.ask_nova()
    services = f"ENABLED_SERVICES={sandbox.ROLES[machine.role]}\n"
    text = re.sub("^(ENABLED_|disable_).*\n", "", SAMPLES[name].read_text())
    machine.local_conf = text.replace(
        "[[local|localrc]]\n", f"[[local|localrc]]\n{services}"
    )
    machine.sample = name
    return machine


def test_a_sample_stacks_and_ends_clean(sampled):
    sampled.run("stack")
    assert len(sampled.aliases()) == 1
    specs = sampled.device_specs()
    assert len(specs) == (0 if sampled.role == "controller" else 8)
    assert all(spec.get_tags()["gpu_links"] for spec in specs)
    # What nova-gpu-status does not like would be shown at the end.
    if sampled.role == "all-in-one":
        found = sampled.status()
        assert {
            name for name, (code, _details) in found.items() if code
        } == test_read_back.NEED_PLACEMENT
    flavors = {each.name for each in (sampled.path / "flavors").iterdir()}
    assert (
        flavors
        == {
            # A machine may have no more than one.
            "all-in-one": {"gpu-h100-sxm5-80gb-1"},
            "compute": set(),
            "controller": {f"gpu-h100-{count}" for count in (1, 2, 4, 8)},
            "without-gpus": {f"gpu-h100-{count}" for count in (1, 2, 4, 8)},
        }[sampled.sample]
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_only_url_and_passwords_have_to_be_given(name):
    """And, on a compute node, the address of the controller."""
    settings = [
        line
        for line in SAMPLES[name].read_text().splitlines()
        if re.search(r"secret|example\.com|192\.0\.2\.", line)
    ]
    expected = ["ADMIN_PASSWORD=secret"]
    if name == "compute":
        expected.insert(0, "SERVICE_HOST=192.0.2.11")
    assert settings == [*expected, f"enable_plugin nova-gpu-filter {URL} main"]


@pytest.mark.parametrize(
    "path",
    [
        "devstack/README.rst",
        "devstack/samples/local.sh",
        "releasenotes/notes/devstack-plugin-6b0f2d9c41a7e385.yaml",
        *(f"devstack/samples/{name}.conf" for name in SAMPLES),
    ],
)
def test_the_branch_is_named_wherever_the_plugin_is_enabled(path):
    """DevStack would take master."""
    text = re.sub(r'[\s"\\]+', " ", (sandbox.REPO / path).read_text())
    found = re.findall(
        r"enable_plugin nova-gpu-filter (?:<[^>]+>|\S+) (\w+)", text
    )
    assert found
    assert set(found) == {"main"}


@pytest.fixture
def fetched(machine):
    """Make a machine that fetches the plugin from a repository.

    The repository holds what DevStack and local.sh look for, in a branch
    ``main``.
    """
    origin = machine.path / "origin"
    shutil.copytree(
        sandbox.PLUGIN / "tools", origin / "devstack/tools", symlinks=True
    )
    (origin / "devstack/settings").touch()
    for arguments in (
        ("init", "--quiet", "--initial-branch", "main"),
        ("add", "."),
        (
            *("-c", "user.name=t", "-c", "user.email=t@example.com"),
            *("commit", "--quiet", "--message", "all"),
        ),
    ):
        subprocess.run(["git", *arguments], cwd=origin, check=True)
    (machine.path / "dest/nova-gpu-filter").unlink()
    machine.local_conf = (
        SAMPLES["all-in-one"].read_text().replace(URL, str(origin))
    )
    return machine


def run_local_sh(machine, services=sandbox.ROLES["all-in-one"]):
    """Run the sample local.sh, as stack.sh does.

    :param services: ENABLED_SERVICES of the node.
    """
    script = machine.path / "devstack/local.sh"
    shutil.copy(sandbox.PLUGIN / "samples/local.sh", script)
    (machine.path / "devstack/openrc").write_text(
        f"DEST={machine.path}/dest\necho a notice\n"
        f'is_service_enabled() {{ [[ ",{services}," == *",$1,"* ]]; }}\n'
    )
    return subprocess.run(
        [script],
        env={"PATH": f"{machine.path}/bin:/usr/bin:/bin"}
        | {"SANDBOX": str(machine.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_branch_that_is_named_is_fetched_and_checked_at_the_end(fetched):
    fetched.run("fetch")
    assert (fetched.path / "dest/nova-gpu-filter/devstack/settings").exists()
    # No cloud here: what is seen is that the check runs and stops stack.sh.
    done = run_local_sh(fetched)
    assert done.returncode == 1
    assert "There is no flavor gpu-*" in done.stdout


@pytest.mark.parametrize("role", ["controller", "compute"])
def test_no_server_is_booted_where_no_compute_node_is_ready(fetched, role):
    fetched.run("fetch")
    done = run_local_sh(fetched, sandbox.ROLES[role])
    assert done.returncode == 0, done.stdout
    assert "flavor" not in done.stdout


def test_a_plugin_that_devstack_goes_on_without_is_missed(fetched):
    right = fetched.local_conf
    fetched.local_conf = right.replace(" main\n", "\n")
    assert fetched.run("fetch", check=False).returncode != 0
    # The checkout is there now, and empty: it is neither fetched into nor
    # missed by DevStack, whatever branch is given.
    fetched.local_conf = right
    fetched.run("fetch")
    checkout = fetched.path / "dest/nova-gpu-filter"
    assert [each.name for each in checkout.iterdir()] == [".git"]
    done = run_local_sh(fetched)
    assert done.returncode == 1
    assert "nova-gpu-filter was not stacked" in done.stdout
    assert f"Where {checkout} is empty" in done.stdout
