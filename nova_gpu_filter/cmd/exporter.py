# SPDX-License-Identifier: Apache-2.0

"""The command ``nova-gpu-exporter``."""

import argparse
from collections.abc import Sequence
from importlib import metadata
import logging
import sys

from keystoneauth1 import exceptions as ks_exc

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.cmd import arguments
from nova_gpu_filter.exporter import settings

DEFAULT_PORT = 9877


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = arguments.Parser(
        prog="nova-gpu-exporter",
        description="Serve metrics of the GPUs of a cloud to Prometheus, from"
        " Placement, Nova and Keystone.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=metadata.version("nova-gpu-filter"),
    )
    parser.add_argument(
        "--debug", action="store_true", help="log each request, too"
    )
    cloud = parser.add_argument_group("which cloud")
    cloud.add_argument(
        "--os-cloud",
        metavar="NAME",
        help="a cloud of clouds.yaml; without it, OS_CLOUD or the other OS_*"
        " variables of the environment",
    )
    cloud.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=arguments.read_seconds,
        default=30.0,
        help="how long to wait for an answer (default: %(default)s)",
    )
    what = parser.add_argument_group("what to export")
    what.add_argument(
        "--nova-conf",
        metavar="FILE",
        action="append",
        default=[],
        help="the nova.conf of a controller, for [pci]alias and"
        " [gpu_filter]request_mix; a directory stands for its .conf files;"
        " can be repeated (default:"
        f" {settings.DEFAULT_NOVA_CONF}, if it can be read)",
    )
    what.add_argument(
        "--alias",
        metavar="JSON",
        action="append",
        default=[],
        help="a [pci]alias as it stands in nova.conf, for the capacity of"
        " flavors that ask for it; can be repeated",
    )
    what.add_argument(
        "--resource-class",
        metavar="NAME",
        action="append",
        default=[],
        help="only devices of this resource class; can be repeated",
    )
    what.add_argument(
        "--projects-at-once",
        metavar="N",
        type=arguments.make_whole(0),
        default=200,
        help="ask Placement what N projects use with each reading, in turn; 0"
        " for no usage by project (default: %(default)s)",
    )
    what.add_argument(
        "--owner-requests",
        metavar="N",
        type=arguments.make_whole(0),
        default=200,
        help="ask Placement at most N times with each reading who has devices,"
        " until it is known of all, and then of those that changed hands; 0"
        " for no usage by project and host (default: %(default)s)",
    )
    how = parser.add_argument_group("how to serve it")
    how.add_argument(
        "--address",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="listen here only; 0.0.0.0 or :: for all (default: %(default)s)",
    )
    how.add_argument(
        "--port",
        metavar="N",
        type=arguments.make_whole(0, 65535),
        default=DEFAULT_PORT,
        help="(default: %(default)s)",
    )
    how.add_argument(
        "--certificate",
        metavar="FILE",
        help="PEM file: serve HTTPS with it and --key",
    )
    how.add_argument("--key", metavar="FILE", help="PEM file")
    how.add_argument(
        "--interval",
        metavar="SECONDS",
        type=arguments.read_seconds,
        default=30.0,
        help="ask the services at most this often; scrapes in between get"
        " the last answer (default: %(default)s)",
    )
    how.add_argument(
        "--once",
        action="store_true",
        help="print the metrics and exit: 0, or 1 if a service gave no answer",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-exporter``.

    :returns: 0 when it was stopped, 3 where it cannot start; with ``--once``
        1 if a service gave no answer.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.certificate) != bool(args.key):
        parser.error("--certificate and --key belong together")
    logging.basicConfig(
        level=logging.DEBUG if args.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=printable.Stream(sys.stderr),
    )
    if not args.debug:
        # It warns at each attempt of what we tell once.
        logging.getLogger("keystoneauth").setLevel(logging.ERROR)
    try:
        # These libraries are an optional part of the package.
        from openstack import exceptions as sdk_exc

        from nova_gpu_filter.exporter import app
    except ImportError as exc:
        return report_failed_start(
            f"{exc}: pip install 'nova-gpu-filter[exporter]'"
        )
    try:
        return app.run(args)
    except ks_exc.MissingRequiredOptions as exc:
        missing = ", ".join(option.dest for option in exc.options)
        return report_failed_start(
            f"no credentials ({missing} is missing): name a cloud of"
            " clouds.yaml with --os-cloud or OS_CLOUD, or set the OS_*"
            " variables of an openrc file"
        )
    except (
        exception.GpuFilterError,
        ks_exc.ClientException,
        sdk_exc.SDKException,
    ) as exc:
        return report_failed_start(exc)
    except OSError as exc:
        return report_failed_start(f"{args.address} port {args.port}: {exc}")


def report_failed_start(why: object) -> int:
    """Say in one line why it does not start, and return the exit status."""
    text = printable.join_lines(str(why))
    sys.stderr.write(f"nova-gpu-exporter: {text}\n")
    return arguments.EXIT_BAD_INPUT
