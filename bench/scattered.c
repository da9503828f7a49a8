/* SPDX-License-Identifier: MIT */
/* What a program on libxenforeignmemory does with a guest that it has mapped: scattered reads, a copy. */

#include <stdint.h>
#include <string.h>

#define CHUNK (1 << 20)

uint64_t scattered(const char *memory, const uint64_t *addresses, size_t count)
{
    uint64_t word, sum = 0;

    for (size_t i = 0; i < count; i++) {
        memcpy(&word, memory + addresses[i], sizeof(word));
        sum += word;
    }
    return sum;
}

void copied(const char *memory, size_t size)
{
    static char buffer[CHUNK];

    for (size_t at = 0; at + CHUNK <= size; at += CHUNK) {
        memcpy(buffer, memory + at, CHUNK);
        /* The compiler must not leave the copy out. */
        __asm__ volatile("" : : "r"(buffer) : "memory");
    }
}
