/* Connections that watch: they are opened, their stream is read, and every event in it is checked.
 *
 * An event says `seq=N t=NANOSECONDS `. An observer of a channel must see 0, 1, 2, … of it: what is missing counts as a
 * gap, what comes again as a double. A message may hold several events, and one event is never in two messages. */
#ifndef OBSERVERS_H
#define OBSERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "measures.h"

enum { UNKNOWN = -2 };

enum state { UNUSED, CONNECTING, ASKED, AWAITED, OPEN, GONE };

struct bytes {
    uint8_t *at;
    uint32_t length, room;
};

struct observer {
    int fd;
    enum state state;
    unsigned channel, number;
    bool urgent;          /* a watcher, whose delays are counted apart */
    bool chunked;
    bool finished;        /* has seen all that it had missed */
    int64_t chunk_left;   /* of the body's chunk; 0: its size comes next, -1: the line's end after it does */
    int64_t last;         /* the number of the last event; UNKNOWN when any may come first */
    uint32_t seen;        /* events */
    uint32_t place;       /* where the marker was in the last message: mostly where it is in the next */
    uint64_t began, first_at, last_at;
    uint64_t again_at;    /* of a storm: when to try once more, because the first attempt was not accepted; 0: not */
    struct bytes rest;    /* what came of a frame or line that is not complete */
    struct bytes message; /* the frames or pieces so far of a message that is not complete */
};

/* What all observers have seen. */
struct tally {
    uint64_t opened, refused, closed;
    uint64_t again; /* attempts of a storm that have to be made once more */
    uint64_t events, messages, bytes;
    uint64_t gaps, doubles;
    uint64_t finished; /* observers that saw all they had missed */
    bool timing;
    struct histogram delays;         /* from the event's stamp to the read that brought it */
    struct histogram urgent_delays;  /* the same, of watchers */
    struct histogram finishing;      /* from the beginning of the connection to the last event missed */
    uint64_t busy_ns;                /* spent on what came, not on waiting for it */
};

extern struct tally tally;

void observers_prepare(void);

/* Begin to connect. Also for one that is gone: it begins from nothing. */
void observer_start(struct observer *o);

void observer_stop(struct observer *o, enum state state);

/* Take what has come, waiting at most so long; the number of connections that had something. */
int observers_serve(int milliseconds);

#endif
