# SPDX-License-Identifier: Apache-2.0

"""What the host itself needs is never offered, bound or overlooked."""

import pytest

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import captures
from tests import sysfs_trees
from tests.sysfs_trees import Host
from tests.sysfs_trees import Pci

NIC = "0000:99:00.0"
DISK = "0000:3d:00.0"
GPU = "0000:41:00.0"
BMC = "0000:75:00.0"


@pytest.fixture
def host(tmp_path):
    """A GPU for guests, a NIC with an interface, an NVMe, a BMC."""
    host = Host(tmp_path / "host")
    host.nodes(1)
    host.iommu()
    for bus in ("40", "98", "3c"):
        host.bridge(f"0000:{bus}:01.0", f"pci0000:{bus}")
    host.add(
        Pci(
            GPU,
            "0000:40:01.0",
            "10de:26b9",
            0x030200,
            group=1,
            driver="vfio-pci",
            bars=(1 << 24, 1 << 36),
        )
    )
    host.add(
        Pci(
            NIC,
            "0000:98:01.0",
            "15b3:101d",
            0x020000,
            group=2,
            driver="mlx5_core",
            bars=(1 << 25,),
            net="ens9",
            rdma="mlx5_0",
        )
    )
    host.add(
        Pci(
            DISK,
            "0000:3c:01.0",
            "144d:a80a",
            0x010802,
            group=3,
            driver="nvme",
            bars=(1 << 14,),
        )
    )
    host.vfio_at_boot("10de:26b9")
    return host


def interface(host, name="ens9", pci=NIC):
    """Where the files of an interface are."""
    return f"/sys/bus/pci/devices/{pci}/net/{name}"


def virtual(host, name):
    host.mkdir(f"/sys/devices/virtual/net/{name}")
    return f"/sys/devices/virtual/net/{name}"


def function(host, address, everything=True):
    files = tree.Tree(str(host.root))
    found = reader.read(files, everything=everything)
    assert not found.problems
    return found.by_address[PciAddress.parse(address)]


def master(name):
    def write(host):
        host.link(f"{interface(host)}/master", virtual(host, name))

    return write


def upper(name):
    def write(host):
        host.link(f"{interface(host)}/upper_{name}", virtual(host, name))

    return write


def files(**contents):
    def write(host):
        for name, content in contents.items():
            host.write(f"{interface(host)}/{name}", content)

    return write


def route(interface, destination, gateway="00000000"):
    def write(host):
        host.write(
            "/proc/net/route",
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\n"
            f"{interface}\t{destination}\t{gateway}\t0003\t0\t0\t0\n",
        )

    return write


def route6(interface, destination, length):
    def write(host):
        host.write(
            "/proc/net/ipv6_route",
            f"{destination} {length} {'0' * 32} 00 {'0' * 32} 00000400"
            f" 00000001 00000000 00000001 {interface}\n",
        )

    return write


def address6(interface, scope):
    def write(host):
        host.write(
            "/proc/net/if_inet6",
            f"2001{'0' * 27}1 02 40 {scope} 80 {interface}\n",
        )

    return write


def representor(host):
    host.mkdir(interface(host, "ens9pf0vf0"))
    host.link(
        f"{interface(host, 'ens9pf0vf0')}/master", virtual(host, "ovs-system")
    )


def sub_function(host):
    """An interface of an auxiliary device of the NIC."""
    path = "/sys/devices/pci0000:98/0000:98:01.0/0000:99:00.0"
    host.path(f"{path}/net/ens9").rmdir()
    host.path(f"{path}/net").rmdir()
    host.path("/sys/class/net/ens9").unlink()
    host.write(f"{path}/mlx5_core.sf.4/net/p0sf1/operstate", "up")
    host.link("/sys/class/net/p0sf1", f"{path}/mlx5_core.sf.4/net/p0sf1")


