#define _GNU_SOURCE
#include "observers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "options.h"

/* Reads go behind HEADROOM, so that what was left of the last one can be put in front of it and both are in one piece. */
enum { HEADROOM = 8 << 20, READ = 256 << 10, AT_ONCE = 512, AGAIN_NS = 250000000 };

struct tally tally;

static uint8_t *room;
static int everybody, urgent;
static struct sockaddr_in server;
static uint64_t read_at; /* the stamp of the read that is looked at */

void observers_prepare(void)
{
    room = malloc(HEADROOM + READ);
    everybody = epoll_create1(0);
    urgent = epoll_create1(0);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &server.sin_addr) != 1) {
        fprintf(stderr, "load: %s is no address\n", options.host);
        exit(2);
    }
}

static void bytes_add(struct bytes *b, const uint8_t *more, size_t length)
{
    if (b->length + length > b->room) {
        size_t wanted = b->room ? b->room : 512;
        while (wanted < b->length + length)
            wanted *= 2;
        b->at = realloc(b->at, wanted);
        b->room = (uint32_t)wanted;
    }
    memcpy(b->at + b->length, more, length);
    b->length += (uint32_t)length;
}

static void listen_for(struct observer *o, uint32_t events, int how)
{
    struct epoll_event e = {.events = events, .data.ptr = o};
    epoll_ctl(o->urgent ? urgent : everybody, how, o->fd, &e);
}

/* One complaint is enough to know what is wrong; there may be thousands of them. */
static void complain(const char *what, const char *more, size_t length)
{
    static bool said;
    if (!said)
        fprintf(stderr, "load: %s: %.*s\n", what, (int)(length < 400 ? length : 400), more);
    said = true;
}

void observer_stop(struct observer *o, enum state state)
{
    if (o->fd >= 0)
        close(o->fd);
    o->fd = -1;
    o->state = state;
    o->rest.length = o->message.length = 0;
}

void observer_start(struct observer *o)
{
    static unsigned made;
    int on = 1;
    o->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (o->fd < 0) {
        complain("socket", strerror(errno), 100);
        o->state = GONE;
        tally.refused++;
        return;
    }
    setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* Many addresses of the loopback network: one alone has too few ports for so many connections in a row. */
    setsockopt(o->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + made % 200)};
    bind(o->fd, (struct sockaddr *)&from, sizeof from);
    o->number = made++;
    o->state = CONNECTING;
    o->last = (o->urgent ? 0 : options.first) - 1;
    o->seen = o->place = 0;
    o->chunked = o->finished = false;
    o->chunk_left = 0;
    if (!o->again_at)
        o->began = now_ns();
    o->again_at = 0;
    if (connect(o->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) {
        complain("connect", strerror(errno), 100);
        observer_stop(o, GONE);
        tally.refused++;
        return;
    }
    listen_for(o, EPOLLOUT, EPOLL_CTL_ADD);
}

/* What observers say is small and seldom: it fits into the socket's buffer. */
static void say(struct observer *o, const void *what, size_t length)
{
    if (write(o->fd, what, length) != (ssize_t)length)
        complain("could not send", "", 0);
}

static void ask(struct observer *o)
{
    char path[1024], headers[1024], request[4096];
    fill_in(path, sizeof path, path_for(o->urgent ? options.watch_path : options.path, o->channel), o->channel,
            o->number);
    fill_in(headers, sizeof headers, options.headers, o->channel, o->number);
    int length = options.sse
        ? snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n%s\r\n",
                   path, options.host, options.port, headers)
        : snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                   path, options.host, options.port, headers);
    say(o, request, (size_t)length);
    o->state = ASKED;
    listen_for(o, EPOLLIN, EPOLL_CTL_MOD);
}

static void send_frame(struct observer *o, int opcode, const uint8_t *payload, size_t length)
{
    enum { MOST = 4096 };
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t frame[MOST + 8];
    size_t used = 0;
    if (length > MOST)
        length = MOST;
    frame[used++] = (uint8_t)(0x80 | opcode);
    if (length < 126) {
        frame[used++] = (uint8_t)(0x80 | length);
    } else {
        frame[used++] = 0x80 | 126;
        frame[used++] = (uint8_t)(length >> 8);
        frame[used++] = (uint8_t)length;
    }
    memcpy(frame + used, mask, sizeof mask);
    used += sizeof mask;
    for (size_t i = 0; i < length; i++)
        frame[used++] = payload[i] ^ mask[i & 3];
    say(o, frame, used);
}

static void say_hello(struct observer *o)
{
    char text[4096];
    size_t used = 0;
    fill_in(text, sizeof text, options.hello, o->channel, o->number);
    for (const char *p = text; *p; p++) {
        bool escaped = p[0] == '\\' && (p[1] == 'r' || p[1] == 'n');
        text[used++] = escaped ? (*++p == 'r' ? '\r' : '\n') : *p;
    }
    send_frame(o, 1, (uint8_t *)text, used);
}

