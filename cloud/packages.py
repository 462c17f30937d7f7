# SPDX-License-Identifier: Apache-2.0

"""MariaDB and RabbitMQ from Debian, without starting their services.

Needs nothing but the standard library: ``python -m cloud.packages`` tells
whether this machine can run the cloud before anything is installed for it, and
``--ensure`` installs what is missing. It exits with 0, or with 1 and a line
that says why not.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

from cloud import errors

MARIADB = pathlib.Path("/usr/sbin/mariadbd")
RABBITMQ = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

_PACKAGES = {"mariadb-server": MARIADB, "rabbitmq-server": RABBITMQ}
_UNITS = {
    "mariadb-server": ["mariadb"],
    "rabbitmq-server": ["rabbitmq-server", "epmd.socket"],
}
_POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
# invoke-rc.d(8) asks it before a package starts its service.


def check() -> None:
    """Tell whether the cloud can run here.

    :raises UnavailableError: it cannot; the text is one line.
    """
    if os.geteuid() != 0:
        raise errors.UnavailableError(
            "it needs root, for MariaDB and RabbitMQ from Debian packages"
        )
    if _missing() and shutil.which("apt-get") is None:
        raise errors.UnavailableError(
            f"{' and '.join(_missing())} cannot be installed: this is no"
            " Debian (there is no apt-get)"
        )


def ensure() -> None:
    """Install what is missing.

    :raises UnavailableError: that is not possible here.
    """
    check()
    missing = _missing()
    if not missing:
        return
    print(f"Installing Debian packages: {' '.join(missing)} ...", flush=True)
    with forbid_service_starts():
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *missing)
    if shutil.which("systemctl"):
        # Nor at the next boot.
        for package in missing:
            subprocess.run(
                ["systemctl", "disable", *_UNITS[package]],
                capture_output=True,
            )
    if _missing():
        raise errors.UnavailableError(
            f"{' and '.join(_missing())} did not install what is needed"
        )


def _missing() -> list[str]:
    return [name for name, path in _PACKAGES.items() if not path.exists()]


def _apt_get(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-q", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise errors.UnavailableError(
            f"apt-get {arguments[0]} failed: {' '.join(last)}"
        )


@contextlib.contextmanager
def forbid_service_starts() -> Iterator[None]:
    """Let no package start its service; a policy that is there stays."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        ensure() if sys.argv[1:] == ["--ensure"] else check()
    except errors.UnavailableError as error:
        sys.exit(str(error))
