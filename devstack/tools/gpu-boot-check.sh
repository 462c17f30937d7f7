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

set -o nounset

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
# class that is not one of Nova's own.
function devices_allocated {
    local server
    server=$(openstack server show "$1" -f value -c id)
    openstack resource provider allocation show "$server" -f json \
        | python3 -c '
import json, sys
held = [list(each["resources"].items()) for each in json.load(sys.stdin)]
gpus = [n for name, n in sum(held, []) if name[:7] in ("CUSTOM_", "PGPU")]
print(sum(gpus))'
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
    sys.exit("Nova has not created it, see above")
fault = server.get("fault") or {}
message = fault.get("message") or "status " + str(server.get("status"))
host = server.get("OS-EXT-SRV-ATTR:host") or "the hosts that tried"
place = "nova-compute on " + host
if "No valid host" in message:
    place = "nova-scheduler"
print(f"{message} (more in the log of {place})")' 2>&1
}

function check_flavor {
    local flavor=$1
    local server=gpu-boot-check-$flavor
    local request allocated
    local result=1
    request=$(openstack flavor show "$flavor" -f json -c properties \
        | python3 -c '
import json, sys
print(json.load(sys.stdin)["properties"]["pci_passthrough:alias"])')
    if openstack server create --flavor "$flavor" --image "$IMAGE" \
        --nic none --wait "$server" > /dev/null; then
        allocated=$(devices_allocated "$server")
        if [[ $allocated == "$(devices_asked_for "$request")" ]]; then
            echo "$flavor: booted with $request"
            result=0
        else
            echo "$flavor: booted with $request, but Placement has" \
                "allocated ${allocated:-an unknown number of} devices" >&2
        fi
    else
        echo "$flavor: no server: $(fault_of "$server")" >&2
    fi
    if openstack server show "$server" > /dev/null 2>&1; then
        openstack server delete --wait "$server" || result=1
    fi
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
FAILED=0
for FLAVOR in "${FLAVORS[@]}"; do
    check_flavor "$FLAVOR" || FAILED=1
done
exit "$FAILED"
