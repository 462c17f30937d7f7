# SPDX-License-Identifier: Apache-2.0

"""``python -m nova_gpu_filter.cmd.host``, where the script is not in PATH."""

import sys

from nova_gpu_filter.cmd.host import app

if __name__ == "__main__":
    sys.exit(app.main())
