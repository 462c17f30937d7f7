# SPDX-License-Identifier: Apache-2.0

"""Connect to a cloud, and serve its metrics."""

import argparse
import logging
import signal
import sys
import threading

import openstack
import prometheus_client

from nova_gpu_filter import printable
from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.exporter import collector
from nova_gpu_filter.exporter import projects
from nova_gpu_filter.exporter import settings
from nova_gpu_filter.fleet import connection

LOG = logging.getLogger(__name__)

EXIT_INCOMPLETE = 1
"""With --once: a service gave no answer."""


def run(args: argparse.Namespace) -> int:
    """Serve the metrics until a signal comes, or print them once.

    :returns: 0, or 1 with ``--once`` if a service gave no answer.
    :raises GpuFilterError: a file or an alias cannot be used.
    :raises SDKException: the cloud is not known.
    :raises OSError: the port cannot be had.
    """
    interval_s = float("inf") if args.once else args.interval
    ours = collector.Collector(_make_reader(args).read, interval_s)
    registry = prometheus_client.CollectorRegistry()
    registry.register(ours)
    if args.once:
        _print_once(registry)
        return EXIT_INCOMPLETE if ours.has_failed else 0
    _serve(args, registry)
    return 0


def _make_reader(args: argparse.Namespace) -> cloud_reader.Reader:
    """Connect to the cloud; nothing is asked yet."""
    scope = settings.read_scope(
        args.nova_conf, args.alias, args.resource_class
    )
    cloud = openstack.connect(
        cloud=args.os_cloud,
        api_timeout=args.timeout,
        app_name="nova-gpu-exporter",
    )
    services = connection.Services(cloud)
    usage = None
    if args.projects_at_once > 0:
        usage = projects.UsageReader(
            services.identity, services.placement, args.projects_at_once
        )
    return cloud_reader.Reader(services, scope, usage, args.owner_requests)


def _print_once(registry: prometheus_client.CollectorRegistry) -> None:
    text = prometheus_client.generate_latest(registry).decode()
    # A file or a pipe gets the labels as they are, which Prometheus reads.
    stdout = (
        printable.Stream(sys.stdout) if sys.stdout.isatty() else sys.stdout
    )
    stdout.write(text)


def _serve(
    args: argparse.Namespace, registry: prometheus_client.CollectorRegistry
) -> None:
    server, thread = prometheus_client.start_http_server(
        args.port,
        args.address,
        registry,
        certfile=args.certificate,
        keyfile=args.key,
    )
    LOG.info("Listening on %s port %d", args.address, server.server_port)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.shutdown()
    server.server_close()
    thread.join()
