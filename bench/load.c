/*
 * load: the client and the server of the relay benchmark, in one epoll loop on one core.
 *
 * Client and server share a process so that they cost as little as they can: the proxy between them shall
 * be what runs out of CPU first. Commands arrive on stdin, one a line; each is answered with one line of JSON:
 *
 *   short KIND PORT CONCURRENCY SECONDS SIZE  connect, request, reply, close. KIND S: the server closes
 *                                             first, C: the client does, G: as S, but a plausible HTTP GET
 *   kept  PORT CONCURRENCY SECONDS SIZE       requests and replies of SIZE bytes on connections that stay
 *   bulk  KIND PORT CONCURRENCY SECONDS       KIND D: server to client, U: client to server
 *   idle  PORT COUNT                          opens connections, sends a byte each way, leaves them open
 *   drop                                      closes them
 *   opening WORD                              what a short connection asks for before its request: none, socks
 *                                             (RFC 1928, each step after the one before) or connect (HTTP)
 *   ports COUNT                               listens on so many more ports, and says which
 *
 * The first line printed is the port of the server. End of input ends the program.
 *
 * On the wire a connection begins with a hello of eight bytes: the kind, three zeros, the message size as
 * four bytes in host order. A short request is its hello, filled up to SIZE; a kept connection's hello is
 * answered with one byte before the messages begin. The client always speaks first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HELLO = 8, CHUNK = 64 * 1024, MAX_FDS = 1 << 20, EVENTS = 256, MOST_ERRORS = 100, IDLE_STEP = 64 };
enum { SUB_BITS = 4, BUCKETS = 64 << SUB_BITS };
enum role { NOBODY, CONTROL, LISTENER, SERVER, CLIENT };

struct conn {
    enum role role;
    char kind;
    int greeted;       /* server: the hello is complete; client: its answer is */
    int ending;        /* client, bulk: has said it sends no more */
    uint32_t size;     /* bytes in a message */
    uint32_t got;      /* bytes of the current message (or hello) received */
    uint64_t owed;     /* bytes still to be sent */
    uint64_t began;    /* when the current request began */
    int opened;        /* client: the proxy has granted what was asked for; until then the step it is at */
    unsigned char hello[HELLO];
    const char *from;  /* where the bytes owed come from: a short request starts with its hello */
};

static struct conn *conns;
static char scratch[CHUNK], pattern[CHUNK], request[CHUNK];
static int poller, highest, server_port;
enum opening { NONE, SOCKS, CONNECT };
static enum opening opening;
enum { OPENED = -1 };
static const char greeting[] = {5, 1, 0};
static char asking[10] = {5, 1, 0, 1, 127, 0, 0, 1}, connecting[128];

static struct run {
    char kind;
    int port, concurrency, count;
    uint32_t size;
    uint64_t began, until, ops, bytes, errors, open, started;
    int active;
    double cpu;
    uint64_t histogram[BUCKETS];
} run;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* A histogram of 16 steps per power of two: at most 6 % off, whatever the range. */
static int bucket_of(uint64_t ns)
{
    int power;
    if (ns < (1u << SUB_BITS))
        return (int)ns;
    power = 63 - __builtin_clzll(ns);
    return ((power - SUB_BITS + 1) << SUB_BITS) + (int)((ns >> (power - SUB_BITS)) & ((1u << SUB_BITS) - 1));
}

static double bucket_us(int bucket)
{
    int power = (bucket >> SUB_BITS) + SUB_BITS - 1;
    uint64_t sub = (uint64_t)bucket & ((1u << SUB_BITS) - 1);
    if (bucket < (1 << SUB_BITS))
        return bucket / 1e3;
    return (double)(((1ull << SUB_BITS) + sub) << (power - SUB_BITS)) / 1e3;
}

static double quantile_us(double share)
{
    uint64_t seen = 0, wanted = (uint64_t)((double)run.ops * share);
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += run.histogram[i]) > wanted)
            return bucket_us(i);
    return 0;
}

static void took(struct conn *c)
{
    run.ops++;
    run.histogram[bucket_of(now_ns() - c->began)]++;
}

