# SPDX-License-Identifier: Apache-2.0

"""What the initramfs loads before udev, by the files of what makes it.

Sources: initramfs-tools(7) and its file modules, dracut.conf(5) and
dracut.cmdline(7), mkinitcpio.conf(5).
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.boot.kernel import normalize_module_name
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.sysfs import tree as tree_lib

MODULES = "/etc/initramfs-tools/modules"
MODULES_PLACES = ("/usr/share/initramfs-tools/modules.d",)
SCRIPTS = (
    "/etc/initramfs-tools/scripts/init-top",
    "/etc/initramfs-tools/scripts/init-premount",
)
DRACUT_PLACES = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d")
DRACUT_CONF = "/etc/dracut.conf"
MKINITCPIO = "/etc/mkinitcpio.conf"
MKINITCPIO_PLACE = "/etc/mkinitcpio.conf.d"
MKINITCPIO_ARRAY = re.compile(
    r"^\s*(MODULES|HOOKS)(\+?)=[\"(]([^\")]*)[\")]", re.MULTILINE
)
"""An array of bash in it: name, ``+``, and the words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """A program that makes an initramfs, and how modules are loaded in it."""

    marks: tuple[str, ...]
    """Files that show that a host has it."""
    minds_blacklist: bool
    """Whether a module that is named for it does not load if it is in
    modprobe's blacklist, which is for aliases of devices otherwise."""
    has_softdeps: bool
    """Whether it puts in what the softdeps of modprobe.d name; modprobe goes
    on without a module that is not there."""
    source: str


INITRAMFS_TOOLS = Maker(
    ("/etc/initramfs-tools",),
    False,
    True,
    "initramfs-tools, scripts/functions (load_modules: modprobe) and"
    " hook-functions (manual_add_modules: modprobe --show-depends)",
)
DRACUT = Maker(
    (DRACUT_CONF, DRACUT_PLACES[0]),
    False,
    True,
    "dracut, dracut.sh (force_drivers: rd.driver.pre in etc/cmdline.d),"
    " dracut-pre-udev.sh (modprobe) and dracut-install.c"
    " (kmod_module_get_softdeps)",
)
MKINITCPIO_MAKER = Maker(
    (MKINITCPIO,),
    True,
    False,
    "mkinitcpio, init (modprobe -qab) and functions (add_module: softdep of"
    " modinfo only)",
)
_MAKERS = (INITRAMFS_TOOLS, DRACUT, MKINITCPIO_MAKER)

# What mkinitcpio's hook kms puts in, for udev to load (install/kms:
# drivers/gpu/drm).
KMS = "kms"


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A module that the initramfs loads, whatever devices there are."""

    module: str
    evidence: Evidence
    maker: Maker
    is_after_vfio: bool
    """Whether vfio-pci is named before it."""
    has_modprobe_options: bool
    """Whether modprobe's configuration is in this initramfs."""
    minds_softdeps: bool
    """Whether a softdep of modprobe.d has vfio-pci loaded before it."""

    @property
    def options(self) -> tuple[str, ...]:
        """What stands behind the module: ``ids=10de:11bf``."""
        if self.maker is not INITRAMFS_TOOLS:
            return ()
        return tuple(_split_line(self.evidence.content or "")[1:])


def list_loaded(
    tree: tree_lib.Tree, vfio: str, pre: Mapping[str, Evidence]
) -> Iterator[Loaded]:
    """List the modules that are loaded by name, before udev's rules.

    :param vfio: the module of vfio-pci.
    :param pre: modules of dracut's ``rd.driver.pre`` on the command line.
    :returns: each module once for each maker, in the order of loading.
    """
    makers = [one for one in _MAKERS if any(map(tree.exists, one.marks))]
    of_dracut = _list_dracut(tree)
    if not makers or DRACUT in makers:
        # Others pass it over.
        of_dracut += pre.items()
    modules, hooks = _read_mkinitcpio(tree)
    if hooks is not None and KMS in hooks[0]:
        modules += [(name, hooks[1]) for name in sorted(drivers.DRM)]
    has_options = hooks is None or "modconf" in hooks[0]
    for maker, listed in (
        (INITRAMFS_TOOLS, list(_list_initramfs_tools(tree))),
        (DRACUT, of_dracut),
        (MKINITCPIO_MAKER, modules),
    ):
        knows = has_options or maker is not MKINITCPIO_MAKER
        seen: set[str] = set()
        for name, evidence in listed:
            if name not in seen:
                seen.add(name)
                yield Loaded(
                    name,
                    evidence,
                    maker,
                    is_after_vfio=vfio in seen,
                    has_modprobe_options=knows,
                    minds_softdeps=knows
                    and (maker.has_softdeps or vfio in dict(listed)),
                )


