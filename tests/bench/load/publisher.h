/* Where events come from: they are numbered for each channel, stamped, and written to the server in its own way. */
#ifndef PUBLISHER_H
#define PUBLISHER_H

#include <stdbool.h>
#include <stdint.h>

struct published {
    uint64_t events;
    uint64_t refused;   /* HTTP requests */
    uint64_t latest_ns; /* how late an event of an open loop was published, at most */
};

extern struct published published;

/* Events go round over channels `first` to `first + count - 1`. Ends the program when the server is not there. */
void publisher_prepare(unsigned first, unsigned count);

/* Publish what is due: with a window when fewer than that are on their way, with a rate by the clock. `delivered` is
 * how many events have come to an observer, on average over those of a channel. */
void publisher_go_on(double delivered);

/* Write what is not yet written, and read answers. */
void publisher_flush(void);

#endif
