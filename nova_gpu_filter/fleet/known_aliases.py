# SPDX-License-Identifier: Apache-2.0

"""The aliases of a cloud: no API shows them, so files or options do."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import os
from typing import Final

from nova_gpu_filter import printable
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import alias as alias_rules
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules.alias import Alias

LOG = logging.getLogger(__name__)

DEFAULT_PATH: Final = "/etc/nova/nova.conf"


@dataclasses.dataclass(frozen=True)
class Known:
    """The aliases that were given."""

    by_name: Mapping[str, Alias]
    source: str
    """Where they come from, for messages; if there are none, why."""
    paths: tuple[str, ...] = ()
    """The nova.conf files that were read."""


def parse(texts: Iterable[str], source: str) -> dict[str, Alias]:
    """Read values of ``[pci]alias``.

    The same value may come more than once: of the files of several services.

    :param source: what messages call the place they come from.
    :returns: by name.
    :raises BadAlias: Nova would refuse one; or two of them have the same name,
        which it refuses with PCI in Placement.
    """
    found: dict[str, Alias] = {}
    for text in texts:
        try:
            alias = alias_rules.parse(text)
        except alias_rules.AliasError as exc:
            raise errors.BadAlias(
                source=source, text=text, problem=exc
            ) from exc
        if found.setdefault(alias.name, alias) != alias:
            raise errors.BadAlias(
                source=source,
                text=text,
                problem=f"there is another alias {alias.name!r}, and with PCI"
                " in Placement Nova takes one spec an alias",
            )
    return found


def read(paths: Sequence[str], texts: Sequence[str]) -> Known:
    """Read aliases from files and options.

    Without both they are read from the usual nova.conf; where that is not
    there, there are none, and whoever needs one says so.

    :param paths: nova.conf files, or directories of .conf files.
    :param texts: values of the option, beside those of the files.
    :raises GpuFilterError: a file or an alias cannot be read.
    """
    texts = list(texts)
    sources = ["--alias"] if texts else []
    if not paths and not texts:
        if not os.path.exists(DEFAULT_PATH):
            return Known({}, f"{DEFAULT_PATH} is not here")
        paths = [DEFAULT_PATH]
    if paths:
        options = pci_options.read(*paths)
        texts += options.aliases
        sources.append(options.source)
    source = " and ".join(sources)
    if not texts:
        source = f"{source} has no [pci]alias"
    return Known(parse(texts, source), source, tuple(paths))


def list_demands(
    flavors: Iterable[model.Flavor], known: Known
) -> list[demand.Demand]:
    """Work out what flavors take; warn of those that cannot be read.

    :raises FleetError: none of them can be read.
    """
    found = []
    failures = []
    for flavor in flavors:
        try:
            found.append(demand.calculate(flavor, known.by_name, known.source))
        except errors.FleetError as exc:
            failures.append(exc)
    if failures and not found:
        raise failures[0]
    for failure in failures:
        LOG.warning("Left out: %s", printable.join_lines(str(failure)))
    return found


def choose_flavors(
    flavors: Iterable[model.Flavor], mediated: Collection[str] = ()
) -> list[model.Flavor]:
    """Choose the flavors that ask for devices, by name.

    :param mediated: resource classes of mediated devices, for which flavors
        ask without an alias.
    """
    return sorted(
        (
            flavor
            for flavor in flavors
            if extra_specs.ALIAS_KEY in flavor.extra_specs
            or any(
                key.startswith("resources")
                and key.partition(":")[2] in mediated
                for key in flavor.extra_specs
            )
        ),
        key=lambda flavor: flavor.name,
    )
