# SPDX-License-Identifier: Apache-2.0

"""Write the sample configuration file; fail where the generator only warns.

oslo-config-generator logs a warning, and succeeds, when an option has no help
text or when a namespace is not installed.
"""

import logging
import sys

from oslo_config import generator


class _Warnings(logging.Handler):
    """Collects what is logged at WARNING or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of one log line."""
        self.messages.append(record.getMessage())


def main(config_file: str) -> int:
    """Run oslo-config-generator on ``config_file``.

    :returns: exit status, 1 if anything was warned about.
    """
    warnings = _Warnings()
    logging.getLogger().addHandler(warnings)
    generator.main(["--config-file", config_file])
    for message in warnings.messages:
        print(f"{config_file}: {message}", file=sys.stderr)
    return 1 if warnings.messages else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
