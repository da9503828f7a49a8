# SPDX-License-Identifier: MIT
"""What the lab runs, as data: hypervisors, roots, lanes, test suites, and the skips that they may have."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Hypervisor(NamedTuple):
    """A Xen of the Debian release `suite`: its binary package, or one built from its source package.

    The latter has `kconfig`, lines of Xen's configuration, and `flavour`, a name for what these make of it.
    `options` are added to the command line. A hypervisor from elsewhere has a `file` and a `label`.
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
    """A Debian root. `variant` is mmdebstrap's name for what it holds beside `packages`."""

    name: str
    arch: str
    variant: str
    packages: tuple[str, ...]
    suite: str = "bookworm"


class Suite(NamedTuple):
    """A directory of tests for pytest in dom0, and the other files of the checkout that these need.

    `coverage` has the modules that only run in dom0, each with the branch coverage to reach, in percent.
    """

    tests: str
    helpers: tuple[str, ...]
    coverage: tuple[tuple[str, int], ...]


class Skip(NamedTuple):
    """Tests that cannot run in a lane: an fnmatch `pattern` of their ids, and the reason."""

    pattern: str
    reason: str


# Operations of the test of endurance, and with --all.
OPERATIONS = 4_000
ALL_OPERATIONS = 10_000
# How long a lane may take with --all.
ALL_TIMEOUT_S = 7200


