#define _GNU_SOURCE
#include "publisher.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measures.h"
#include "options.h"

/* STATUS: one less than what an answer is known by, `HTTP/1.1 2`. */
enum { ROOM = 4 << 20, ENOUGH = ROOM / 2, MOST_CONNECTIONS = 256, TRIES = 100, STATUS = 9 };

struct connection {
    int fd;
    char *out;
    size_t written, length;
    uint64_t asked, answered;
    char tail[STATUS]; /* the end of what was read, in which an answer may have begun */
    size_t tail_length;
};

struct published published;

static struct connection connections[MOST_CONNECTIONS];
static unsigned first_channel, channel_count, turn; /* `turn`: the channel and the connection that are next */
static uint64_t *numbers;

static int connect_to(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, options.host, &to.sin_addr);
    for (int i = 0; i < TRIES; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        if (!connect(fd, (struct sockaddr *)&to, sizeof to)) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            fcntl(fd, F_SETFL, O_NONBLOCK);
            return fd;
        }
        close(fd);
        usleep(50000);
    }
    fprintf(stderr, "load: nobody listens on port %d for what is published\n", port);
    exit(1);
}

void publisher_prepare(unsigned first, unsigned count)
{
    first_channel = first;
    channel_count = count;
    numbers = calloc(count, sizeof *numbers);
    if (options.ingest == NO_INGEST)
        return;
    for (int i = 0; i < options.publish_connections; i++) {
        struct connection *c = &connections[i];
        c->fd = connect_to(options.publish_port);
        c->out = malloc(ROOM);
        if (options.ingest == NATS)
            c->length = (size_t)sprintf(c->out, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
    }
}

/* `seq=N t=NANOSECONDS ` and dots, as the demo agent's deltas are. */
static int write_event(char *out, uint64_t number)
{
    int used = sprintf(out, "seq=%lu t=%lu ", number, stamp_ns());
    memset(out + used, '.', (size_t)(options.size - used));
    out[options.size] = 0;
    return options.size;
}

/* Returns false when there is no room for it now. */
static bool publish_one(void)
{
    struct connection *c = &connections[turn % (unsigned)options.publish_connections];
    if (c->length > ENOUGH || (options.ingest == HTTP && c->asked - c->answered >= (uint64_t)options.publish_depth))
        return false;
    unsigned channel = first_channel + turn % channel_count;
    static char event[65536], body[70000], path[1024];
    int size = write_event(event, numbers[turn % channel_count]++);
    char *out = c->out + c->length;
    switch (options.ingest) {
    case LINES:
        c->length += (size_t)sprintf(out, "%u %s\n", channel, event);
        break;
    case NATS:
        c->length += (size_t)sprintf(out, "PUB ch%u %d\r\n%s\r\n", channel, size, event);
        break;
    case HTTP: {
        const char *hole = strstr(options.publish_body, "{}");
        int before = hole ? (int)(hole - options.publish_body) : (int)strlen(options.publish_body);
        int length = snprintf(body, sizeof body, "%.*s%s%s", before, options.publish_body, hole ? event : "",
                              hole ? hole + 2 : "");
        fill_in(path, sizeof path, options.publish_path, channel, turn);
        c->length += (size_t)sprintf(out,
                                     "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: %s\r\n"
                                     "Content-Length: %d\r\n\r\n%s",
                                     path, options.host, options.publish_port, options.publish_type, length, body);
        c->asked++;
        break;
    }
    case NO_INGEST:
        return false;
    }
    turn++;
    published.events++;
    return true;
}

void publisher_go_on(double delivered)
{
    static uint64_t began, due;
    if (options.window) {
        while ((double)published.events - delivered < options.window && publish_one())
            ;
    } else if (options.rate > 0) {
        uint64_t now = now_ns();
        if (!began)
            began = now;
        for (;;) {
            due = began + (uint64_t)((double)published.events * 1e9 / options.rate);
            if (due > now || !publish_one())
                break;
            if (now - due > published.latest_ns)
                published.latest_ns = now - due;
        }
    }
    publisher_flush();
}

static void write_to(struct connection *c)
{
    while (c->written < c->length) {
        ssize_t done = write(c->fd, c->out + c->written, c->length - c->written);
        if (done <= 0) {
            if (errno == EAGAIN)
                return;
            fprintf(stderr, "load: the server took no more events: %s\n", strerror(errno));
            exit(1);
        }
        c->written += (size_t)done;
    }
    c->written = c->length = 0;
}

static void read_answers(struct connection *c)
{
    static char in[STATUS + (1 << 16) + 1];
    ssize_t got;
    memcpy(in, c->tail, c->tail_length);
    while ((got = recv(c->fd, in + c->tail_length, 1 << 16, MSG_DONTWAIT)) > 0) {
        size_t length = c->tail_length + (size_t)got;
        in[length] = 0;
        if (options.ingest == NATS && strstr(in, "PING\r\n")) {
            memcpy(c->out + c->length, "PONG\r\n", 6);
            c->length += 6;
        }
        for (char *p = in; options.ingest == HTTP && (p = strstr(p, "HTTP/1.1 ")) && p[STATUS]; p += STATUS) {
            c->answered++;
            if (p[STATUS] != '2' && !published.refused++)
                fprintf(stderr, "load: an event was refused: %.400s\n", p);
        }
        if (options.ingest == HTTP) {
            c->tail_length = length < STATUS ? length : STATUS;
            memcpy(c->tail, in + length - c->tail_length, c->tail_length);
            memcpy(in, c->tail, c->tail_length);
        }
    }
}

void publisher_flush(void)
{
    if (options.ingest == NO_INGEST)
        return;
    for (int i = 0; i < options.publish_connections; i++) {
        if (connections[i].length)
            write_to(&connections[i]);
        read_answers(&connections[i]);
    }
}
