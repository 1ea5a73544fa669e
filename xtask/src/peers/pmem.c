/*
 * The limits: libpmem and memcpy on a mapped file. Prints figures in the form of runtime/examples/bench.
 *
 *     pmem copy FILE BLOCKS             4 KiB, past the caches, each block once in random order
 *     pmem sequential FILE MEBIBYTES    1 MiB, past the caches (write); by memcpy (read)
 */
#include <libpmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCK = 4096, MEBIBYTE = 1 << 20 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        return 2;
    }
    size_t count = strtoul(argv[3], NULL, 10);
    int random = strcmp(argv[1], "copy") == 0;
    size_t unit = random ? BLOCK : MEBIBYTE, length;
    int is_pmem;
    char *mapped = pmem_map_file(argv[2], count * unit, PMEM_FILE_CREATE, 0600, &length, &is_pmem);
    char *buffer = aligned_alloc(BLOCK, unit);
    size_t *order = malloc(count * sizeof *order);
    if (!mapped || !buffer || !order || !count) {
        perror("pmem");
        return 1;
    }
    /* No page fault falls into what is timed. */
    memset(mapped, 1, length);
    memset(buffer, 0x5a, unit);
    srand(1);
    for (size_t at = 0; at < count; at++) {
        order[at] = at;
    }
    for (size_t at = count - 1; random && at > 0; at--) {
        size_t other = (size_t)rand() % (at + 1), moved = order[at];
        order[at] = order[other];
        order[other] = moved;
    }
    double started = now();
    for (size_t at = 0; at < count; at++) {
        pmem_memcpy(mapped + order[at] * unit, buffer, unit, PMEM_F_MEM_NONTEMPORAL);
    }
    printf("%s %.1f\n", random ? "copy" : "write", (now() - started) / count);
    if (!random) {
        started = now();
        for (size_t at = 0; at < count; at++) {
            memcpy(buffer, mapped + at * unit, unit);
            __asm__ volatile("" : : "r"(buffer) : "memory");
        }
        printf("read %.1f\n", (now() - started) / count);
    }
    pmem_unmap(mapped, length);
    return 0;
}
