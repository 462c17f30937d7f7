#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots a server of each GPU flavor that the plugin has made, looks whether
# Placement has allocated as many devices as the flavor asks for, and deletes
# it again. For CI, and for a look whether a cloud works:
#
#     $ source ~/devstack/openrc admin admin
#     $ /opt/stack/nova-gpu-filter/devstack/tools/gpu-boot-check.sh [FLAVOR ...]
#
# GPU_BOOT_CHECK_IMAGE names the image; by default the first one is taken.
# GPU_BOOT_CHECK_TIMEOUT is how many seconds a server may take, by default 600.
# In the first GPU_BOOT_CHECK_SETTLE seconds, by default 60, a server that finds
# no host is tried again: a nova-compute that has just started tells Placement
# of its devices a moment later. With NOVA_GPU_PCI_IN_PLACEMENT=False nothing is
# asked of Placement.

set -o nounset

# What DevStack takes for False (trueorfalse in functions-common);
# local.sh hands the value on as localrc has it.
FALSE="^([Ff]alse|FALSE|[Nn]o|NO|0)$"

# Print how many devices a request such as "h100:4,cx7:4" asks for.
function devices_asked_for {
    local total=0
    local part
    for part in ${1//,/ }; do
        total=$((total + ${part##*:}))
    done
    echo "$total"
}

# Print how many devices a server has in Placement: whatever it has of a
# class that is not one of Nova's own; a device spec can name standard classes,
# such as SRIOV_NET_VF.
function devices_allocated {
    openstack resource provider allocation show "$1" -f json \
        | python3 -c '
import json, sys
held = [list(each["resources"].items()) for each in json.load(sys.stdin)]
novas = ("VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "MEM_ENCRYPTION_CONTEXT")
print(sum(n for name, n in sum(held, []) if name not in novas))'
}

# Print why a server does not run, as Nova's API says it, and which service's
# log has more: the scheduler's where it found no host, nova-compute's where
# one tried.
function fault_of {
    openstack server show "$1" -f json 2>/dev/null | python3 -c '
import json, sys
try:
    server = json.load(sys.stdin)
except ValueError:
    sys.exit("Nova does not show it any more")
fault = server.get("fault") or {}
message = fault.get("message") or "status " + str(server.get("status"))
host = server.get("OS-EXT-SRV-ATTR:host") or "the hosts that tried"
place = "nova-compute on " + host
if "No valid host" in message:
    place = "nova-scheduler"
print(f"{message} (more in the log of {place})")' 2>&1
}

# Wait until a server runs; fail if it does not.
function wait_for_server {
    local end status
    end=$((SECONDS + ${GPU_BOOT_CHECK_TIMEOUT:-600}))
    while true; do
        status=$(openstack server show "$1" -f value -c status)
        case $status in
            ACTIVE) return 0 ;;
            ERROR) return 1 ;;
        esac
        if ((SECONDS >= end)); then
            return 1
        fi
        sleep 2
    done
}

# The server that is there now, by its id: names are not unique.
SERVER=""

function delete_server {
    local server=$SERVER
    SERVER=""
    if [[ -n $server ]]; then
        openstack server delete --wait "$server"
    fi
}
trap delete_server EXIT
trap 'exit 130' INT TERM

# Boot a server of a flavor as SERVER; where it does not run, say why and fail.
function boot_server {
    local flavor=$1
    local fault
    while true; do
        SERVER=$(openstack server create --flavor "$flavor" --image "$IMAGE" \
            --nic none -f value -c id "gpu-boot-check-$flavor")
        if [[ -z $SERVER ]]; then
            fault="Nova has not created it, see above"
            break
        fi
        wait_for_server "$SERVER" && return 0
        fault=$(fault_of "$SERVER")
        if [[ $fault != *"No valid host"* ]] \
                || ((SECONDS >= ${GPU_BOOT_CHECK_SETTLE:-60})); then
            break
        fi
        delete_server || break
        sleep 5
    done
    echo "$flavor: no server: $fault" >&2
    return 1
}

function check_flavor {
    local flavor=$1
    local request allocated
    local result=1
    request=$(openstack flavor show "$flavor" -f json -c properties \
        | python3 -c '
import json, sys
try:
    specs = json.load(sys.stdin)["properties"]
except ValueError:
    sys.exit()
print(specs.get("pci_passthrough:alias", ""))')
    if [[ -z $request ]]; then
        echo "$flavor: no server: there is no such flavor, or it has no" \
            "property pci_passthrough:alias and so asks for no device" >&2
        return 1
    fi
    if ! boot_server "$flavor"; then
        result=1
    elif [[ ${NOVA_GPU_PCI_IN_PLACEMENT:-True} =~ $FALSE ]]; then
        echo "$flavor: booted with $request"
        result=0
    else
        allocated=$(devices_allocated "$SERVER")
        if [[ $allocated == "$(devices_asked_for "$request")" ]]; then
            echo "$flavor: booted with $request"
            result=0
        else
            echo "$flavor: booted with $request, but Placement has" \
                "allocated ${allocated:-an unknown number of} devices" >&2
        fi
    fi
    delete_server || result=1
    return "$result"
}

IMAGE=${GPU_BOOT_CHECK_IMAGE:-$(openstack image list -f value -c ID | head -1)}
FLAVORS=("$@")
if [[ ${#FLAVORS[@]} -eq 0 ]]; then
    mapfile -t FLAVORS < <(
        openstack flavor list --all -f value -c Name | grep '^gpu-' | sort)
fi
if [[ ${#FLAVORS[@]} -eq 0 ]]; then
    echo "There is no flavor gpu-*" >&2
    exit 1
fi
if [[ -z $IMAGE ]]; then
    echo "There is no image to boot; GPU_BOOT_CHECK_IMAGE can name one" >&2
    exit 1
fi
LEFT=$(openstack server list --name '^gpu-boot-check-' -f value -c ID)
if [[ -n $LEFT ]]; then
    echo "Servers of an earlier run are left, and may have GPUs:" \
        "${LEFT//$'\n'/ }" >&2
fi
FAILED=0
for FLAVOR in "${FLAVORS[@]}"; do
    check_flavor "$FLAVOR" || FAILED=1
done
exit "$FAILED"
