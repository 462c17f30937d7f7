# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-exporter`` as it is typed, against a real Placement over HTTP."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

from prometheus_client import parser
import pytest
import yaml

from tests.functional import web

COMMAND = pathlib.Path(sys.executable).with_name("nova-gpu-exporter")


class _Cloud:
    """All services at one URL: Placement, and enough of Nova and Keystone."""

    def __init__(self, placement, nova, projects):
        self._placement = placement
        self._nova = nova
        self._projects = projects
        self.is_broken = False

    def __call__(self, environ, start_response):
        """Answer one request."""
        path = environ["PATH_INFO"]
        url = "http://{HTTP_HOST}".format_map(environ)
        status, headers = "200 OK", []
        if self.is_broken:
            status, found = "503 Service Unavailable", {}
        elif path == "/identity/v3/auth/tokens":
            status, headers = "201 Created", [("X-Subject-Token", "admin")]
            found = _token(url)
        elif path.startswith(
            ("/compute/v2.1/flavors", "/compute/v2.1/os-services")
        ):
            found = self._nova.get(path.removeprefix("/compute/v2.1")).json()
        elif path.startswith("/compute"):
            found = _version(
                f"{url}{path}", "v2.1", version="2.96", min_version="2.1"
            )
        elif path == "/identity/v3/projects":
            found = {"projects": self._projects}
        elif path.startswith("/identity"):
            found = _version(f"{url}{path}", "v3.14")
        else:
            return self._placement(environ, start_response)
        start_response(
            status, [("Content-Type", "application/json"), *headers]
        )
        return [json.dumps(found).encode()]


def _version(url, name, **microversions):
    """Write what a service says of itself, for discovery."""
    return {
        "version": {
            "id": name,
            "status": "CURRENT",
            "links": [{"rel": "self", "href": url}],
            **microversions,
        }
    }


def _token(url):
    """Write what Keystone says of a token, with its catalog."""
    domain = {"id": "default", "name": "Default"}
    return {
        "token": {
            "methods": ["password"],
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "monitor", "domain": domain},
            "project": {"id": "p", "name": "admin", "domain": domain},
            "roles": [{"id": "r", "name": "admin"}],
            "catalog": [
                {
                    "id": service,
                    "type": service,
                    "name": service,
                    "endpoints": [
                        {
                            "id": service,
                            "interface": "public",
                            "region": "RegionOne",
                            "region_id": "RegionOne",
                            "url": f"{url}{path}",
                        }
                    ],
                }
                for service, path in (
                    ("placement", ""),
                    ("compute", "/compute/v2.1"),
                    ("identity", "/identity/v3"),
                )
            ],
        }
    }


