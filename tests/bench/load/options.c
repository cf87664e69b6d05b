#define _GNU_SOURCE
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "load WORK [options]: drives a server that streams events to observers; one line of JSON on stdout\n"
    "\n"
    "WORK is one of\n"
    "  fan      observers connect and stay; events are published to them at --rate or in a --window\n"
    "  resume   every observer connects, waits for --missed events, leaves, and begins again\n"
    "  storm    as resume, but once, all at the same moment, while --watchers look at channel C of a running stream\n"
    "  idle     observers connect and stay; nothing happens\n"
    "  finish   observers connect and wait for --missed events that somebody else publishes\n"
    "\n"
    "observers\n"
    "  --observers N      so many connections; the i-th watches channel i modulo --channels\n"
    "  --channels C\n"
    "  --host A --port P --path T   T may be @FILE with one path a line, the i-th for channel i modulo their number\n"
    "  --sse              read server-sent events; without it a WebSocket is opened\n"
    "  --header T         a line for the request; can be repeated\n"
    "  --hello T          sent as a text message when the WebSocket is open; \\r and \\n are understood\n"
    "  --await TEXT       a connection counts as open once a message with this text came\n"
    "  --inflight N       at most so many connections are being opened at a time\n"
    "  --engine-io        answer Engine.IO's pings\n"
    "  --begins TEXT      only messages that begin so hold events\n"
    "  --marker TEXT      where the events of a message begin; it ends with seq=\n"
    "  --missed K         of resume, storm and finish\n"
    "  --first N          the number that the first event must have; without it any may come first\n"
    "  --watchers N --watch-path T   of storm; they see what is published to channel C\n"
    "\n"
    "publishing\n"
    "  --publish HOW      lines: \"CHANNEL PAYLOAD\\n\" over TCP; http: a POST each; nats: PUB\n"
    "  --publish-port P --publish-path T --publish-connections N\n"
    "  --publish-depth N  HTTP requests that wait for an answer on one connection, at most\n"
    "  --publish-type T --publish-body T   of HTTP; in the body {} is the event\n"
    "  --window W         a closed loop: so many events are on their way, on average over the observers\n"
    "  --rate R           an open loop: so many events a second over all channels\n"
    "  --size BYTES       of an event, `seq=N t=NANOSECONDS ` and dots; t is CLOCK_REALTIME\n"
    "\n"
    "measuring\n"
    "  --warm-up S --seconds S --settle S\n"
    "  --patience S       how long to wait for what is late\n"
    "  --pids P,P         the server's processes\n"
    "\n"
    "In templates {} is the channel and {n} eight digits of the connection alone.\n";

struct options options = {
    .observers = 1,
    .channels = 1,
    .inflight = 64,
    .missed = 500,
    .first = -1,
    .host = "127.0.0.1",
    .path = "/",
    .begins = "",
    .marker = "seq=",
    .publish_connections = 1,
    .publish_depth = 64,
    .publish_path = "/",
    .publish_type = "text/plain",
    .publish_body = "{}",
    .size = 200,
    .warm_up = 1,
    .seconds = 5,
    .settle = 0.5,
    .patience = 10,
};

static void refuse(const char *what, const char *value)
{
    fprintf(stderr, "load: %s %s\n", what, value);
    exit(2);
}

static int one_of(const char *value, const char *const *names, const char *what)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], value))
            return i;
    refuse(what, value);
    return 0;
}

