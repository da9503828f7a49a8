/* SPDX-License-Identifier: MIT */
/* The same operations with libxenctrl. Reads lines "OPERATION TIMES DOMID COUNT", answers nanoseconds. */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenctrl.h>
#include <xenforeignmemory.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define CHUNK (1 << 20)
#define ABSENT UINT64_MAX

static xc_interface *xch;
static xenforeignmemory_handle *memory;

static void must(int succeeded, const char *what)
{
    if (!succeeded)
        err(1, "%s", what);
}

static void *map(uint32_t domid, const uint64_t *frames, size_t count)
{
    void *mapped = xenforeignmemory_map(memory, domid, PROT_READ, count, (const xen_pfn_t *)frames, NULL);

    must(mapped != NULL, "xenforeignmemory_map");
    return mapped;
}

static void unmap(const void *mapped, size_t count)
{
    must(xenforeignmemory_unmap(memory, (void *)mapped, count) == 0, "xenforeignmemory_unmap");
}

static void xen_version(uint32_t domid, uint32_t count)
{
    must(xc_version(xch, XENVER_version, NULL) >= 0, "xc_version");
}

/* What xen.lowlevel.xc's xeninfo() asks for. */
static void xen_info(uint32_t domid, uint32_t count)
{
    xen_extraversion_t extra;
    xen_capabilities_info_t capabilities;
    xen_platform_parameters_t platform;
    xen_changeset_info_t changeset;
    xen_compile_info_t compiled;
    xen_commandline_t commandline;

    must(xc_version(xch, XENVER_version, NULL) >= 0, "version");
    must(xc_version(xch, XENVER_extraversion, extra) >= 0, "extraversion");
    must(xc_version(xch, XENVER_compile_info, &compiled) >= 0, "compile_info");
    must(xc_version(xch, XENVER_changeset, changeset) >= 0, "changeset");
    must(xc_version(xch, XENVER_capabilities, capabilities) >= 0, "capabilities");
    must(xc_version(xch, XENVER_platform_parameters, &platform) >= 0, "platform_parameters");
    must(xc_version(xch, XENVER_commandline, commandline) >= 0, "commandline");
    must(xc_version(xch, XENVER_pagesize, NULL) >= 0, "pagesize");
}

static void domain_info(uint32_t domid, uint32_t count)
{
    xc_dominfo_t info;

    must(xc_domain_getinfo(xch, domid, 1, &info) == 1, "xc_domain_getinfo");
}

static void domain_list(uint32_t domid, uint32_t count)
{
    xc_domaininfo_t *infos = malloc(count * sizeof(*infos));

    must(xc_domain_getinfolist(xch, 0, count, infos) > 0, "xc_domain_getinfolist");
    free(infos);
}

static void open_handle(uint32_t domid, uint32_t count)
{
    xc_interface *another = xc_interface_open(NULL, NULL, 0);

    must(another != NULL, "xc_interface_open");
    xc_interface_close(another);
}

static void open_and_ask(uint32_t domid, uint32_t count)
{
    xc_interface *another = xc_interface_open(NULL, NULL, 0);
    xc_dominfo_t info;

    must(another != NULL, "xc_interface_open");
    must(xc_domain_getinfo(another, domid, 1, &info) == 1, "xc_domain_getinfo");
    xc_interface_close(another);
}

static void physinfo(uint32_t domid, uint32_t count)
{
    xc_physinfo_t info = {0};

    must(xc_physinfo(xch, &info) == 0, "xc_physinfo");
}

static void vcpu_info(uint32_t domid, uint32_t count)
{
    xc_vcpuinfo_t info;

    for (uint32_t vcpu = 0; vcpu < count; vcpu++)
        must(xc_vcpu_getinfo(xch, domid, vcpu, &info) == 0, "xc_vcpu_getinfo");
}

