# SPDX-License-Identifier: Apache-2.0

"""Whether the devices of a host can be given to servers, one kind a module."""
