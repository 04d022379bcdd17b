/*
 * steady: so many new clients a second, come what may, and the echo server behind the proxy, in one epoll loop.
 *
 * It prints the port of its server. On "go RATE FORWARD SOCKS" (ports of the proxy's listeners) clients come evenly until
 * "stop"; when the last has ended there is one line for each of them,
 *
 *   kind listener port began ended up down outcome     (times are seconds since 1970, port is the client's)
 *
 * and at the end "rate SECONDS CLIENTS LEAST": how long they came, how many, and how many in the poorest whole second.
 * Each checks every byte that comes back, then says that it has said all, and waits for the same from the other side.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

enum { LINES = 64 << 20, MAX_FDS = 1 << 16, EVENTS = 256, LARGEST = 4000, SHORT = 300, REPLY = 10 };
enum role { NOBODY, CONTROL, LISTENER, SERVER, CLIENT };
enum step { CONNECTING, GREETING, ASKING, TALKING, PAUSING, ENDING };
enum kind { IS_SHORT, TALKS, SAYS_NOTHING, SOCKS, KINDS };

static const char *const names[] = {"short", "talks", "nothing", "socks"};
static const char lots[] = {IS_SHORT, IS_SHORT, IS_SHORT, IS_SHORT, IS_SHORT, IS_SHORT, IS_SHORT,
                            IS_SHORT, TALKS,    TALKS,    SAYS_NOTHING, SOCKS, SOCKS, SOCKS};
static const double patience = 60.0; /* the machine may have other things to do */

struct conn {
    enum role role;
    enum step step;
    enum kind kind;
    int port, rounds;
    uint32_t owed, expected, got; /* of what is said just now */
    uint64_t up, down;
    double began, due; /* wall; monotonic: when a pause is over, or patience is */
    double deadline;
};

static struct conn conns[MAX_FDS];
static char pattern[LARGEST];
static int poller, highest, server_port, ports[2], open_clients;
static double rate, first, last;
static long sent, in_second, least = -1;
static int second;
static unsigned seed = 7413;

static double clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void watch(int fd, enum role role, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (fd >= MAX_FDS || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) {
        perror("watch");
        exit(1);
    }
    memset(&conns[fd], 0, sizeof conns[fd]);
    conns[fd].role = role;
    if (fd > highest)
        highest = fd;
}

static void forget(int fd)
{
    conns[fd].role = NOBODY;
    close(fd);
}

/* ---- server: says what it hears; what fits into no buffer is more than any client of ours says at once ---- */

static void serve(int fd)
{
    char heard[LARGEST];
    for (;;) {
        ssize_t bytes = recv(fd, heard, sizeof heard, 0);
        if (bytes < 0 && errno == EAGAIN)
            return;
        if (bytes <= 0 || send(fd, heard, (size_t)bytes, MSG_NOSIGNAL) != bytes) {
            forget(fd);
            return;
        }
    }
}

static void take_all(int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(fd, SERVER, EPOLLIN | EPOLLRDHUP);
    }
}

static void listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        perror("listen");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&address, &length);
    server_port = ntohs(address.sin_port);
    watch(fd, LISTENER, EPOLLIN);
}

/* ---- clients ---- */

static void over(int fd, const char *outcome)
{
    struct conn *c = &conns[fd];
    printf("%s %c %d %.6f %.6f %llu %llu %s\n", names[c->kind], c->kind == SOCKS ? 's' : 'a', c->port, c->began,
           clock_of(CLOCK_REALTIME), (unsigned long long)c->up, (unsigned long long)c->down, outcome);
    open_clients--;
    forget(fd);
}

