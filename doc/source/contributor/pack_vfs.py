# SPDX-License-Identifier: Apache-2.0

"""An example of a pool matcher in another package."""

from nova_gpu_filter.pools.matchers import nova


class PackVFsMatcher(nova.NovaPoolMatcher):
    """Prefers the VFs of physical GPUs that have the fewest VFs free."""

    def match(self, host, requests, mappings):
        """Accept what nova accepts; put the fullest GPUs first."""
        match = super().match(host, requests, mappings)
        free = {
            pool["rp_uuid"]: pool["count"]
            for pool in host.pools
            if "rp_uuid" in pool
        }

        def free_beside(index):
            used = {
                rp_uuid
                for rp_uuids in (mappings[index] or {}).values()
                for rp_uuid in rp_uuids
            }
            return sum(free.get(rp_uuid, 0) for rp_uuid in used)

        return match._replace(accepted=sorted(match.accepted, key=free_beside))
