# SPDX-License-Identifier: Apache-2.0

"""Commands of ``nova-gpu-host``, and the forms in which they print rows.

The options and forms are those of cliff, which the clients of OpenStack use,
without what cliff brings into the environment of a compute node: a shell, and
rich with it.
"""

import abc
import argparse
from collections.abc import Callable
from collections.abc import Sequence
import csv
import inspect
import json
import re
from typing import Any
from typing import TextIO

from nova_gpu_filter import exception

Rows = Sequence[Sequence[Any]]
Printer = Callable[[Sequence[str], Rows, argparse.Namespace, TextIO], None]
"""Prints (column names, rows, options) to a file."""


class Command(abc.ABC):
    """A command: its docstring is its description.

    :param app: what has ``options`` and the streams; None to describe the
        options only.
    """

    def __init__(self, app: Any, _options: Any = None) -> None:
        self.app = app

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Make the parser; subclasses add their options."""
        return argparse.ArgumentParser(
            prog=prog_name, description=inspect.getdoc(type(self))
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :returns: the exit code.
        """
        return self.take_action(parsed_args) or 0

    @abc.abstractmethod
    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """Do what the command is for."""


class Lister(Command):
    """A command that prints rows."""

    printers: dict[str, Printer]
    """By the name of the form, which ``-f`` takes."""
    default_form = "table"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the forms."""
        parser = super().get_parser(prog_name)
        group = parser.add_argument_group("output")
        group.add_argument(
            "-f",
            "--format",
            dest="formatter",
            choices=sorted(self.printers),
            default=self.default_form,
            help=f"the form; default {self.default_form}",
        )
        group.add_argument(
            "-c",
            "--column",
            dest="columns",
            metavar="COLUMN",
            action="append",
            default=[],
            help="print this column only; can be repeated",
        )
        group.add_argument(
            "--noindent",
            action="store_true",
            help="print JSON on one line",
        )
        group.add_argument(
            "--max-width",
            metavar="N",
            type=int,
            help="wrap the cells of a table that is wider than N characters",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print what :meth:`take_action` gives: (column names, rows)."""
        names, rows = self.take_action(parsed_args)
        return self.produce_output(parsed_args, names, rows)

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        names: Sequence[str],
        rows: Rows,
    ) -> int:
        """Print the columns that were asked for.

        :raises BadInput: there is none of them.
        """
        if parsed_args.columns:
            chosen = _chosen(names, parsed_args.columns)
            names = [names[place] for place in chosen]
            rows = [[row[place] for place in chosen] for row in rows]
        self.printers[parsed_args.formatter](
            names, rows, parsed_args, self.app.stdout
        )
        return 0


class ShowOne(Lister):
    """A command that prints one thing, a row a field."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        names: Sequence[str],
        rows: Rows,
    ) -> int:
        """Print the fields; ``rows`` are their values here."""
        return super().produce_output(parsed_args, names, [rows])


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Give the places of the columns, in the order of the columns.

    Case does not matter, and an underscore is as good as a blank.

    :raises BadInput: there is none of them.
    """

    def normal(name: str) -> str:
        return name.lower().strip().replace(" ", "_")

    asked = {normal(name) for name in wanted}
    found = [
        place for place, name in enumerate(names) if normal(name) in asked
    ]
    if not found:
        raise exception.BadInput(
            source=f"-c {' '.join(wanted)}",
            reason=f"no such column; columns are {', '.join(names)}",
        )
    return found


def _cell(value: Any) -> str:
    return (
        "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    )


def _print_table(
    names: Sequence[str],
    rows: Rows,
    options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    import prettytable

    table = prettytable.PrettyTable(list(names), print_empty=False)
    table.align = "l"
    if options.max_width:
        table.max_table_width = options.max_width
    for row in rows:
        table.add_row([_cell(value) for value in row])
    stdout.write(f"{table.get_string()}\n")


def _print_fields(
    names: Sequence[str],
    rows: Rows,
    options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    _print_table(
        ("Field", "Value"),
        list(zip(names, rows[0], strict=True)),
        options,
        stdout,
    )


def _print_json(
    names: Sequence[str],
    rows: Rows,
    options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    document = [dict(zip(names, row, strict=True)) for row in rows]
    json.dump(document, stdout, indent=None if options.noindent else 2)
    stdout.write("\n")


def _print_json_object(
    names: Sequence[str],
    rows: Rows,
    options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    document = dict(zip(names, rows[0], strict=True))
    json.dump(document, stdout, indent=None if options.noindent else 2)
    stdout.write("\n")


def _print_yaml(
    names: Sequence[str],
    rows: Rows,
    _options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    import yaml

    yaml.safe_dump(
        [dict(zip(names, row, strict=True)) for row in rows],
        stdout,
        default_flow_style=False,
    )


def _print_yaml_object(
    names: Sequence[str],
    rows: Rows,
    _options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    import yaml

    for name, value in zip(names, rows[0], strict=True):
        yaml.safe_dump({name: value}, stdout, default_flow_style=False)


def _print_values(
    _names: Sequence[str],
    rows: Rows,
    _options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    for row in rows:
        stdout.write(" ".join(map(str, row)) + "\n")


def _print_values_of_fields(
    _names: Sequence[str],
    rows: Rows,
    _options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    for value in rows[0]:
        stdout.write(f"{value}\n")


def _print_csv(
    names: Sequence[str],
    rows: Rows,
    _options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    writer = csv.writer(
        stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"
    )
    writer.writerow(names)
    writer.writerows(
        [str(value) if isinstance(value, list) else value for value in row]
        for row in rows
    )


def _print_shell(
    names: Sequence[str],
    rows: Rows,
    _options: argparse.Namespace,
    stdout: TextIO,
) -> None:
    for name, value in zip(names, rows[0], strict=True):
        # Within double quotes a shell obeys these.
        text = re.sub(r'(["$`\\])', r"\\\1", str(value))
        stdout.write(f'{name}="{text}"\n')


Lister.printers = {
    "csv": _print_csv,
    "json": _print_json,
    "table": _print_table,
    "value": _print_values,
    "yaml": _print_yaml,
}
ShowOne.printers = {
    "json": _print_json_object,
    "shell": _print_shell,
    "table": _print_fields,
    "value": _print_values_of_fields,
    "yaml": _print_yaml_object,
}
