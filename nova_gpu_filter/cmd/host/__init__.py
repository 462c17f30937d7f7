# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host``, run on compute nodes; one module a command."""
