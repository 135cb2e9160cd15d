/* A packet queue's number in, every packet accepted: what a reader in bare C can do at most.
 *
 *     accepting QUEUE [MESSAGES [LENGTH [OPEN]]]
 *
 * Reads as many messages as wait, at most MESSAGES a call, and answers them by one verdict for all
 * up to the last (NFQNL_MSG_VERDICT_BATCH). Says "ready" once the queue is bound. OPEN: 1 lets packets pass where LENGTH of them wait.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 1024, ROOM = 4608 };

static int queue;

/* Append an attribute to a message. */
static void put(struct nlmsghdr *m, int type, const void *data, int size)
{
    struct nlattr *a = (struct nlattr *)((char *)m + NLMSG_ALIGN(m->nlmsg_len));
    a->nla_type = type;
    a->nla_len = NLA_HDRLEN + size;
    memcpy((char *)a + NLA_HDRLEN, data, size);
    m->nlmsg_len = NLMSG_ALIGN(m->nlmsg_len) + NLA_ALIGN(a->nla_len);
}

static void begin(struct nlmsghdr *m, int type, int flags)
{
    struct nfgenmsg *g = NLMSG_DATA(m);
    memset(m, 0, 512);
    m->nlmsg_len = NLMSG_LENGTH(sizeof *g);
    m->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | type;
    m->nlmsg_flags = NLM_F_REQUEST | flags;
    g->res_id = htons(queue);
}

int main(int argc, char **argv)
{
    static char inbox[MOST][ROOM], out[512];
    static struct mmsghdr messages[MOST];
    static struct iovec vectors[MOST];
    struct nlmsghdr *m = (struct nlmsghdr *)out;
    int most = argc > 2 ? atoi(argv[2]) : 128, room = 8 << 20, fd, i;
    struct nfqnl_msg_config_cmd bind_it = {.command = NFQNL_CFG_CMD_BIND};
    struct nfqnl_msg_config_params copy = {
        .copy_range = htonl(256), .copy_mode = NFQNL_COPY_PACKET};
    unsigned length = htonl(argc > 3 ? atoi(argv[3]) : 4096), flag = htonl(NFQA_CFG_F_FAIL_OPEN);

    queue = argc > 1 ? atoi(argv[1]) : 0;
    if (most < 1 || most > MOST)
        return 2;
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    begin(m, NFQNL_MSG_CONFIG, NLM_F_ACK);
    put(m, NFQA_CFG_CMD, &bind_it, sizeof bind_it);
    put(m, NFQA_CFG_PARAMS, &copy, sizeof copy);
    put(m, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof length);
    if (argc > 4 && atoi(argv[4])) {
        put(m, NFQA_CFG_MASK, &flag, sizeof flag);
        put(m, NFQA_CFG_FLAGS, &flag, sizeof flag);
    }
    if (send(fd, m, m->nlmsg_len, 0) < 0 || recv(fd, inbox[0], ROOM, 0) < 20 ||
        *(int *)(inbox[0] + 16) != 0) {
        fprintf(stderr, "queue %d cannot be bound\n", queue);
        return 1;
    }
    for (i = 0; i < MOST; i++) {
        vectors[i] = (struct iovec){inbox[i], ROOM};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int n = recvmmsg(fd, messages, most, MSG_DONTWAIT, NULL);
        unsigned last = 0;
        int some = 0;
        if (n <= 0) {
            poll(&wait, 1, -1);
            continue;
        }
        for (i = 0; i < n; i++) {
            struct nlmsghdr *got = (struct nlmsghdr *)inbox[i];
            char *at = inbox[i] + NLMSG_LENGTH(sizeof(struct nfgenmsg));
            char *end = inbox[i] + messages[i].msg_len;
            if (got->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
                continue;
            while (at + NLA_HDRLEN <= end) {
                struct nlattr *a = (struct nlattr *)at;
                if (a->nla_len < NLA_HDRLEN)
                    break;
                if (a->nla_type == NFQA_PACKET_HDR) {
                    last = ((struct nfqnl_msg_packet_hdr *)(at + NLA_HDRLEN))->packet_id;
                    some = 1;
                    break;
                }
                at += NLA_ALIGN(a->nla_len);
            }
        }
        if (some) {
            struct nfqnl_msg_verdict_hdr word = {.verdict = htonl(1), .id = last};
            begin(m, NFQNL_MSG_VERDICT_BATCH, 0);
            put(m, NFQA_VERDICT_HDR, &word, sizeof word);
            if (send(fd, m, m->nlmsg_len, 0) < 0)
                perror("verdict");
        }
    }
}
