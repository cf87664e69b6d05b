/* What the generator was asked to do: filled once from the command line, read everywhere. See options.c for what each
 * one means. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum work { FAN, RESUME, STORM, IDLE, FINISH };
enum ingest { NO_INGEST, LINES, HTTP, NATS };

struct options {
    enum work work;
    int observers, channels, inflight, missed, first, watchers;
    const char *host, *path, *watch_path, *pids;
    char headers[1024];
    int port;
    bool sse, engine_io;
    const char *hello, *await, *begins, *marker;

    enum ingest ingest;
    int publish_port, publish_connections, publish_depth, window, size;
    const char *publish_path, *publish_type, *publish_body;
    double rate;

    double warm_up, seconds, settle, patience;
};

extern struct options options;

/* Ends the program with a message when something is wrong. */
void read_options(int count, char **given);

/* The template with `{}` replaced by the channel and `{n}` by eight digits of this connection alone. */
void fill_in(char *out, size_t size, const char *template, unsigned channel, unsigned number);

/* Line `channel` of a path template that is `@FILE`, or the template itself. */
const char *path_for(const char *template, unsigned channel);

#endif
