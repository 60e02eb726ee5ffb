/* The limit that the service is measured against: consume, produce and commit exactly once with librdkafka alone.
 *
 *   bare BOOTSTRAP GROUP SOURCE TARGET LANES BATCH LINGER APPENDED PREFETCH_KIB
 *
 * Each lane is a thread with one consumer and one transactional producer. A batch is what is there, up to BATCH records,
 * at most 100 ms after its first. Each output is its input with one more field of APPENDED bytes at the end of the object,
 * the input's headers, and the header that the checker looks for. Settings of the clients as the service has them;
 * LINGER is the producer's linger.ms, PREFETCH_KIB the consumer's queued.max.messages.kbytes.
 *
 * No recovery: any error ends it. Prints a line per commit:
 *   commit EPOCH_US LANE RECORDS ACKNOWLEDGED_US OFFSETS_US COMMIT_US
 */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PARTITIONS 256
#define LARGEST 65536

static const char *bootstrap, *group, *source, *target, *linger, *prefetch;
static int batch, appended;
static volatile sig_atomic_t stop;

static void on_signal(int sig) {
        (void)sig;
        stop = 1;
}

static int64_t micros(clockid_t clock) {
        struct timespec t;
        clock_gettime(clock, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what, const char *why) {
        fprintf(stderr, "bare: %s: %s\n", what, why);
        _exit(1);
}

static void must(const char *what, rd_kafka_error_t *error) {
        if (error)
                die(what, rd_kafka_error_string(error));
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
        char why[512];
        if (rd_kafka_conf_set(conf, key, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
                die(key, why);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
        char why[512];
        set(conf, "bootstrap.servers", bootstrap);
        set(conf, "client.id", group);
        set(conf, "reconnect.backoff.max.ms", "500");
        rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));
        if (!rk)
                die("client", why);
        return rk;
}

static rd_kafka_t *consumer(void) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "group.id", group);
        set(conf, "isolation.level", "read_committed");
        set(conf, "enable.auto.commit", "false");
        set(conf, "enable.auto.offset.store", "false");
        set(conf, "auto.offset.reset", "earliest");
        set(conf, "session.timeout.ms", "45000");
        set(conf, "heartbeat.interval.ms", "500");
        set(conf, "partition.assignment.strategy", "cooperative-sticky");
        set(conf, "fetch.queue.backoff.ms", "20");
        set(conf, "queued.max.messages.kbytes", prefetch);
        set(conf, "fetch.wait.max.ms", "100");
        rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf);
        rd_kafka_poll_set_consumer(rk);
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, source, RD_KAFKA_PARTITION_UA);
        if (rd_kafka_subscribe(rk, topics))
                die("subscribe", source);
        rd_kafka_topic_partition_list_destroy(topics);
        return rk;
}

static rd_kafka_t *producer(int lane) {
        char id[256];
        snprintf(id, sizeof(id), "%s-%d", group, lane);
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "transactional.id", id);
        set(conf, "transaction.timeout.ms", "15000");
        set(conf, "delivery.report.only.error", "true");
        set(conf, "retry.backoff.ms", "500");
        set(conf, "linger.ms", linger);
        set(conf, "batch.size", "1000000");
        set(conf, "partitioner", "murmur2_random");
        set(conf, "topic.metadata.propagation.max.ms", "5000");
        rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, conf);
        must("init", rd_kafka_init_transactions(rk, 30000));
        return rk;
}

static void *poll_producer(void *rk) {
        while (!stop)
                rd_kafka_poll(rk, 1000);
        return NULL;
}

