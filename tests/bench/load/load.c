/* The load generator: one thread, one event loop, cheap enough that what is measured is the server.
 *
 * `load --help` says what it does. It reads like this: options.h is what was asked for; observers.h connections that
 * watch; publisher.h where events come from; measures.h clocks and the system's figures; and here is the order in
 * which things happen, and the report. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measures.h"
#include "observers.h"
#include "options.h"
#include "publisher.h"

static struct observer *observers;
static int count;

static uint64_t after(double seconds)
{
    return now_ns() + (uint64_t)(seconds * 1e9);
}

/* The report */

static const char *separator = "{"; /* the line is printed as it is found, and read when it is whole */

static void report(const char *name, double value)
{
    printf("%s\"%s\":%.6g", separator, name, value);
    separator = ",";
}

/* What is counted at a moment, so that two of them make a window. */
struct moment {
    uint64_t at;
    struct tally tally;
    struct published published;
    double cpu;
};

static struct moment look(void)
{
    struct moment m = {now_ns(), tally, published, cpu_seconds_of(options.pids)};
    return m;
}

static void report_window(const struct moment *from, const struct moment *to)
{
    double seconds = (double)(to->at - from->at) / 1e9;
    double events = (double)(to->tally.events - from->tally.events);
    double finished = (double)(to->tally.finished - from->tally.finished);
    double cpu = to->cpu - from->cpu;
    report("seconds", seconds);
    report("deliveries", events / seconds);
    report("published", (double)(to->published.events - from->published.events) / seconds);
    report("messages", (double)(to->tally.messages - from->tally.messages) / seconds);
    report("megabytes", (double)(to->tally.bytes - from->tally.bytes) / seconds / 1e6);
    report("us_per_delivery", events ? cpu * 1e6 / events : 0);
    report("finished", finished / seconds);
    report("us_per_finished", finished ? cpu * 1e6 / finished : 0);
    report("server_busy", cpu / seconds * 100);
    report("busy", (double)(to->tally.busy_ns - from->tally.busy_ns) / 1e9 / seconds * 100);
}

static void report_delays(const char *prefix, const struct histogram *h)
{
    static const struct {
        const char *name;
        double part;
    } parts[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    char name[64];
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "%s_%s", prefix, parts[i].name);
        report(name, histogram_ms(h, parts[i].part));
    }
}

static void report_wrongs(int64_t missing)
{
    report("gaps", (double)tally.gaps);
    report("doubles", (double)tally.doubles);
    report("missing", (double)missing);
    report("refused", (double)(tally.refused + published.refused));
    report("closed", (double)tally.closed);
}

/* The works */

static void make_observers(int watchers)
{
    count = options.observers + watchers;
    observers = calloc((size_t)count, sizeof *observers);
    for (int i = 0; i < count; i++) {
        observers[i].fd = -1;
        observers[i].urgent = i >= options.observers;
        observers[i].channel = (unsigned)(observers[i].urgent ? options.channels : i % options.channels);
    }
}

/* Open the connections from `from` to `to`, so many at a time; wait until all are open or refused. */
static void open_all(int from, int to)
{
    uint64_t base = tally.opened + tally.refused, end = after(60);
    int next = from;
    while (tally.opened + tally.refused - base < (uint64_t)(to - from) && now_ns() < end) {
        while (next < to && (uint64_t)(next - from) < tally.opened + tally.refused - base + (uint64_t)options.inflight)
            observer_start(&observers[next++]);
        observers_serve(1);
    }
}

static void open_and_report(void)
{
    long before = resident_kib_of(options.pids);
    double cpu = cpu_seconds_of(options.pids);
    uint64_t began = now_ns();
    open_all(0, options.observers);
    double seconds = (double)(now_ns() - began) / 1e9, opened = (double)tally.opened;
    cpu = cpu_seconds_of(options.pids) - cpu;
    for (uint64_t end = after(options.settle); now_ns() < end;)
        observers_serve(5);
    report("opened", opened);
    report("connects", opened / seconds);
    report("us_per_connect", opened ? cpu * 1e6 / opened : 0);
    report("kib_per_connection", opened ? (double)(resident_kib_of(options.pids) - before) / opened : 0);
}

/* How many events have come to an observer of a channel, over all channels. */
static double delivered(double watching)
{
    return (double)tally.events / watching;
}

static void fan(void)
{
    open_and_report();
    double watching = (double)(tally.opened - tally.closed) / options.channels;
    if (watching <= 0)
        watching = 1;
    struct moment from = {0};
    uint64_t warm = after(options.warm_up), end = after(options.warm_up + options.seconds);
    for (uint64_t now; (now = now_ns()) < end;) {
        if (!tally.timing && now >= warm) {
            from = look();
            published.latest_ns = 0;
            tally.timing = true;
        }
        publisher_go_on(delivered(watching));
        observers_serve(0);
    }
    struct moment to = look();
    tally.timing = false;
    uint64_t late = published.latest_ns;
    double wanted = (double)published.events;
    for (end = after(options.patience); delivered(watching) < wanted && now_ns() < end;) {
        publisher_flush();
        observers_serve(1);
    }
    report_window(&from, &to);
    report_delays("delay", &tally.delays);
    report("late_ms", (double)late / 1e6);
    report_wrongs((int64_t)(wanted * watching) - (int64_t)tally.events);
}

