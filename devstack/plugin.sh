#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The DevStack plugin of nova-gpu-filter: says what is done when. stack.sh,
# unstack.sh and clean.sh source this file in their own shell, stack.sh with
# errexit, so nothing here may end with a test that fails.

# shellcheck source=devstack/lib/nova-gpu-filter
source "$NOVA_GPU_FILTER_DIR/devstack/lib/nova-gpu-filter"

case "$1/${2:-}" in
    stack/pre-install)
        nova_gpu_check_settings
        ;;
    stack/install)
        echo_summary "Installing nova-gpu-filter"
        nova_gpu_install
        ;;
    stack/post-config)
        echo_summary "Configuring nova-gpu-filter"
        nova_gpu_configure
        ;;
    stack/extra)
        echo_summary "Creating GPU flavors"
        nova_gpu_create_resources
        nova_gpu_start_agent
        ;;
    stack/test-config)
        nova_gpu_check_services
        ;;
    unstack/)
        stop_process gpu-agent
        nova_gpu_undo
        ;;
    clean/)
        nova_gpu_undo
        nova_gpu_clean
        ;;
esac
