# SPDX-License-Identifier: Apache-2.0

"""What the DevStack plugin cannot do in bash: read JSON, and ask Nova.

Run with the Python that Nova is installed in. Nova is imported only by the
subcommands that ask it, since the first one is run before Nova is there.
"""

import argparse
import configparser
import importlib.util
import json
import pathlib
import re
import sys

# What DevStack installs from git, of what our extras ask for.
STACKED = frozenset({"nova", "openstack-placement"})

# Display (VGA, 3D, other) controllers and processing accelerators: PCI Code
# and ID Assignment Specification, sections 1.4 and 1.19.
GPU_CLASSES = frozenset({"0300", "0302", "0380", "1200"})


class UsageError(Exception):
    """What the operator gave cannot be used."""


def compact_lines(variable, text):
    """Turn a JSON list into lines for options of nova.conf.

    :param variable: where ``text`` comes from, for messages.
    :param text: a JSON list of objects, or one object.
    :returns: one JSON object a line, without blanks outside of strings.
    :raises UsageError: it is not that.
    """
    try:
        found = json.loads(text)
    except ValueError as exc:
        hint = ""
        if re.fullmatch(r"\w+", text):
            hint = "; give a JSON list, or auto"
        elif '"' not in text:
            hint = (
                "; it holds no double quote, so a shell took them: write "
                f"{variable}='[...]' in single quotes, and \\\" for each in "
                "a Zuul job"
            )
        raise UsageError(f"{variable} is not JSON: {exc}{hint}") from exc
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not all(
        isinstance(each, dict) for each in found
    ):
        raise UsageError(f"{variable} is not a list of JSON objects")
    if variable == "NOVA_GPU_PCI_ALIAS":
        for each in found:
            if not each.get("name"):
                raise UsageError(f"{variable}: {json.dumps(each)} has no name")
    # oslo.config would put the value of an option in the place of a $.
    return [
        json.dumps(each, separators=(",", ":")).replace("$", "$$")
        for each in found
    ]


def load(path):
    """Read a nova.conf as a service of Nova does.

    :returns: what the checks of nova-gpu-status are made for, whatever runs
        here.
    :raises UsageError: Nova cannot read it.
    """
    import nova.conf
    from oslo_config import cfg

    from nova_gpu_filter import conf
    from nova_gpu_filter.status import node

    conf.register_opts(nova.conf.CONF)
    try:
        nova.conf.CONF(
            [],
            project="nova",
            default_config_files=[str(path)],
            default_config_dirs=[],
        )
    except cfg.Error as exc:
        raise UsageError(f"{path}: {exc}") from exc
    return node.Node(nova.conf.CONF, frozenset(node.Role))


def read_aliases(path):
    """Let Nova read its aliases.

    :returns: {name: [nova_gpu_filter.nova_rules.alias.Alias, ...]}.
    :raises UsageError: Nova refuses them.
    """
    from nova_gpu_filter.status import pci

    try:
        return pci.read_aliases(load(path))
    except pci.UnreadableError as exc:
        raise UsageError(f"{path}: {exc}") from exc


def read_device_specs(path):
    """Let Nova read its device specs.

    :returns: [nova.pci.devspec.PciDeviceSpec, ...].
    :raises UsageError: Nova refuses one.
    """
    from nova_gpu_filter.status import pci

    try:
        return pci.read_device_specs(load(path))
    except pci.UnreadableError as exc:
        raise UsageError(f"{path}: {exc}") from exc


def check_scheduler(path):
    """Load filters, weighers and matcher the way nova-scheduler does.

    :raises UsageError: nova-scheduler would not start.
    """
    from nova_gpu_filter.status import results
    from nova_gpu_filter.status import scheduler_checks

    node = load(path)
    for check in (
        scheduler_checks.check_filter,
        scheduler_checks.check_weighers,
        scheduler_checks.check_matcher,
    ):
        found = check(node)
        if found.code is results.Code.FAILURE:
            raise UsageError(f"{path}: {found.details}")


