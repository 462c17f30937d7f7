# SPDX-License-Identifier: Apache-2.0

"""Allocation candidates with many equal devices, in linear time.

Placement gives an allocation candidate for every order in which equal devices
can serve equal request groups. The extension asks Placement about one group
of each kind, and puts the device sets together itself.
"""