static void resume(void)
{
    struct moment from = {0};
    uint64_t warm = after(options.warm_up), end = after(options.warm_up + options.seconds);
    for (uint64_t now; (now = now_ns()) < end && tally.refused + tally.closed < 1000;) {
        if (!tally.timing && now >= warm) {
            from = look();
            tally.timing = true;
        }
        for (int i = 0; i < count; i++)
            if (observers[i].state == UNUSED || observers[i].state == GONE)
                observer_start(&observers[i]);
        observers_serve(0);
    }
    struct moment to = look();
    report_window(&from, &to);
    report_delays("finishing", &tally.finishing);
    report_wrongs(0);
}

/* Those of a storm that were not accepted and have waited long enough. */
static void try_again(void)
{
    static uint64_t looked;
    uint64_t now = now_ns();
    if (!tally.again || now - looked < 10000000)
        return;
    looked = now;
    for (int i = 0; i < count; i++)
        if (observers[i].state == GONE && observers[i].again_at && observers[i].again_at <= now)
            observer_start(&observers[i]);
}

static void storm(void)
{
    open_all(options.observers, count);
    for (uint64_t end = after(options.warm_up); now_ns() < end;) {
        publisher_go_on(0);
        observers_serve(0);
    }
    tally.timing = true;
    for (uint64_t end = after(options.seconds); now_ns() < end;) {
        publisher_go_on(0);
        observers_serve(0);
    }
    report_delays("calm", &tally.urgent_delays);
    memset(&tally.urgent_delays, 0, sizeof tally.urgent_delays);

    struct moment from = look();
    uint64_t end = after(options.patience);
    int next = 0;
    while (tally.finished < (uint64_t)options.observers && now_ns() < end) {
        for (int begun = 0; next < options.observers && begun < 64; begun++) {
            if ((uint64_t)next >= tally.finished + tally.refused + (uint64_t)options.inflight)
                break;
            observer_start(&observers[next++]);
        }
        try_again();
        publisher_go_on(0);
        observers_serve(0);
    }
    struct moment to = look();
    tally.timing = false;
    for (end = after(0.5); now_ns() < end;) {
        publisher_flush();
        observers_serve(1);
    }
    report_window(&from, &to);
    report_delays("finishing", &tally.finishing);
    report_delays("storm", &tally.urgent_delays);
    report("again", (double)tally.again);
    report("unfinished", (double)options.observers - (double)tally.finished);
    report("late_ms", (double)published.latest_ns / 1e6);
    uint64_t wanted = published.events * (uint64_t)options.watchers, seen = 0;
    for (int i = options.observers; i < count; i++)
        seen += observers[i].seen;
    report_wrongs((int64_t)wanted - (int64_t)seen);
}

static void idle(void)
{
    open_and_report();
    struct moment from = look();
    for (uint64_t end = after(options.seconds); now_ns() < end;)
        observers_serve(100);
    struct moment to = look();
    report_window(&from, &to);
    report_wrongs(0);
}

static bool all_have_finished(void)
{
    for (int i = 0; i < count; i++)
        if (observers[i].state != GONE && observers[i].seen < (uint32_t)options.missed)
            return false;
    return true;
}

static void finish(void)
{
    open_and_report();
    struct moment from = look();
    bool begun = false;
    for (uint64_t end = after(options.patience); !all_have_finished() && now_ns() < end;) {
        observers_serve(1);
        if (!begun && tally.events) {
            begun = tally.timing = true;
            from = look();
        }
    }
    struct moment to = look();
    report_window(&from, &to);
    report_delays("delay", &tally.delays);
    double slowest = 0;
    int64_t missing = 0;
    for (int i = 0; i < count; i++) {
        double seconds = (double)(observers[i].last_at - observers[i].first_at) / 1e9;
        double rate = seconds > 0 ? (observers[i].seen - 1) / seconds : 0;
        if (!i || rate < slowest)
            slowest = rate;
        missing += (int64_t)options.missed - (int64_t)observers[i].seen;
    }
    report("slowest", slowest);
    report_wrongs(missing);
}

int main(int argc, char **argv)
{
    static void (*const works[])(void) = {fan, resume, storm, idle, finish};
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    int watchers = options.work == STORM ? options.watchers : 0;
    options.watchers = watchers;
    observers_prepare();
    if (watchers)
        publisher_prepare((unsigned)options.channels, 1);
    else
        publisher_prepare(0, (unsigned)options.channels);
    make_observers(watchers);
    works[options.work]();
    puts("}");
    return 0;
}
