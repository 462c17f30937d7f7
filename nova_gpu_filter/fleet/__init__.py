# SPDX-License-Identifier: Apache-2.0

"""The devices of a cloud as Placement and Nova tell them, and what follows.

The readers (``placement``, ``compute``) need nothing but a function that asks
a path; ``service`` makes one of a keystoneauth adapter. All other modules are
pure: they take the model and return values.
"""
