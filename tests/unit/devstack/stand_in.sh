#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A stand-in for the parts of DevStack that the plugin meets, written from
# what they are documented and seen to do, oddities included. Used when
# DEVSTACK_DIR names no checkout; test_devstack_functions.py holds it against
# a real one.

# The variables are DevStack's, and so is what it leaves unquoted:
# shellcheck disable=SC1090,SC2001,SC2016,SC2034,SC2048,SC2086,SC2162,SC2206

declare -A GITDIR GITREPO GITBRANCH

# Messages and values
# -------------------

function echo_summary {
    echo "summary: $*"
}

function die {
    local line=$1
    shift
    echo "[ERROR] ${BASH_SOURCE[1]}:$line $*" >&2
    exit 1
}

function warn {
    echo "[WARNING] ${BASH_SOURCE[1]}:$1 $2"
}

# What is neither true nor false is the default.
function trueorfalse {
    case ${!2:-} in
        1|[yY]es|YES|[tT]rue|TRUE) echo True ;;
        0|[nN]o|NO|[fF]alse|FALSE) echo False ;;
        *) echo "$1" ;;
    esac
}

# Services
# --------

# Any of the names will do; "nova" stands for every n- service.
function is_service_enabled {
    local service
    for service in "$@"; do
        if [[ ,$ENABLED_SERVICES, == *,$service,* ]]; then
            return 0
        elif [[ $service == nova && ,$ENABLED_SERVICES == *,n-* ]]; then
            return 0
        fi
    done
    return 1
}

# A service that is enabled already is not named twice.
function enable_service {
    local service
    for service in "$@"; do
        if ! is_service_enabled "$service"; then
            ENABLED_SERVICES+=,$service
        fi
    done
}

