# SPDX-License-Identifier: Apache-2.0

"""Reads and writes what Nova is told of a host's devices."""
