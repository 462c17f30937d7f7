# SPDX-License-Identifier: Apache-2.0

"""A machine for the DevStack plugin, made of directories and fake commands."""

import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import nova.conf
from nova.conf import pci as pci_conf
from nova.conf import scheduler as scheduler_conf
from nova.pci import request
from nova.pci import whitelist
from oslo_config import cfg

from nova_gpu_filter import conf as gpu_conf
from tests import warm_python

REPO = pathlib.Path(__file__).parents[3]
PLUGIN = REPO / "devstack"
DRIVE = pathlib.Path(__file__).with_name("drive.sh")

# What runs where; DevStack's own lists, cut down to what the plugin asks for.
ROLES = {
    "all-in-one": "key,n-api,n-cond,n-sch,n-cpu,placement-api,q-svc",
    "controller": "key,n-api,n-cond,n-sch,placement-api,q-svc",
    "compute": "n-cpu,placement-client,q-agt",
}

ALIAS = [
    {
        "name": "h100",
        "device_type": "type-PF",
        "resource_class": "CUSTOM_GPU_H100",
        "traits": "CUSTOM_NVLINK,HW_GPU_API_VULKAN",
    },
    {
        "name": "cx7",
        "vendor_id": "15b3",
        "product_id": "1021",
        "device_type": "type-PF",
    },
]
DEVICE_SPEC = [
    {
        "address": "0000:0f:00.0",
        "vendor_id": "10de",
        "product_id": "2330",
        "resource_class": "CUSTOM_GPU_H100",
        "traits": "CUSTOM_NVLINK,HW_GPU_API_VULKAN",
        "gpu_links": "nv18:0,pix:3,node:1,fabric:0/8",
    },
    {"address": "*:*:*.*", "vendor_id": "15b3", "product_id": "1021"},
]

COMMANDS = {
    # Flavors are files, so that a second "create" can fail as Nova's does.
    "openstack": r"""
echo "openstack $*" >> "$SANDBOX/calls"
case "$*" in
    "flavor show "*)
        test -e "$SANDBOX/flavors/$3" ;;
    "flavor create "*)
        test ! -e "$SANDBOX/flavors/${@: -1}" || exit 1
        echo "$*" > "$SANDBOX/flavors/${@: -1}" ;;
esac
""",
    "nova-gpu-host": r"""
echo "nova-gpu-host $*" >> "$SANDBOX/calls"
if [[ "$*" == *"--role controller"* ]]; then
    cat "$SANDBOX/controller.conf"
else
    cat "$SANDBOX/compute.conf"
fi
""",
    # Its exit code is the test's choice.
    "nova-gpu-status": r"""
echo "nova-gpu-status $*" >> "$SANDBOX/calls"
exit "$(cat "$SANDBOX/status-code" 2>/dev/null || echo 0)"
""",
    "uuidgen": "cat /proc/sys/kernel/random/uuid",
    # What writing to a file below /sys/bus/pci makes the kernel do.
    "kernel": r"""
bus=$SANDBOX/sys/bus/pci
case $1 in
    */driver_override)
        cat > "$1" ;;
    */driver/unbind)
        rm "$bus/devices/$(cat)/driver" ;;
    */drivers_probe)
        device=$bus/devices/$(cat)
        driver=$(cat "$device/driver_override")
        ln -s "../../drivers/${driver:-$(cat "$device/host_driver")}" \
            "$device/driver" ;;
esac
""",
}


def assign(name, value):
    """Write one variable of localrc, as an operator would."""
    if not isinstance(value, str):
        value = json.dumps(value)
    return f"{name}='{value}'"


