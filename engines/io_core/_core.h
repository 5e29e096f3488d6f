/* What the scheduler of a shard (_core.c), its transports (_transports.c) and the reader of batches
 * (_reader.c) share. */
#ifndef MLPS_CORE_H
#define MLPS_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD = 0, STORE = 1, KINDS = 2, PURPOSES = 16 };
enum { BLOCK_BYTES = 4096, STAMP_WORDS = 4 };
enum {
	READ_LATENCY, WRITE_LATENCY, REQUEST_LATENCY, QUEUE_LATENCY, SERVICE_LATENCY,
	PREFIX_LATENCY, READ_ENTRY_LATENCY, WRITE_ENTRY_LATENCY, SERIES
};
enum { VERIFY_NONE, VERIFY_SAMPLED, VERIFY_ALL, VERIFY_CONTENT };
enum { TRANSPORT_URING, TRANSPORT_THREADS, TRANSPORT_NOOP };
/* What fails, and what a transport is asked to do. */
enum { NO_FAILURE, FAILED_CALL, SHORT_TRANSFER, WRONG_DATA, BAD_ROW, FAILED_CORE };
enum { TRANSFER_LOAD = LOAD, TRANSFER_STORE = STORE, TRANSFER_SYNC };
enum { REASON_BYTES = 256 };

/* A row of OPERATION in operations.py. */
struct row {
	uint64_t offset, chunk, arrival;
	uint32_t length, version, file, user, request, slot, order, tokens;
	uint16_t step, spare;
	uint8_t kind, purpose, closes, gate;
};
_Static_assert(sizeof(struct row) == 64, "a row is what OPERATION says");

/* The structures up to the next comment are mirrored in core.py. */
struct config {
	uint64_t key;
	/* Incompressible words. If `placed`, it lives as long as the core: the byte at an offset of a
	 * file is the pool's at that offset modulo pool_bytes, but for the lines with stamps. Else
	 * its io_bytes go turned into the buffers, and that is all. */
	const uint64_t *pool;
	const int32_t *descriptors;
	uint32_t files, transport, shards, depth, io_bytes, requests, backlog_limit, store_cap;
	uint32_t open_loop, verify, sample_every, sync, chunk_files, open_flags, gate_slots;
	uint32_t exact_bits, largest_bytes, fault_after, pool_bytes, placed;
	int64_t fault_result; /* what the fault_after-th completion of a shard becomes, if not 0 */
};

struct clocks { /* on CLOCK_MONOTONIC; `end` may be moved while threads run */
	_Atomic int64_t start, window, end;
};

struct flow {
	int64_t window_bytes, window_operations;
	_Atomic int64_t total_bytes;
	int64_t total_operations;
};

struct series { /* a Histogram; the sum is of 128 bits */
	int64_t *counts;
	uint64_t sum_low, sum_high;
	int64_t count, minimum, maximum;
};

struct size_class { /* of entries: by the bit length of their bytes, below SIZE_CLASSES */
	int64_t entries, bytes, sum_ns, max_ns;
};

struct failure {
	int64_t reason, action, file, offset, chunk, value, length, blocks, wrong;
	/* Of wrong data: which byte of the block, or -1 if its stamp is wrong; then the first words
	 * below are that byte, else all are the stamp. */
	int64_t byte;
	uint64_t expected[STAMP_WORDS], found[STAMP_WORDS];
};

struct account {
	struct flow flows[KINDS];
	struct series series[SERIES];
	int64_t *timeline[KINDS]; /* bytes of each second of the window */
	int64_t bins;
	struct size_class *sizes[KINDS];
	int64_t purposes[PURPOSES];
	int64_t requests, generated_tokens, last_ns, backlog_max, overloaded, starved_ns;
	int64_t checked_operations, checked_blocks, checked_bytes, mismatches;
	struct failure failure;
};

/* A piece of memory that is registered with the kernel. */
struct buffer {
	void *memory;
	uint32_t index;
	struct buffer *next;
	/* What it must hold, while it waits for its verification. */
	uint64_t offset, chunk;
	uint32_t length, version, file, first_block;
	uint32_t turn; /* where in the pool its content begins, if that is placed */
};

/* One transfer in flight: up to io_bytes of a row, or the sync after it. */
struct piece {
	struct node *node;
	struct buffer *buffer;
	uint64_t offset, chunk;
	uint32_t length, file;
	int transfer;
	int64_t result, done_ns;
	struct piece *next;
};

struct shard;

struct transport {
	/* Returns false with the reason in the shard; called, as all else, on the shard's thread. */
	bool (*open)(struct shard *shard);
	void (*close)(struct shard *shard);
	void (*add)(struct shard *shard, struct piece *piece);
	/* Hands over what was added and waits for a completion: not at all (0), for ever (< 0), or
	 * for some ns. Returns 0 or an errno that ends the run. */
	int (*exchange)(struct shard *shard, int64_t wait_ns);
	/* The next completed piece or NULL; `done_ns` is set. */
	struct piece *(*reap)(struct shard *shard);
	/* Makes an `exchange` return that waits, or else the next one; called on other threads. */
	void (*nudge)(struct shard *shard);
	/* Before the first run with other files; NULL if nothing is to be done. */
	void (*reopened)(struct shard *shard);
};

extern const struct transport uring_transport, threads_transport, noop_transport;

/* The part of a shard that transports may touch. */
struct shard {
	const struct config *config;
	struct scheduler *scheduler;
	void *transport_state;
	struct buffer *buffers;
	uint32_t buffer_count, depth;
	int64_t now;
	pthread_mutex_t lock;
	pthread_cond_t news; /* for the shard's thread: rows were fed, a worker is done */
	_Atomic bool asleep;
	_Atomic bool nudged; /* by another shard: a gate may be open */
	bool reopened;	     /* the files are others since its last run */
	char reason[REASON_BYTES];
	/* Why buffers or files could not be registered, empty if they are. */
	char unregistered[REASON_BYTES];
};

int64_t clock_ns(void);
/* Zeroed memory; without any left the process ends. */
void *allocated(size_t count, size_t bytes);
/* A condition on CLOCK_MONOTONIC. */
void make_condition(pthread_cond_t *condition);
/* For ever if ns < 0; the lock is held. */
void wait_until_signal(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ns);
void series_note(struct series *series, int64_t value, uint32_t exact_bits);
/* Waits on `news`, for ever if ns < 0; the lock is held. */
void wait_for_news(struct shard *shard, int64_t ns);

struct reader;
/* What a wait or a step ends with. */
enum {
	BATCH_READY, BATCH_PENDING, BATCH_FAILED, READER_STOPPED, BATCH_UNKNOWN, STEP_COMPUTES,
	READER_CLOSED
};
int reader_wait(struct reader *r, uint64_t batch, int64_t patience_ns, int64_t *waited_ns);
bool reader_release(struct reader *r, uint64_t batch);
int64_t reader_compute(int64_t until_ns, int64_t patience_ns);
#endif
