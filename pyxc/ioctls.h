/* SPDX-License-Identifier: MIT */
/*
 * The ioctls of Linux's Xen devices as a 64-bit kernel defines them, whatever the width of this process:
 * pointers are u64 and padding is explicit, because u64 is aligned to 4 bytes on i386. The numbers come from
 * the platform's own _IOC macro, since its layout differs between architectures.
 */
#ifndef PYXC_IOCTLS_H
#define PYXC_IOCTLS_H

#include <stdint.h>
#include <sys/ioctl.h>

#include "gate.h"

struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};

/* The same until 2006-06-06: words of the kernel's width, which is 32 bits where this differs. */
struct privcmd_hypercall_longs {
    unsigned long op;
    unsigned long arg[5];
};

struct privcmd_mmapbatch_v2 {
    uint32_t num;
    uint16_t dom;
    uint16_t pad;
    uint64_t addr;
    uint64_t arr;
    uint64_t err;
};

/* The same as a 32-bit kernel has it. */
struct privcmd_mmapbatch_v2_32 {
    uint32_t num;
    uint16_t dom;
    uint16_t pad;
    uint64_t addr;
    uint32_t arr;
    uint32_t err;
};

struct privcmd_dm_op {
    uint16_t dom;
    uint16_t num;
    uint32_t pad;
    uint64_t ubufs;
};

struct privcmd_mmap_resource {
    uint16_t dom;
    uint16_t pad;
    uint32_t type;
    uint32_t id;
    uint32_t idx;
    uint64_t num;
    uint64_t addr;
};

struct evtchn_bind_interdomain {
    uint32_t remote_domain;
    uint32_t remote_port;
};

struct gntdev_map_grant_ref {
    uint32_t count;
    uint32_t pad;
    uint64_t index;
    struct {
        uint32_t domid;
        uint32_t ref;
    } refs[1];
};

struct gntalloc_alloc_gref {
    uint16_t domid;
    uint16_t flags;
    uint32_t count;
    uint64_t index;
    uint32_t refs[1];
    uint32_t pad;
};

/* The frame numbers of MMAPBATCH_V2 are u64, but not under a 32-bit x86 kernel. */
#ifdef __i386__
enum { KERNEL32_FRAME_SIZE = 4 };
#else
enum { KERNEL32_FRAME_SIZE = 8 };
#endif

_Static_assert(sizeof(struct privcmd_hypercall) == 48, "privcmd_hypercall");
_Static_assert(sizeof(struct privcmd_mmapbatch_v2) == 32, "privcmd_mmapbatch_v2");
_Static_assert(sizeof(struct privcmd_mmapbatch_v2_32) == 24, "privcmd_mmapbatch_v2_32");
_Static_assert(sizeof(struct privcmd_dm_op) == 16, "privcmd_dm_op");
_Static_assert(sizeof(struct privcmd_mmap_resource) == 32, "privcmd_mmap_resource");
_Static_assert(sizeof(struct gntdev_map_grant_ref) == 24, "gntdev_map_grant_ref");
_Static_assert(sizeof(struct gntalloc_alloc_gref) == 24, "gntalloc_alloc_gref");

enum {
    PRIVCMD_HYPERCALL = _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall)),
    PRIVCMD_HYPERCALL_LONGS = _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall_longs)),
    PRIVCMD_MMAPBATCH_V2 = _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch_v2)),
    PRIVCMD_MMAPBATCH_V2_32 = _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch_v2_32)),
    PRIVCMD_DM_OP = _IOC(_IOC_NONE, 'P', 5, sizeof(struct privcmd_dm_op)),
    PRIVCMD_RESTRICT = _IOC(_IOC_NONE, 'P', 6, sizeof(uint16_t)),
    PRIVCMD_MMAP_RESOURCE = _IOC(_IOC_NONE, 'P', 7, sizeof(struct privcmd_mmap_resource)),
    PRIVCMD_UNIMPLEMENTED = _IOC(_IOC_NONE, 'P', 0xFF, 0),
    EVTCHN_BIND_VIRQ = _IOC(_IOC_NONE, 'E', 0, sizeof(uint32_t)),
    EVTCHN_BIND_INTERDOMAIN = _IOC(_IOC_NONE, 'E', 1, sizeof(struct evtchn_bind_interdomain)),
    EVTCHN_BIND_UNBOUND_PORT = _IOC(_IOC_NONE, 'E', 2, sizeof(uint32_t)),
    EVTCHN_UNBIND = _IOC(_IOC_NONE, 'E', 3, sizeof(uint32_t)),
    EVTCHN_NOTIFY = _IOC(_IOC_NONE, 'E', 4, sizeof(uint32_t)),
    EVTCHN_RESET = _IOC(_IOC_NONE, 'E', 5, 0),
    EVTCHN_RESTRICT_DOMID = _IOC(_IOC_NONE, 'E', 6, sizeof(uint16_t)),
    GNTDEV_MAP_GRANT_REF = _IOC(_IOC_NONE, 'G', 0, sizeof(struct gntdev_map_grant_ref)),
    GNTALLOC_ALLOC_GREF = _IOC(_IOC_NONE, 'G', 5, sizeof(struct gntalloc_alloc_gref)),
};

/* Bytes of the structure of an ioctl as its number tells; 0 for those that are older than this rule. */
static inline long ioctl_size(uint32_t request)
{
#ifdef _IOC_SIZE
    return _IOC_SIZE(request);
#else
    /* musl. Where the size has fewest bits, on PowerPC, these are 13; no request here needs more. */
    return request / _IOC(0u, 0u, 0u, 1u) & 0x1FFF;
#endif
}

/* How a kernel takes hypercalls from this process. */
enum hypercall_way { PLAIN, GATED, LONGS };

/* The result through an int, or -errno; EINVAL for an argument that a kernel of longs cannot take. */
static inline int issue_hypercall(int fd, struct privcmd_hypercall *call, int way)
{
    struct privcmd_hypercall_longs narrow;
    int i;

    if (way != LONGS)
        return xen_ioctl(fd, PRIVCMD_HYPERCALL, call, way == GATED);
    narrow.op = call->op;
    for (i = 0; i < 5; i++) {
        narrow.arg[i] = call->arg[i];
        if (narrow.arg[i] != call->arg[i])
            return -EINVAL;
    }
    return xen_ioctl(fd, PRIVCMD_HYPERCALL_LONGS, &narrow, 0);
}

#endif
