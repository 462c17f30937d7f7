#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots a server of each GPU flavor at the end of stack.sh, and stops it where
# that fails or where DevStack has gone on without the plugin. Copy it to the
# root of DevStack, beside stack.sh, as local.sh; it has to be executable.

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
"$CHECK"
