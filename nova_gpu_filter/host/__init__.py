# SPDX-License-Identifier: Apache-2.0

"""What a compute node has: devices, links, and whether they can be given.

Everything is read below a root directory, so that the files of one host can
be examined on another. Nothing here imports Nova or Placement.
"""
