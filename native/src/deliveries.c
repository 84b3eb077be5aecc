/* Records to librdkafka and its delivery reports back, many in one call and without Python.

   Owns nothing: the records and the slots are Python's, and stay where they are until `call_t.missing` is nought.
   librdkafka is not linked: its functions come in as addresses, and what of its header is needed stands here as its
   stable ABI has it. Reports are served by one thread at a time, the one that polls, so nothing here is locked. */
#include "taximeter.h"

enum { COPY = 2 }; /* RD_KAFKA_MSG_F_COPY: librdkafka keeps a copy of key and value */

typedef struct { /* rd_kafka_message_t */
    int err;
    void *topic;
    int32_t partition;
    void *value;
    size_t value_size;
    void *key;
    size_t key_size;
    int64_t offset;
    void *slot;
} message_t;

typedef struct { /* the records that one caller waits for together */
    int64_t missing; /* not reported yet */
    int64_t error;   /* of the last one that failed, or nought */
    int64_t failed;  /* which one that was */
} call_t;

typedef struct { /* one record: where its key and value stand, and where it came to stand on the log */
    call_t *call;
    int64_t index;
    int64_t value, value_size; /* within `send_t.values` */
    int64_t key, key_size;     /* within `send_t.keys`; a size of -1: without a key */
    int64_t offset;            /* out: once it is delivered */
} slot_t;

typedef int (*produce_t)(void *topic, int32_t partition, int flags, void *value, size_t value_size, const void *key,
                         size_t key_size, void *slot);

typedef struct { /* records for one partition */
    produce_t produce;
    int (*last_error)(void);
    void *topic;
    int64_t partition;
    int64_t count;
    char *values;
    char *keys;
    slot_t *slots;
    int64_t error; /* out: why the record after those taken was not */
} send_t;

/* Queues records in their order. Returns how many were taken. */
EXPORT int64_t tx_kafka_send(send_t *send) {
    send->error = 0;
    for (int64_t i = 0; i < send->count; i++) {
        slot_t *slot = &send->slots[i];
        char *key = slot->key_size < 0 ? NULL : send->keys + slot->key;
        if (send->produce(send->topic, (int32_t)send->partition, COPY, send->values + slot->value,
                          (size_t)slot->value_size, key, key ? (size_t)slot->key_size : 0, slot) != 0) {
            send->error = send->last_error();
            return i;
        }
    }
    return send->count;
}

/* librdkafka's `dr_msg_cb`: one record is on the log, or has failed for good. */
EXPORT void tx_kafka_delivered(void *producer, const message_t *message, void *opaque) {
    (void)producer;
    (void)opaque;
    slot_t *slot = message->slot;
    if (message->err) {
        slot->call->error = message->err;
        slot->call->failed = slot->index;
    } else {
        slot->offset = message->offset;
    }
    slot->call->missing--;
}
