# SPDX-License-Identifier: MIT
"""What the lab runs, as data: hypervisors, roots, lanes, suites, and the skips that are expected of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Hypervisor(NamedTuple):
    """A Xen of a Debian release: its binary package, or with KCONFIG one built from its source package.

    KCONFIG are lines of Xen's own configuration, FLAVOUR is what they make of it; OPTIONS are added to its
    command line. One from elsewhere is a FILE and has a LABEL.
    """

    version: str
    suite: str
    flavour: str = ""
    kconfig: tuple[str, ...] = ()
    options: str = ""
    file: Path | None = None
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or "-".join(filter(None, (self.version, self.flavour)))

    @property
    def package(self) -> str:
        return f"xen-hypervisor-{self.name}-amd64"


class Root(NamedTuple):
    """A Debian root; VARIANT is mmdebstrap's word for what it holds besides PACKAGES."""

    name: str
    arch: str
    variant: str
    packages: tuple[str, ...]
    suite: str = "bookworm"


class Suite(NamedTuple):
    """A directory of tests for pytest in dom0, and the other files of the checkout that it needs.

    COVERAGE names modules of the package that only dom0 can measure, with the percent that each must reach.
    """

    tests: str
    helpers: tuple[str, ...]
    coverage: tuple[tuple[str, int], ...]


class Skip(NamedTuple):
    """A skip that is right: PATTERN (as in fnmatch) of test ids, and REASON, why it cannot run there."""

    pattern: str
    reason: str


# Operations of the test of endurance.
OPERATIONS = 10_000


class Lane(NamedTuple):
    """One boot: a hypervisor with a dom0 root; memory in MiB.

    PEER is the root with Xen's own tools. EXPRESSION is pytest's -k in a lane that runs only some tests;
    OPERATIONS is how many operations the test of endurance makes, ALL_OPERATIONS with --all. XSAVE: whether
    the processor has it.
    """

    hypervisor: Hypervisor
    root: Root
    peer: Root | None = None
    memory_mb: int = 2048
    dom0_memory_mb: int = 1200
    timeout_s: int = 900
    expression: str | None = None
    operations: int = OPERATIONS
    all_operations: int = OPERATIONS
    skips: tuple[Skip, ...] = ()
    xsave: bool = False

    @property
    def name(self) -> str:
        """The name of the lane and of its directory in build/lab."""
        return f"{self.hypervisor.name}-{self.root.arch}"

    @property
    def peer_path(self) -> str | None:
        """The path in dom0 of the root with Xen's own tools, None where they are missing."""
        if self.peer is None:
            return None
        return "/" if self.peer is self.root else "/peer"


class Python(NamedTuple):
    """A Python of one kind of machine; BYTEORDER and BITS are what it must say of itself.

    TRIPLET is Debian's name of the kind in paths, COMPILER the prefix of its compiler, LOADER the program
    that loads others. The Python is that of Debian's packages in ROOT; without a root, it is built from
    Debian's sources. EMULATOR runs what this machine's processor cannot. TESTS are its directories of tests.
    """

    name: str
    triplet: str
    compiler: str
    loader: str
    byteorder: str
    bits: int
    root: Root | None = None
    emulator: str | None = None
    tests: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()


# Debian packages that this machine needs: to make roots of any architecture; to boot a dom0 with guests. What
# foreign Pythons need is FOREIGN_NEEDS.
ROOT_NEEDS = ("arch-test", "debian-archive-keyring", "git", "mmdebstrap")
LAB_NEEDS = (*ROOT_NEEDS, "gcc", "python3-pip", "python3-setuptools", "python3-wheel", "qemu-system-x86")
KERNEL_SUITE = "bookworm"
KERNEL_METAPACKAGE = "linux-image-amd64"
# In the order in which they are loaded; Xen's devices, then what the result disk needs.
KERNEL_MODULES = (
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
)