static void is_open(struct observer *o)
{
    o->state = OPEN;
    tally.opened++;
}

static const uint8_t *digits(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    uint64_t read = 0;
    while (p < end && *p >= '0' && *p <= '9')
        read = read * 10 + (uint64_t)(*p++ - '0');
    *value = read;
    return p;
}

static void count_event(struct observer *o, int64_t number, uint64_t stamp)
{
    tally.events++;
    if (!o->seen++)
        o->first_at = read_at;
    o->last_at = read_at;
    if (o->last != UNKNOWN && number > o->last + 1)
        tally.gaps += (uint64_t)(number - o->last - 1);
    else if (o->last != UNKNOWN && number <= o->last)
        tally.doubles++;
    if (number > o->last)
        o->last = number;
    if (tally.timing)
        histogram_add(o->urgent ? &tally.urgent_delays : &tally.delays, read_at > stamp ? read_at - stamp : 0);
}

/* What is behind the next `seq=`. The rest of an event has no `s`, so that this is one fast look in most messages. */
static const uint8_t *next_event(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (p = memchr(p, 's', (size_t)(end - p)))) {
        if (end - p >= 4 && !memcmp(p, "seq=", 4))
            return p + 4;
        p++;
    }
    return NULL;
}

/* The events from `p` on, which is behind a `seq=`. */
static void count_events(struct observer *o, const uint8_t *p, const uint8_t *end)
{
    while (p) {
        uint64_t number, stamp = 0;
        p = digits(p, end, &number);
        if (end - p > 3 && !memcmp(p, " t=", 3))
            p = digits(p + 3, end, &stamp);
        count_event(o, (int64_t)number, stamp);
        p = next_event(p, end);
    }
}

static void take(struct observer *o, const uint8_t *message, size_t length)
{
    static size_t begins, marker;
    if (!marker) {
        begins = strlen(options.begins);
        marker = strlen(options.marker);
    }
    tally.messages++;
    if (o->state == AWAITED && memmem(message, length, options.await, strlen(options.await)))
        is_open(o);
    if (options.engine_io && length == 1 && *message == '2') {
        send_frame(o, 1, (const uint8_t *)"3", 1);
        return;
    }
    if (length < begins || memcmp(message, options.begins, begins))
        return;
    const uint8_t *p = message + o->place, *end = message + length;
    if (o->place + marker > length || memcmp(p, options.marker, marker)) {
        p = memmem(message, length, options.marker, marker);
        if (!p)
            return;
        o->place = (uint32_t)(p - message);
    }
    /* A marker with a quote in front of the event is in a JSON text, and that ends with the next quote: an event
     * itself has none. */
    p += marker;
    if (marker > 4 && options.marker[marker - 5] == '"') {
        const uint8_t *quote = memchr(p, '"', (size_t)(end - p));
        end = quote ? quote : end;
    }
    count_events(o, p, end);
}

static void lost(struct observer *o, const char *why, const char *more, size_t length)
{
    /* A queue that is full lets a storm's connections down; a client then tries again, and it counts from the first. */
    if (options.work == STORM && o->state < OPEN) {
        tally.again++;
        o->again_at = now_ns() + AGAIN_NS;
        observer_stop(o, GONE);
        return;
    }
    complain(why, more, length);
    if (o->state < OPEN)
        tally.refused++;
    else
        tally.closed++;
    observer_stop(o, GONE);
}

/* Whole frames of a WebSocket; how many bytes they are. */
static size_t take_frames(struct observer *o, const uint8_t *p, size_t length)
{
    size_t used = 0;
    while (length - used >= 2 && o->state != GONE) {
        const uint8_t *head = p + used;
        uint64_t size = head[1] & 127;
        size_t head_size = size == 126 ? 4 : size == 127 ? 10 : 2;
        if (length - used < head_size)
            break;
        if (size >= 126) {
            size = 0;
            for (size_t i = 2; i < head_size; i++)
                size = size << 8 | head[i];
        }
        if (length - used < head_size + size)
            break;
        const uint8_t *payload = head + head_size;
        int opcode = head[0] & 15;
        bool final = head[0] & 128;
        used += head_size + (size_t)size;
        if (opcode == 9) {
            send_frame(o, 10, payload, (size_t)size);
        } else if (opcode == 8) {
            lost(o, "the server closed", size > 2 ? (const char *)payload + 2 : "", size > 2 ? (size_t)size - 2 : 0);
        } else if (opcode != 10) {
            if (final && opcode) {
                take(o, payload, (size_t)size);
            } else {
                bytes_add(&o->message, payload, (size_t)size);
                if (final) {
                    take(o, o->message.at, o->message.length);
                    o->message.length = 0;
                }
            }
        }
    }
    return used;
}