NETWORK_IN_USE = [
    (master("bond0"), "ens9 is in bond0"),
    (master("br-ex"), "ens9 is in br-ex"),
    (master("ovs-system"), "ens9 is in ovs-system"),
    (master("team0"), "ens9 is in team0"),
    (master("vrf-storage"), "ens9 is in vrf-storage"),
    (upper("ens9.100"), "ens9 carries ens9.100"),
    (upper("macvtap0"), "ens9 carries macvtap0"),
    (route("ens9", "00000000", "010200C0"), "ens9 has the default route"),
    (route("ens9", "0000000A"), "ens9 has a route"),
    (route6("ens9", "0" * 32, "00"), "ens9 has the default route"),
    (route6("ens9", "20010db8" + "0" * 24, "40"), "ens9 has a route"),
    (address6("ens9", "00"), "ens9 has an address"),
    (files(operstate="up", carrier="1"), "ens9 is up"),
    (files(operstate="up"), "ens9 is up"),
    (files(operstate="unknown", flags="0x1043"), "ens9 is up"),
    (files(flags="0x1003", carrier="1"), "ens9 is up"),
    (representor, "ens9pf0vf0 is in ovs-system"),
    (sub_function, "p0sf1 is up"),
]
NETWORK_NOT_IN_USE = [
    lambda host: None,
    files(operstate="down", flags="0x1002"),
    # Administratively up, as NetworkManager leaves it, and no cable.
    files(operstate="down", flags="0x1003", carrier="0"),
    # An interface of another card.
    route("eno1", "00000000"),
    # What every interface has that was ever up.
    route6("ens9", "fe80" + "0" * 28, "40"),
    route6("ens9", "ff00" + "0" * 28, "08"),
    address6("ens9", "20"),
]


@pytest.mark.parametrize(("write", "text"), NETWORK_IN_USE)
def test_a_nic_that_the_host_uses_is_known_by_each_sign(host, write, text):
    write(host)
    (use,) = function(host, NIC).host_uses
    assert (use.use, use.text) == (Use.NETWORK, text)


@pytest.mark.parametrize("write", NETWORK_NOT_IN_USE)
def test_a_nic_that_the_host_does_not_use_is_for_guests(host, write):
    write(host)
    assert function(host, NIC).host_uses == ()


def test_a_vf_that_is_only_up_is_for_guests(host):
    path = "/sys/devices/pci0000:98/0000:98:01.0/0000:99:00.0"
    host.write(f"{path}/sriov_numvfs", 0)
    host.add(
        Pci(
            "0000:99:00.1",
            "0000:98:01.0",
            "15b3:101e",
            0x020000,
            net="ens9v0",
            physfn=NIC,
        )
    )
    vf = "/sys/bus/pci/devices/0000:99:00.1/net/ens9v0"
    host.write(f"{vf}/operstate", "up")
    assert function(host, "0000:99:00.1").host_uses == ()
    host.link(f"{vf}/master", virtual(host, "br0"))
    assert function(host, "0000:99:00.1").host_uses[0].text == (
        "ens9v0 is in br0"
    )


NVME = "/sys/devices/pci0000:3c/0000:3c:01.0/0000:3d:00.0/nvme/nvme0"


def block(host, place=f"{NVME}/nvme0n1", partition="nvme0n1p2"):
    """Add a disk with one partition."""
    name = place.rsplit("/", 1)[-1]
    for path, number in ((place, "259:0"), (f"{place}/{partition}", "259:2")):
        host.write(f"{path}/dev", number)
        host.mkdir(f"{path}/holders")
        host.link(f"/sys/class/block/{path.rsplit('/', 1)[-1]}", path)
    return f"{place}/{partition}", name


def mounted(source="/dev/nvme0n1p2", number="259:2"):
    def write(host):
        block(host)
        host.write(
            "/proc/self/mountinfo",
            f"30 1 {number} / / rw,relatime shared:1 - ext4 {source} rw\n",
        )

    return write


def held(holder, name=None):
    def write(host):
        path, _ = block(host)
        host.link(f"{path}/holders/{holder}", f"/sys/block/{holder}")
        if name:
            host.write(f"/sys/class/block/{holder}/dm/name", name)

    return write


