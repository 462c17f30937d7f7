# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu``: they ask, and show what ``fleet`` says."""
