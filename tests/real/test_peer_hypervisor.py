# SPDX-License-Identifier: MIT
"""What Xen's own tools print of the hypervisor's inside."""

from __future__ import annotations

from ground_truth import Command, Peer


def test_the_tree_is_that_of_xenhypfs(peer: Peer, pyxc_command: Command) -> None:
    assert pyxc_command("hypfs", "tree").stdout == peer.run("xenhypfs", "tree")
    for path in ("/", "/params", "/buildinfo/version"):
        assert pyxc_command("hypfs", "ls", path).stdout == peer.run("xenhypfs", "ls", path)
    for path in ("/params/loglvl", "/buildinfo/version/minor", "/params/global-pages"):
        assert pyxc_command("hypfs", "cat", path).stdout == peer.run("xenhypfs", "cat", path)


def test_policies_are_those_of_xen_cpuid(peer: Peer, pyxc_command: Command) -> None:
    listed = peer.run("xen-cpuid", "-p").split(" policy: ")
    for index, policy in ((1, "raw"), (2, "host")):
        theirs = listed[index].splitlines()
        ours = pyxc_command("cpu-policy", "--policy", policy).stdout.splitlines()
        leaves = [line for line in ours if line.count(":") == 4 and "->" in line]
        assert {line.rstrip() for line in theirs if line.count(":") == 4} <= set(leaves)


def test_no_patches(peer: Peer, pyxc_command: Command) -> None:
    assert peer.run("xen-livepatch", "list").strip() == "Nothing to list"
    assert len(pyxc_command("livepatch", "list").stdout.splitlines()) == 2
