#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goes through stack.sh, unstack.sh or clean.sh as far as the plugin sees
# them, in a sandbox: with DevStack's own function files where DEVSTACK_DIR
# names a checkout, with stand_in.sh otherwise.
#
# drive.sh SANDBOX fetch|stack|unstack|clean|call [COMMAND]

# The variables are DevStack's, as are the files that it finds at run time:
# shellcheck disable=SC1090,SC1091,SC2034

SANDBOX=$1
ACTION=$2
COMMAND=${3:-:}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# What stackrc would have set
# ---------------------------

TOP_DIR=$SANDBOX/devstack
FILES=$TOP_DIR/files
DEST=$SANDBOX/dest
DATA_DIR=$DEST/data
STACK_USER=$(id -un)
REQUIREMENTS_DIR=$DEST/requirements
DEVSTACK_VENV=$SANDBOX/venv
GLOBAL_VENV=True
PYTHON=python3
PYTHON3_VERSION=3
DEVSTACK_PARALLEL=True
ENABLED_SERVICES=key,n-api,n-cpu,n-cond,n-sch,placement-api,rabbit,mysql
VIRT_DRIVER=libvirt
LIBVIRT_TYPE=kvm
CELLSV2_SETUP=superconductor
NUMBER_FAKE_NOVA_COMPUTE=1
HOSTNAME=gpu1
SERVICE_HOST=127.0.0.1
SERVICE_LOCAL_HOST=127.0.0.1
HOST_IP=127.0.0.1
SERVICE_IP_VERSION=4
SERVICE_PROTOCOL=http
API_WORKERS=1
os_PACKAGE=deb
os_VENDOR=Debian
os_RELEASE=12
DISTRO=bookworm
SYSLOG=False
INSTANCE_NAME_PREFIX=instance-
NOVA_ENABLED_APIS=osapi_compute
NOVNC_BRANCH=v1.3.0
PATH=$SANDBOX/bin:/usr/bin:/bin
export PATH SANDBOX

if [[ $ACTION == stack && -n ${NOUNSET:-} ]]; then
    set -o nounset
fi

if [[ -n ${DEVSTACK_DIR:-} ]]; then
    for name in functions functions-common inc lib; do
        ln -sfn "$DEVSTACK_DIR/$name" "$TOP_DIR/$name"
    done
    source "$TOP_DIR/functions"
    source "$TOP_DIR/lib/apache"
else
    source "$HERE/stand_in.sh"
fi

# What has no place in a sandbox
# ------------------------------

function log {
    echo "$*" >> "$SANDBOX/calls"
}