class Lane(NamedTuple):
    """One boot: a hypervisor with a dom0 root.

    `peer` is the root with Xen's own tools, `expression` pytest's -k in a lane that runs only some tests.
    `operations` is how many operations the test of endurance makes, `all_operations` how many with --all.
    Without --all, the test files `left_out` do not run, nor tests that the expression `particular` does not
    match, nor a lane that is `rare`. `xsave` is whether the processor has XSAVE.
    """

    hypervisor: Hypervisor
    root: Root
    peer: Root | None = None
    memory_mb: int = 2048
    dom0_memory_mb: int = 1200
    timeout_s: int = 1500
    expression: str | None = None
    operations: int = OPERATIONS
    all_operations: int = ALL_OPERATIONS
    skips: tuple[Skip, ...] = ()
    left_out: tuple[str, ...] = ()
    particular: str | None = None
    rare: bool = False
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
    """A Python for one kind of machine, which must report `byteorder` and `bits`.

    `triplet` is Debian's name of the machine in paths, `compiler` the prefix of its compiler, `loader` its
    dynamic loader, empty if this machine has it where programs look for it. The Python is that of Debian's
    packages in `root`, or without a root built from Debian's sources. `emulator` runs what this machine's
    processor cannot. `tests` are directories and files; without --all only those that are `particular`, if
    any, are run.
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
    particular: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()


# Debian packages that this machine needs: to make roots of any architecture; to boot a dom0 with guests. What
# foreign Pythons need is FOREIGN_NEEDS.
ROOT_NEEDS = ("arch-test", "debian-archive-keyring", "git", "mmdebstrap")
LAB_NEEDS = (*ROOT_NEEDS, "gcc", "python3-pip", "python3-setuptools", "python3-wheel", "qemu-system-x86")
# For hosts side by side: what reaches them, and what manages them from outside.
HOSTS_NEEDS = (
    *LAB_NEEDS, "ansible-core", "crash", "gdb", "makedumpfile", "openssh-client", "python3-pytest",
)  # fmt: skip
# Suite, architecture and package.
PROMETHEUS = ("bookworm", "amd64", "prometheus")
KERNEL_SUITE = "bookworm"
KERNEL_METAPACKAGE = "linux-image-amd64"
# In the order in which they are loaded: Xen's devices, the disk for results, the network, what guests need.
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
    "failover",
    "net_failover",
    "virtio_net",
    "loop",
    "llc",
    "stp",
    "bridge",
    "xen-blkback",
    "xen-netback",
)
# What a Linux guest loads for its own disks and networks.
GUEST_MODULES = ("xen-blkfront", "xen-netfront")

XEN_4_14 = Hypervisor("4.14", "bullseye")
XEN_4_17 = Hypervisor("4.17", "bookworm")
XEN_4_20 = Hypervisor("4.20", "trixie")
# What Debian leaves out: a security policy, performance counters, the schedulers rtds and null, and 32-bit PV
# guests. The policy is Xen's example, enforced from boot; it allows dom0 all that a toolstack does.
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
        "CONFIG_PV32=y",
    ),
    options="flask=enforcing",
)

PYTHON = ("python3", "python3-pyxattr", "python3-pytest", "python3-coverage")
EXTRACTED = ("xenstore-utils", "libgcc-s1", "dash", "coreutils")
PEERS = ("xen-utils-4.17", "xenstore-utils", "libgcc-s1")

I386 = Root("dom0-i386", "i386", "essential", PYTHON)
SSH = ("openssh-client", "openssh-server")
I386_WITH_SSH = Root("dom0-ssh-i386", "i386", "essential", PYTHON + SSH)
AMD64 = Root("dom0-amd64", "amd64", "essential", PYTHON + PEERS)
AMD64_WITH_SSH = Root("dom0-ssh-amd64", "amd64", "essential", PYTHON + PEERS + SSH)
PEER_4_14 = Root("peer-4.14-amd64", "amd64", "extract", ("xen-utils-4.14", *EXTRACTED), "bullseye")
PEER = Root("peer-amd64", "amd64", "extract", ("xen-utils-4.17", *EXTRACTED))
# Since trixie, /lib64 is a link of base-files.
PEER_4_20 = Root(
    "peer-4.20-amd64", "amd64", "extract", ("xen-utils-4.20", "base-files", *EXTRACTED), "trixie"
)

# What building the hypervisor needs, without Xen's tools.
XEN_BUILD = Root(
    "build-xen-amd64", "amd64", "buildd", ("bison", "checkpolicy", "flex", "m4", "python3-minimal")
)

# The search path of programs in dom0, Xen's tools first. chroot(1) keeps it, so it serves /peer as well.
PATH = (
    "/usr/lib/xen-4.14/bin:/usr/lib/xen-4.17/bin:/usr/lib/xen-4.20/bin:"
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/lab/bin"
)

# What a hypervisor from elsewhere can do is not known beforehand.
ANY_SKIP = (Skip("*", "depends on the hypervisor"),)
WITHOUT_XSM = (
    Skip("tests.real.test_xsm_*", "Debian's hypervisors have no security policy and no counters"),
    Skip("tests.real.test_build_pv32::*", "Debian's hypervisors have no 32-bit PV guests"),
    Skip("tests.real.test_moves::*[[]pv32]", "Debian's hypervisors have no 32-bit PV guests"),
    Skip("tests.real.test_peer_stream::*pv32]", "Debian's hypervisors have no 32-bit PV guests"),
)
OTHER_PEER = (Skip("tests.real.test_peer_*", "they compare with the tools of Xen 4.17"),)
# Under a security policy only these scripts were recorded; others run there, but are not compared.
NOT_RECORDED = tuple(
    Skip(f"tests.real.test_callscripts::*{script}*", "not recorded under a security policy")
    for script in (
        "[[]attributes]", "[[]building]", "[[]claims]", "[[]cpu_policies]", "[[]device_model]", "[[]devices]",
        "[[]hvm_context]", "[[]log_dirty]", "[[]memory_map]", "[[]nodes]", "[[]permissions]", "[[]pools]",
        "_last_script", "[[]scheduling]", "[[]vnuma]",
    )
)  # fmt: skip
# Of the hypervisor with a security policy, which has Xen's assertions.
WITH_ASSERTIONS = (
    Skip("tests.real.test_trace::*", "a Xen with assertions panics in tb_control()"),
    Skip("tests.real.test_peer_trace::*", "a Xen with assertions panics in tb_control()"),
)
OWN_MODULES = (Skip("tests.real.test_peer_own_*", "Xen's own Python modules are for 64 bits"),)

# They boot Linux several times, or take minutes.
SLOW = tuple(
    f"tests/real/test_{name}.py"
    for name in (
        "devices", "endurance", "guest_life", "peer_build", "peer_debugging", "peer_programs",
        "peer_migrate", "peer_scheduling", "peer_store", "peer_stream",
    )
)  # fmt: skip
# Where releases differ most.
OF_A_RELEASE = (
    "callscripts or test_build or test_compat or test_domains or test_gate or test_memory or test_vcpus"
)
# What a security policy may forbid, and what only its hypervisor can do: 32-bit PV guests.
OF_A_POLICY = "test_build or callscripts or labels or pv32 or privileges or test_scheduling or test_xsm"

# pyxc and Xen's tools in one root.
XEN_4_17_AMD64 = Lane(
    XEN_4_17,
    AMD64,
    peer=AMD64,
    memory_mb=4096,
    dom0_memory_mb=2400,
    skips=WITHOUT_XSM,
    particular="test_build or callscripts or test_gate or peer_own",
)

LANES = (
    Lane(
        XEN_4_14,
        I386,
        peer=PEER_4_14,
        memory_mb=4096,
        dom0_memory_mb=2400,
        skips=OTHER_PEER + WITHOUT_XSM,
        particular=OF_A_RELEASE,
    ),
    Lane(
        XEN_4_17,
        I386,
        peer=PEER,
        memory_mb=4096,
        dom0_memory_mb=2400,
        skips=OWN_MODULES + WITHOUT_XSM,
        left_out=SLOW,
    ),
    Lane(
        XEN_4_20,
        I386,
        peer=PEER_4_20,
        memory_mb=4096,
        dom0_memory_mb=2400,
        all_operations=200_000,
        skips=OTHER_PEER + WITHOUT_XSM,
        particular=f"{OF_A_RELEASE} or test_endurance",
        xsave=True,
    ),
    XEN_4_17_AMD64,
    Lane(
        XEN_4_17_XSM,
        I386,
        peer=PEER,
        memory_mb=4096,
        dom0_memory_mb=2400,
        skips=OWN_MODULES + NOT_RECORDED + WITH_ASSERTIONS,
        particular=OF_A_POLICY,
    ),
    # Xen's own module, which is for 64 bits, under a security policy.
    Lane(
        XEN_4_17_XSM,
        AMD64,
        peer=AMD64,
        memory_mb=4096,
        dom0_memory_mb=2400,
        expression="test_peer_own_xc",
        rare=True,
    ),
)

# One of several hosts, by its release of Xen and the architecture of its dom0.
HOSTS = {
    (xen.version, root.arch): Lane(
        xen, root, peer, memory_mb=3072, dom0_memory_mb=1900, timeout_s=ALL_TIMEOUT_S
    )
    for xen, root, peer in (
        (XEN_4_14, I386_WITH_SSH, PEER_4_14),
        (XEN_4_17, I386_WITH_SSH, PEER),
        (XEN_4_17, AMD64_WITH_SSH, AMD64_WITH_SSH),
        (XEN_4_20, I386_WITH_SSH, PEER_4_20),
    )
}

SUITE = Suite(
    "tests/real",
    helpers=(
        "pyproject.toml",
        "tests/attributes.py",
        "tests/conftest.py",
        "tests/callscripts",
        "tests/programs",
        "tests/recordings",
        "tests/storescripts",
    ),
    coverage=(("pyxc/link/privcmd.py", 90),),
)

# The project's packages, and the parts of the checkout that they are not made from.
PACKAGES = ("pyxc", "python3-pyxc", "python3-pyxc-xen-lowlevel")
NOT_PACKAGED = ("lab/", "bench/")


def build_root(arch: str, build_depends: tuple[str, ...]) -> Root:
    """The root in which the project's Debian packages for `arch` are built."""
    return Root(f"build-{arch}", arch, "buildd", build_depends)


