# SPDX-License-Identifier: Apache-2.0

"""The manual page has every option and every metric, and no others."""

import pathlib
import re

from nova_gpu_filter.cmd import exporter
from nova_gpu_filter.exporter import metrics

TEXT = (
    pathlib.Path(__file__).parents[3] / "doc/source/cli/nova-gpu-exporter.rst"
).read_text()
METRICS = TEXT.partition("Metrics\n=======\n")[2].partition("\n=======")[0]


def test_every_metric_is_there_with_its_labels():
    described = {
        name: tuple(labels.split(", ")) if labels else ()
        for line in METRICS.splitlines()
        if line.startswith("``nova_gpu_")
        for name, labels in re.findall(r"``(\w+)(?:\{([^}]*)\})?``", line)
    }
    assert described == {gauge.metric: gauge.labels for gauge in metrics.Gauge}


def test_every_option_is_there_with_its_default():
    parser = exporter.build_parser()
    options = {
        action.option_strings[-1]: action
        for action in parser._actions
        if action.option_strings
    }
    described = dict(
        re.findall(r"^``(--[\w-]+)(?: [A-Z]+)?``.*\n((?:  .*\n)+)", TEXT, re.M)
    )
    on_a_line_with_another = {"--key", "--help"}
    assert set(described) | on_a_line_with_another == set(options)
    for name, text in described.items():
        default = options[name].default
        # Not those of switches, nor what argparse writes for itself.
        if type(default) in (int, float, str) and default != "==SUPPRESS==":
            shown = re.search(r"Default:\s+`*([^\s`]+?)`*[.,]?\s", text)
            assert shown, name
            assert float_or_text(shown[1]) == float_or_text(default)


def float_or_text(value):
    """Compare numbers as such."""
    try:
        return float(value)
    except ValueError:
        return value
