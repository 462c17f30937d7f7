# SPDX-License-Identifier: Apache-2.0

"""The devices of a cloud as Placement and Nova tell them, and what follows.

The readers (``placement``, ``ownership``, ``compute``, ``identity``) need
nothing but a function that asks a path; ``service`` makes one of an adapter of
keystoneauth. All other modules are pure: they take the model and return
values.
"""
