# SPDX-License-Identifier: Apache-2.0

"""What the documentation shows is what the tools give."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _draw_pictures():
    path = ROOT / "tools" / "draw_pictures.py"
    spec = importlib.util.spec_from_file_location("draw_pictures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _draw_pictures()


@pytest.mark.parametrize(("name", "text"), list(TOOL.pictures()))
def test_pictures_are_as_the_tools_draw_them(name, text):
    drawn = (TOOL.FOLDER / name).read_text()
    assert drawn == text, "run: python tools/draw_pictures.py"
