/* SPDX-License-Identifier: MIT */
/*
 * ioctl on Xen's devices, also from a 32-bit x86 process under a 64-bit kernel.
 *
 * The drivers of privcmd, evtchn and gntdev have no handler for 32-bit callers: an i386 process is answered
 * ENOTTY. But any such process may enter the kernel's 64-bit user code segment by a far call and issue the
 * 64-bit system call itself. Only ioctl goes that way: a 64-bit mmap could answer an address above 4 GiB.
 */
#ifndef PYXC_GATE_H
#define PYXC_GATE_H

#include <errno.h>
#include <stdint.h>
#include <sys/ioctl.h>

#ifdef __i386__

/* Linux's 64-bit user code segment, under Xen as on bare hardware. */
#define GATE_SELECTOR "0x33"

/* `lar` tells without a fault whether the selector is a present code segment of ring 3 with the L bit. */
static inline int gate_available(void)
{
    const uint32_t wanted = 1u << 21 | 1u << 15 | 3u << 13 | 1u << 12 | 1u << 11;
    uint32_t rights = 0;

    __asm__("lar %1, %0" : "+r"(rights) : "r"((uint32_t)0x33) : "cc");
    return (rights & wanted) == wanted;
}

/*
 * Returns the result or -errno. What makes it safe:
 * - The far pointer is built on the stack from the running address, so the code may be loaded anywhere, and
 *   ebx (the GOT pointer) is left alone. i386 has no red zone: pushing here overwrites nothing.
 * - High halves are undefined after the change of mode, so every register that matters is zero-extended,
 *   the stack pointer too (`movl` to itself does that).
 * - A signal taken in 64-bit code gets a 32-bit frame, which keeps only the low halves of the eight old
 *   registers. Nothing lives in a high half or in r8 to r15, and the result is read as a 32-bit int: after a
 *   signal the high half of rax is zero even when the result is negative.
 * - The system call itself clobbers rcx and r11; the direction flag comes back as it was (clear).
 */
static inline int gate_ioctl(int fd, uint32_t request, void *argument)
{
    int result;

    __asm__ volatile(
        "    call 1f\n"
        "1:  popl %%ecx\n"
        "    addl $(2f - 1b), %%ecx\n"
        "    pushl $" GATE_SELECTOR "\n"
        "    pushl %%ecx\n"
        "    lcall *(%%esp)\n"
        "    addl $8, %%esp\n"
        "    jmp 3f\n"
        ".code64\n"
        "2:  movl %%esp, %%esp\n"
        "    movl %%edi, %%edi\n"
        "    movl %%esi, %%esi\n"
        "    movl %%edx, %%edx\n"
        "    movl $16, %%eax\n" /* ioctl in the 64-bit table */
        "    syscall\n"
        "    lretl\n"
        ".code32\n"
        "3:\n"
        : "=a"(result), "+D"(fd), "+S"(request), "+d"(argument)
        :
        : "ecx", "cc", "memory");
    return result;
}

#else

static inline int gate_available(void)
{
    return 0;
}

static inline int gate_ioctl(int fd, uint32_t request, void *argument)
{
    (void)fd;
    (void)request;
    (void)argument;
    return -ENOSYS;
}

#endif

/* One ioctl by the way that was chosen: its result, or -errno. */
static inline int xen_ioctl(int fd, uint32_t request, void *argument, int gated)
{
    int result;

    if (gated)
        return gate_ioctl(fd, request, argument);
    result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
}

#endif