void read_options(int count, char **given)
{
    static const char *const works[] = {"fan", "resume", "storm", "idle", "finish", NULL};
    static const char *const ingests[] = {"", "lines", "http", "nats", NULL};
    /* Each option and where its value goes. */
    const struct {
        const char *name;
        int *number;
        double *fraction;
        const char **text;
        bool *flag;
    } table[] = {
        {"observers", &options.observers, 0, 0, 0},
        {"channels", &options.channels, 0, 0, 0},
        {"inflight", &options.inflight, 0, 0, 0},
        {"missed", &options.missed, 0, 0, 0},
        {"first", &options.first, 0, 0, 0},
        {"watchers", &options.watchers, 0, 0, 0},
        {"host", 0, 0, &options.host, 0},
        {"port", &options.port, 0, 0, 0},
        {"path", 0, 0, &options.path, 0},
        {"watch-path", 0, 0, &options.watch_path, 0},
        {"pids", 0, 0, &options.pids, 0},
        {"sse", 0, 0, 0, &options.sse},
        {"engine-io", 0, 0, 0, &options.engine_io},
        {"hello", 0, 0, &options.hello, 0},
        {"await", 0, 0, &options.await, 0},
        {"begins", 0, 0, &options.begins, 0},
        {"marker", 0, 0, &options.marker, 0},
        {"publish-port", &options.publish_port, 0, 0, 0},
        {"publish-path", 0, 0, &options.publish_path, 0},
        {"publish-connections", &options.publish_connections, 0, 0, 0},
        {"publish-depth", &options.publish_depth, 0, 0, 0},
        {"publish-type", 0, 0, &options.publish_type, 0},
        {"publish-body", 0, 0, &options.publish_body, 0},
        {"window", &options.window, 0, 0, 0},
        {"rate", 0, &options.rate, 0, 0},
        {"size", &options.size, 0, 0, 0},
        {"warm-up", 0, &options.warm_up, 0, 0},
        {"seconds", 0, &options.seconds, 0, 0},
        {"settle", 0, &options.settle, 0, 0},
        {"patience", 0, &options.patience, 0, 0},
    };
    enum { TABLE = sizeof table / sizeof *table, HEADER = TABLE, PUBLISH, ALL };
    struct option long_options[ALL + 1] = {{0}};
    for (int i = 0; i < TABLE; i++)
        long_options[i] = (struct option){table[i].name, table[i].flag ? no_argument : required_argument, 0, 0};
    long_options[HEADER] = (struct option){"header", required_argument, 0, 0};
    long_options[PUBLISH] = (struct option){"publish", required_argument, 0, 0};

    if (count < 2 || !strcmp(given[1], "--help")) {
        fputs(HELP, stdout);
        exit(count < 2 ? 2 : 0);
    }
    options.work = (enum work)one_of(given[1], works, "there is no work");
    int which;
    while (getopt_long(count - 1, given + 1, "", long_options, &which) == 0) {
        if (which == HEADER) {
            size_t used = strlen(options.headers);
            snprintf(options.headers + used, sizeof options.headers - used, "%s\r\n", optarg);
        } else if (which == PUBLISH) {
            options.ingest = (enum ingest)one_of(optarg, ingests, "there is no way to publish");
        } else if (table[which].number) {
            *table[which].number = atoi(optarg);
        } else if (table[which].fraction) {
            *table[which].fraction = atof(optarg);
        } else if (table[which].text) {
            *table[which].text = optarg;
        } else {
            *table[which].flag = true;
        }
    }
    if (optind != count - 1)
        refuse("not understood:", given[optind + 1]);
    if (options.size < 40 || options.size > 60000)
        refuse("an event has 40 to 60000 bytes", "");
    if (options.observers < 1 || options.channels < 1 || options.port < 1)
        refuse("--observers, --channels and --port must be positive", "");
    if (options.publish_connections < 1 || options.publish_connections > 256)
        refuse("there are 1 to 256 connections to publish on", "");
}

void fill_in(char *out, size_t size, const char *template, unsigned channel, unsigned number)
{
    size_t used = 0;
    while (*template && used + 16 < size) {
        if (!strncmp(template, "{}", 2)) {
            used += (size_t)snprintf(out + used, size - used, "%u", channel);
            template += 2;
        } else if (!strncmp(template, "{n}", 3)) {
            used += (size_t)snprintf(out + used, size - used, "%08u", number);
            template += 3;
        } else {
            out[used++] = *template++;
        }
    }
    out[used] = 0;
}

const char *path_for(const char *template, unsigned channel)
{
    static char **lines;
    static unsigned count;
    if (template[0] != '@')
        return template;
    if (!lines) {
        FILE *file = fopen(template + 1, "r");
        if (!file)
            refuse("cannot read", template + 1);
        char *line = NULL;
        size_t room = 0;
        while (getline(&line, &room, file) > 0) {
            line[strcspn(line, "\n")] = 0;
            lines = realloc(lines, (count + 1) * sizeof *lines);
            lines[count++] = strdup(line);
        }
        free(line);
        fclose(file);
        if (!count)
            refuse("nothing is in", template + 1);
    }
    return lines[channel % count];
}
