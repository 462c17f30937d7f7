# SPDX-License-Identifier: Apache-2.0

"""The jobs of .zuul.yaml can be loaded, and say what the plugin takes."""

import configparser
import json
import re
import subprocess

import pytest
import yaml

from tests.unit.devstack import sandbox
from tests.unit.devstack import test_names

# What other projects define, as of 2026: openstack/openstack-zuul-jobs
# (zuul.d/jobs.yaml), openstack/tempest (zuul.d/base.yaml) and
# openstack/devstack (.zuul.yaml).
JOBS_OF_OTHERS = {
    "build-openstack-releasenotes",
    "devstack",
    "devstack-tempest",
    "openstack-tox-docs",
    "openstack-tox-pep8",
    "openstack-tox-py311",
}
NODESETS = {"openstack-two-node-noble", "devstack-single-node-debian-trixie"}

# Zuul refuses attributes that it does not know.
ATTRIBUTES = {
    "abstract",
    "description",
    "group-vars",
    "irrelevant-files",
    "name",
    "nodeset",
    "parent",
    "post-run",
    "required-projects",
    "roles",
    "run",
    "timeout",
    "vars",
    "voting",
}

CONFIG = yaml.safe_load((sandbox.REPO / ".zuul.yaml").read_text())
JOBS = {each["job"]["name"]: each["job"] for each in CONFIG if "job" in each}
[PROJECT] = [each["project"] for each in CONFIG if "project" in each]

every_job = pytest.mark.parametrize("job", JOBS.values(), ids=list(JOBS))


def pipeline(name):
    """Map the jobs of a pipeline to what is changed in each for it."""
    found = {}
    for entry in PROJECT[name]["jobs"]:
        if isinstance(entry, dict):
            found.update(entry)
        else:
            found[entry] = {}
    return found


def inherited(job):
    """Merge the variables of a job into those of its parents, as Zuul does."""

    def merge(low, high):
        both = isinstance(low, dict) and isinstance(high, dict)
        if not both:
            return high
        keys = {**low, **high}
        return {
            key: merge(low[key], high[key])
            if key in low and key in high
            else keys[key]
            for key in keys
        }

    own = {key: job.get(key, {}) for key in ("vars", "group-vars")}
    parent = JOBS.get(job["parent"])
    return merge(inherited(parent), own) if parent else own


def rendered(localrc):
    """Write variables as DevStack's role write-devstack-local-conf does."""
    return "".join(
        f"{name}={value}\n" if value[:1] == '"' else f'{name}="{value}"\n'
        for name, value in ((k, str(v)) for k, v in localrc.items())
    )


def localrcs(job):
    """List what the nodes of a job have in localrc: (node group, dict)."""
    merged = inherited(job)
    if "devstack_localrc" in merged["vars"]:
        yield "controller", merged["vars"]["devstack_localrc"]
    for group, variables in merged["group-vars"].items():
        yield group, variables["devstack_localrc"]


def test_there_is_nothing_but_jobs_and_one_project():
    assert all(set(each) in ({"job"}, {"project"}) for each in CONFIG)
    names = [each["job"]["name"] for each in CONFIG if "job" in each]
    assert len(names) == len(set(names))


@every_job
def test_a_job_has_attributes_that_zuul_knows(job):
    assert set(job) <= ATTRIBUTES
    assert job["description"].strip()


@every_job
def test_a_job_has_a_parent_that_exists(job):
    names = list(JOBS)
    earlier = names[: names.index(job["name"])]
    assert job["parent"] in JOBS_OF_OTHERS | set(earlier)


@every_job
def test_the_playbooks_and_nodes_of_a_job_exist(job):
    for name in ("pre-run", "run", "post-run"):
        for path in [job[name]] if isinstance(job.get(name), str) else []:
            plays = yaml.safe_load((sandbox.REPO / path).read_text())
            assert all(
                play["hosts"] and (play.get("tasks") or play["roles"])
                for play in plays
            )
    assert job.get("nodeset", "openstack-two-node-noble") in NODESETS


@pytest.mark.parametrize(
    "path",
    sandbox.REPO.glob("playbooks/**/*.yaml"),
    ids=lambda path: path.parent.name,
)
def test_a_playbook_runs_a_script_that_exists(path):
    command = yaml.safe_load(path.read_text())[-1]["tasks"][0][
        "ansible.builtin.shell"
    ]["cmd"]
    name = re.search(r"nova-gpu-filter/(\S+)", command).group(1)
    assert (sandbox.REPO / name).stat().st_mode & 0o111
    assert str(path.relative_to(sandbox.REPO)) in {
        job.get(phase)
        for job in JOBS.values()
        for phase in ("run", "post-run")
    }


@every_job
def test_the_tox_environment_of_a_job_exists(job):
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(sandbox.REPO / "tox.ini")
    series = re.search(r"nova\{([\d,]+)\}", tox["tox"]["env_list"]).group(1)
    known = {f"nova{each}" for each in series.split(",")}
    known |= {name.partition(":")[2] for name in tox.sections()}
    envlist = inherited(job)["vars"].get("tox_envlist")
    if job["parent"] == "nova-gpu-filter-tox":
        assert envlist in known
    elif job["parent"] != "devstack" and "devstack" in job["name"]:
        # Tempest's own.
        assert envlist == "all"