function disable_service {
    local service
    for service in "$@"; do
        ENABLED_SERVICES=,$ENABLED_SERVICES,
        ENABLED_SERVICES=${ENABLED_SERVICES//,$service,/,}
        ENABLED_SERVICES=${ENABLED_SERVICES#,}
        ENABLED_SERVICES=${ENABLED_SERVICES%,}
    done
}

# Ini files
# ---------

# Values are split at blanks and expanded as file names, so an unquoted $* is
# meant wherever it stands below.
function _section {
    grep -qs "^\[$2\]" "$1"
}

function _add_section {
    if ! _section "$1" "$2"; then
        printf '\n[%s]\n' "$2" >> "$1"
    fi
}

function inidelete {
    if [[ $1 == -sudo ]]; then
        shift
    fi
    sed -i "/^\[$2\]/,/^\[/ { /^$3[ \t]*=/d }" "$1"
}

function _iniget_lines {
    sed -n "/^\[$2\]/,/^\[/ s/^$3[ \t]*=[ \t]*//p" "$1"
}

function iniget {
    local values
    values=$(_iniget_lines "$1" "$2" "$3")
    echo $values
}

function iniget_multiline {
    iniget "$@"
}

function ini_has_option {
    [[ -n $(sed -n "/^\[$2\]/,/^\[/ { /^$3[ \t]*=/p }" "$1") ]]
}

# Right below the heading, and nowhere when there is none.
function iniadd_literal {
    if [[ $1 == -sudo ]]; then
        shift
    fi
    sed -i "/^\[$2\]/a\\
$3 = $4
" "$1"
}

# Every line that the option has gets the value.
function iniset {
    local value
    local mark=$'\x01'
    if [[ $1 == -sudo ]]; then
        shift
    fi
    value=$(echo ${4:-} | sed 's/[\\&]/\\&/g')
    _add_section "$1" "$2"
    if ini_has_option "$1" "$2" "$3"; then
        value="s$mark^\($3[ \t]*=[ \t]*\).*$mark\1$value$mark"
        sed -i "/^\[$2\]/,/^\[/ $value" "$1"
    else
        sed -i "/^\[$2\]/a\\
$3 = $value
" "$1"
    fi
}

function iniset_multiline {
    local file=$1 section=$2 option=$3
    local value
    local -a reversed=()
    shift 3
    for value in $*; do
        reversed=($value ${reversed[*]})
    done
    _add_section "$file" "$section"
    inidelete "$file" "$section" "$option"
    for value in ${reversed[*]}; do
        sed -i "/^\[$section\]/a\\
$option = $value
" "$file"
    done
}

function iniadd {
    local file=$1 section=$2 option=$3
    local values
    shift 3
    values=$(iniget_multiline "$file" "$section" "$option")
    iniset_multiline "$file" "$section" "$option" $values $*
}

# local.conf
# ----------

function get_meta_section_files {
    sed -n "s/^\[\[$2|\(.*\)\]\].*/\1/p" "$1"
}

function get_meta_section {
    awk -v heading="[[$2|$3]]" '
        /^\[\[.+\|.*\]\]/ { here = ($1 == heading); next }
        here
    ' "$1"
}

# Each setting becomes a command that is read without -r and then evaluated:
# that is how quotes get lost. What stands there twice is set line by line.
function merge_config_file {
    get_meta_section "$1" "$2" "$3" | awk -v file="$3" '
        /^\[.+\]/ { gsub(/[][]/, "", $1); section = $1; next }
        /^ *#/ { next }
        /^[^ \t]+/ {
            at = index($0, "=")
            name = substr($0, 1, at - 1)
            value = substr($0, at + 1)
            gsub(/^[ \t]+|[ \t]+$/, "", name)
            gsub(/^[ \t]+|[ \t]+$/, "", value)
            key = section " " name
            if (!(key in count))
                order[++keys] = key
            text[key, ++count[key]] = "\"" value "\""
        }
        END {
            for (k = keys; k; k--) {
                key = order[k]
                last = count[key]
                if (last > 1)
                    print "inidelete", file, key
                print "iniset", file, key, text[key, last]
                for (i = last - 1; i; i--)
                    print "iniadd_literal", file, key, text[key, i]
            }
        }
    ' | while read command; do
        eval "$command"
    done
}

function merge_config_group {
    local part
    for part in $(get_meta_section_files "$1" "$2"); do
        merge_config_file "$1" "$2" "$part"
    done
}

function extract_localrc_section {
    get_meta_section "$1" local localrc > "$3"
}

# Plugins
# -------

function enable_plugin {
    DEVSTACK_PLUGINS+=",$1"
    GITREPO[$1]=$2
    GITDIR[$1]=$DEST/$1
    GITBRANCH[$1]=${3:-master}
}

function define_plugin {
    :
}

# A directory that is there is never fetched into, be it empty.
function fetch_plugins {
    local plugin
    for plugin in ${DEVSTACK_PLUGINS//,/ }; do
        if [[ ! -d ${GITDIR[$plugin]} ]]; then
            git clone -q --no-checkout "${GITREPO[$plugin]}" \
                "${GITDIR[$plugin]}" || die $LINENO "git clone failed"
            git -C "${GITDIR[$plugin]}" fetch -q origin \
                "${GITBRANCH[$plugin]}" || die $LINENO "git fetch failed"
            git -C "${GITDIR[$plugin]}" checkout -q FETCH_HEAD
        fi
    done
}

function _each_plugin {
    local plugin file=$1
    shift
    for plugin in ${DEVSTACK_PLUGINS//,/ }; do
        if [[ -f ${GITDIR[$plugin]}/devstack/$file ]]; then
            source "${GITDIR[$plugin]}/devstack/$file" "$@"
        fi
    done
}

function load_plugin_settings {
    _each_plugin settings
}

function run_phase {
    case $1 in
        override_defaults) _each_plugin override-defaults ;;
        source) load_plugin_settings ;;
        *) _each_plugin plugin.sh "$@" ;;
    esac
}

# Python packages
# ---------------

# The name is what stands third in the line of setup.cfg that begins with it.
function setup_develop {
    local name
    name=$(awk '/^name.*=/ {print $3}' "$1/setup.cfg")
    if [[ -z $name ]]; then
        die $LINENO "no name in $1/setup.cfg"
    fi
    "$REQUIREMENTS_DIR/.venv/bin/edit-constraints" \
        "$REQUIREMENTS_DIR/upper-constraints.txt" -- $name
    pip_install -e "$1${2:+[$2]}"
}

# Things in the background
# ------------------------

declare -A _ASYNC

function async_runfunc {
    "$@" > "$DEST/async-$1.log" 2>&1 &
    _ASYNC[$1]=$!
}

function async_wait {
    local name
    for name in "$@"; do
        if [[ -n ${_ASYNC[$name]:-} ]]; then
            wait "${_ASYNC[$name]}"
            unset "_ASYNC[$name]"
        else
            echo "Not waiting for $name, which is over or was never started"
        fi
    done
}

# lib/nova and lib/placement
# --------------------------

# What they assign when they are sourced, whatever was there before.
function stand_in_libs {
    NOVA_DIR=$DEST/nova
    NOVA_BIN_DIR=$DEVSTACK_VENV/bin
    NOVA_FILTERS=ComputeFilter,ComputeCapabilitiesFilter
    NOVA_FILTERS+=,ImagePropertiesFilter,SameHostFilter,DifferentHostFilter
    PLACEMENT_UWSGI=placement.wsgi.api:application
}

function conductor_conf {
    echo "$NOVA_CONF_DIR/nova_cell$1.conf"
}

function create_nova_conf {
    local cell
    rm -f "$NOVA_CONF"
    iniset "$NOVA_CONF" DEFAULT debug True
    iniset "$NOVA_CONF" filter_scheduler enabled_filters "$NOVA_FILTERS"
    if is_service_enabled n-api n-cond n-sch; then
        iniset "$NOVA_CONF" filter_scheduler track_instance_changes False
        iniset "$NOVA_CONF" database connection sqlite://
    fi
    if is_service_enabled n-cond; then
        for cell in $(seq 1 "$NOVA_NUM_CELLS"); do
            rm -f "$(conductor_conf "$cell")"
            iniset "$(conductor_conf "$cell")" conductor workers 1
        done
    fi
}

function configure_nova_hypervisor {
    if [[ $VIRT_DRIVER == fake ]]; then
        iniset "$NOVA_CONF" DEFAULT compute_driver \
            fake.FakeDriverWithoutFakeNodes
    else
        iniset "$NOVA_CONF" DEFAULT compute_driver libvirt.LibvirtDriver
    fi
}

function configure_neutron_nova {
    configure_keystoneauth "$NOVA_CONF" nova neutron
}

function start_nova_compute {
    cp "$NOVA_CONF" "$NOVA_CPU_CONF"
    merge_config_file "$TOP_DIR/local.conf" post-config '$NOVA_CPU_CONF'
    iniset "$NOVA_CPU_CONF" workarounds disable_group_policy_check_upcall True
    inidelete "$NOVA_CPU_CONF" database connection
    run_process n-cpu "nova-compute --config-file $NOVA_CPU_CONF"
}

function configure_placement {
    rm -f "$PLACEMENT_UWSGI_CONF"
    iniset "$PLACEMENT_UWSGI_CONF" uwsgi module "$PLACEMENT_UWSGI"
    iniset "$PLACEMENT_UWSGI_CONF" uwsgi processes 1
    iniset "$PLACEMENT_UWSGI_CONF" uwsgi add-header "Connection: close"
}