def cross_root(arch: str, build_depends: tuple[str, ...]) -> Root:
    """The root in which they are built for a machine of which this one runs nothing."""
    compiled = (f"crossbuild-essential-{arch}", f"libpython3-dev:{arch}")
    return Root(f"cross-{arch}", f"amd64,{arch}", "buildd", (*build_depends, *compiled))


# Debian packages with Python and what the tests need, and those of a machine that Debian has no packages for.
TESTED_PYTHON = ("python3", "libpython3-dev", "python3-pyxattr", "python3-pytest", "python3-hypothesis")
PURE_MODULES = (
    "python3-pytest", "python3-attr", "python3-iniconfig", "python3-packaging", "python3-pluggy",
    "python3-hypothesis", "python3-sortedcontainers",
)  # fmt: skip
# Some COMMANDS are run there, too; tests/cli runs in a Python that is not emulated.
EMULATED_TESTS = ("tests/unit", "tests/abi", "tests/sim")
# Where the width of a pointer and the order of bytes matter.
OF_BYTES = (
    "tests/abi/test_abi_dom0_ops.py", "tests/abi/test_abi_roundtrip.py", "tests/abi/test_abi_tables.py",
    "tests/unit/core", "tests/unit/link/test_record.py", "tests/unit/link/test_replay.py",
    "tests/unit/link/test_wire.py", "tests/unit/guest/test_stream.py",
    "tests/unit/guest/test_stream_refused.py", "tests/unit/guest/test_stream_written.py",
    "tests/sim/test_recordings.py",
)  # fmt: skip
OPTIONAL = (
    Skip("tests.unit.files.test_compressed::*", "neither zstandard nor lz4 is there"),
    Skip("tests.unit.guest.test_images::*", "neither zstandard nor lz4 is there"),
    Skip("tests.unit.guest.test_save::*", "neither zstandard nor lz4 is there"),
    Skip("tests.unit.debug.test_drgn*", "drgn is not there"),
    Skip("tests.unit.debug.test_volatility*", "volatility3 is not there"),
    Skip("tests.sim.test_kept::*", "a large host is like the others"),
)
OPTIONAL_COMMANDS = (
    Skip("tests.cli.test_ansible::*", "Ansible is not there"),
    Skip("tests.cli.test_cli_debug::*", "drgn is not there"),
    Skip("tests.cli.test_cli_screen::*", "pyte is not there"),
)
EMULATED = (
    *OPTIONAL,
    Skip("tests.unit.core.test_core_devices::test_a_device_that_is_not_privcmd_*", "qemu-user: no ioctls"),
    Skip("tests.unit.core.test_core_devices::test_a_map_that_the_kernel_*", "qemu-user has no such ioctls"),
    Skip("tests.sim.test_sim_dom0_op_memory::test_frames_of_a_guest_are_*", "qemu-user truncates offsets"),
    Skip("tests.unit.core.test_core_arenas::test_locked_memory_*", "/proc/self/smaps describes qemu-user"),
    Skip("tests.unit.domain.test_bounds::test_resident_memory", "the memory of qemu-user is counted, too"),
    Skip("tests.unit.domain.test_device_model::test_a_socket_to_*", "/proc/self/fd describes qemu-user"),
)