def credentials(url):
    """Write what logs in there."""
    return {
        "auth_url": f"{url}/identity/v3",
        "username": "monitor",
        "password": "secret",
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


@pytest.fixture(scope="module")
def cloud():
    """Return the small cloud of the tests of ``openstack gpu``."""
    from tests.functional.osc import worlds
    from tests.functional.placement import service

    with service.Placement() as placement:
        worlds.build(placement)
        yield _Cloud(
            placement.applications["ours"],
            worlds.nova(),
            [
                {"id": worlds.PROJECT, "name": "research"},
                {"id": "0" * 32, "name": "idle"},
            ],
        )


@pytest.fixture
def directory(cloud, tmp_path):
    """Return a directory with clouds.yaml and nova.conf for the cloud."""
    from tests.functional.osc import worlds

    with web.serve(cloud) as url:
        (tmp_path / "clouds.yaml").write_text(
            yaml.safe_dump({"clouds": {"small": {"auth": credentials(url)}}})
        )
        (tmp_path / "nova.conf").write_text(
            "[pci]\n" + "".join(f"alias = {text}\n" for text in worlds.ALIASES)
        )
        yield tmp_path
        cloud.is_broken = False


def arguments(directory, *others):
    """Write the command line."""
    return [
        *(COMMAND, "--os-cloud", "small"),
        *("--nova-conf", directory / "nova.conf", *others),
    ]


def once(directory, *others):
    """Run the command with --once."""
    return subprocess.run(
        [*arguments(directory, *others), "--once"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def read(text):
    """Read metrics: {name: {values by names of the labels: value}}."""
    return {
        family.name: {
            tuple(
                value for _, value in sorted(sample.labels.items())
            ): sample.value
            for sample in family.samples
        }
        for family in parser.text_string_to_metric_families(text)
    }


def test_the_metrics_of_a_cloud_are_printed(directory):
    done = once(directory)
    assert (done.returncode, done.stderr) == (0, "")
    found = read(done.stdout)
    devices = found["nova_gpu_devices"]
    h100 = ("GPU_H100", "CUSTOM_GPU_H100")
    assert devices["hgx-1", *h100, "used"] == 3
    assert devices["hgx-1", *h100, "free"] == 5
    assert sum(devices.values()) == 8 + 8 + 16 + 2
    assert found["nova_gpu_host_disabled"]["plain-1",] == 1
    assert found["nova_gpu_flavor_capacity"]["h100.8",] == 0
    assert found["nova_gpu_flavor_capacity"]["h100.4",] == 2
    assert found["nova_gpu_project_devices_used"] == {
        ("6f70656e737461636b20342065766572", "research", rc): used
        for rc, used in (
            ("CUSTOM_GPU_H100", 7),
            ("CUSTOM_GPU_L40S", 1),
            ("CUSTOM_NIC_CONNECTX_7", 1),
        )
    }
    used_by_host = {
        (labels[0], labels[2], labels[3]): used
        for labels, used in found["nova_gpu_host_project_devices_used"].items()
    }
    assert used_by_host == {
        (host, "6f70656e737461636b20342065766572", "research"): used
        for host, used in (("hgx-1", 3), ("hgx-2", 4), ("pix-1", 1))
    }
    assert set(found["nova_gpu_up"].values()) == {1}


def test_a_resource_class_can_be_chosen(directory):
    done = once(directory, "--resource-class", "CUSTOM_GPU_L40S")
    devices = read(done.stdout)["nova_gpu_devices"]
    assert {labels[2] for labels in devices} == {"CUSTOM_GPU_L40S"}


def test_a_cloud_that_is_down_is_a_metric_and_a_line_a_service(
    directory, cloud
):
    cloud.is_broken = True
    done = once(directory)
    assert done.returncode == 1
    assert set(read(done.stdout)["nova_gpu_up"].values()) == {0}
    assert "nova_gpu_devices" not in read(done.stdout)
    assert done.stderr.count("\n") == 3
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (("--os-cloud", "nowhere"), "nowhere"),
        (("--nova-conf", "/nowhere/nova.conf"), "/nowhere/nova.conf"),
        (("--alias", "{name: a1}"), "--alias: alias {name: a1}"),
        (("--certificate", "x.pem"), "--certificate and --key belong"),
        (("--port", "http"), "no whole number from 0 to 65535"),
        (("--address", "192.0.2.1"), "192.0.2.1 port 9877"),
    ],
)
def test_what_cannot_start_says_why_in_a_line(directory, others, words):
    done = subprocess.run(
        arguments(directory, *others),
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert line.startswith("nova-gpu-exporter: ")
    assert words in line


def test_without_credentials_a_line_says_how_to_give_them(tmp_path):
    alias = json.dumps({"name": "h100", "resource_class": "CUSTOM_H100"})
    done = subprocess.run(
        [COMMAND, "--once", "--alias", alias],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "auth_url is missing" in line
    assert "--os-cloud" in line


def test_variables_of_the_environment_name_a_cloud(directory):
    clouds = yaml.safe_load((directory / "clouds.yaml").read_text())["clouds"]
    (directory / "clouds.yaml").unlink()
    done = subprocess.run(
        [COMMAND, "--once"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={
            f"OS_{name.upper()}": value
            for name, value in clouds["small"]["auth"].items()
        },
    )
    assert done.returncode == 0, done.stderr
    assert read(done.stdout)["nova_gpu_up"]["placement",] == 1


@pytest.fixture
def served(directory):
    """Start the command; give the process, and a function that scrapes it."""
    with subprocess.Popen(
        arguments(directory, "--port", "0", "--interval", "0"),
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stderr.readline()
            found = re.search(r"Listening on 127\.0\.0\.1 port (\d+)", line)
            url = f"http://127.0.0.1:{found[1]}/metrics"

            def scrape():
                with urllib.request.urlopen(url) as response:
                    return read(response.read().decode())

            yield process, scrape
        finally:
            process.kill()


def test_metrics_are_served_until_a_signal_comes(served, cloud):
    process, scrape = served
    assert scrape()["nova_gpu_errors"]["placement",] == 0
    cloud.is_broken = True
    found = scrape()
    assert found["nova_gpu_errors"]["placement",] == 1
    assert "nova_gpu_devices" not in found
    cloud.is_broken = False
    found = scrape()
    assert found["nova_gpu_up"]["placement",] == 1
    assert found["nova_gpu_errors"]["placement",] == 1
    assert found["nova_gpu_devices"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_cloud_that_is_down_at_first_is_read_later(served, cloud):
    _, scrape = served
    cloud.is_broken = True
    assert set(scrape()["nova_gpu_up"].values()) == {0}
    cloud.is_broken = False
    found = scrape()
    assert set(found["nova_gpu_up"].values()) == {1}
    assert found["nova_gpu_devices"]
