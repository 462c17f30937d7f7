# SPDX-License-Identifier: Apache-2.0

"""The devices of a cloud as Placement and Nova tell them, and what follows.

The readers (``provider_trees``, ``ownership``, ``compute``, ``identity``) need
nothing but a function that asks a path; ``api`` makes one of an adapter of
keystoneauth. All other modules are pure: they take the model and return
values.
"""
