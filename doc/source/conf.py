# SPDX-License-Identifier: Apache-2.0

"""Sphinx settings of the documentation."""

extensions = [
    "cliff.sphinxext",
    "openstackdocstheme",
    "oslo_config.sphinxconfiggen",
    "oslo_config.sphinxext",
    "sphinx.ext.autodoc",
]

project = "nova-gpu-filter"
copyright = "nova-gpu-filter developers"
root_doc = "index"
nitpicky = False
# Options are written with two hyphens, also in the help of commands.
smartquotes = False
autoprogram_cliff_app_dist_name = "nova-gpu-filter"

# The project has no repository on opendev.org: no links to one.
openstackdocs_repo_name = ""
openstackdocs_auto_name = False
openstackdocs_use_storyboard = False
openstackdocs_pdf_link = False

html_theme = "openstackdocs"
pygments_style = "native"

autodoc_member_order = "bysource"
autodoc_typehints = "none"

# Paths are those of the repository's root, where tox runs sphinx-build.
config_generator_config_file = [
    (
        "../../etc/nova-gpu-filter/nova-gpu-filter-config-generator.conf",
        "_static/nova-gpu-filter",
    ),
    (
        "../../etc/nova-gpu-filter/placement-config-generator.conf",
        "_static/placement",
    ),
    (
        "../../etc/nova-gpu-filter/agent-config-generator.conf",
        "_static/nova-gpu-agent",
    ),
]

man_pages = [
    (
        "admin/filter",
        "nova-gpu-filter",
        "GPU passthrough scheduling for OpenStack Nova",
        ["nova-gpu-filter developers"],
        7,
    ),
    (
        "cli/nova-gpu-agent",
        "nova-gpu-agent",
        "clean and check devices between two servers",
        ["nova-gpu-filter developers"],
        1,
    ),
    (
        "cli/nova-gpu-exporter",
        "nova-gpu-exporter",
        "serve metrics of the GPUs of a cloud to Prometheus",
        ["nova-gpu-filter developers"],
        1,
    ),
    (
        "cli/nova-gpu-host",
        "nova-gpu-host",
        "find, check and offer the GPUs of a compute node",
        ["nova-gpu-filter developers"],
        1,
    ),
    (
        "cli/nova-gpu-status",
        "nova-gpu-status",
        "check whether GPU scheduling is set up",
        ["nova-gpu-filter developers"],
        1,
    ),
    (
        "cli/openstack-gpu",
        "openstack-gpu",
        "see which GPUs a cloud has, who has them, and what still fits",
        ["nova-gpu-filter developers"],
        1,
    ),
]
