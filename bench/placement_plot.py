# SPDX-License-Identifier: Apache-2.0

"""The figures of the Placement extension as a plot."""

import pathlib

from bench import report


def draw(result: report.Report, path: pathlib.Path) -> None:
    """Write a plot of time over k, a panel for each number of hosts.

    With matplotlib, which the plots of nova-gpu-simulate need as well.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ways = {
        "default_ms": "stock, default options",
        "tuned_ms": "stock, tuned",
        "ours_ms": "ours",
        "bound_ms": "one device",
    }
    clouds = sorted({(row["devices"], row["hosts"]) for row in result.rows})
    figure, panels = pyplot.subplots(
        1,
        len(clouds),
        sharey=True,
        squeeze=False,
        figsize=(3 * len(clouds), 4),
    )
    for panel, (devices, hosts) in zip(panels[0], clouds, strict=True):
        rows = [
            row
            for row in result.rows
            if (row["devices"], row["hosts"]) == (devices, hosts)
        ]
        for key, way in ways.items():
            points = [
                (row["k"], row[key])
                for row in rows
                if isinstance(row.get(key), float)
            ]
            panel.plot(*zip(*points, strict=True), marker="o", label=way)
        panel.set_yscale("log")
        panel.set_xticks([row["k"] for row in rows])
        panel.set_xlabel(f"k of {devices}, {hosts} hosts")
        panel.grid(visible=True, alpha=0.3)
    panels[0][0].set_ylabel("ms a request")
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
