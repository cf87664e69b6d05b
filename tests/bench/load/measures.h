/* What is measured with: two clocks, a histogram, and what the system says of a process. */
#ifndef MEASURES_H
#define MEASURES_H

#include <stdint.h>

/* For durations. */
uint64_t now_ns(void);

/* CLOCK_REALTIME, which publishers stamp events with: the demo agent's `t=` is of this clock too. */
uint64_t stamp_ns(void);

/* A histogram of nanoseconds, exact to a 64th of each value. */
enum { STEPS = 64, BUCKETS = 64 * STEPS };

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total, largest;
};

void histogram_add(struct histogram *h, uint64_t value);

/* The value below which this part of them lies, in milliseconds; 0 when there is none. */
double histogram_ms(const struct histogram *h, double part);

/* Of the processes in a list like "17,18": seconds of processor time used by all their threads, and KiB of resident
 * memory. The scheduler's own account, in nanoseconds: the usual one ticks a hundred times a second. */
double cpu_seconds_of(const char *pids);
long resident_kib_of(const char *pids);

#endif
