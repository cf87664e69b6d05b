/* The physical limit: a broadcaster that does nothing but what nobody can do without.
 *
 *     rawcast PORT [--together]
 *
 * It answers WebSocket handshakes on PORT, reads lines "CHANNEL PAYLOAD" on PORT + 1, frames each event once, and
 * gives the same bytes to every observer of the channel, with one send() for each event and observer. With --together
 * all that came with one read goes out in one. `GET /CHANNEL?after=N` brings the events behind number N first; it keeps
 * the last KEPT bytes of each channel. It knows no sessions, no access, no slow readers, no client frames, and only one
 * Sec-WebSocket-Key, which is the generator's. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNELS = 4096, CONNECTIONS = 20000, KEPT = 1 << 20 };

struct bytes {
    uint8_t *at;
    size_t length, room;
};

enum kind { OBSERVERS_DOOR, LINES_DOOR, OBSERVER, LINES };

struct connection {
    int fd;
    enum kind kind;
    int channel;        /* of an observer, once it has asked; -1 before */
    int place;          /* among the channel's observers */
    struct bytes in;    /* an incomplete request or line */
    struct bytes unsent;
};

struct channel {
    struct connection **observers;
    int count, room;
    struct bytes log;   /* frames */
    size_t *starts;     /* where each event is in the log */
    size_t events, starts_room;
    size_t first;       /* the number of the first event in the log */
    struct bytes pending;
    bool dirty;
};

static struct channel channels[CHANNELS];
static int loop;
static bool together;

static void add(struct bytes *b, const void *more, size_t length)
{
    if (b->length + length > b->room) {
        size_t wanted = b->room ? b->room : 4096;
        while (wanted < b->length + length)
            wanted *= 2;
        b->at = realloc(b->at, wanted);
        b->room = wanted;
    }
    memcpy(b->at + b->length, more, length);
    b->length += length;
}

static int door(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) {
        perror("rawcast: cannot listen");
        exit(1);
    }
    return fd;
}

static void attend(struct connection *c, uint32_t events, int how)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(loop, how, c->fd, &e);
}

static void welcome(int fd, enum kind kind)
{
    struct connection *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->kind = kind;
    c->channel = -1;
    attend(c, EPOLLIN, EPOLL_CTL_ADD);
}

static void dismiss(struct connection *c)
{
    if (c->channel >= 0) {
        struct channel *channel = &channels[c->channel];
        struct connection *moved = channel->observers[--channel->count];
        channel->observers[c->place] = moved;
        moved->place = c->place;
    }
    close(c->fd);
    free(c->in.at);
    free(c->unsent.at);
    free(c);
}

