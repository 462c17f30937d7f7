# SPDX-License-Identifier: Apache-2.0

"""Draw how GPUs were used, and how fragmented they were, over time."""

from collections.abc import Sequence

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import run_report

# Line style by scheduler, color by run: still told apart when printed gray.
_STYLES = ("-", "--", ":", "-.")


def write(title: str, results: Sequence[run_report.Result], path: str) -> None:
    """Draw the curves of all runs.

    :param path: PNG, SVG or another format that Matplotlib knows by its
        ending.
    :raises PlotUnavailable: Matplotlib is missing or cannot write that.
    """
    try:
        from matplotlib import figure
    except ImportError as exc:
        raise errors.PlotUnavailable(
            problem="a plot needs Matplotlib: install it with"
            " \"pip install 'nova-gpu-filter[simulate,plot]'\""
        ) from exc
    # A figure without pyplot needs no display and leaves nothing behind.
    drawing = figure.Figure(figsize=(9, 7), layout="constrained")
    drawing.suptitle(title)
    used, fragmented = drawing.subplots(2, 1, sharex=True)
    drawn = run_report.list_outcomes(results)
    if not drawn:
        raise errors.PlotUnavailable(
            problem="there is no workload, so there is no curve to draw"
        )
    runs = list(dict.fromkeys(result.run for result, _ in drawn))
    names = list(dict.fromkeys(result.scheduler for result, _ in drawn))
    for result, outcome in drawn:
        # By what was asked for: runs with other loads are then one picture.
        samples, capacity = outcome.samples, outcome.capacity
        asked = [sample.gpus_requested / capacity for sample in samples]
        shares = [100 * sample.gpus_used / capacity for sample in samples]
        fragmentations = [sample.fragmentation for sample in samples]
        style = {
            "color": f"C{runs.index(result.run)}",
            "linestyle": _STYLES[names.index(result.scheduler) % len(_STYLES)],
            "linewidth": 1.0,
            "label": f"{result.run}, {result.scheduler}",
        }
        used.plot(asked, shares, **style)
        fragmented.plot(asked, fragmentations, **style)
    used.set_ylabel("GPUs used, %")
    fragmented.set_ylabel("fragmentation F of all hosts, GPUs")
    fragmented.set_xlabel(
        "GPUs asked for since the beginning, in capacities of the cloud"
    )
    used.grid(alpha=0.3)
    fragmented.grid(alpha=0.3)
    used.legend()
    try:
        drawing.savefig(path)
    except (OSError, ValueError) as exc:
        raise errors.PlotUnavailable(problem=f"{path}: {exc}") from exc