def swap(host):
    block(host)
    host.write(
        "/proc/swaps",
        "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n"
        "/dev/nvme0n1p2\t\tpartition\t8388604\t0\t-2\n",
    )


def blkid(kind, usage=""):
    def write(host):
        block(host)
        host.write(
            "/run/udev/data/b259:2",
            f"S:disk/by-id/x\nE:ID_FS_TYPE={kind}\nE:ID_FS_USAGE={usage}\n",
        )

    return write


def multipath(host):
    """A namespace of a subsystem, with one path to it."""
    subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    block(host, f"{subsystem}/nvme0n1")
    host.mkdir(NVME)
    host.link(f"{subsystem}/nvme0", NVME)
    mounts = "30 1 259:2 / / rw - xfs /dev/nvme0n1p2 rw\n"
    host.write("/proc/self/mountinfo", mounts)


def member_of_btrfs(host):
    """The second disk of a btrfs, of which mountinfo names the first."""
    mounted(source="/dev/sda1", number="0:31")(host)
    host.link(
        "/sys/fs/btrfs/0c1d0a6e-3f5b-4a55-9df4-7e5b1c3a9d20/devices/nvme0n1p2",
        "/sys/class/block/nvme0n1p2",
    )


def member_of_bcachefs(host):
    block(host)
    host.link(
        "/sys/fs/bcachefs/0c1d0a6e-3f5b-4a55-9df4-7e5b1c3a9d20/dev-1/block",
        "/sys/class/block/nvme0n1p2",
    )


DISKS_IN_USE = [
    (member_of_btrfs, "nvme0n1p2 is part of a mounted btrfs"),
    (member_of_bcachefs, "nvme0n1p2 is part of a mounted bcachefs"),
    (mounted(), "nvme0n1p2 is mounted on /"),
    # btrfs has a number of its own for each subvolume.
    (mounted(number="0:31"), "nvme0n1p2 is mounted on /"),
    (mounted(source="/dev/root"), "nvme0n1p2 is mounted on /"),
    (held("dm-0", "vg0-root"), "nvme0n1p2 is part of dm-0 (vg0-root)"),
    (held("md127"), "nvme0n1p2 is part of md127"),
    (held("bcache0"), "nvme0n1p2 is part of bcache0"),
    (swap, "nvme0n1p2 is swap space"),
    (
        blkid("zfs_member", "raid"),
        "nvme0n1p2 holds data of the host (zfs_member)",
    ),
    (
        blkid("LVM2_member", "raid"),
        "nvme0n1p2 holds data of the host (LVM2_member)",
    ),
    (blkid("mpath_member"), "nvme0n1p2 holds data of the host (mpath_member)"),
    (
        blkid("ceph_bluestore", "other"),
        "nvme0n1p2 holds data of the host (ceph_bluestore)",
    ),
    (multipath, "nvme0n1p2 is mounted on /"),
]
DISKS_NOT_IN_USE = [
    lambda host: None,
    block,
    blkid("ext4", "filesystem"),
    mounted(source="/dev/sda1", number="8:1"),
]


@pytest.mark.parametrize(("write", "text"), DISKS_IN_USE)
def test_a_disk_that_the_host_uses_is_known_by_each_sign(host, write, text):
    write(host)
    (use,) = function(host, DISK).host_uses
    assert (use.use, use.text) == (Use.DISK, text)


def test_what_has_a_domain_of_its_own_is_used_with_its_disks(host):
    vmd, disk = "0000:c9:00.5", "10000:01:00.0"
    host.add(Pci(vmd, "pci0000:c9", "8086:28c0", 0x010400, group=20))
    place = f"/sys/devices/pci0000:c9/{vmd}/pci10000:00/10000:00:02.0/{disk}"
    host.mkdir(f"{place}/nvme/nvme0/nvme0n1")
    host.write(f"{place}/nvme/nvme0/nvme0n1/dev", "259:3")
    host.link("/sys/class/block/nvme0n1", f"{place}/nvme/nvme0/nvme0n1")
    assert function(host, vmd).host_uses == ()
    host.write(
        "/proc/self/mountinfo", "1 0 259:3 / / rw - ext4 /dev/nvme0n1 rw"
    )
    (use,) = function(host, vmd).host_uses
    assert (use.use, use.text) == (Use.DISK, "nvme0n1 is mounted on /")