static void give(struct connection *c, const void *what, size_t length)
{
    if (!c->unsent.length) {
        ssize_t sent = send(c->fd, what, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)length)
            return;
        if (sent > 0) {
            what = (const uint8_t *)what + sent;
            length -= (size_t)sent;
        }
        attend(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
    add(&c->unsent, what, length);
}

static void give_rest(struct connection *c)
{
    ssize_t sent = send(c->fd, c->unsent.at, c->unsent.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
        memmove(c->unsent.at, c->unsent.at + sent, c->unsent.length - (size_t)sent);
        c->unsent.length -= (size_t)sent;
    }
    if (!c->unsent.length) {
        free(c->unsent.at);
        c->unsent = (struct bytes){0};
        attend(c, EPOLLIN, EPOLL_CTL_MOD);
    }
}

static void give_all(struct channel *channel, const uint8_t *what, size_t length)
{
    for (int i = 0; i < channel->count; i++)
        give(channel->observers[i], what, length);
}

static void publish(struct channel *channel, const char *payload, size_t length)
{
    uint8_t head[4] = {0x81, (uint8_t)length};
    size_t head_size = 2;
    if (length >= 126) {
        head[1] = 126;
        head[2] = (uint8_t)(length >> 8);
        head[3] = (uint8_t)length;
        head_size = 4;
    }
    if (channel->log.length > KEPT) {
        channel->first += channel->events;
        channel->log.length = channel->events = 0;
    }
    if (channel->events == channel->starts_room) {
        channel->starts_room = channel->starts_room ? channel->starts_room * 2 : 1024;
        channel->starts = realloc(channel->starts, channel->starts_room * sizeof *channel->starts);
    }
    size_t start = channel->starts[channel->events++] = channel->log.length;
    add(&channel->log, head, head_size);
    add(&channel->log, payload, length);
    if (together)
        add(&channel->pending, channel->log.at + start, channel->log.length - start);
    else
        give_all(channel, channel->log.at + start, channel->log.length - start);
}

static void take_lines(struct connection *c)
{
    static struct channel *dirty[CHANNELS];
    int dirty_count = 0;
    char *p = (char *)c->in.at, *end = p + c->in.length, *line_end;
    for (; (line_end = memchr(p, '\n', (size_t)(end - p))); p = line_end + 1) {
        char *payload;
        unsigned long number = strtoul(p, &payload, 10);
        if (number >= CHANNELS || *payload != ' ')
            continue;
        struct channel *channel = &channels[number];
        publish(channel, payload + 1, (size_t)(line_end - payload - 1));
        if (together && !channel->dirty) {
            channel->dirty = true;
            dirty[dirty_count++] = channel;
        }
    }
    c->in.length = (size_t)(end - p);
    memmove(c->in.at, p, c->in.length);
    for (int i = 0; i < dirty_count; i++) {
        give_all(dirty[i], dirty[i]->pending.at, dirty[i]->pending.length);
        dirty[i]->pending.length = 0;
        dirty[i]->dirty = false;
    }
}

static void take_request(struct connection *c)
{
    static const char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    if (c->channel >= 0 || c->in.length > 4096) {
        c->in.length = 0; /* what clients say later is of no interest */
        return;
    }
    add(&c->in, "", 1);
    c->in.length--;
    int number = 0;
    long after = -1;
    if (!strstr((char *)c->in.at, "\r\n\r\n") || sscanf((char *)c->in.at, "GET /%d?after=%ld", &number, &after) < 1)
        return;
    free(c->in.at);
    c->in = (struct bytes){0};
    give(c, accepted, sizeof accepted - 1);
    struct channel *channel = &channels[c->channel = number % CHANNELS];
    if (channel->count == channel->room) {
        channel->room = channel->room ? channel->room * 2 : 16;
        channel->observers = realloc(channel->observers, (size_t)channel->room * sizeof *channel->observers);
    }
    c->place = channel->count;
    channel->observers[channel->count++] = c;
    size_t next = (size_t)(after + 1);
    if (after >= 0 && next >= channel->first && next - channel->first < channel->events) {
        size_t start = channel->starts[next - channel->first];
        give(c, channel->log.at + start, channel->log.length - start);
    }
}

/* Returns false when the connection is gone. */
static bool read_from(struct connection *c)
{
    static uint8_t room[1 << 16];
    ssize_t got = recv(c->fd, room, sizeof room, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return true;
    if (got <= 0) {
        dismiss(c);
        return false;
    }
    add(&c->in, room, (size_t)got);
    if (c->kind == LINES)
        take_lines(c);
    else
        take_request(c);
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    int port = atoi(argv[1]);
    together = argc > 2 && !strcmp(argv[2], "--together");
    signal(SIGPIPE, SIG_IGN);
    loop = epoll_create1(0);
    welcome(door(port), OBSERVERS_DOOR);
    welcome(door(port + 1), LINES_DOOR);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[512];
        int count = epoll_wait(loop, events, 512, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->kind == OBSERVERS_DOOR || c->kind == LINES_DOOR) {
                for (int fd, on = 1; (fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    welcome(fd, c->kind == OBSERVERS_DOOR ? OBSERVER : LINES);
                }
                continue;
            }
            if (events[i].events & EPOLLOUT && c->unsent.length)
                give_rest(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_from(c);
        }
    }
}
