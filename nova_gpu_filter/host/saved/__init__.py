# SPDX-License-Identifier: Apache-2.0

"""What is kept of a host, to be examined on another: inventory and capture."""
