# SPDX-License-Identifier: Apache-2.0

"""The Placement API with the extension, for WSGI servers.

Use ``nova_gpu_filter.placement.wsgi:application`` where a WSGI server has
``placement.wsgi.api:application``. As there, importing this module reads
placement.conf and fails if that makes no sense.
"""

import os

from oslo_config import cfg
from placement import conf as placement_conf
from placement import wsgi

from nova_gpu_filter.placement import extension


def _read_conf() -> cfg.ConfigOpts:
    """Read the configuration that placement.wsgi reads and keeps to itself."""
    conf = cfg.ConfigOpts()
    placement_conf.register_opts(conf)
    directory = os.environ.get("OS_PLACEMENT_CONFIG_DIR", "").strip()
    files = [os.path.join(directory, "placement.conf")] if directory else None
    conf([], project="placement", default_config_files=files)
    return conf


application = extension.wrap(wsgi.init_application(), _read_conf())