XEN_4_14 = Hypervisor("4.14", "bullseye")
XEN_4_17 = Hypervisor("4.17", "bookworm")
XEN_4_20 = Hypervisor("4.20", "trixie")
# What Debian leaves out: a security policy, performance counters, the schedulers for real-time and null. The
# policy is enforced from the boot on: Xen's example policy lets dom0 do all that a toolstack does.
XEN_4_17_XSM = Hypervisor(
    "4.17",
    "bookworm",
    flavour="xsm",
    kconfig=(
        "CONFIG_EXPERT=y",
        "CONFIG_UNSUPPORTED=y",
        "CONFIG_DEBUG=y",
        "CONFIG_XSM=y",
        "CONFIG_XSM_FLASK=y",
        "CONFIG_XSM_FLASK_POLICY=y",
        "CONFIG_PERF_COUNTERS=y",
        "CONFIG_PERF_ARRAYS=y",
        "CONFIG_SCHED_RTDS=y",
        "CONFIG_SCHED_NULL=y",
    ),
    options="flask=enforcing",
)

PYTHON = ("python3", "python3-pyxattr", "python3-pytest", "python3-coverage")
PEERS = ("xen-utils-4.17", "xenstore-utils", "libgcc-s1")

I386 = Root("dom0-i386", "i386", "essential", PYTHON)
AMD64 = Root("dom0-amd64", "amd64", "essential", PYTHON + PEERS)
PEER = Root("peer-amd64", "amd64", "extract", PEERS + ("dash", "coreutils"))

# What Xen needs to build the hypervisor alone, without its tools.
XEN_BUILD = Root(
    "build-xen-amd64", "amd64", "buildd", ("bison", "checkpolicy", "flex", "m4", "python3-minimal")
)

# The programs' search path in dom0, the peers' own first: chroot(1) takes it along into /peer.
PATH = "/usr/lib/xen-4.17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/lab/bin"

# What a hypervisor from elsewhere can do is not known beforehand.
ANY_SKIP = (Skip("*", "depends on the hypervisor"),)
WITHOUT_XSM = (
    Skip("tests.real.test_xsm_*", "Debian's hypervisors have neither a security policy nor counters"),
)
WITHOUT_PEER = (Skip("tests.real.test_peer_*", "no xl here: Debian 12 has the tools of Xen 4.17 only"),)
# Under a security policy only these scripts were recorded; others run there, but are not compared.
NOT_RECORDED = tuple(
    Skip(f"tests.real.test_callscripts::*{script}*", "not recorded under a security policy")
    for script in (
        "[[]attributes]", "[[]claims]", "[[]device_model]", "[[]devices]", "[[]hvm_context]", "[[]log_dirty]",
        "[[]memory_map]", "[[]nodes]", "[[]permissions]", "[[]pools]", "_last_script", "[[]scheduling]",
        "[[]vnuma]",
    )
)  # fmt: skip
OWN_MODULES = (Skip("tests.real.test_peer_own_*", "Xen's own Python modules there are for 64 bits"),)

# Where pyxc and its peers run as neighbours: the tools of 4.17 are this root's own.
XEN_4_17_AMD64 = Lane(
    XEN_4_17, AMD64, peer=AMD64, memory_mb=4096, dom0_memory_mb=2400, skips=WITHOUT_XSM
)

LANES = (
    Lane(XEN_4_14, I386, skips=WITHOUT_PEER + WITHOUT_XSM),
    Lane(
        XEN_4_17, I386, peer=PEER, memory_mb=4096, dom0_memory_mb=2400, skips=OWN_MODULES + WITHOUT_XSM
    ),
    Lane(XEN_4_20, I386, all_operations=200_000, skips=WITHOUT_PEER + WITHOUT_XSM, xsave=True),
    XEN_4_17_AMD64,
    Lane(
        XEN_4_17_XSM, I386, peer=PEER, memory_mb=4096, dom0_memory_mb=2400, skips=OWN_MODULES + NOT_RECORDED
    ),
    # What Xen's own module does there: it is for 64 bits.
    Lane(
        XEN_4_17_XSM, AMD64, peer=AMD64, memory_mb=4096, dom0_memory_mb=2400, expression="test_peer_own_xc"
    ),
)

SUITE = Suite(
    "tests/real",
    helpers=(
        "pyproject.toml",
        "tests/conftest.py",
        "tests/callscripts",
        "tests/programs",
        "tests/recordings",
        "tests/storescripts",
    ),
    coverage=(("pyxc/link/privcmd.py", 90),),
)

