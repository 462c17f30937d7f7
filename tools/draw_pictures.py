# SPDX-License-Identifier: Apache-2.0

"""Draw the pictures of the documentation with our own tools.

Run ``python tools/draw_pictures.py`` where a drawing has changed.
"""

from collections.abc import Iterator
import contextlib
import io
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "doc" / "source" / "concepts" / "pictures"

sys.path.insert(0, str(ROOT))

from nova_gpu_filter.cmd.host import app  # noqa: E402
from nova_gpu_filter.drawing import arrange  # noqa: E402
from nova_gpu_filter.drawing import text as picture_text  # noqa: E402
from tests import machines  # noqa: E402
from tests import sysfs_trees  # noqa: E402


def pictures() -> Iterator[tuple[str, str]]:
    """Yield the name of each file, and what belongs in it."""
    with tempfile.TemporaryDirectory() as folder:
        host = sysfs_trees.hgx_h100(pathlib.Path(folder))
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            app.main(
                [
                    *("--sysfs-root", str(host.root), "inventory"),
                    *("--baseboard", "hgx-h100-8", "--svg", "-"),
                ]
            )
        yield "hgx-h100.svg", output.getvalue()
    topology = machines.hgx_h100_partitions()
    yield (
        "partitions.txt",
        picture_text.draw(
            arrange.arrange_topology(
                "hgx-1",
                topology,
                [f"GPU{number}" for number in range(topology.n)],
                ["two", "two", "one", *[None] * 5],
            )
        ),
    )


def main() -> None:
    """Write the pictures."""
    for name, text in pictures():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)


if __name__ == "__main__":
    main()
