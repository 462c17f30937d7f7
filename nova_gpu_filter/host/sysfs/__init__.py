# SPDX-License-Identifier: Apache-2.0

"""What the kernel says of a host's devices, read below a root directory."""
