#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Stops stack.sh where DevStack has gone on without the plugin, and, on a node
# with nova-api and nova-compute, where a server of one of the GPU flavors does
# not boot. stack.sh runs it when all services are up. Copy it to the root of
# DevStack, beside stack.sh, as local.sh; it has to be executable.

TOP_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# DevStack's own file, which gives DEST and credentials:
# shellcheck disable=SC1091
source "$TOP_DIR/openrc" admin admin > /dev/null
PLUGIN=$DEST/nova-gpu-filter
CHECK=$PLUGIN/devstack/tools/gpu-boot-check.sh

if [[ ! -x $CHECK ]]; then
    echo "nova-gpu-filter was not stacked: $CHECK is not there. Where" \
        "$PLUGIN is empty, a run with another branch or URL has left it:" \
        "remove it, and name the branch in local.conf, enable_plugin" \
        "nova-gpu-filter URL main" >&2
    exit 1
fi
# Compute nodes join a controller later.
if is_service_enabled n-api && is_service_enabled n-cpu; then
    # Placement has no devices to compare with where it keeps no count.
    export NOVA_GPU_PCI_IN_PLACEMENT=${NOVA_GPU_PCI_IN_PLACEMENT:-True}
    "$CHECK"
fi