def load_first(tree: tree_lib.Tree, named: Loaded) -> tuple[str, ...]:
    """Say how vfio-pci gets before a module, as commands to type."""
    path = named.evidence.path
    if named.maker is INITRAMFS_TOOLS:
        return (
            f"sed -i '1i vfio-pci' {MODULES}"
            if tree.read(MODULES)
            else f"echo vfio-pci > {MODULES}",
        )
    if named.maker is DRACUT:
        if path == DRACUT_CONF:
            return (
                f"sed -i '1i force_drivers+=\" vfio-pci \"' {DRACUT_CONF}",
            )
        place = DRACUT_PLACES[0]
        return (
            *(() if tree.is_directory(place) else (f"mkdir -p {place}",)),
            f"echo 'force_drivers+=\" vfio-pci \"' > {place}/00-vfio-pci.conf",
        )
    # The last file that sets the array counts; what adds to it comes after.
    setting = _find_mkinitcpio_file(tree, "MODULES")
    return (
        f"sed -i 's/^MODULES=./&vfio_pci vfio vfio_iommu_type1 /' {setting}"
        if setting
        else "sed -i '1i MODULES=(vfio_pci vfio vfio_iommu_type1)'"
        f" {MKINITCPIO}",
        *([] if named.has_modprobe_options else [add_modconf(tree)]),
    )


def add_modconf(tree: tree_lib.Tree) -> str:
    """Say how modprobe's configuration gets into mkinitcpio's initramfs."""
    path = _find_mkinitcpio_file(tree, "HOOKS") or MKINITCPIO
    return f"sed -i 's/^HOOKS=./&modconf /' {path}"


def _find_mkinitcpio_file(tree: tree_lib.Tree, array: str) -> str | None:
    """Find the file that sets an array of mkinitcpio; None: none does."""
    found = None
    for path in (MKINITCPIO, *tree.list_configuration_files(MKINITCPIO_PLACE)):
        if re.search(f"^{array}=", tree.read(path) or "", re.MULTILINE):
            found = path
    return found


def _split_line(line: str) -> list[str]:
    return line.split("#", 1)[0].split()


def _list_initramfs_tools(
    tree: tree_lib.Tree,
) -> Iterator[tuple[str, Evidence]]:
    """List its modules, in the order in which they are loaded."""
    files = [MODULES]
    for place in MODULES_PLACES:
        files += [f"{place}/{name}" for name in tree.list_entries(place)]
    for path in files:
        for line in (tree.read(path) or "").splitlines():
            words = _split_line(line)
            if words:
                yield (
                    normalize_module_name(words[0]),
                    Evidence(path, line.strip()),
                )


def _list_dracut(tree: tree_lib.Tree) -> list[tuple[str, Evidence]]:
    # All lists are one, in the order of the files (dracut.conf(5)): what an
    # earlier file names is loaded first.
    listed: list[tuple[str, Evidence]] = []
    for path in (DRACUT_CONF, *tree.list_configuration_files(*DRACUT_PLACES)):
        for line in (tree.read(path) or "").splitlines():
            match = re.match(r"\s*force_drivers(\+?)=(.*)", line)
            if not match:
                continue
            words = match[2].split("#")[0].replace('"', " ").split()
            named = [
                (normalize_module_name(word.strip("'")), Evidence(path, line))
                for word in words
            ]
            listed = [*listed, *named] if match[1] else named
    return listed


def strip_bash_comments(text: str) -> str:
    """Leave out the comments of a file that bash reads."""
    return re.sub(r"(?m)(^|\s)#.*", "", text)


def _read_mkinitcpio(
    tree: tree_lib.Tree,
) -> tuple[list[tuple[str, Evidence]], tuple[list[str], Evidence] | None]:
    """Give its modules in order, and its hooks; None: not known."""
    modules: list[tuple[str, Evidence]] = []
    hooks: tuple[list[str], Evidence] | None = None
    for path in (MKINITCPIO, *tree.list_configuration_files(MKINITCPIO_PLACE)):
        text = strip_bash_comments(tree.read(path) or "")
        for match in MKINITCPIO_ARRAY.finditer(text):
            words = match[3].split()
            evidence = Evidence(path, " ".join(match[0].split()))
            if match[1] == "HOOKS":
                hooks = (
                    [*hooks[0], *words] if match[2] and hooks else words,
                    evidence,
                )
                continue
            listed = [
                (normalize_module_name(word), evidence) for word in words
            ]
            modules = [*modules, *listed] if match[2] else listed
    return modules, hooks


def name_images(release: str | None) -> tuple[str, ...]:
    """Name where distributions put the initramfs of a kernel."""
    return (
        f"/boot/initrd.img-{release}",
        f"/boot/initramfs-{release}.img",
        f"/boot/initrd-{release}",
    )


def find_stale(
    tree: tree_lib.Tree, decides_drivers: Callable[[str], bool]
) -> tuple[Evidence, Evidence] | None:
    """Find an initramfs that is older than what is to be in it.

    :param decides_drivers: whether a file of modprobe.d has a say in who gets
        devices.
    :returns: (initramfs, file changed later); None: it is newer, or unknown.
    """
    for image in name_images(tree.read(paths.RELEASE)):
        made = tree.read_modification_time(image)
        if made is not None:
            break
    else:
        return None
    for name in tree.list_entries("/etc/modprobe.d"):
        path = f"/etc/modprobe.d/{name}"
        changed = tree.read_modification_time(path) or 0.0
        if changed > made and decides_drivers(path):
            return (
                Evidence(image, f"made at {made:.0f}"),
                Evidence(path, f"changed at {changed:.0f}"),
            )
    return None