# Of what needs root, a few commands are run, and only inside of the sandbox.
function sudo {
    local word
    local command=$1
    for word in "$@"; do
        if [[ $word == /* && $word != "$SANDBOX"/* ]]; then
            command=outside-$1
        fi
    done
    case $command in
        outside-find)
            # Of /proc: who has a device of vfio open.
            cat "$SANDBOX/guest" 2>/dev/null || true
            ;;
        outside-tee)
            log "sudo $*"
            cat > /dev/null
            ;;
        tee)
            if [[ ${!#} == */bus/pci/* ]]; then
                "$SANDBOX/bin/kernel" "${!#}"
            else
                "$@"
            fi
            ;;
        mkdir|touch|grep|rm|sed)
            "$@"
            ;;
        *)
            log "sudo $*"
            ;;
    esac
}

# configure_neutron_nova calls this in the background: the worst "sed -i"
# there can be, which reads at once and writes when somebody waits for it.
function slow_edit {
    local text
    if [[ $3 == neutron ]]; then
        text=$(cat "$1")
        touch "$SANDBOX/has-read"
        until_there "$SANDBOX/may-write"
        echo "$text" > "$1"
    fi
    iniset "$1" "$3" auth_type password
}

function until_there {
    until [[ -e $1 ]]; do
        sleep 0.02
    done
}

# Called again after lib/*, which define some of these.
function cut_off {
    local name
    for name in configure_keystone_authtoken_middleware configure_libvirt \
        configure_os_vif disable_apache_site enable_apache_site \
        get_notification_url iniset_rpc_backend \
        neutron_plugin_create_nova_conf restart_apache_server \
        rpc_backend_add_vhost setup_logging; do
        eval "function $name { :; }"
    done
    for name in pip_install pip_uninstall run_process stop_process; do
        eval "function $name { log $name \"\$@\"; }"
    done
    eval 'function configure_keystoneauth { slow_edit "$@"; }'
    eval 'function database_connection_url { echo sqlite://; }'
    eval 'function echo_summary { echo "summary: $*"; }'
}

# Sourced anew by each script; the paths are the only thing that is changed.
function load_libs {
    if [[ -n ${DEVSTACK_DIR:-} ]]; then
        source "$TOP_DIR/lib/nova"
        source "$TOP_DIR/lib/placement"
        source "$TOP_DIR/lib/neutron"
    else
        stand_in_libs
    fi
    cut_off
    NOVA_CONF_DIR=$SANDBOX/etc/nova
    NOVA_CONF=$NOVA_CONF_DIR/nova.conf
    NOVA_COND_CONF=$NOVA_CONF
    NOVA_CPU_CONF=$NOVA_CONF_DIR/nova-cpu.conf
    NOVA_FAKE_CONF=$NOVA_CONF_DIR/nova-fake.conf
    NOVA_UWSGI_CONF=$NOVA_CONF_DIR/nova-api-uwsgi.ini
    NOVA_METADATA_UWSGI_CONF=$NOVA_CONF_DIR/nova-metadata-uwsgi.ini
    NOVA_NUM_CELLS=${NOVA_NUM_CELLS:-1}
    PLACEMENT_CONF_DIR=$SANDBOX/etc/placement
    PLACEMENT_CONF=$PLACEMENT_CONF_DIR/placement.conf
    PLACEMENT_UWSGI_CONF=$PLACEMENT_CONF_DIR/placement-uwsgi.ini
}

function load_settings {
    run_phase override_defaults
    load_libs
    run_phase source
}

function stack {
    mkdir -p "$DEST/async" "$SANDBOX/etc/nova" "$SANDBOX/etc/placement" \
        "$DEST/nova/nova/virt"
    load_settings
    run_phase stack pre-install
    create_nova_conf
    if is_service_enabled n-cpu; then
        configure_nova_hypervisor
    fi
    if is_service_enabled placement-api; then
        configure_placement
    fi
    run_phase stack install
    rm -f "$SANDBOX/has-read" "$SANDBOX/may-write"
    async_runfunc configure_neutron_nova
    until_there "$SANDBOX/has-read"
    run_phase stack post-config
    merge_config_group "$TOP_DIR/local.conf" post-config
    async_wait configure_neutron_nova
    if is_service_enabled n-cpu; then
        start_nova_compute
    fi
    merge_config_group "$TOP_DIR/local.conf" extra
    run_phase stack extra
    run_phase stack test-config
    log stacked
}

eval "devstack_$(declare -f async_wait)"
function async_wait {
    touch "$SANDBOX/may-write"
    devstack_async_wait "$@"
}

cut_off
rm -f "$TOP_DIR/.localrc.auto"
extract_localrc_section "$TOP_DIR/local.conf" "$TOP_DIR/localrc" \
    "$TOP_DIR/.localrc.auto"
source "$TOP_DIR/.localrc.auto"

# stack.sh is run with both, unstack.sh and clean.sh with xtrace only.
exec 9> "$SANDBOX/xtrace"
BASH_XTRACEFD=9
set -o xtrace
case $ACTION in
    stack)
        trap 'echo "stack.sh failed: line $LINENO of ${BASH_SOURCE[0]}"' ERR
        set -o errexit
        stack
        ;;
    fetch)
        set -o errexit
        fetch_plugins
        ;;
    call)
        set -o errexit
        mkdir -p "$DEST/async"
        load_settings
        eval "$COMMAND"
        ;;
    unstack)
        load_settings
        run_phase unstack
        ;;
    clean)
        load_libs
        "$0" "$SANDBOX" unstack
        load_plugin_settings
        run_phase clean
        ;;
esac