@pytest.mark.parametrize("write", DISKS_NOT_IN_USE)
def test_a_disk_that_the_host_does_not_use_is_for_guests(host, write):
    write(host)
    assert function(host, DISK).host_uses == ()


GPU_PLACE = "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0"


def boot_vga(host):
    host.write(f"{GPU_PLACE}/boot_vga", 1)


def frame_buffer(host, below=""):
    place = f"{GPU_PLACE}{below}/graphics/fb0"
    host.mkdir(place)
    host.link(f"{place}/device", f"{GPU_PLACE}{below}")
    host.link("/sys/class/graphics/fb0", place)


def firmware_frame_buffer(host):
    """simpledrm or efifb, since Linux 6.9 below the PCI function."""
    frame_buffer(host, "/simple-framebuffer.0")


def boot_display(host):
    host.write(f"{GPU_PLACE}/drm/card0/boot_display", 1)
    host.link("/sys/class/drm/card0", f"{GPU_PLACE}/drm/card0")


def memory_of_the_frame_buffer(host):
    """As who is not root sees it."""
    nothing = "00000000-00000000"
    host.write(
        "/proc/iomem",
        f"{nothing} : PCI Bus 0000:40\n  {nothing} : PCI Bus 0000:41\n"
        f"    {nothing} : 0000:41:00.0\n      {nothing} : BOOTFB\n"
        f"    {nothing} : 0000:41:00.1\n{nothing} : PCI Bus 0000:98\n",
    )


def serial_console(host):
    host.write("/sys/class/tty/console/active", "tty0 ttyS4")
    host.link("/sys/class/tty/ttyS4/device", GPU_PLACE)


CONSOLES = [
    boot_vga,
    frame_buffer,
    firmware_frame_buffer,
    boot_display,
    memory_of_the_frame_buffer,
    serial_console,
]


@pytest.mark.parametrize("write", CONSOLES)
def test_the_console_is_known_by_each_file_that_the_kernel_has(host, write):
    write(host)
    gpu = function(host, GPU)
    assert gpu.is_boot_display
    assert [use.use for use in gpu.host_uses] == [Use.CONSOLE]


@pytest.mark.parametrize(
    "write",
    [
        *(write for write, _ in NETWORK_IN_USE),
        *(write for write, _ in DISKS_IN_USE),
        *CONSOLES,
    ],
)
def test_a_capture_knows_the_same_uses(host, tmp_path, write):
    write(host)
    top = captures.take(host.root, tmp_path)
    before, after = (
        {
            one.address: [(use.use, use.text) for use in one.host_uses]
            for one in reader.read(
                tree.Tree(str(root)), everything=True
            ).functions
        }
        for root in (host.root, top)
    )
    assert any(before.values())
    assert after == before


def test_a_second_frame_buffer_is_no_console(host):
    host.mkdir(f"{GPU_PLACE}/graphics/fb1")
    host.link("/sys/class/graphics/fb1", f"{GPU_PLACE}/graphics/fb1")
    host.write(f"{GPU_PLACE}/boot_vga", 0)
    assert function(host, GPU).host_uses == ()