# The project's packages; a change in these parts of the checkout does not change them.
PACKAGES = ("python3-pyxc", "python3-pyxc-xen-lowlevel")
NOT_PACKAGED = ("lab/", "bench/")


def build_root(arch: str, build_depends: tuple[str, ...]) -> Root:
    """The root of ARCH in which the project's Debian package is built."""
    return Root(f"build-{arch}", arch, "buildd", build_depends)


# Python and what the tests need, as Debian packages: for a root, and to unpack where there can be no root.
TESTED_PYTHON = ("python3", "libpython3-dev", "python3-pyxattr", "python3-pytest", "python3-hypothesis")
PURE_MODULES = (
    "python3-pytest", "python3-attr", "python3-iniconfig", "python3-packaging", "python3-pluggy",
    "python3-hypothesis", "python3-sortedcontainers",
)  # fmt: skip
# Commands are run there too, see COMMANDS; all their options in Pythons that take less time.
EMULATED_TESTS = ("tests/unit", "tests/abi", "tests/sim")
OPTIONAL = (Skip("tests.unit.files.test_compressed::*", "neither zstandard nor lz4 is there"),)
EMULATED = (
    *OPTIONAL,
    Skip("tests.unit.test_core_devices::test_a_device_that_is_not_privcmd_*", "qemu-user has no such ioctls"),
    Skip("tests.unit.test_core_devices::test_a_map_that_the_kernel_*", "qemu-user has no such ioctls"),
    Skip("tests.sim.test_sim_dom0_op_memory::test_frames_of_a_guest_are_*", "qemu-user cuts offsets off"),
    Skip("tests.unit.test_core_arenas::test_locked_memory_*", "/proc/self/smaps tells of qemu-user"),
)

PPC32 = Python(
    "ppc32", "powerpc-linux-gnu", "powerpc-linux-gnu", "ld.so.1", "big", 32,
    emulator="qemu-ppc", tests=EMULATED_TESTS, skips=EMULATED,
)  # fmt: skip
ARMHF = Python(
    "armhf", "arm-linux-gnueabihf", "arm-linux-gnueabihf", "ld-linux-armhf.so.3", "little", 32,
    Root("python-armhf", "armhf", "extract", TESTED_PYTHON), emulator="qemu-arm",
    tests=EMULATED_TESTS, skips=EMULATED,
)  # fmt: skip
I386_PYTHON = Python(
    "i386", "i386-linux-gnu", "i686-linux-gnu", "ld-linux.so.2", "little", 32,
    Root("python-i386", "i386", "extract", TESTED_PYTHON), tests=(*EMULATED_TESTS, "tests/cli"),
    skips=OPTIONAL,
)  # fmt: skip
AMD64_PYTHON = Python(
    "amd64", "x86_64-linux-gnu", "x86_64-linux-gnu", "ld-linux-x86-64.so.2", "little", 64,
    Root("python-amd64", "amd64", "extract", TESTED_PYTHON),
)  # fmt: skip
FOREIGN_NEEDS = (
    *ROOT_NEEDS, "qemu-user", "gcc-powerpc-linux-gnu", "libc6-dev-powerpc-cross", "gcc-arm-linux-gnueabihf",
    "libc6-dev-armhf-cross", "gcc-i686-linux-gnu", "libc6-dev-i386-cross", "gcc", "libc6-dev", "make",
    "patch", "cython3", "python3-setuptools", "mandoc",
)  # fmt: skip
# In the order in which they start: the slowest first.
FOREIGN = (PPC32, ARMHF, I386_PYTHON)
# What all of them must agree with, to the byte: on commands to simulated hypervisors.
REFERENCE = AMD64_PYTHON
TARGETS = ("sim:ppc64", "sim:xen-3.0", "sim:xen-4.14", "sim:xen-4.17")
COMMANDS = ("list", "frames 1", "context 1 0 --json")

# A Debian 12 on which nothing was done yet, and what README promises to whoever has one.
FRESH = Root("fresh", "amd64", "minbase", ("ca-certificates", "git", "make", "python3"))
FRESH_COMMANDS = (
    "make demo",
    "make test ARGS='-e debian'",
    "make lab ARGS='--xen 4.17 --userland i386 -k gate'",
    "make foreign ARGS='i386 -k test_wire'",
)
