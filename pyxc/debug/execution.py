# SPDX-License-Identifier: MIT
"""How a debugger lets a domain run: breakpoints, single steps, and why it stopped.

Xen pauses a debugged domain at each int3, and counts the pauses. Between two runs the domain is paused once,
no vcpu is held, and every vcpu that met an int3 is back at it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from pyxc import errors, undoing
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, domctl_debug
from pyxc.abi.arch.x86 import EFLAGS_TF, ContextFlag
from pyxc.abi.domctl import DomainFlag
from pyxc.abi.domctl_debug import DebugOp
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.domain import Domain
from pyxc.domain.info import DomainInfo
from pyxc.domain.vcpu_state import read_xstate, write_xstate

_INT3 = b"\xcc"
_OLDEST = (4, 5)
_KERNEL_HALF = 1 << 63
_MOST_BREAKPOINTS = 4096
_MOST_PAUSES = 256
_PATIENCE, _MOMENT_S = 100, 0.001
"""How often in a row the guest may meet an int3 of its own: Linux has some for a moment when it changes its
code, and runs on once they are gone."""
_NO_FLAG = (errno.EOPNOTSUPP, errno.ENOSYS)


class Stop(NamedTuple):
    """Why a domain stopped: at which vcpu, whether at a breakpoint of the debugger, and what to say of it."""

    vcpu: int
    breakpoint: bool = False
    remark: str = ""


class _Breakpoint(NamedTuple):
    """Where its int3 is, and what was there before."""

    frame: int
    offset: int
    before: bytes


def how_it_ended(info: DomainInfo) -> str:
    """What to say of a domain that has shut down."""
    reason = info.shutdown_reason
    return f"the guest has shut down: {reason.name.lower() if isinstance(reason, ShutdownReason) else reason}"


class Execution:
    """One debugger's control of a domain's execution, while `attached()`. Threads: one at a time."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._breakpoints: dict[int, _Breakpoint] = {}
        self._held: list[int] = []
        self._refusal = ""
        self._found_paused = False
        self._step: int | None = None
        self._by_flag = True
        self._flag_was_set = False

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The domain is paused, and debugged if Xen can, during the block. In the end no breakpoint is left,
        and it runs, unless it was found paused."""
        domain = self.domain
        info = domain.info()
        self._found_paused = info.paused
        self._refusal = self._why_not()

        def detach() -> None:
            with suppress(errors.DomainNotFound, errors.DomainGone):
                self._detach()

        left = f"domain {domain.domid} is left paused, perhaps with breakpoints in its memory"
        with undoing.always(detach, left):
            if not self._refusal:
                domain.change(domctl.PAUSEDOMAIN)
                domain.change(domctl.SETDEBUGGING, enable=True)
                if DomainFlag.DEBUGGED in info.flags:
                    self._release_all()
            self._settle()
            yield

    def _why_not(self) -> str:
        """Why there are no breakpoints and steps, if so. Without its support Xen would swallow an int3."""
        if self.domain.xen.interface.xen < _OLDEST:
            return "breakpoints and steps need Xen 4.5 or newer"
        try:
            self.domain.change(domctl_debug.GDBSX_UNPAUSEVCPU, vcpu=domctl_debug.NO_VCPU)
        except errors.Unsupported:
            return "this Xen has no breakpoints and steps: it was built without CONFIG_GDBSX, as releases are"
        except errors.HypercallError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL):
                raise
        return ""

    def _detach(self) -> None:
        self._settle()
        for address in list(self._breakpoints):
            self.remove(address)
        if not self._refusal:
            self.domain.undo(domctl.SETDEBUGGING, enable=False)
        if not self._found_paused:
            self.domain.undo(domctl.UNPAUSEDOMAIN)

    # Breakpoints.

    def insert(self, vcpu: int, address: int) -> None:
        """Let every vcpu stop before the instruction at an address, which this vcpu's page tables map.

        NotMapped; ValueError where Xen would leave the int3 to the guest.
        """
        self._check_able()
        if address in self._breakpoints:
            return
        if len(self._breakpoints) >= _MOST_BREAKPOINTS:
            raise ValueError(f"there are {_MOST_BREAKPOINTS} breakpoints already")
        if not self.domain.info().is_hvm:
            self._check_pv()
            if address < _KERNEL_HALF:
                raise ValueError("Xen stops a PV guest at breakpoints in its kernel only")
        found = self.domain.vcpu(vcpu).translate(address)
        offset = address % PAGE_SIZE
        before = self.domain.memory.read(found.frame, offset, 1)
        if before == _INT3:
            raise ValueError(f"the guest itself has an int3 at {address:#x}")
        self._breakpoints[address] = _Breakpoint(found.frame, offset, before)
        self.domain.memory.write(found.frame, _INT3, offset)

    def remove(self, address: int) -> None:
        """Take a breakpoint away; what the guest has written there since stays."""
        found = self._breakpoints.get(address)
        if found is None:
            return
        if self.domain.memory.read(found.frame, found.offset, 1) == _INT3:
            self.domain.memory.write(found.frame, found.before, found.offset)
        del self._breakpoints[address]

    def without_breakpoints(self, address: int, data: bytes) -> bytes:
        """Memory as the guest has it, from an address on."""
        shown = bytearray(data)
        for place, breakpoint in self._breakpoints.items():
            if address <= place < address + len(data):
                shown[place - address : place - address + 1] = breakpoint.before
        return bytes(shown)

    def check_writable(self, address: int, size: int) -> None:
        """ValueError if a breakpoint is among these bytes."""
        for place in self._breakpoints:
            if address <= place < address + size:
                raise ValueError(f"there is a breakpoint at {place:#x}: remove it first")

    # Running.

    def go(self, step: int | None = None) -> None:
        """Let the domain run, or one vcpu execute one instruction."""
        if self._refusal and self._found_paused:
            raise ValueError("the domain was paused before: let it run with pyxc unpause")
        if step is not None:
            self._check_able()
            self._check_step(step)
            self._hold(step)
            self._set_step(step)
        self.domain.change(domctl.UNPAUSEDOMAIN)

    def stopped(self) -> Stop | None:
        """Whether and why it has stopped by itself; it may have stopped for a reason of its own, and then
        runs on."""
        for left in reversed(range(_PATIENCE)):
            info = self.domain.info()
            if not (info.paused or info.shut_down):
                return None
            step = self._step
            met = self._settle()
            if info.shut_down:
                return Stop(0, remark=how_it_ended(info))
            stop = None if left and not met and self._take_stray_flags() else self._reason(met, step, left)
            if stop is not None:
                return stop
            self.go(step)
            time.sleep(_MOMENT_S)
        return None

    def _reason(self, met: dict[int, int], step: int | None, left: int) -> Stop | None:
        """Why it has stopped; None at an int3 of the guest's own while there are tries left."""
        ours = [vcpu for vcpu, address in met.items() if address in self._breakpoints]
        if ours:
            return Stop(ours[0], True)
        if not met:
            return Stop(0 if step is None else step)
        if left:
            return None
        vcpu, address = next(iter(met.items()))
        remark = f"vcpu {vcpu} is at an int3 of the guest's own, {address:#x}, and stays there"
        return Stop(vcpu, False, remark)

    def interrupt(self) -> Stop | None:
        """Stop it now; returns why it stopped if it just has by itself."""
        step = self._step
        for vcpu, address in self._settle().items():
            if address in self._breakpoints:
                return Stop(vcpu, True)
        return None if step is None else Stop(step)

    def set_registers(self, vcpu: int, **registers: int) -> None:
        """Change some registers, by the names of VcpuContext."""
        one = self.domain.vcpu(vcpu)
        # Xen resets all but the oldest part of the extended state.
        extended = read_xstate(one)
        one.set_context(one.context().replace(**registers))
        if extended:
            write_xstate(one, extended)

    def _settle(self) -> dict[int, int]:
        """Stop the domain, paused once; returns where vcpus met an int3, and puts them back there.

        While Xen's pauses are taken away all vcpus are held, so that none of them runs.
        """
        domain = self.domain
        if self._refusal:
            if not domain.info().paused:
                domain.change(domctl.PAUSEDOMAIN)
            return {}
        domain.change(domctl.PAUSEDOMAIN)
        self._hold(None)
        met = dict(self._met())
        for _ in range(_MOST_PAUSES):
            if not domain.info().paused:
                break
            domain.change(domctl.UNPAUSEDOMAIN)
        domain.change(domctl.PAUSEDOMAIN)
        self._release()
        self._end_step()
        return met

    def _met(self) -> Iterator[tuple[int, int]]:
        """The vcpus that met an int3, each with its address; Xen leaves them behind it."""
        for _ in range(len(self.domain.vcpus)):
            vcpu = self.domain.change(domctl_debug.GDBSX_DOMSTATUS).field("vcpu_id")
            if vcpu >= len(self.domain.vcpus):
                return
            address = (self.domain.vcpu(vcpu).context()[self._names()[0]] - 1) % 2**64
            self.set_registers(vcpu, **{self._names()[0]: address})
            yield vcpu, address

    def _hold(self, but: int | None) -> None:
        for vcpu in range(len(self.domain.vcpus)):
            if vcpu != but:
                self._held.append(vcpu)
                self.domain.change(domctl_debug.GDBSX_PAUSEVCPU, vcpu=vcpu)

    def _release(self) -> None:
        while self._held:
            self._let_go(self._held[-1])
            self._held.pop()

    def _release_all(self) -> None:
        """What a debugger that was killed holds."""
        for vcpu in range(len(self.domain.vcpus)):
            while self._let_go(vcpu):
                pass

    def _let_go(self, vcpu: int) -> bool:
        """Whether it was held."""
        try:
            self.domain.change(domctl_debug.GDBSX_UNPAUSEVCPU, vcpu=vcpu)
        except errors.HypercallError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        return True

    def _set_step(self, vcpu: int) -> None:
        """Intel's processors stop after an instruction by themselves, others by the guest's trap flag."""
        self._step, self._by_flag = vcpu, True
        if self.domain.info().is_hvm:
            try:
                self.domain.change(domctl_debug.DEBUG_OP, op=DebugOp.SINGLE_STEP_ON, vcpu=vcpu)
            except errors.HypercallError as error:
                if error.errno not in _NO_FLAG:
                    raise
            else:
                self._by_flag = False
                return
        self._set_trap_flag(vcpu, EFLAGS_TF)

    def _end_step(self) -> None:
        if self._step is None:
            return
        if self._by_flag:
            self._set_trap_flag(self._step, 0)
        else:
            self.domain.change(domctl_debug.DEBUG_OP, op=DebugOp.SINGLE_STEP_OFF, vcpu=self._step)
        self._step = None

    def _set_trap_flag(self, vcpu: int, flag: int) -> None:
        self._flag_was_set = True
        self._change_trap_flag(vcpu, flag)

    def _take_stray_flags(self) -> bool:
        """Whether a vcpu that is not stepped has the trap flag; it is taken away.

        If an interrupt comes before a step ends, what it returns to has the flag once more, some time later.
        """
        if not self._flag_was_set:
            return False
        return any(self._change_trap_flag(vcpu, 0) for vcpu in range(len(self.domain.vcpus)))

    def _change_trap_flag(self, vcpu: int, flag: int) -> bool:
        """Whether it was otherwise."""
        name = self._names()[1]
        flags = self.domain.vcpu(vcpu).context()[name]
        if flags & EFLAGS_TF == flag:
            return False
        self.set_registers(vcpu, **{name: flags & ~EFLAGS_TF | flag})
        return True

    def _names(self) -> tuple[str, str]:
        """The instruction pointer and the flags."""
        return ("eip", "eflags") if self.domain.guest_bits() == 32 else ("rip", "rflags")

    def _check_step(self, vcpu: int) -> None:
        if self.domain.info().is_hvm:
            return
        self._check_pv()
        if not self.domain.vcpu(vcpu).context()["flags"] & ContextFlag.IN_KERNEL:
            raise ValueError(f"vcpu {vcpu} runs a program: Xen steps a PV guest in its kernel only")

    def _check_able(self) -> None:
        if self._refusal:
            raise ValueError(self._refusal)

    def _check_pv(self) -> None:
        if self.domain.guest_bits() == 32:
            raise ValueError("breakpoints and steps of 32-bit PV guests are not supported")