static void launch(void)
{
    enum kind kind = (enum kind)lots[(unsigned)rand_r(&seed) % sizeof lots];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t length = sizeof from;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    double began = clock_of(CLOCK_REALTIME), now = clock_of(CLOCK_MONOTONIC);
    if (fd < 0) {
        perror("socket");
        exit(1);
    }
    to.sin_port = htons((uint16_t)ports[kind == SOCKS]);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int refused = connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS;
    getsockname(fd, (struct sockaddr *)&from, &length);
    watch(fd, CLIENT, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    struct conn *c = &conns[fd];
    c->kind = kind;
    c->port = ntohs(from.sin_port);
    c->began = began;
    c->deadline = now + patience;
    c->rounds = kind == TALKS ? 2 + rand_r(&seed) % 19 : 1;
    open_clients++;
    sent++;
    if (refused)
        over(fd, "refused");
}

/* All of it is small: it goes at once or the connection is broken. */
static int say(int fd, const void *data, uint32_t size)
{
    return send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static int next_round(int fd, double now)
{
    struct conn *c = &conns[fd];
    if (c->kind == SAYS_NOTHING && c->rounds) {
        c->rounds = 0;
        c->step = PAUSING;
        c->due = now + (double)(rand_r(&seed) % 500) / 1e3;
        return 1;
    }
    if (c->rounds == 0) {
        c->step = ENDING;
        return shutdown(fd, SHUT_WR) == 0;
    }
    c->rounds--;
    c->step = TALKING;
    c->got = 0;
    c->expected = c->kind == TALKS ? 1 + (uint32_t)rand_r(&seed) % LARGEST : SHORT;
    if (!say(fd, pattern, c->expected))
        return 0;
    c->up += c->expected;
    return 1;
}

static int connected(int fd, double now)
{
    struct conn *c = &conns[fd];
    if (c->kind != SOCKS)
        return next_round(fd, now);
    c->step = GREETING;
    c->expected = 2;
    return say(fd, "\5\1\0", 3);
}

/* What has come is whole: the next step, or 0 where it cannot be made. */
static int heard(int fd, const char *said, double now)
{
    struct conn *c = &conns[fd];
    char asked[REPLY] = {5, 1, 0, 1, 127, 0, 0, 1, (char)(server_port >> 8), (char)server_port};
    if (c->step == GREETING) {
        c->step = ASKING;
        c->expected = REPLY;
        c->got = 0;
        return memcmp(said, "\5\0", 2) == 0 && say(fd, asked, REPLY);
    }
    if (c->step == ASKING)
        return memcmp(said, "\5\0", 2) == 0 && next_round(fd, now);
    if (c->rounds == 0)
        return next_round(fd, now);
    c->step = PAUSING;
    c->due = now + (double)(rand_r(&seed) % 200) / 1e3;
    return 1;
}

static void client(int fd, uint32_t events, double now)
{
    struct conn *c = &conns[fd];
    char buffer[LARGEST];
    if (c->step == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            over(fd, error == ECONNRESET ? "broken" : "refused");
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        if (!connected(fd, now)) {
            over(fd, "broken");
            return;
        }
    }
    for (;;) {
        uint32_t wanted = c->step < PAUSING ? c->expected - c->got : 1;
        ssize_t bytes = recv(fd, buffer, wanted, 0);
        if (bytes < 0 && errno == EAGAIN)
            return;
        if (bytes <= 0) {
            over(fd, bytes == 0 && c->step == ENDING ? "ok" : "broken");
            return;
        }
        if (c->step >= PAUSING || (c->step == TALKING && memcmp(buffer, pattern + c->got, (size_t)bytes) != 0)) {
            over(fd, "wrong");
            return;
        }
        if (c->step == TALKING)
            c->down += (uint64_t)bytes;
        c->got += (uint32_t)bytes;
        if (c->got == c->expected && !heard(fd, buffer, now)) {
            over(fd, "broken");
            return;
        }
    }
}

static void mind(double now)
{
    for (int fd = 0; fd <= highest; fd++) {
        struct conn *c = &conns[fd];
        if (c->role != CLIENT)
            continue;
        if (now >= c->deadline)
            over(fd, "late");
        else if (c->step == PAUSING && now >= c->due && !next_round(fd, now))
            over(fd, "broken");
    }
}

static void come(double now)
{
    while (rate && (double)sent < (now - first) * rate) {
        int this_second = (int)(now - first);
        if (this_second != second) {
            if (second == this_second - 1 && (least < 0 || in_second < least))
                least = in_second;
            else if (second != this_second - 1)
                least = 0; /* a whole second without anybody */
            second = this_second;
            in_second = 0;
        }
        launch();
        in_second++;
    }
}

/* 0 at the end of input. */
static int obey(void)
{
    char line[100];
    ssize_t bytes = read(0, line, sizeof line - 1);
    if (bytes <= 0)
        return 0;
    line[bytes] = 0;
    if (sscanf(line, "go %lf %d %d", &rate, &ports[0], &ports[1]) == 3) {
        first = clock_of(CLOCK_MONOTONIC);
    } else if (strncmp(line, "stop", 4) == 0) {
        last = clock_of(CLOCK_MONOTONIC);
        come(last); /* those too that were due while this process stood still */
        rate = 0;
    }
    return 1;
}

int main(void)
{
    struct rlimit limit;
    struct epoll_event events[EVENTS];
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < LARGEST; i++)
        pattern[i] = (char)(i * 7919 >> 3);
    listen_anywhere();
    watch(0, CONTROL, EPOLLIN);
    printf("%d\n", server_port);
    fflush(stdout);
    setvbuf(stdout, malloc(LINES), _IOFBF, LINES); /* nobody reads before the end */
    while (!last || open_clients) {
        int count = epoll_wait(poller, events, EVENTS, 2);
        double now = clock_of(CLOCK_MONOTONIC);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (conns[fd].role == LISTENER)
                take_all(fd);
            else if (conns[fd].role == SERVER)
                serve(fd);
            else if (conns[fd].role == CLIENT)
                client(fd, events[i].events, now);
            else if (conns[fd].role == CONTROL && !obey())
                return 0;
        }
        mind(now);
        come(now);
    }
    printf("rate %.3f %ld %ld\n", last - first, sent, least);
    return 0;
}
