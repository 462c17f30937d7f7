# SPDX-License-Identifier: Apache-2.0

"""A machine that cannot run the cloud is told so in one line."""

import os
import shutil

import pytest

from cloud import errors
from cloud import packages


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes this machine root's or not, with or without packages."""

    def make(root, installed, debian):
        path = tmp_path / "daemon"
        if installed:
            path.touch()
        monkeypatch.setattr(packages, "_PACKAGES", {"mariadb-server": path})
        monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr(
            shutil, "which", lambda name: "/bin/x" if debian else None
        )

    return make


@pytest.mark.parametrize(
    ("root", "installed", "debian", "reason"),
    [
        (False, True, True, "it needs root"),
        (False, False, False, "it needs root"),
        (True, False, False, "mariadb-server cannot be installed"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    machine, root, installed, debian, reason
):
    machine(root, installed, debian)
    with pytest.raises(errors.UnavailableError, match=reason) as caught:
        packages.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("installed", "debian"), [(True, False), (True, True), (False, True)]
)
def test_root_with_packages_or_a_way_to_get_them_can_run_it(
    machine, installed, debian
):
    machine(True, installed, debian)
    packages.check()


def test_a_package_that_cannot_be_got_is_named_with_the_reason(
    machine, monkeypatch
):
    machine(True, False, True)

    def fail(*arguments):
        raise errors.UnavailableError(f"apt-get {arguments[0]} failed: no net")

    monkeypatch.setattr(packages, "_apt_get", fail)
    with pytest.raises(errors.UnavailableError, match="no net"):
        packages.ensure()


def test_no_service_starts_while_packages_are_installed(monkeypatch, tmp_path):
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "_POLICY", policy)
    with packages.forbid_service_starts():
        assert "exit 101" in policy.read_text()
        assert os.access(policy, os.X_OK)
    assert not policy.exists()

    policy.write_text("own")
    with packages.forbid_service_starts():
        pass
    assert policy.read_text() == "own"