static void watch(int fd, enum role role, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (fd >= MAX_FDS)
        exit(2);
    memset(&conns[fd], 0, sizeof conns[fd]);
    conns[fd].role = role;
    if (fd > highest)
        highest = fd;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static void forget(int fd)
{
    conns[fd].role = NOBODY;
    close(fd);
}

/* Sends what is owed as far as the socket takes it; -1 if the connection is broken. */
static int pay(int fd)
{
    struct conn *c = &conns[fd];
    while (c->owed) {
        size_t part = c->owed < CHUNK ? c->owed : CHUNK;
        ssize_t sent = send(fd, c->from, part, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == ENOTCONN ? 0 : -1;
        c->owed -= (uint64_t)sent;
        c->from = part < CHUNK ? c->from + sent : pattern;
    }
    return 0;
}

static int owe(int fd, uint64_t bytes, const char *from)
{
    conns[fd].owed = bytes;
    conns[fd].from = from;
    return pay(fd);
}

/* ---- server ---- */

static int serve_message(int fd, uint32_t bytes)
{
    struct conn *c = &conns[fd];
    c->got += bytes;
    if (c->got < c->size)
        return 0;
    c->got = 0;
    if (owe(fd, c->size, pattern) < 0)
        return -1;
    return c->kind == 'S' || c->kind == 'G' ? -1 : 0;
}

static int serve_hello(int fd, ssize_t bytes)
{
    struct conn *c = &conns[fd];
    ssize_t part = bytes < HELLO - (ssize_t)c->got ? bytes : HELLO - (ssize_t)c->got;
    uint32_t before = c->got;
    memcpy(c->hello + c->got, scratch, (size_t)part);
    if ((c->got += (uint32_t)part) < HELLO)
        return 0;
    c->greeted = 1;
    c->kind = (char)c->hello[0];
    memcpy(&c->size, c->hello + 4, 4);
    switch (c->kind) {
    case 'G':
        c->size = 100;
        /* fall through */
    case 'S':
    case 'C':
        c->got = 0;
        return serve_message(fd, before + (uint32_t)bytes);
    case 'D':
        return owe(fd, UINT64_MAX, pattern);
    case 'U':
        run.bytes += (uint64_t)(bytes - part);
        return 0;
    default: /* K, I */
        c->got = 0;
        return owe(fd, 1, pattern);
    }
}

/* -1: the server is done with this connection. */
static int serve(int fd, int ended)
{
    struct conn *c = &conns[fd];
    for (;;) {
        int sink = c->greeted && c->kind == 'U';
        /* MSG_TRUNC throws TCP data away without copying it: a sink that costs next to nothing. */
        ssize_t bytes = recv(fd, scratch, sink ? 4 * CHUNK : CHUNK, sink ? MSG_TRUNC : 0);
        if (bytes < 0)
            return errno == EAGAIN ? 0 : -1;
        if (bytes == 0)
            return -1;
        if (sink)
            run.bytes += (uint64_t)bytes;
        else if ((c->greeted ? serve_message(fd, (uint32_t)bytes) : serve_hello(fd, bytes)) < 0)
            return -1;
        if (bytes < CHUNK && !ended) /* edge-triggered: a short read has emptied it */
            return 0;
    }
}

static void take_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(fd, SERVER, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
}

static int listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), queue = 4096;
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    watch(fd, LISTENER, EPOLLIN);
    return ntohs(address.sin_port);
}

/* ---- client ---- */

static int one_shot(void) { return run.kind == 'S' || run.kind == 'C' || run.kind == 'G'; }

static void launch(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)run.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) {
        run.errors++;
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    uint64_t began = now_ns();
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        run.errors++;
        close(fd);
        return;
    }
    watch(fd, CLIENT, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    conns[fd].kind = run.kind;
    conns[fd].size = run.size;
    conns[fd].began = began;
    run.active++;
    run.started++;
    conns[fd].opened = one_shot() && opening != NONE ? 0 : OPENED;
    /* Loopback has finished the handshake by now; if not, EAGAIN here and EPOLLOUT later. */
    if (conns[fd].opened == OPENED)
        owe(fd, one_shot() ? run.size : HELLO, request);
    else if (opening == SOCKS)
        owe(fd, sizeof greeting, greeting);
    else
        owe(fd, strlen(connecting), connecting);
}

static void finish(int fd, int failed)
{
    run.active--;
    run.errors += (uint64_t)(failed != 0);
    forget(fd);
    if (one_shot() && now_ns() < run.until && run.errors < MOST_ERRORS)
        launch();
}