@pytest.mark.parametrize("boot_vga", [True, False, None])
@pytest.mark.parametrize(
    "ids",
    [
        "1a03:2000",
        "1a03:2010",
        "102b:0522",
        "102b:0533",
        "102b:0536",
        "102b:0538",
        "102b:053a",
        "19e5:1711",
        "18ca:0020",
        "126f:0750",
        "1002:515e",
    ],
)
def test_graphics_of_a_bmc_are_no_gpu_for_guests(host, ids, boot_vga):
    host.bridge("0000:74:00.0", "pci0000:74", ids="1a03:1150")
    host.add(
        Pci(
            BMC, "0000:74:00.0", ids, 0x030000, driver="ast", boot_vga=boot_vga
        )
    )
    assert function(host, BMC).host_uses[0].use is Use.BMC
    inventory = reader.read(tree.Tree(str(host.root)))
    offered = fragment.choose_devices(inventory, fragment.Options())
    assert [str(one.address) for one in offered] == [GPU]
    named = fragment.Options(only=(PciAddress.parse(BMC),))
    assert [
        str(one.address) for one in fragment.choose_devices(inventory, named)
    ] == [BMC]


def add_display(host, ids, code=0x030000, address=BMC, **files):
    host.add(
        Pci(
            address,
            f"pci{address[:7]}",
            ids,
            code,
            group=90,
            bars=(1 << 24,),
            link=None,
            **files,
        )
    )


def offered(host):
    inventory = reader.read(tree.Tree(str(host.root)))
    return [
        str(one.address)
        for one in fragment.choose_devices(inventory, fragment.Options())
    ]


@pytest.mark.parametrize("driver", [None, "bochs-drm"])
@pytest.mark.parametrize("code", [0x030000, 0x038000])
@pytest.mark.parametrize(
    "ids",
    [
        *("1db7:dc20", "1db7:dc22", "1db7:dc3e"),
        *("0014:7a06", "0014:7a36", "0014:7a25", "0014:7a46"),
        *("1d17:3a04", "1d17:3d01", "1106:7122"),
        *("1234:1111", "4321:1111", "1013:00b8", "1b36:0100", "1af4:1050"),
        *("15ad:0405", "15ad:0406", "80ee:beef", "1414:5353", "1ab8:4005"),
        "5853:c147",
    ],
)
def test_displays_of_boards_and_virtual_machines_are_no_gpus(
    host, ids, code, driver
):
    add_display(host, ids, code, driver=driver, boot_vga=False)
    assert function(host, BMC).host_uses[0].use is Use.DISPLAY
    assert offered(host) == [GPU]
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    assert [
        (one.severity.name, one.check)
        for one in readiness.check(context)
        if one.device == BMC
    ] == [("NOTE", "host-use")]


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        # Cards of vendors that are young, and accelerators.
        *(("0731:7200", 0x030000), ("1ed5:0222", 0x030000)),
        *(("6766:3d02", 0x030000), ("1e3e:0001", 0x030200)),
        *(("1d94:0001", 0x120000), ("1af4:1041", 0x020000)),
        # What is no display is no display.
        *(("1db7:dc3f", 0x010601), ("0014:7a34", 0x0C0330)),
    ],
)
def test_other_devices_are_no_displays_of_boards(host, ids, code):
    add_display(host, ids, code)
    assert function(host, BMC).host_uses == ()


PROCESSORS = [
    ("8086:4c8a", "0000:00:02.0", "i915"),
    ("8086:3e96", "0000:00:02.0", "i915"),
    ("8086:7d67", "0000:00:02.0", "xe"),
    ("1002:164e", "0000:0f:00.0", "amdgpu"),
    ("1002:13c0", "0000:7b:00.0", "amdgpu"),
    ("1002:1638", "0000:30:00.0", "amdgpu"),
    ("1002:130f", "0000:00:01.0", "radeon"),
]


@pytest.mark.parametrize(("ids", "address", "driver"), PROCESSORS)
def test_graphics_of_a_processor_are_left_to_the_host(
    host, ids, address, driver
):
    add_display(host, ids, address=address, driver=driver, boot_vga=False)
    assert function(host, address).host_uses[0].use is Use.PROCESSOR
    assert offered(host) == [GPU]


def test_graphics_of_a_processor_with_the_console_are_told_once(host):
    add_display(
        host, "8086:3e96", address="0000:00:02.0", driver="i915", boot_vga=True
    )
    assert [one.use for one in function(host, "0000:00:02.0").host_uses] == [
        Use.CONSOLE
    ]


