# SPDX-License-Identifier: Apache-2.0

"""The plugin, its README, its samples and the product name the same things."""

import configparser
import importlib
import re

import pytest

from nova_gpu_filter import conf
from tests.unit.devstack import sandbox

SETTINGS = (sandbox.PLUGIN / "settings").read_text()
LIBRARY = (sandbox.PLUGIN / "lib/nova-gpu-filter").read_text()
README = (sandbox.PLUGIN / "README.rst").read_text()
SAMPLES = sorted((sandbox.PLUGIN / "samples").glob("*.conf"))

# What an operator may set: everything with a default of its own.
VARIABLES = sorted(
    set(re.findall(r"^(NOVA_GPU_\w+)=\$\{\1:-", SETTINGS, re.MULTILINE))
    | set(re.findall(r"trueorfalse \w+ (NOVA_GPU_\w+)", SETTINGS))
    | set(re.findall(r"^(NOVA_GPU_\w+)=\$\{\1:-", LIBRARY, re.MULTILINE))
)


def constant(name):
    """Read what the library assigns to a name."""
    return re.search(rf'^{name}="?([^"\n]+)"?$', LIBRARY, re.MULTILINE).group(
        1
    )


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_readme_explains_each_variable(variable):
    assert f"``{variable}``" in README


@pytest.mark.parametrize(
    "text",
    [pytest.param(README, id="README.rst")]
    + [pytest.param(each.read_text(), id=each.name) for each in SAMPLES],
)
def test_no_variable_is_named_that_there_is_not(text):
    assert set(re.findall(r"NOVA_GPU_\w+", text)) <= set(VARIABLES)


@pytest.mark.parametrize(
    "name", ["NOVA_GPU_ALL_FILTERS", "NOVA_GPU_ALL_WEIGHERS"]
)
def test_what_nova_is_told_to_load_lists_classes(name):
    module, _dot, function = constant(name).rpartition(".")
    classes = getattr(importlib.import_module(module), function)()
    assert classes
    assert all(isinstance(each, type) for each in classes)


def test_the_filter_that_is_enabled_is_among_them():
    module, _dot, function = constant("NOVA_GPU_ALL_FILTERS").rpartition(".")
    classes = getattr(importlib.import_module(module), function)()
    assert constant("NOVA_GPU_FILTER_NAME") in {c.__name__ for c in classes}


def test_the_module_that_uwsgi_is_told_to_load_has_an_application():
    module, _colon, name = constant("NOVA_GPU_PLACEMENT_MODULE").partition(":")
    path = (sandbox.REPO / module.replace(".", "/")).with_suffix(".py")
    # Importing it would start Placement.
    assert re.search(rf"^(def )?{name}\b", path.read_text(), re.MULTILINE)


def test_the_options_of_ours_that_are_set_exist():
    ours = {
        (str(group), option.name)
        for group, options in conf.list_opts()
        for option in options
    }
    assert ("gpu_filter", "pool_matcher") in ours
    assert re.search(r"gpu_filter[ \\\n]+pool_matcher", LIBRARY)
    multipliers = {
        option
        for group, option in ours
        if group == "filter_scheduler" and option.endswith("_multiplier")
    }
    names = constant("NOVA_GPU_MULTIPLIERS").split()
    assert multipliers == {f"gpu_{name}_weight_multiplier" for name in names}


def test_every_shell_file_is_linted():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(sandbox.REPO / "tox.ini")
    commands = tox["testenv:pep8"]["commands"].splitlines()
    assert "shellcheck -x {[shell]files}" in commands
    assert "bashate {[shell]files}" in commands
    linted = set(tox["shell"]["files"].split())
    shell = {
        str(path.relative_to(sandbox.REPO))
        for top in ("devstack", "tests/unit/devstack")
        for path in (sandbox.REPO / top).rglob("*")
        if path.is_file() and path.read_bytes()[:11] == b"#!/bin/bash"
    }
    assert len(shell) > 5
    assert shell == linted