/* The proxy's answers come alone: nothing may follow them before we have spoken. */
static int opened(int fd, uint32_t bytes)
{
    struct conn *c = &conns[fd];
    c->got += bytes;
    if (opening == SOCKS && c->opened == 0) {
        if (c->got < 2)
            return 0;
        c->got = 0;
        c->opened = 1;
        return owe(fd, sizeof asking, asking);
    }
    if (opening == SOCKS ? c->got < 10 : bytes < 16 || memcmp(scratch + bytes - 4, "\r\n\r\n", 4) != 0)
        return 0;
    if (opening == SOCKS ? scratch[1] != 0 && bytes == 10 : memcmp(scratch + 9, "200", 3) != 0)
        return -1;
    c->got = 0;
    c->opened = OPENED;
    return owe(fd, run.size, request);
}

static int received(int fd, uint32_t bytes)
{
    struct conn *c = &conns[fd];
    if (c->opened != OPENED)
        return opened(fd, bytes);
    c->got += bytes;
    if (one_shot()) {
        if (c->kind == 'C' && c->got >= c->size) {
            took(c);
            finish(fd, 0);
            return 1;
        }
        return 0;
    }
    if (!c->greeted) {
        c->greeted = 1;
        run.open++;
    } else if (c->got < c->size) {
        return 0;
    } else {
        took(c);
    }
    c->got = 0;
    if (c->kind == 'I') {
        if (run.started < (uint64_t)run.count)
            launch();
        return 0;
    }
    c->began = now_ns();
    if (c->began >= run.until) {
        finish(fd, 0);
        return 1;
    }
    return owe(fd, c->size, pattern);
}

static void client(int fd, int ended)
{
    struct conn *c = &conns[fd];
    int sink = c->kind == 'D';
    for (;;) {
        ssize_t bytes = recv(fd, scratch, sink ? 4 * CHUNK : CHUNK, sink ? MSG_TRUNC : 0);
        if (bytes < 0) {
            if (errno != EAGAIN)
                finish(fd, 1);
            return;
        }
        if (bytes == 0) {
            int whole = c->ending || ((c->kind == 'S' || c->kind == 'G') && c->got == c->size);
            if (whole && one_shot())
                took(c);
            finish(fd, !whole);
            return;
        }
        if (sink) {
            run.bytes += (uint64_t)bytes;
        } else {
            int state = received(fd, (uint32_t)bytes);
            if (state < 0)
                finish(fd, 1);
            if (state != 0)
                return;
        }
        if (bytes < CHUNK && !ended)
            return;
    }
}

/* ---- runs ---- */

static void answer(void)
{
    double seconds = (double)(now_ns() - run.began) / 1e9;
    printf("{\"ops\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"cpu\": %.6f, \"errors\": %llu, \"open\": %llu, "
           "\"stalled\": %d, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
           (unsigned long long)run.ops, (unsigned long long)run.bytes, seconds, cpu_seconds() - run.cpu,
           (unsigned long long)run.errors, (unsigned long long)run.open, run.kind == 'I' ? 0 : run.active,
           quantile_us(0.5), quantile_us(0.99), quantile_us(0.999));
    fflush(stdout);
}

static void drop_clients(void)
{
    for (int fd = 0; fd <= highest; fd++)
        if (conns[fd].role == CLIENT)
            forget(fd);
    run.active = 0;
}

/* Bulk ends with a half-close from the client, so that every byte in flight is counted. */
static void end_bulk(void)
{
    for (int fd = 0; fd <= highest; fd++)
        if (conns[fd].role == CLIENT && !conns[fd].ending) {
            conns[fd].ending = 1;
            conns[fd].owed = 0;
            shutdown(fd, SHUT_WR);
        }
}

static void fill_request(void)
{
    memcpy(request, pattern, sizeof request);
    memset(request, 0, HELLO);
    request[0] = run.kind;
    memcpy(request + 4, &run.size, 4);
    if (run.kind == 'G') {
        memset(request, 'x', run.size);
        memcpy(request, "GET / HTTP/1.1\r\nHost: bench.test\r\nX: ", 38);
        memcpy(request + run.size - 4, "\r\n\r\n", 4);
    }
}

