# SPDX-License-Identifier: Apache-2.0

"""Measurements against stock Nova and Placement, side by side."""
