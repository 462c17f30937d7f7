# SPDX-License-Identifier: Apache-2.0

"""A control plane of real services, one process each, on 127.0.0.1."""
