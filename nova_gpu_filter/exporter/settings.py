# SPDX-License-Identifier: Apache-2.0

"""What is read once at start: aliases and request sizes, of a nova.conf."""

from collections.abc import Sequence
import logging
import os

from oslo_config import cfg

from nova_gpu_filter import conf as gpu_conf
from nova_gpu_filter import exception
from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.topology import fragmentation

LOG = logging.getLogger(__name__)

DEFAULT_NOVA_CONF = known_aliases.DEFAULT_PATH


def read_scope(
    paths: Sequence[str],
    alias_texts: Sequence[str],
    resource_classes: Sequence[str],
) -> cloud_reader.Scope:
    """Read what of the cloud is of interest.

    :param paths: files and directories; without any the usual nova.conf is
        read, where there is one.
    :param alias_texts: values of ``[pci]alias``, beside those of the files.
    :raises GpuFilterError: a file cannot be read; an alias, a resource class
        or the mix of requests makes no sense.
    """
    if not paths and os.access(DEFAULT_NOVA_CONF, os.R_OK):
        paths = [DEFAULT_NOVA_CONF]
    known = known_aliases.parse(alias_texts, "--alias")
    if paths:
        options = pci_options.read(*paths)
        known = known_aliases.parse(options.aliases, options.source) | known
    if not known:
        LOG.warning(
            "No [pci]alias is known, so there is no capacity by flavor: give"
            " the nova.conf of a controller with --nova-conf, or --alias"
        )
    return cloud_reader.Scope(
        known, frozenset(map(_check_class, resource_classes)), _read_mix(paths)
    )


def _check_class(name: str) -> str:
    try:
        return names.check_resource_class(name)
    except ValueError as exc:
        raise exception.BadInput(
            source=f"--resource-class {name}", reason=exc
        ) from None


def _read_mix(paths: Sequence[str]) -> fragmentation.Mix:
    conf = cfg.ConfigOpts()
    gpu_conf.register_opts(conf)
    with conf_files.read_into(conf, paths):
        mix: fragmentation.Mix = gpu_conf.request_mix(conf)
    return mix
