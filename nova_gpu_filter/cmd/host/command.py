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
import sys
from typing import Any
from typing import NamedTuple
from typing import TextIO

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.cmd import arguments

Rows = Sequence[Sequence[Any]]


class Output(NamedTuple):
    """Rows to print, and where."""

    names: Sequence[str]
    """Of the columns."""
    rows: Rows
    options: argparse.Namespace
    stdout: TextIO

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Each row, keyed by the names."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


Printer = Callable[[Output], None]


class App:
    """What commands need of the program that they belong to."""

    NAME: str

    def __init__(self) -> None:
        # Names from outside go through here to a terminal.
        self.stdout = printable.Stream(sys.stdout)
        self.stderr = printable.Stream(sys.stderr)

    def warn(self, text: str) -> None:
        """Tell the operator something, beside the output."""
        self.stderr.write(f"{self.NAME}: {printable.join_lines(text)}\n")


class Command(abc.ABC):
    """A command: its docstring is its description.

    :param app: the program; None to describe the options only.
    """

    exit_code = 0
    """What :meth:`run` returns; a command sets it where it has found more
    than there should be."""

    def __init__(self, app: Any, _options: Any = None) -> None:
        self.app = app

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Make the parser; subclasses add their options."""
        return arguments.Parser(
            prog=prog_name, description=inspect.getdoc(type(self))
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :returns: the exit code.
        """
        self.take_action(parsed_args)
        return self.exit_code

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
            type=arguments.make_whole(0),
            help="wrap the cells of a table that is wider than N characters;"
            " 0 for none",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print what :meth:`take_action` gives: (column names, rows)."""
        names, rows = self.take_action(parsed_args)
        self.produce_output(parsed_args, names, rows)
        return self.exit_code

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        names: Sequence[str],
        rows: Rows,
    ) -> None:
        """Print the columns that were asked for.

        :raises BadInput: there is none of them.
        """
        if parsed_args.columns:
            chosen = _choose_columns(names, parsed_args.columns)
            names = [names[place] for place in chosen]
            rows = [[row[place] for place in chosen] for row in rows]
        self.printers[parsed_args.formatter](
            Output(names, rows, parsed_args, self.app.stdout)
        )


class ShowOne(Lister):
    """A command that prints one thing, a row a field."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        names: Sequence[str],
        rows: Rows,
    ) -> None:
        """Print the fields; ``rows`` are their values here."""
        super().produce_output(parsed_args, names, [rows])


def _choose_columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Give the places of the columns, in the order of the columns.

    Case does not matter, and an underscore is as good as a blank.

    :raises BadInput: there is none of them.
    """

    def normalize(name: str) -> str:
        return name.lower().strip().replace(" ", "_")

    asked = {normalize(name) for name in wanted}
    found = [
        place for place, name in enumerate(names) if normalize(name) in asked
    ]
    if not found:
        raise exception.BadInput(
            source=f"-c {' '.join(wanted)}",
            reason=f"no such column; columns are {', '.join(names)}",
        )
    return found


def _format_cell(value: Any) -> str:
    return (
        "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    )


def _print_table(output: Output) -> None:
    import prettytable

    table = prettytable.PrettyTable(list(output.names), print_empty=False)
    table.align = "l"
    if output.options.max_width:
        table.max_table_width = output.options.max_width
    for row in output.rows:
        table.add_row([_format_cell(value) for value in row])
    output.stdout.write(f"{table.get_string()}\n")


def _print_fields(output: Output) -> None:
    rows = list(zip(output.names, output.rows[0], strict=True))
    _print_table(output._replace(names=("Field", "Value"), rows=rows))


def _dump_json(document: Any, output: Output) -> None:
    indent = None if output.options.noindent else 2
    json.dump(document, output.stdout, indent=indent)
    output.stdout.write("\n")


def _print_json(output: Output) -> None:
    _dump_json(output.documents, output)


def _print_json_object(output: Output) -> None:
    _dump_json(output.documents[0], output)


def _print_yaml(output: Output) -> None:
    import yaml

    yaml.safe_dump(output.documents, output.stdout, default_flow_style=False)


def _print_yaml_object(output: Output) -> None:
    import yaml

    for name, value in output.documents[0].items():
        yaml.safe_dump({name: value}, output.stdout, default_flow_style=False)


def _print_values(output: Output) -> None:
    for row in output.rows:
        output.stdout.write(" ".join(map(str, row)) + "\n")


def _print_values_of_fields(output: Output) -> None:
    for value in output.rows[0]:
        output.stdout.write(f"{value}\n")


def _print_csv(output: Output) -> None:
    writer = csv.writer(
        output.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"
    )
    writer.writerow(output.names)
    writer.writerows(
        [str(value) if isinstance(value, list) else value for value in row]
        for row in output.rows
    )


def _print_shell(output: Output) -> None:
    for name, value in output.documents[0].items():
        # Within double quotes a shell obeys these.
        text = re.sub(r'(["$`\\])', r"\\\1", str(value))
        output.stdout.write(f'{name}="{text}"\n')


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
