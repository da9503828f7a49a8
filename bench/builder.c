/* SPDX-License-Identifier: MIT */
/* Building guests with libxenguest, as xl does: builder KIND KERNEL MIB TIMES prints nanoseconds of each. */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xenctrl.h>
#include <xenguest.h>

#define KIB_OF_MIB 1024
#define MIB (1 << 20)
#define HOLE 0xfc000000ULL
#define FOUR_GIB (1ULL << 32)

static xc_interface *xch;

static void must(int succeeded, const char *what)
{
    if (!succeeded)
        err(1, "%s", what);
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static uint32_t create(int pvh, uint32_t mib)
{
    struct xen_domctl_createdomain config = {
        .flags = pvh ? XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap : 0,
        .max_vcpus = 1,
        .max_evtchn_port = 1023,
        .max_grant_frames = -1,
        .max_maptrack_frames = -1,
        .grant_opts = XEN_DOMCTL_GRANT_version(2),
        .arch.emulation_flags = pvh ? XEN_X86_EMU_LAPIC : 0,
    };
    unsigned int paging = mib / 128 + 2;
    uint32_t domid = 0;

    must(xc_domain_create(xch, &domid, &config) == 0, "xc_domain_create");
    must(xc_domain_max_vcpus(xch, domid, 1) == 0, "xc_domain_max_vcpus");
    must(xc_domain_setmaxmem(xch, domid, (mib + 1) * KIB_OF_MIB) == 0, "xc_domain_setmaxmem");
    if (pvh)
        must(xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION, &paging, 0) == 0, "paging");
    return domid;
}

static void place(struct xc_dom_image *dom, uint32_t mib)
{
    uint64_t size = (uint64_t)mib * MIB;

    dom->container_type = XC_DOM_HVM_CONTAINER;
    dom->target_pages = size >> XC_PAGE_SHIFT;
    dom->mmio_start = HOLE;
    dom->mmio_size = FOUR_GIB - HOLE;
    dom->lowmem_end = size < HOLE ? size : HOLE;
    dom->highmem_end = size < HOLE ? 0 : FOUR_GIB + size - HOLE;
}

static uint32_t build(int pvh, const char *kernel, uint32_t mib)
{
    uint32_t domid = create(pvh, mib);
    struct xc_dom_image *dom = xc_dom_allocate(xch, "", NULL);

    must(dom != NULL, "xc_dom_allocate");
    dom->container_type = XC_DOM_PV_CONTAINER;
    if (pvh)
        place(dom, mib);
    dom->claim_enabled = 1;
    dom->max_vcpus = 1;
    dom->xenstore_evtchn = xc_evtchn_alloc_unbound(xch, domid, 0);
    dom->console_evtchn = xc_evtchn_alloc_unbound(xch, domid, 0);
    must(xc_dom_kernel_file(dom, kernel) == 0, "xc_dom_kernel_file");
    must(xc_dom_boot_xen_init(dom, xch, domid) == 0, "xc_dom_boot_xen_init");
    must(xc_dom_parse_image(dom) == 0, "xc_dom_parse_image");
    must(xc_dom_mem_init(dom, mib) == 0, "xc_dom_mem_init");
    must(xc_dom_boot_mem_init(dom) == 0, "xc_dom_boot_mem_init");
    must(xc_dom_build_image(dom) == 0, "xc_dom_build_image");
    must(xc_dom_boot_image(dom) == 0, "xc_dom_boot_image");
    must(xc_dom_gnttab_init(dom) == 0, "xc_dom_gnttab_init");
    xc_dom_release(dom);
    return domid;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        errx(2, "usage: builder pv|pvh KERNEL MIB TIMES");
    xch = xc_interface_open(NULL, NULL, 0);
    must(xch != NULL, "xc_interface_open");
    for (int left = atoi(argv[4]); left > 0; left--) {
        int64_t start = now();
        uint32_t domid = build(strcmp(argv[1], "pvh") == 0, argv[2], atoi(argv[3]));

        printf("%lld\n", (long long)(now() - start));
        must(xc_domain_destroy(xch, domid) == 0, "xc_domain_destroy");
    }
    return 0;
}
