# SPDX-License-Identifier: Apache-2.0

"""What OpenStackClient loads: see the docs of osc-lib, "Plugins"."""

import argparse
from typing import Any

from nova_gpu_filter.fleet import connection

API_NAME = "gpu"
API_VERSION_OPTION = "os_gpu_api_version"
API_VERSIONS = {"1": "nova_gpu_filter.fleet.connection.Services"}
DEFAULT_API_VERSION = "1"


def make_client(instance: Any) -> connection.Services:
    """Return what commands find as ``client_manager.gpu``."""
    return connection.Services(
        instance.sdk_connection, lambda: getattr(instance, "auth_ref", None)
    )


def build_option_parser(
    parser: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """Add global options: none.

    Other plugins have a version of their API to choose; there is none here.
    """
    return parser
