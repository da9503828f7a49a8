# SPDX-License-Identifier: MIT
"""xenctl_bitmap: sets of cpus and nodes in client memory, as many bits as either side has.

The lowest bits are in the first byte on every machine, whatever its byte order.
"""

from __future__ import annotations

from pyxc.sim.ops.call import Call


def read_bitmap(call: Call, name: str, bits: int) -> int:
    """The set, of at most `bits` members, that the client gave."""
    given: int = call[f"{name}.nr_bits"]
    size = min((given + 7) // 8, (bits + 7) // 8)
    found = int.from_bytes(call.memory.read(call[f"{name}.bitmap"], size), "little")
    return found & ((1 << min(given, bits)) - 1)


def write_bitmap(call: Call, name: str, members: int, bits: int) -> None:
    """A set of `bits` members at most, cut to the client's buffer or filled up with zero bytes.

    Since 4.21 the last byte of a set that is cut is the last byte of the whole set.
    """
    size = (call[f"{name}.nr_bits"] + 7) // 8
    data = (members & ((1 << bits) - 1)).to_bytes((bits + 7) // 8, "little")
    if 0 < size < len(data) and call.xen.profile.since(4, 21):
        data = data[: size - 1] + data[-1:]
    call.memory.fill(call[f"{name}.bitmap"], size, data[:size])
