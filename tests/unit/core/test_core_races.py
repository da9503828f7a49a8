# SPDX-License-Identifier: MIT
"""What another thread, or a signal handler, does to a device in the middle of a call on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import stand_ins

# Hypercall 99 says through a pipe that it is under way, then waits for another. Mapping fails at first, with
# ENOENT, which means paged out, and a signal; asked again, it maps pages that hold their frame numbers.
KERNEL = r"""
struct call { uint64_t op, arg[5]; };
struct batch { uint32_t num; uint16_t dom, pad; uint64_t addr, arr, err; };
struct batch_of_a_32_bit_kernel { uint32_t num; uint16_t dom, pad; uint64_t addr; uint32_t arr, err; };

static int map_batch(struct batch *batch, int narrow)
{
    static int calls;
    struct batch_of_a_32_bit_kernel *other = (void *)batch;
    int32_t *errors = (int32_t *)(uintptr_t)(narrow ? other->err : batch->err);
    uint64_t *frames = (uint64_t *)(uintptr_t)(narrow ? other->arr : batch->arr);
    char *start = (char *)(uintptr_t)batch->addr;
    uint32_t i;

    for (i = 0; i < batch->num; i++)
        errors[i] = calls ? 0 : -ENOENT;
    if (!calls++) {
        raise(SIGUSR1);
        errno = ENOENT;
        return -1;
    }
    if (mmap(start, batch->num * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
             -1, 0) == MAP_FAILED)
        return -1;
    for (i = 0; i < batch->num; i++)
        *(uint64_t *)(start + i * 4096ul) = frames[i];
    return 0;
}

static int answer(unsigned long request, void *structure)
{
    struct call *call = structure;
    char signal;

    if (_IOC_NR(request) == 4)
        return map_batch(structure, _IOC_SIZE(request) == 24);
    if (_IOC_NR(request) != 0) {
        errno = ENOTTY;
        return -1;
    }
    if (call->op == 99 && (write(call->arg[0], "!", 1) != 1 || read(call->arg[1], &signal, 1) != 1))
        return -1;
    return 0;
}
"""
BEGIN = """
import os, signal, sys, threading
from array import array
from pyxc._core import Privcmd, RecordReader
path = {path!r}
device = Privcmd(path, gate="never")
number = device.fd
started, start = os.pipe()
ending, end = os.pipe()
"""
CLOSED_DURING_A_CALL = """
results = []
thread = threading.Thread(target=lambda: results.append(device.hypercall(99, start, ending)))
thread.start()
os.read(started, 1)
device.close()
print("reused:", number in [os.open(path, os.O_RDONLY) for _ in range(3)])
os.write(end, b"!")
thread.join()
print("result:", results[0])
print("free:", number in [os.open(path, os.O_RDONLY) for _ in range(3)])
try:
    device.hypercall(99)
except ValueError as error:
    print("then:", error)
"""
LOOKED_AT_WHILE_MAPPING = """
found = []
def look(*_):
    for mapped in device.maps:
        found.append(mapped)
        mapped.close()
signal.signal(signal.SIGUSR1, look)
frames = array("Q", [7, 2**40 - 1])
mapped = device.map_frames(1, frames)
print("found:", found)
print("kept:", device.maps == [mapped])
print("holds:", [int.from_bytes(memoryview(mapped)[at : at + 8], sys.byteorder) for at in (0, 4096)])
"""
CLOSED_WHILE_MAPPING = """
signal.signal(signal.SIGUSR1, lambda *_: device.close())
try:
    device.map_frames(1, array("Q", [7, 8]))
except ValueError as error:
    print("raised:", error)
print("left:", path in open("/proc/self/maps").read())
print("free:", number in [os.open(path, os.O_RDONLY) for _ in range(3)])
"""
CHANGED_WHILE_MAPPING = """
frames = array("Q", [7, 8])
def change(*_):
    frames[1] = 2**63 + 8
signal.signal(signal.SIGUSR1, change)
mapped = device.map_frames(1, frames)
print("holds:", [int.from_bytes(memoryview(mapped)[at : at + 8], sys.byteorder) for at in (0, 4096)])
"""
SAID = {
    CLOSED_DURING_A_CALL: "reused: False\nresult: 0\nfree: True\nthen: this handle of {path} is closed\n",
    LOOKED_AT_WHILE_MAPPING: f"found: []\nkept: True\nholds: [7, {2**40 - 1}]\n",
    CLOSED_WHILE_MAPPING: "raised: this handle of {path} is closed\nleft: False\nfree: True\n",
    CHANGED_WHILE_MAPPING: "holds: [7, 8]\n",
}


@pytest.mark.parametrize(
    "program", SAID, ids=["closed in a call", "looked at while mapping", "closed while mapping", "changed"]
)
def test_nobody_disturbs_a_call(program: str, tmp_path: Path) -> None:
    path = tmp_path / "privcmd"
    path.write_bytes(bytes(8192))
    printed = stand_ins.run(BEGIN.format(path=str(path)) + program, KERNEL, tmp_path)
    assert printed == SAID[program].format(path=path)