static int parse(const char *line, double *seconds)
{
    memset(&run, 0, sizeof run);
    if (sscanf(line, "short %c %d %d %lf %u", &run.kind, &run.port, &run.concurrency, seconds, &run.size) == 5)
        return run.size >= HELLO && run.size <= CHUNK && (run.kind != 'G' || run.size == 100);
    if (sscanf(line, "kept %d %d %lf %u", &run.port, &run.concurrency, seconds, &run.size) == 4)
        return (run.kind = 'K') && run.size >= 1;
    if (sscanf(line, "bulk %c %d %d %lf", &run.kind, &run.port, &run.concurrency, seconds) == 4)
        return run.kind == 'D' || run.kind == 'U';
    if (sscanf(line, "idle %d %d", &run.port, &run.count) == 2) {
        run.kind = 'I';
        run.concurrency = run.count < IDLE_STEP ? run.count : IDLE_STEP;
        *seconds = 60;
        return 1;
    }
    return 0;
}

static int over(uint64_t now, int bulk)
{
    if (run.errors >= MOST_ERRORS)
        return 1;
    if (run.kind == 'I')
        return run.open + run.errors >= (uint64_t)run.count || now >= run.until;
    if (now < run.until)
        return run.active == 0;
    if (bulk)
        end_bulk();
    return run.active == 0 || now >= run.until + 5000000000u;
}

static void turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        struct conn *c = &conns[fd];
        /* With an end already there, a short read is not the last one: no second event will say so. */
        int ended = (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        if (c->role == LISTENER) {
            take_all(fd);
        } else if (c->role == SERVER) {
            if (((events[i].events & EPOLLOUT) && c->owed && pay(fd) < 0) || serve(fd, ended) < 0)
                forget(fd);
        } else if (c->role == CLIENT) {
            if ((events[i].events & EPOLLOUT) && c->owed && pay(fd) < 0)
                finish(fd, 1);
            else
                client(fd, ended);
        }
    }
}

static void open_by(const char *word)
{
    opening = strncmp(word, "socks", 5) == 0 ? SOCKS : strncmp(word, "connect", 7) == 0 ? CONNECT : NONE;
    asking[8] = (char)(server_port >> 8);
    asking[9] = (char)server_port;
    snprintf(connecting, sizeof connecting, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", server_port,
             server_port);
    printf("{}\n");
    fflush(stdout);
}

static void listen_more(int count)
{
    printf("{\"ports\": [");
    for (int i = 0; i < count; i++)
        printf("%s%d", i ? ", " : "", listen_anywhere());
    printf("]}\n");
    fflush(stdout);
}

static void command(const char *line)
{
    double seconds = 0;
    int count = 0;
    if (strncmp(line, "opening ", 8) == 0) {
        open_by(line + 8);
        return;
    }
    if (sscanf(line, "ports %d", &count) == 1) {
        listen_more(count);
        return;
    }
    if (strncmp(line, "drop", 4) == 0) {
        drop_clients();
        for (int i = 0; i < 20; i++) /* the server's ends of them close too */
            turn(10);
        printf("{}\n");
        fflush(stdout);
        return;
    }
    if (!parse(line, &seconds)) {
        printf("{\"error\": \"unknown command\"}\n");
        fflush(stdout);
        return;
    }
    int bulk = run.kind == 'D' || run.kind == 'U';
    fill_request();
    run.cpu = cpu_seconds();
    run.began = now_ns();
    run.until = run.began + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < run.concurrency; i++)
        launch();
    while (!over(now_ns(), bulk)) {
        if (run.kind == 'U')
            for (int fd = 0; fd <= highest; fd++)
                if (conns[fd].role == CLIENT && !conns[fd].owed && !conns[fd].ending)
                    conns[fd].owed = UINT64_MAX, conns[fd].from = pattern, pay(fd);
        turn(0);
    }
    answer();
    if (run.kind != 'I')
        drop_clients();
    for (int i = 0; i < 3; i++)
        turn(1);
}

int main(void)
{
    struct rlimit limit;
    char line[256];
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdin, NULL, _IONBF, 0); /* select() does not see what stdio has already read */
    conns = calloc(MAX_FDS, sizeof *conns);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || poller < 0)
        die("start");
    memset(pattern, 'x', sizeof pattern);
    server_port = listen_anywhere();
    printf("%d\n", server_port);
    fflush(stdout);
    /* Between runs the server must still answer: proxies try their upstream while they start. */
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 0};
    conns[0].role = CONTROL;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event) < 0)
        die("stdin");
    for (;;) {
        fd_set in;
        FD_ZERO(&in);
        FD_SET(0, &in);
        struct timeval none = {0, 0};
        turn(1000);
        if (select(1, &in, NULL, NULL, &none) > 0) {
            if (!fgets(line, sizeof line, stdin))
                return 0;
            command(line);
        }
    }
}