/* Text of an event stream: each `data` line is a message. */
static void take_text(struct observer *o, const uint8_t *p, size_t length)
{
    const uint8_t *end = p + length, *line_end;
    while (p < end && (line_end = memchr(p, '\n', (size_t)(end - p)))) {
        const uint8_t *line = p;
        size_t size = (size_t)(line_end - p);
        p = line_end + 1;
        if (o->message.length) {
            bytes_add(&o->message, line, size);
            line = o->message.at;
            size = o->message.length;
            o->message.length = 0;
        }
        if (size > 5 && !memcmp(line, "data:", 5)) {
            int blank = line[5] == ' ';
            take(o, line + 5 + blank, size - 5 - (size_t)blank);
        }
    }
    if (p < end)
        bytes_add(&o->message, p, (size_t)(end - p));
}

/* Whole pieces of an HTTP body; how many bytes they are. */
static size_t take_body(struct observer *o, const uint8_t *p, size_t length)
{
    size_t used = 0;
    if (!o->chunked) {
        take_text(o, p, length);
        return length;
    }
    while (used < length) {
        if (o->chunk_left > 0) {
            size_t piece = length - used;
            if ((int64_t)piece > o->chunk_left)
                piece = (size_t)o->chunk_left;
            take_text(o, p + used, piece);
            used += piece;
            o->chunk_left -= (int64_t)piece;
            if (!o->chunk_left)
                o->chunk_left = -1;
        } else if (o->chunk_left < 0) {
            if (length - used < 2)
                break;
            used += 2;
            o->chunk_left = 0;
        } else {
            const uint8_t *line_end = memchr(p + used, '\n', length - used);
            if (!line_end)
                break;
            o->chunk_left = strtoll((const char *)p + used, NULL, 16);
            used = (size_t)(line_end - p) + 1;
            if (!o->chunk_left) {
                lost(o, "the server ended the stream", "", 0);
                return length;
            }
        }
    }
    return used;
}

/* The head of the answer, if it is all there; how many bytes it is. */
static size_t take_head(struct observer *o, uint8_t *p, size_t length)
{
    uint8_t *end = memmem(p, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (memcmp(p, options.sse ? "HTTP/1.1 200" : "HTTP/1.1 101", 12)) {
        lost(o, "refused", (const char *)p, length);
        return length;
    }
    *end = 0;
    o->chunked = options.sse && strcasestr((char *)p, "\nTransfer-Encoding: chunked");
    o->state = AWAITED;
    if (!options.await)
        is_open(o);
    if (options.hello)
        say_hello(o);
    return (size_t)(end - p) + 4;
}

static void read_from(struct observer *o)
{
    ssize_t got = recv(o->fd, room + HEADROOM, READ, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lost(o, "the connection was cut", got < 0 ? strerror(errno) : "", got < 0 ? 100 : 0);
        return;
    }
    read_at = stamp_ns();
    tally.bytes += (uint64_t)got;

    uint8_t *p = room + HEADROOM;
    size_t length = (size_t)got, used = 0;
    if (o->rest.length > HEADROOM) {
        lost(o, "a message is too long", "", 0);
        return;
    }
    if (o->rest.length) {
        p -= o->rest.length;
        length += o->rest.length;
        memcpy(p, o->rest.at, o->rest.length);
        o->rest.length = 0;
    }
    if (o->state == ASKED)
        used = take_head(o, p, length);
    if (o->state == AWAITED || o->state == OPEN)
        used += options.sse ? take_body(o, p + used, length - used) : take_frames(o, p + used, length - used);
    if (o->state == GONE)
        return;
    if (used < length)
        bytes_add(&o->rest, p + used, length - used);

    bool finishes = options.work == RESUME || options.work == STORM;
    if (finishes && !o->urgent && !o->finished && o->seen >= (uint32_t)options.missed) {
        o->finished = true;
        tally.finished++;
        if (tally.timing)
            histogram_add(&tally.finishing, now_ns() - o->began);
        if (options.work == RESUME)
            observer_stop(o, UNUSED);
    }
}

static void serve_one(const struct epoll_event *event)
{
    struct observer *o = event->data.ptr;
    if (o->fd < 0)
        return; /* closed since the kernel told us */
    if (o->state != CONNECTING) {
        read_from(o);
        return;
    }
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        lost(o, "connect", strerror(error), 100);
    else
        ask(o);
}

/* Who is urgent is looked after between any two others, so that their delay is the server's and not ours. */
static void serve_urgent(void)
{
    struct epoll_event events[32];
    int count = epoll_wait(urgent, events, 32, 0);
    for (int i = 0; i < count; i++)
        serve_one(&events[i]);
}

int observers_serve(int milliseconds)
{
    struct epoll_event events[AT_ONCE];
    if (options.watchers) {
        serve_urgent();
        milliseconds = 0;
    }
    int count = epoll_wait(everybody, events, AT_ONCE, milliseconds);
    if (count <= 0)
        return 0;
    uint64_t began = now_ns();
    for (int i = 0; i < count; i++) {
        serve_one(&events[i]);
        if (options.watchers)
            serve_urgent();
    }
    tally.busy_ns += now_ns() - began;
    return count;
}
