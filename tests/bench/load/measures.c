#define _GNU_SOURCE
#include "measures.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t read_clock(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t stamp_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

/* Values below 64 have a bucket each; from there on every power of two has 64. */
static int bucket_of(uint64_t value)
{
    if (value < STEPS)
        return (int)value;
    int power = 63 - __builtin_clzll(value);
    return (power - 5) * STEPS + (int)((value >> (power - 6)) & (STEPS - 1));
}

static uint64_t lowest_in(int bucket)
{
    if (bucket < STEPS)
        return (uint64_t)bucket;
    return (uint64_t)(STEPS + bucket % STEPS) << (bucket / STEPS - 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->total++;
    if (value > h->largest)
        h->largest = value;
}

double histogram_ms(const struct histogram *h, double part)
{
    if (!h->total)
        return 0;
    uint64_t before = (uint64_t)(part * (double)h->total), seen = 0;
    if (before >= h->total)
        return (double)h->largest / 1e6;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > before)
            return (double)lowest_in(i) / 1e6;
    }
    return (double)h->largest / 1e6;
}

/* Calls `each` for every pid of the list. */
static void for_each_pid(const char *pids, void (*each)(const char *pid, void *sum), void *sum)
{
    char list[512];
    snprintf(list, sizeof list, "%s", pids ? pids : "");
    for (char *rest = list, *pid; (pid = strsep(&rest, ","));)
        if (*pid)
            each(pid, sum);
}

static void add_cpu(const char *pid, void *sum)
{
    char path[512];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return;
    for (struct dirent *task; (task = readdir(tasks));) {
        if (!isdigit((unsigned char)task->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pid, task->d_name);
        FILE *file = fopen(path, "r");
        unsigned long long ran;
        if (!file)
            continue;
        if (fscanf(file, "%llu", &ran) == 1)
            *(double *)sum += (double)ran / 1e9;
        fclose(file);
    }
    closedir(tasks);
}

double cpu_seconds_of(const char *pids)
{
    double sum = 0;
    for_each_pid(pids, add_cpu, &sum);
    return sum;
}

static void add_resident(const char *pid, void *sum)
{
    char path[64], line[256];
    long kib;
    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            *(long *)sum += kib;
    fclose(file);
}

long resident_kib_of(const char *pids)
{
    long sum = 0;
    for_each_pid(pids, add_resident, &sum);
    return sum;
}