/* Hands one output over; librdkafka copies it. */
static void forward(rd_kafka_t *rk, rd_kafka_topic_t *to, rd_kafka_message_t *in, const char *field) {
        char out[LARGEST], place[512];
        if (!in->len || in->len + appended >= sizeof(out))
                die("record", "empty or too large");
        size_t body = in->len - 1; /* without the last brace */
        memcpy(out, in->payload, body);
        memcpy(out + body, field, appended);
        out[body + appended] = '}';
        int placed = snprintf(place, sizeof(place), "%s:%" PRId32 ":%" PRId64, source, in->partition, in->offset);
        rd_kafka_headers_t *theirs, *headers;
        headers = rd_kafka_message_headers(in, &theirs) ? rd_kafka_headers_new(1) : rd_kafka_headers_copy(theirs);
        rd_kafka_header_add(headers, "orchestrator-dedup-key", -1, place, placed);
        must("produce", rd_kafka_produceva(
                            rk,
                            (rd_kafka_vu_t[]) {
                                {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = to},
                                {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
                                {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {in->key, in->key_len}},
                                {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {out, body + appended + 1}},
                                {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
                            },
                            5));
}

static void *run_lane(void *number) {
        int lane = (int)(intptr_t)number;
        rd_kafka_t *in = consumer(), *out = producer(lane);
        rd_kafka_topic_t *to = rd_kafka_topic_new(out, target, NULL);
        rd_kafka_message_t **records = calloc(batch, sizeof(*records));
        char *field = malloc(appended + 1);
        snprintf(field, appended + 1, ",\"routedBy\":\"%0*d\"", appended - 14, 0);
        pthread_t poller;
        pthread_create(&poller, NULL, poll_producer, out);

        while (!stop) {
                int count = 0;
                int64_t until = 0, left = 200000;
                while (count < batch && left > 0) {
                        rd_kafka_message_t *record = rd_kafka_consumer_poll(in, count ? (int)(left / 1000) : 200);
                        if (record && record->err)
                                die("consume", rd_kafka_message_errstr(record));
                        if (record)
                                records[count++] = record;
                        if (!count)
                                break;
                        if (count == 1)
                                until = micros(CLOCK_MONOTONIC) + 100000;
                        left = until - micros(CLOCK_MONOTONIC);
                }
                if (!count)
                        continue;
                int64_t next[PARTITIONS] = {0};
                rd_kafka_consumer_group_metadata_t *member = rd_kafka_consumer_group_metadata(in);
                must("begin", rd_kafka_begin_transaction(out));
                for (int i = 0; i < count; i++) {
                        if (records[i]->partition >= PARTITIONS)
                                die("partition", "more than fit");
                        forward(out, to, records[i], field);
                        next[records[i]->partition] = records[i]->offset + 1;
                }
                int64_t sent = micros(CLOCK_MONOTONIC);
                while (rd_kafka_outq_len(out) > 0)
                        usleep(100);
                int64_t acknowledged = micros(CLOCK_MONOTONIC);
                rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(8);
                for (int p = 0; p < PARTITIONS; p++)
                        if (next[p])
                                rd_kafka_topic_partition_list_add(offsets, source, p)->offset = next[p];
                must("offsets", rd_kafka_send_offsets_to_transaction(out, offsets, member, 10000));
                int64_t asked = micros(CLOCK_MONOTONIC);
                must("commit", rd_kafka_commit_transaction(out, 10000));
                int64_t done = micros(CLOCK_MONOTONIC);
                printf("commit %" PRId64 " %d %d %" PRId64 " %" PRId64 " %" PRId64 "\n", micros(CLOCK_REALTIME), lane, count,
                       acknowledged - sent, asked - acknowledged, done - asked);
                fflush(stdout);
                rd_kafka_topic_partition_list_destroy(offsets);
                rd_kafka_consumer_group_metadata_destroy(member);
                while (count > 0)
                        rd_kafka_message_destroy(records[--count]);
        }
        rd_kafka_consumer_close(in);
        pthread_join(poller, NULL);
        rd_kafka_topic_destroy(to);
        rd_kafka_destroy(out);
        rd_kafka_destroy(in);
        free(field);
        free(records);
        return NULL;
}

int main(int argc, char **argv) {
        if (argc != 10)
                die("usage", "bare BOOTSTRAP GROUP SOURCE TARGET LANES BATCH LINGER APPENDED PREFETCH_KIB");
        bootstrap = argv[1], group = argv[2], source = argv[3], target = argv[4], linger = argv[7];
        int lanes = atoi(argv[5]);
        batch = atoi(argv[6]), appended = atoi(argv[8]), prefetch = argv[9];
        if (lanes < 1 || lanes > 16 || batch < 1 || appended < 16 || appended > LARGEST / 2)
                die("usage", "LANES 1 to 16, BATCH from 1, APPENDED 16 to 32768");
        signal(SIGTERM, on_signal);
        signal(SIGINT, on_signal);
        fprintf(stderr, "bare: librdkafka %s\n", rd_kafka_version_str());
        pthread_t threads[16];
        for (int i = 0; i < lanes; i++)
                pthread_create(&threads[i], NULL, run_lane, (void *)(intptr_t)i);
        for (int i = 0; i < lanes; i++)
                pthread_join(threads[i], NULL);
        return 0;
}
