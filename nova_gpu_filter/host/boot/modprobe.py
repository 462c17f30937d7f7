# SPDX-License-Identifier: Apache-2.0

"""What the configuration of modprobe says of modules.

Source: modprobe.d(5).
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import fnmatch
import functools
import re

from nova_gpu_filter.host.boot.kernel import VFIO
from nova_gpu_filter.host.boot.kernel import normalize_module_name
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.sysfs import tree as tree_lib

# A file hides those of its name in later directories.
PLACES = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Directive:
    """A line of modprobe.d."""

    words: tuple[str, ...]
    evidence: Evidence


class Configuration:
    """The lines of modprobe.d, read when one is asked for."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    @functools.cached_property
    def directives(self) -> tuple[Directive, ...]:
        """Every line, by the names of the files (modprobe.d(5))."""
        found = []
        for path in self._tree.list_configuration_files(*PLACES):
            text = self._tree.read(path) or ""
            for line in text.replace("\\\n", " ").splitlines():
                words = line.split("#", 1)[0].split()
                if len(words) > 1:
                    found.append(
                        Directive(tuple(words), Evidence(path, line.strip()))
                    )
        return tuple(found)

    def find_aliased(self, modalias: str | None) -> set[str]:
        """Find the modules that an alias gives a device.

        :param modalias: what the kernel says of the device; None: nothing.
        """
        return {
            normalize_module_name(directive.words[2])
            for directive in self.directives
            if directive.words[0] == "alias"
            and len(directive.words) > 2
            and modalias is not None
            and fnmatch.fnmatchcase(modalias, directive.words[1])
        }

    def list_options(self, module: str) -> Iterator[tuple[str, Evidence]]:
        """Yield the options of a module, and where each is written."""
        for directive in self.directives:
            words = directive.words
            if (
                words[0] == "options"
                and normalize_module_name(words[1]) == module
            ):
                for word in words[2:]:
                    yield word, directive.evidence

    @functools.cached_property
    def blacklisted(self) -> dict[str, Evidence]:
        """Modules that do not load by themselves, and why."""
        found: dict[str, Evidence] = {}
        for directive in self.directives:
            words = directive.words
            if words[0] == "blacklist" or (
                words[0] == "install"
                and len(words) > 2
                and words[2].rsplit("/", 1)[-1] in ("false", "true")
            ):
                found.setdefault(
                    normalize_module_name(words[1]), directive.evidence
                )
        return found

    @functools.cached_property
    def after_vfio(self) -> dict[str, Evidence]:
        """Modules before which vfio-pci is loaded."""
        found = {}
        for directive in self.directives:
            words = directive.words
            before: set[str] = set()
            if words[0] == "softdep" and "pre:" in words:
                start = words.index("pre:") + 1
                end = words.index("post:") if "post:" in words else len(words)
                before = set(map(normalize_module_name, words[start:end]))
            if VFIO in before or (
                # modprobe vfio-pci; modprobe --ignore-install nvidia
                words[0] == "install" and _loads_vfio(words[2:])
            ):
                found[normalize_module_name(words[1])] = directive.evidence
        return found

    def decides_drivers(self, path: str) -> bool:
        """Tell whether a file of modprobe.d has a say in who gets devices."""
        return any(
            directive.words[0] in ("blacklist", "install", "softdep")
            or "vfio" in directive.words[1]
            for directive in self.directives
            if directive.evidence.path == path
        )


def _loads_vfio(command: Sequence[str]) -> bool:
    """Tell whether a command of modprobe.d begins by loading vfio-pci."""
    first = re.split(r"[;&|]", " ".join(command))[0].split()
    return (
        len(first) > 1
        and first[0].rsplit("/", 1)[-1] == "modprobe"
        and normalize_module_name(first[-1]) == VFIO
    )