class Sandbox:
    """One machine: its local.conf, its /etc, and what was called on it.

    :param path: an empty directory.
    :param devstack: a checkout of DevStack, or None for the stand-in.
    """

    def __init__(self, path, devstack=None):
        self.path = path
        self.devstack = devstack
        self.role = "all-in-one"
        self.plugins = ["nova-gpu-filter"]
        self.localrc = {}
        self.local_conf = None
        self.extra_local_conf = ""
        for name in ("bin", "devstack", "dest/data", "venv/bin", "flavors"):
            (path / name).mkdir(parents=True)
        (path / "dest/nova-gpu-filter").symlink_to(REPO)
        (path / "calls").touch()
        for name, text in COMMANDS.items():
            self.command(f"bin/{name}", text)
        # DevStack's merge_config_file is beyond mawk; the plugin is not.
        if devstack:
            (path / "bin/awk").symlink_to(shutil.which("gawk"))
        # The Python that has Nova, where DevStack would have installed it.
        self.command(
            "venv/bin/python3",
            "if [[ $* == *nova_gpu_conf.py\\ lines\\ * "
            "|| -e $SANDBOX/with-nova ]]; then\n"
            f'exec {warm_python.command(*warm_python.NOVA)} "$@"\nfi',
        )
        self.command(
            "dest/requirements/.venv/bin/edit-constraints",
            'echo "edit-constraints $*" >> "$SANDBOX/calls"',
        )

    def command(self, name, text):
        """Put a bash script into the sandbox."""
        script = self.path / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/bin/bash\n{text}\n")
        script.chmod(0o755)

    def ask_nova(self):
        """Let the plugin ask Nova, which takes seconds each time."""
        (self.path / "with-nova").touch()

    def use_host_tool(self, root):
        """Let the plugin call the real nova-gpu-host.

        :param root: where the sysfs of a built machine is.
        """
        self.command(
            "venv/bin/nova-gpu-host",
            f'PYTHONPATH="{REPO}" exec "{sys.executable}" -W ignore -c '
            '"import sys; from nova_gpu_filter.cmd.host import app;'
            f'sys.exit(app.main())" "$@" --sysfs-root "{root}"',
        )

    def set(self, **variables):
        """Set variables of localrc; a list is written as JSON."""
        self.localrc.update(variables)

    def write_local_conf(self):
        """Write local.conf the way that DevStack wants it."""
        path = self.path / "devstack/local.conf"
        if self.local_conf is not None:
            path.write_text(self.local_conf)
            return
        lines = ["[[local|localrc]]"]
        lines.append(f"ENABLED_SERVICES={ROLES[self.role]}")
        lines += [assign(*each) for each in self.localrc.items()]
        lines += [f"enable_plugin {name} https://x" for name in self.plugins]
        path.write_text("\n".join(lines) + "\n" + self.extra_local_conf)

    def run(self, action, command=None, check=True, **environment):
        """Run drive.sh.

        :param action: fetch, stack, unstack, clean, or call with a command.
        :param check: fail the test where it fails.
        :returns: subprocess.CompletedProcess; stdout holds both streams.
        """
        self.write_local_conf()
        environment = {
            "HOME": str(self.path),
            "PATH": os.environ["PATH"],
            **environment,
        }
        if self.devstack:
            environment["DEVSTACK_DIR"] = str(self.devstack)
        arguments = ["bash", DRIVE, self.path, action]
        if command is not None:
            arguments.append(command)
        done = subprocess.run(
            arguments,
            env=environment,
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    def status(self):
        """Let nova-gpu-status say what it finds: {check: (code, details)}.

        There is no Placement.
        """
        command = pathlib.Path(sys.executable).with_name("nova-gpu-status")
        done = subprocess.run(
            [
                *(command, "--config-file", self.etc("nova/nova.conf")),
                *("--role", "both", "upgrade", "check", "--json"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return {
            each["check"]: (each["result"], each["details"])
            for each in json.loads(done.stdout)["checks"]
        }

    @property
    def calls(self):
        """What was called that has no place in a sandbox, a line a call."""
        return (self.path / "calls").read_text().splitlines()

    def etc(self, name):
        """Give the path of a file below /etc."""
        return self.path / "etc" / name

    def files(self):
        """Give the text of every file below /etc by its name."""
        etc = self.path / "etc"
        return {
            str(each.relative_to(etc)): each.read_text()
            for each in sorted(etc.rglob("*"))
            if each.is_file()
        }

    def nova(self, name="nova/nova.conf"):
        """Read a nova.conf with Nova's options and ours."""
        conf = cfg.ConfigOpts()
        pci_conf.register_opts(conf)
        scheduler_conf.register_opts(conf)
        gpu_conf.register_opts(conf)
        conf(
            [],
            default_config_files=[str(self.etc(name))],
            default_config_dirs=[],
        )
        return conf

    def aliases(self, name="nova/nova.conf"):
        """Let Nova parse the aliases of a file."""
        conf = self.nova(name)
        real = nova.conf.CONF
        real.set_override("alias", conf.pci.alias, "pci")
        real.set_override(
            "pci_in_placement",
            conf.filter_scheduler.pci_in_placement,
            "filter_scheduler",
        )
        request.get_alias_from_config.cache_clear()
        try:
            return request.get_alias_from_config()
        finally:
            request.get_alias_from_config.cache_clear()
            real.clear_override("alias", "pci")
            real.clear_override("pci_in_placement", "filter_scheduler")

    def device_specs(self, name="nova/nova.conf"):
        """Let Nova parse the device specs of a file."""
        return whitelist.Whitelist(self.nova(name).pci.device_spec).specs

    def uwsgi(self, name="placement/placement-uwsgi.ini"):
        """Read the section of uWSGI."""
        ini = configparser.ConfigParser(interpolation=None)
        ini.read(self.etc(name))
        return dict(ini["uwsgi"])

    def options(self, name, section):
        """List the option lines of a section as they stand there."""
        text = self.etc(name).read_text()
        found = re.findall(
            rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL
        )
        return [line for part in found for line in part.splitlines() if line]
