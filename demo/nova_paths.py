# SPDX-License-Identifier: Apache-2.0

"""Where an installed Nova keeps the files that its fixtures ask for."""

import importlib.metadata
import pathlib


def api_paste_file() -> pathlib.Path:
    """Find Nova's ``api-paste.ini``.

    A wheel lays it under the prefix of the environment; Nova's fixture
    (nova/tests/fixtures/conf.py) looks beside the package, where a source
    tree has it.

    :raises FileNotFoundError: the installed Nova has no such file.
    """
    for path in importlib.metadata.files("nova") or ():
        if path.name == "api-paste.ini":
            return pathlib.Path(str(path.locate())).resolve()
    raise FileNotFoundError("api-paste.ini of the installed nova package")