@pytest.mark.parametrize(("ids", "address", "driver"), PROCESSORS)
def test_graphics_of_a_processor_can_be_for_guests(host, ids, address, driver):
    add_display(host, ids, address=address, driver="vfio-pci", boot_vga=False)
    assert function(host, address).host_uses == ()
    assert set(offered(host)) == {GPU, address}


@pytest.mark.parametrize(
    "files",
    [
        {"mdev": (("i915-GVTg_V5_4", "GVTg_V5_4", 1),)},
        {"driver": None},
    ],
)
def test_graphics_of_a_processor_that_is_shared_are_not_the_hosts(host, files):
    display = {"driver": "i915", "boot_vga": False} | files
    add_display(host, "8086:3e96", address="0000:00:02.0", **display)
    assert function(host, "0000:00:02.0").host_uses == ()


@pytest.mark.parametrize(
    ("ids", "address", "driver"),
    [
        # A card of Intel's, AMD's cards and MI300A.
        ("8086:56c0", "0000:75:00.0", "i915"),
        ("8086:0bda", "0000:75:00.0", "xe"),
        ("1002:744c", "0000:75:00.0", "amdgpu"),
        ("1002:74a0", "0000:75:00.0", "amdgpu"),
    ],
)
def test_cards_are_no_graphics_of_a_processor(host, ids, address, driver):
    add_display(host, ids, address=address, driver=driver)
    assert function(host, address).host_uses == ()
    assert set(offered(host)) == {GPU, address}


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        # Matrox that are graphics cards; a network card of Huawei; IPMI-less
        # functions of HPE.
        ("102b:2539", 0x030000),
        ("19e5:0200", 0x020000),
        ("10de:1eb8", 0x030200),
        ("103c:3239", 0x010400),
    ],
)
def test_other_devices_of_the_same_vendors_are_not_of_a_bmc(host, ids, code):
    host.add(Pci(BMC, "pci0000:75", ids, code))
    assert function(host, BMC).host_uses == ()


@pytest.mark.parametrize(
    ("ids", "code"), [("103c:3307", 0x088000), ("1590:00e4", 0x0C0701)]
)
def test_channels_to_a_bmc_are_for_the_host(host, ids, code):
    host.add(Pci(BMC, "pci0000:75", ids, code))
    assert function(host, BMC).host_uses[0].use is Use.MANAGEMENT


def test_a_nic_is_offered_by_name_or_without_use_only(host):
    master("bond0")(host)
    inventory = reader.read(tree.Tree(str(host.root)))
    with_nics = fragment.Options(nics=True)
    assert [
        str(one.address)
        for one in fragment.choose_devices(inventory, with_nics)
    ] == [GPU]
    note = f"left out: {NIC} (the host needs it: ens9 is in bond0)"
    assert note in fragment.list_notes(inventory, with_nics)
    named = fragment.Options(only=(PciAddress.parse(NIC),))
    assert fragment.choose_devices(inventory, named)


def test_machines_whose_nics_are_idle_keep_offering_them(tmp_path):
    host = sysfs_trees.hgx_h100(tmp_path / "hgx")
    inventory = reader.read(tree.Tree(str(host.root)))
    assert (
        len(fragment.choose_devices(inventory, fragment.Options(nics=True)))
        == 16
    )


@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_disk_in_the_group_is_not_to_be_unbound_while_in_use(
    host, is_mounted
):
    place = "/sys/devices/pci0000:3c/0000:3c:01.0/0000:3d:00.0"
    host.link(f"/sys/kernel/iommu_groups/1/devices/{DISK}", place)
    host.remove(f"{place}/iommu_group")
    host.link(f"{place}/iommu_group", "/sys/kernel/iommu_groups/1")
    if is_mounted:
        mounted()(host)
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    (found,) = [
        one for one in readiness.check(context) if one.check == "group"
    ]
    assert any("unbind" in cure for cure in found.cures) is not is_mounted
    needs = f"# the host itself needs {DISK}"
    assert (needs in found.cures) is is_mounted