/* The frames in the p2m that a PV guest publishes as a tree of frame lists: at most one list of pages. */
static size_t read_frames(uint32_t domid, uint64_t *frames)
{
    xc_dominfo_t info;
    const struct arch_shared_info *arch;
    const shared_info_t *shared;
    const uint64_t *root, *list, *entries;
    uint64_t shared_frame, root_frame;
    size_t pages, found = 0, size;

    must(xc_domain_getinfo(xch, domid, 1, &info) == 1, "xc_domain_getinfo");
    shared_frame = info.shared_info_frame;
    shared = map(domid, &shared_frame, 1);
    arch = &shared->arch;
    size = arch->max_pfn;
    pages = (size + WORDS - 1) / WORDS;
    if (size == 0 || pages > WORDS)
        errx(1, "a p2m of %zu pages", pages);
    root_frame = arch->pfn_to_mfn_frame_list_list;
    unmap(shared, 1);
    root = map(domid, &root_frame, 1);
    list = map(domid, root, 1);
    entries = map(domid, list, pages);
    for (size_t pfn = 0; pfn < size; pfn++)
        if (entries[pfn] != ABSENT)
            frames[found++] = entries[pfn];
    unmap(entries, pages);
    unmap(list, 1);
    unmap(root, 1);
    return found;
}

static void frame_list(uint32_t domid, uint32_t count)
{
    uint64_t *frames = malloc(count * sizeof(*frames));

    if (read_frames(domid, frames) != count)
        errx(1, "the p2m does not hold %u frames", count);
    free(frames);
}

static uint64_t *frames_of_guest;
static char *mapped_guest;
static char buffer[CHUNK];

static void map_guest(uint32_t domid, uint32_t count)
{
    unmap(map(domid, frames_of_guest, count), count);
}

static void copy_guest(uint32_t domid, uint32_t count)
{
    for (size_t at = 0; at < (size_t)count * PAGE; at += CHUNK) {
        memcpy(buffer, mapped_guest + at, CHUNK);
        /* The compiler must not leave the copy out. */
        __asm__ volatile("" : : "r"(buffer) : "memory");
    }
}

static void prepare_frames(uint32_t domid, uint32_t count)
{
    frames_of_guest = malloc(count * sizeof(*frames_of_guest));
    read_frames(domid, frames_of_guest);
}

static void prepare_copy(uint32_t domid, uint32_t count)
{
    prepare_frames(domid, count);
    mapped_guest = map(domid, frames_of_guest, count);
}

static void finish_frames(uint32_t domid, uint32_t count)
{
    free(frames_of_guest);
}

static void finish_copy(uint32_t domid, uint32_t count)
{
    unmap(mapped_guest, count);
    finish_frames(domid, count);
}

typedef void step(uint32_t domid, uint32_t count);

/* Only RUN is measured. */
static const struct {
    const char *name;
    step *run, *prepare, *finish;
} operations[] = {
    {"xen_version", xen_version},
    {"xen_info", xen_info},
    {"domain_info", domain_info},
    {"domain_list", domain_list},
    {"open", open_handle},
    {"open_and_ask", open_and_ask},
    {"physinfo", physinfo},
    {"vcpu_info", vcpu_info},
    {"frame_list", frame_list},
    {"map_guest", map_guest, prepare_frames, finish_frames},
    {"copy_guest", copy_guest, prepare_copy, finish_copy},
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

static uint64_t measure(const char *name, unsigned int times, uint32_t domid, uint32_t count)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        uint64_t start, elapsed;

        if (strcmp(operations[i].name, name) != 0)
            continue;
        if (operations[i].prepare)
            operations[i].prepare(domid, count);
        start = now_ns();
        for (unsigned int n = 0; n < times; n++)
            operations[i].run(domid, count);
        elapsed = now_ns() - start;
        if (operations[i].finish)
            operations[i].finish(domid, count);
        return elapsed;
    }
    errx(1, "no operation %s", name);
}

int main(void)
{
    char name[32];
    unsigned int times, domid, count;

    must((xch = xc_interface_open(NULL, NULL, 0)) != NULL, "xc_interface_open");
    must((memory = xenforeignmemory_open(NULL, 0)) != NULL, "xenforeignmemory_open");
    while (scanf("%31s %u %u %u", name, &times, &domid, &count) == 4) {
        printf("%llu\n", (unsigned long long)measure(name, times, domid, count));
        fflush(stdout);
    }
    xenforeignmemory_close(memory);
    xc_interface_close(xch);
    return 0;
}