@every_job
def test_files_that_a_job_does_not_care_for_are_regular_expressions(job):
    paths = [
        str(path.relative_to(sandbox.REPO))
        for path in (sandbox.PLUGIN / "lib").iterdir()
    ]
    for pattern in job.get("irrelevant-files", []):
        assert not any(re.search(pattern, path) for path in paths)


@pytest.mark.parametrize("name", ["check", "gate"])
def test_a_pipeline_runs_jobs_that_exist(name):
    jobs = pipeline(name)
    assert set(jobs) <= set(JOBS) | JOBS_OF_OTHERS
    assert not [job for job in jobs if JOBS.get(job, {}).get("abstract")]


def test_what_gates_is_what_votes_in_check():
    voting = [
        name
        for name, changed in pipeline("check").items()
        if changed.get("voting", True)
    ]
    assert voting == list(pipeline("gate"))


@pytest.mark.parametrize("series", ["31", "32", "33", "34"])
def test_every_nova_series_has_a_job(series):
    assert f"nova-gpu-filter-nova{series}" in pipeline("check")
    assert (sandbox.REPO / f"constraints/nova-{series}.txt").exists()


@every_job
def test_variables_of_the_plugin_reach_it_as_json(job, tmp_path):
    for _group, localrc in localrcs(job):
        ours = {n: v for n, v in localrc.items() if n[:9] == "NOVA_GPU_"}
        assert set(ours) <= set(test_names.VARIABLES)
        (tmp_path / "localrc").write_text(rendered(ours))
        for name in {"NOVA_GPU_PCI_ALIAS", "NOVA_GPU_DEVICE_SPEC"} & set(ours):
            done = subprocess.run(
                ["bash", "-c", f'source ./localrc; printf %s "${name}"'],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            assert isinstance(json.loads(done.stdout), list)


@pytest.mark.parametrize(
    "job",
    [name for name in JOBS if "devstack" in name],
)
def test_the_nodes_of_a_job_can_be_stacked(machine, job):
    for group, localrc in localrcs(JOBS[job]):
        if group == "peers":
            continue
        machine.role = "compute" if group == "subnode" else "all-in-one"
        machine.localrc = {}
        machine.ask_nova()
        machine.local_conf = (
            f"[[local|localrc]]\nENABLED_SERVICES="
            f"{sandbox.ROLES[machine.role]}\n{rendered(localrc)}"
            "enable_plugin nova-gpu-filter https://x\n"
        )
        machine.run("stack")
        names = set(machine.aliases("nova/nova-cpu.conf"))
        assert names == ({"sim"} if "pci-sim" in job else {"h100"})


def test_every_node_with_nova_compute_has_the_plugin():
    job = inherited(JOBS["nova-gpu-filter-devstack-multinode"])
    assert (
        job["group-vars"]["subnode"]["devstack_plugins"]
        == job["vars"]["devstack_plugins"]
    )
    assert "nova-gpu-filter" in job["vars"]["devstack_plugins"]


def test_a_job_boots_gpu_servers_on_hosts_that_report_gpus(machine):
    """And votes, so that no change breaks the scheduling of them."""
    name = "nova-gpu-filter-devstack-gpus"
    assert name in pipeline("gate")
    [(_group, localrc)] = localrcs(JOBS[name])
    machine.localrc = {key: str(value) for key, value in localrc.items()}
    machine.ask_nova()
    machine.run("stack")
    assert len(machine.device_specs("nova/nova-cpu.conf")) == 8
    assert {each.name for each in (machine.path / "flavors").iterdir()} == {
        f"gpu-h100-{count}" for count in (1, 2, 4, 8)
    }
    assert JOBS[name]["run"]


def test_a_job_names_the_branch_of_the_plugin():
    for job in JOBS.values():
        plugins = inherited(job)["vars"].get("devstack_plugins", {})
        if "nova-gpu-filter" in plugins:
            assert plugins["nova-gpu-filter"].endswith(" main")


def test_the_flavors_that_tempest_is_given_are_ones_that_are_made():
    variables = inherited(JOBS["nova-gpu-filter-devstack-pci-sim"])["vars"]
    made = {
        "gpu-" + request.replace(":", "-").replace(",", "-")
        for request in variables["devstack_localrc"][
            "NOVA_GPU_FLAVORS"
        ].split()
    }
    tempest = variables["devstack_local_conf"]["test-config"]
    compute = tempest["$TEMPEST_CONFIG"]["compute"]
    assert {compute["flavor_ref"], compute["flavor_ref_alt"]} <= made


def test_cyborg_is_stacked_before_us():
    # DevStack writes plugins in the order of their names.
    variables = inherited(JOBS["nova-gpu-filter-devstack-pci-sim"])["vars"]
    assert sorted(variables["devstack_plugins"]) == [
        "cyborg",
        "nova-gpu-filter",
    ]
    assert variables["devstack_localrc"]["ENABLE_PCI_SIM"] is True