PPC32 = Python(
    "ppc32", "powerpc-linux-gnu", "powerpc-linux-gnu", "ld.so.1", "big", 32,
    emulator="qemu-ppc", tests=EMULATED_TESTS, particular=OF_BYTES, skips=EMULATED,
)  # fmt: skip
ARMHF = Python(
    "armhf", "arm-linux-gnueabihf", "arm-linux-gnueabihf", "ld-linux-armhf.so.3", "little", 32,
    Root("python-armhf", "armhf", "extract", TESTED_PYTHON), emulator="qemu-arm",
    tests=EMULATED_TESTS, skips=EMULATED,
)  # fmt: skip
ARM64_PYTHON = Python(
    "arm64", "aarch64-linux-gnu", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", "little", 64,
    Root("python-arm64", "arm64", "extract", TESTED_PYTHON), emulator="qemu-aarch64",
)  # fmt: skip
I386_PYTHON = Python(
    "i386", "i386-linux-gnu", "i686-linux-gnu", "ld-linux.so.2", "little", 32,
    Root("python-i386", "i386", "extract", TESTED_PYTHON), tests=(*EMULATED_TESTS, "tests/cli"),
    skips=(*OPTIONAL, *OPTIONAL_COMMANDS),
)  # fmt: skip
MUSL = Python(
    "musl", "x86_64-linux-musl", "x86_64-linux-musl", "", "little", 64,
    tests=(*EMULATED_TESTS, "tests/cli"),
    skips=(
        *OPTIONAL, *OPTIONAL_COMMANDS,
        Skip("tests.unit.files.test_xattrs::*[[]os]", "CPython 3.11 has no calls for attributes there"),
        Skip("tests.unit.files.test_xattrs::test_the_other_module_*", "as those"),
    ),
)  # fmt: skip
AMD64_PYTHON = Python(
    "amd64", "x86_64-linux-gnu", "x86_64-linux-gnu", "ld-linux-x86-64.so.2", "little", 64,
    Root("python-amd64", "amd64", "extract", TESTED_PYTHON),
)  # fmt: skip
FOREIGN_NEEDS = (
    *ROOT_NEEDS, "qemu-user", "gcc-powerpc-linux-gnu", "libc6-dev-powerpc-cross", "gcc-arm-linux-gnueabihf",
    "libc6-dev-armhf-cross", "gcc-i686-linux-gnu", "libc6-dev-i386-cross", "gcc", "libc6-dev", "make",
    "musl-tools", "patch", "cython3", "python3-setuptools", "mandoc", "fish", "gdb", "zsh",
)  # fmt: skip
# In the order in which they start, the slowest first.
FOREIGN = (PPC32, ARMHF, I386_PYTHON, MUSL)
# They take long, and little is particular about them: i386, too, is little-endian in 32 bits, and only the C
# library of musl differs from the reference.
RARE = (ARMHF, MUSL)
# All of them must do what this one does, to the byte, when COMMANDS are given to the simulated TARGETS.
REFERENCE = AMD64_PYTHON
TARGETS = ("sim:ppc64", "sim:xen-3.0", "sim:xen-4.14", "sim:xen-4.17")
COMMANDS = ("list", "frames 1", "context 1 0 --json")

# A Debian 12 on which nothing was done yet, by architecture, and the commands that README promises to work
# on it.
FRESH = {
    name: Root(f"fresh-{name}", name, "minbase", ("ca-certificates", "git", "make", "python3"))
    for name in ("amd64", "i386")
}
FRESH_COMMANDS = (
    "make demo",
    "make test ARGS='-e debian'",
    "make lab ARGS='--xen 4.17 --userland i386 -k gate'",
    "make foreign ARGS='i386 -k test_wire'",
)
