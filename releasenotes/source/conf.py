# SPDX-License-Identifier: Apache-2.0

"""Sphinx settings of the release notes."""

extensions = [
    "openstackdocstheme",
    "reno.sphinxext",
]

project = "nova-gpu-filter release notes"
copyright = "nova-gpu-filter developers"
root_doc = "index"

openstackdocs_repo_name = ""
openstackdocs_auto_name = False
openstackdocs_pdf_link = False

html_theme = "openstackdocs"
pygments_style = "native"