def check_placement(path):
    """Look for the module that uWSGI is to load.

    It is not imported: that would start Placement.

    :raises UsageError: there is none.
    """
    ini = configparser.ConfigParser(interpolation=None, strict=False)
    ini.read(path)
    application = ini.get("uwsgi", "module", fallback="")
    module = application.partition(":")[0]
    try:
        found = importlib.util.find_spec(module) if module else None
    except ImportError:
        found = None
    if found is None:
        raise UsageError(f"{path}: uWSGI cannot load {application!r}")
    return application


def do_versions(args):
    """Check that what DevStack has installed is what our extras ask for.

    Otherwise pip would install a release of Nova or Placement over it.
    """
    from importlib import metadata

    from packaging.requirements import Requirement

    setup = configparser.ConfigParser(interpolation=None)
    setup.read(args.setup)
    asked = {
        line.partition("#")[0]
        for extra in args.extras
        for line in setup["extras"][extra].split("\n")
        if line.strip()
    }
    for requirement in map(Requirement, sorted(asked)):
        if requirement.name not in STACKED:
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            raise UsageError(f"{requirement.name} is not installed") from None
        if not requirement.specifier.contains(version, prereleases=True):
            raise UsageError(
                f"{requirement.name} has the version {version}, and"
                f" {requirement} is needed; a shallow clone (GIT_DEPTH) has"
                " no version: fetch its tags"
            )


def do_lines(args):
    """Print the JSON objects of a variable, one a line."""
    for line in compact_lines(args.variable, args.text):
        print(line)


def do_check(args):
    """Say what Nova reads, or why it cannot."""
    aliases = read_aliases(args.conf)
    specs = read_device_specs(args.conf)
    print(
        f"{args.conf}: {len(aliases)} PCI aliases "
        f"({', '.join(sorted(aliases)) or 'none'}), {len(specs)} device specs"
    )
    if args.scheduler:
        check_scheduler(args.conf)
        print(f"{args.conf}: filters, weighers and pool matcher are there")
    if args.placement:
        application = check_placement(args.placement)
        print(f"{args.placement}: {application}")


def do_resources(args):
    """Print what flavors can ask for, and the names that Placement needs.

    That is each alias that can stand in the name of a flavor, and the resource
    classes and traits of all aliases. Placement knows the standard ones.
    """
    found = set()
    for name, specs in read_aliases(args.conf).items():
        if re.fullmatch(r"[A-Za-z0-9._-]+", name):
            found.add(("alias", name))
        for spec in specs:
            found.add(("resource-class", spec.resource_class))
            found.update(("trait", trait) for trait in spec.traits)
    for kind, name in sorted(found):
        if kind == "alias" or name.startswith("CUSTOM_"):
            print(kind, name)


def do_devices(args):
    """Print the addresses of the GPUs that a device spec takes."""
    specs = read_device_specs(args.conf)
    devices = pathlib.Path(args.sysfs, "bus/pci/devices")
    for device in sorted(devices.iterdir()):
        facts = {
            name: (device / name).read_text().strip().removeprefix("0x")
            for name in ("class", "vendor", "device")
        }
        if facts["class"][:4] not in GPU_CLASSES:
            continue
        seen = {
            "address": device.name,
            "vendor_id": facts["vendor"],
            "product_id": facts["device"],
        }
        parent = device / "physfn"
        if parent.exists():
            seen["parent_addr"] = parent.resolve().name
        if any(spec.match(seen) for spec in specs):
            print(device.name)


def main():
    """Run one subcommand; its exit status is 1 for what cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(name, function):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(function=function)
        return command

    versions = add("versions", do_versions)
    versions.add_argument("setup", help="our setup.cfg")
    versions.add_argument("extras", nargs="+")
    lines = add("lines", do_lines)
    lines.add_argument("variable")
    lines.add_argument("text")
    check = add("check", do_check)
    check.add_argument("--scheduler", action="store_true")
    check.add_argument("--placement", metavar="UWSGI_INI")
    check.add_argument("conf")
    add("resources", do_resources).add_argument("conf")
    devices = add("devices", do_devices)
    devices.add_argument("--sysfs", default="/sys")
    devices.add_argument("conf")
    args = parser.parse_args()
    try:
        args.function(args)
    except UsageError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
