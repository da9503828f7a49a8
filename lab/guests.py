# SPDX-License-Identifier: MIT
"""The guests that tests start: the small ones in lab/guests, and a Debian kernel with a shell script."""

from __future__ import annotations

from pathlib import Path

from lab import artifacts, cache, config, cpio, host

SOURCES = Path(__file__).with_name("guests")
SMALL = {"pv": ["-m64"], "pvh": ["-m32"], "pv32": ["-m32"]}


def directory() -> Path:
    """A directory with the images of the guests, their configuration files for xl, and start-peer."""
    kernel = artifacts.kernel() / "vmlinuz"
    busybox = artifacts.busybox()
    sources = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir())}

    def make(into: Path) -> None:
        for name, flags in SMALL.items():
            host.call(
                [
                    "gcc",
                    *flags,
                    "-nostdlib",
                    "-static",
                    "-no-pie",
                    "-Wl,--build-id=none",
                    "-Wl,-z,max-page-size=4096",
                    "-Wl,--no-warn-rwx-segments",
                    "-T",
                    SOURCES / f"{name}.lds",
                    "-o",
                    into / name,
                    SOURCES / f"{name}.S",
                ]
            )
        (into / "vmlinuz").write_bytes(kernel.read_bytes())
        _write_initrd(busybox, kernel.parent, into / "initrd")
        for name, content in sources.items():
            if name == "start-peer" or name.endswith(".cfg"):
                (into / name).write_bytes(content)
        (into / "start-peer").chmod(0o755)

    return cache.entry("guests", (sources, SMALL, kernel.parent.name, busybox.parent.name), make)


def _write_initrd(busybox: Path, kernel: Path, path: Path) -> None:
    with path.open("wb") as out:
        archive = cpio.Writer(out)
        archive.file("/bin/busybox", busybox.read_bytes(), executable=True)
        for name in ("init", "poweroff"):
            script = (SOURCES / f"linux-{name}.sh").read_bytes()
            archive.file("/init" if name == "init" else f"/sbin/{name}", script, executable=True)
        for name in config.GUEST_MODULES:
            archive.tree(kernel / f"{name}.ko", f"/modules/{name}.ko")
        archive.close()
