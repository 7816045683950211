/* An MPTCP client: cc -o client client.c && ./client HOST PORT MESSAGE
 *
 * Opens an MPTCP socket (plain TCP where the kernel refuses one), sends a line, reads the answer to its end, and
 * prints what the connection is as one line of JSON. Needs Linux 5.6; to read all of it, 5.16.
 * The numbers stand in linux/mptcp.h and linux/tcp.h; they are repeated here for systems with older headers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define MPTCP_LEVEL 284 /* SOL_MPTCP */
#define GET_INFO 1      /* MPTCP_INFO */
#define GET_ADDRESSES 3 /* MPTCP_SUBFLOW_ADDRS */
#define GET_IS_MPTCP 43 /* TCP_IS_MPTCP, of level IPPROTO_TCP; Linux 6.10 */
#define MOST_SUBFLOWS 16

/* struct mptcp_subflow_data with its entries, struct mptcp_subflow_addrs */
struct addresses {
    uint32_t size_head, count, size_kernel, size_entry;
    struct {
        struct sockaddr_storage local, remote;
    } subflow[MOST_SUBFLOWS];
};

/* Return a socket; *refused is the errno with which the kernel refused MPTCP, or 0. */
static int open_socket(int family, int *refused)
{
    int fd = socket(family, SOCK_STREAM, IPPROTO_MPTCP);

    *refused = fd < 0 ? errno : 0; /* ENOPROTOOPT: net.mptcp.enabled=0; EPROTONOSUPPORT: not compiled */
    return fd < 0 ? socket(family, SOCK_STREAM, 0) : fd;
}

/* Whether MPTCP_INFO answers: on MPTCP sockets from Linux 5.16 on, until they fall back (EOPNOTSUPP). */
static int has_info(int fd)
{
    unsigned char info[256];
    socklen_t size = sizeof(info);

    return getsockopt(fd, MPTCP_LEVEL, GET_INFO, info, &size) == 0;
}

/* Whether a connected socket (still) speaks MPTCP with its peer: 0 after a fallback. */
static int is_mptcp(int fd)
{
    int yes = 0;
    socklen_t size = sizeof(yes);

    if (getsockopt(fd, IPPROTO_TCP, GET_IS_MPTCP, &yes, &size) == 0)
        return yes;
    return has_info(fd); /* before 6.10: EOPNOTSUPP from MPTCP, ENOPROTOOPT from TCP */
}

/* The connection's token, from struct mptcp_info; an error (EOPNOTSUPP: not MPTCP) where there is none. */
static void print_token(int fd)
{
    unsigned char info[256];
    uint32_t token;
    socklen_t size = sizeof(info);

    if (getsockopt(fd, MPTCP_LEVEL, GET_INFO, info, &size) < 0) {
        printf("\"token\": \"%s\"", strerror(errno));
        return;
    }
    memcpy(&token, info + 12, sizeof(token));
    printf("\"token\": %u", token);
}

static void print_address(const struct sockaddr_storage *storage)
{
    char text[INET6_ADDRSTRLEN];
    const void *raw = storage->ss_family == AF_INET
                          ? (const void *)&((const struct sockaddr_in *)storage)->sin_addr
                          : (const void *)&((const struct sockaddr_in6 *)storage)->sin6_addr;

    printf("\"%s\"", inet_ntop(storage->ss_family, raw, text, sizeof(text)));
}

/* The subflows as [local address, remote address]; none where the socket is not MPTCP. */
static void print_subflows(int fd)
{
    struct addresses all = {.size_head = 16, .size_entry = sizeof(all.subflow[0])};
    socklen_t size = sizeof(all);

    printf("\"subflows\": [");
    if (getsockopt(fd, MPTCP_LEVEL, GET_ADDRESSES, &all, &size) == 0)
        for (uint32_t n = 0; n < all.count && n < MOST_SUBFLOWS; n++) {
            printf(n ? ", [" : "[");
            print_address(&all.subflow[n].local);
            printf(", ");
            print_address(&all.subflow[n].remote);
            printf("]");
        }
    printf("]");
}

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *peer;
    char buffer[65536];
    int fd, refused, known;

    if (argc != 4 || getaddrinfo(argv[1], argv[2], &hints, &peer) != 0) {
        fprintf(stderr, "usage: client HOST PORT MESSAGE\n");
        return 2;
    }
    fd = open_socket(peer->ai_family, &refused);
    known = refused || has_info(fd); /* nothing has fallen back yet: does the kernel have it? */
    if (fd < 0 || connect(fd, peer->ai_addr, peer->ai_addrlen) < 0) {
        perror("connect");
        return 1;
    }
    dprintf(fd, "%s\n", argv[3]);
    if (read(fd, buffer, sizeof(buffer)) < 0)
        perror("read");
    printf("{\"refused\": \"%s\", \"is_mptcp\": %s, ", refused ? strerror(refused) : "",
           !known ? "null" : is_mptcp(fd) ? "true" : "false");
    print_token(fd);
    printf(", ");
    print_subflows(fd);
    printf("}\n");
    shutdown(fd, SHUT_WR);
    while (read(fd, buffer, sizeof(buffer)) > 0)
        ;
    freeaddrinfo(peer);
    return close(fd);
}
