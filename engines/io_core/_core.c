/* The fast executor: each shard is one thread that takes rows of OPERATION from a bounded queue,
 * decides which may run, and hands them to its transport. It never touches the interpreter.
 *
 * A lane holds the rows of one user in plan order. Its first request runs step by step; the next
 * one starts when it is complete. Lanes with a request to start wait in plan order for one of
 * `requests` places. Rows depend on earlier rows of the plan only, and the earliest of all is never
 * kept waiting by a later one: so nothing waits for ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "_core.h"

enum {
	QUEUE_BLOCKS = 256,
	/* Rows that wait in a shard's queue, and rows that its scheduler looks at: enough for the
	 * planner to be late by tens of ms, and to find work for all users. */
	QUEUE_ROWS = 8192,
	AHEAD_ROWS = 8192,
	LANE_LISTS = 1 << 14,
	POOL_ITEMS = 512,
	SHARD_STACK_BYTES = 256 * 1024,
	/* Blocks whose stamps are fetched before they are compared. */
	PREFETCH_BLOCKS = 16,
	LINE_WORDS = 8,
};
#define SECOND_NS 1000000000LL
#define IDLE_NS 10000000LL  /* how soon an idle shard sees that the run has ended */
#define HUNGRY_NS 500000LL  /* how soon a busy one with room sees that rows were fed */
#define HUGE_PAGE_BYTES (2UL << 20)
/* SplitMix64, as in blocks.py. */
#define MIX_1 0xBF58476D1CE4E5B9ULL
#define MIX_2 0x94D049BB133111EBULL
#define MIX_STEP 0x9E3779B97F4A7C15ULL

enum place { NOWHERE, TO_START, READY, STORE_WAIT, GATE_WAIT };

struct node { /* a row from its arrival here to its completion */
	struct row row;
	struct node *next;
	struct lane *lane;
	int64_t first_ns, last_ns;
	uint64_t request;	/* ordinal in the shard's stream */
	uint32_t issued, done; /* bytes */
	bool last;		/* of its request */
	bool prefix;		/* a load before the request's first store */
	bool check;
};

struct entry { /* the rows of one kind in one step of a request */
	int64_t first_ns, last_ns;
	uint64_t bytes;
};

struct lane {
	struct lane *sibling; /* of the same list of the table */
	struct lane *next;    /* where `place` says */
	struct node *head, *tail;
	/* Of the first request: */
	struct entry entries[KINDS]; /* of its current step */
	int64_t first_ns, last_ns, arrival_ns;
	int64_t prefix_ns; /* last completion of its loads before its first store, until noted */
	uint32_t user, in_flight, prefix_in_flight, tokens;
	uint16_t step;
	uint8_t place;
	bool active, all_issued, closes, stored;
};

struct lanes { /* first in, first out */
	struct lane *head, **end;
};

struct pool { /* items of one size, freed all together */
	size_t item_bytes;
	void *free;
	void *slabs;
};

struct fed {
	struct row *rows;
	uint32_t count;
};

struct core;

struct scheduler {
	struct shard shard;
	struct core *core;
	struct account *account;
	const struct transport *transport;
	pthread_t thread;
	bool opened, running; /* guarded by the core's lock */
	uint32_t number, request_limit, store_limit, backlog_limit;

	/* The queue that the feeder fills. */
	struct fed queue[QUEUE_BLOCKS];
	_Atomic uint32_t queue_head, queue_tail, queue_rows;
	_Atomic bool fed_all;
	uint32_t queue_row; /* next of the block at the head */

	struct pool nodes, lanes;
	struct lane **table;
	struct lane **heap; /* lanes with a request to start, the earliest first */
	uint32_t heap_count, heap_room;
	struct lanes ready, store_wait, gate_wait;
	struct lane *open; /* of the request whose end has not been seen yet */
	uint32_t open_request;
	uint32_t held, active, in_flight, stores;
	uint64_t rows_seen, requests_seen, requests_started, requests_arrived;
	uint64_t completions;
	uint32_t gate_epoch;
	int64_t *arrivals; /* of requests from requests_arrived on, a ring */
	uint64_t arrivals_room;
	bool stopping;

	struct piece *pieces, *free_pieces;
	struct piece **added;
	uint32_t added_count;
	struct buffer *free_reads, *free_writes, *to_check;
	void *arena;
	size_t arena_bytes;
};

struct core {
	struct config config;
	struct scheduler *schedulers;
	int32_t *descriptors;
	struct clocks *clocks;
	_Atomic uint32_t *slot_rows, *slot_stores, *slot_waiters;
	_Atomic uint32_t gate_epoch;
	_Atomic bool ended; /* a failure, or overloaded */
	pthread_mutex_t lock;
	pthread_cond_t change; /* a shard opened, shall run, ended, or has room */
	uint32_t reported, live;
	uint64_t runs;
	bool closing;
	_Atomic bool feeder_waits;
};

int64_t clock_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

void wait_until_signal(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ns)
{
	if (ns < 0) {
		pthread_cond_wait(condition, lock);
		return;
	}
	int64_t until = clock_ns() + ns;
	struct timespec limit = {until / SECOND_NS, until % SECOND_NS};
	pthread_cond_timedwait(condition, lock, &limit);
}

void wait_for_news(struct shard *shard, int64_t ns)
{
	wait_until_signal(&shard->news, &shard->lock, ns);
}

void make_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
}

static _Noreturn void out_of_memory(void)
{
	fputs("mlps io core: out of memory\n", stderr);
	abort();
}

void *allocated(size_t count, size_t bytes)
{
	void *memory = calloc(count ? count : 1, bytes);
	if (memory == NULL)
		out_of_memory();
	return memory;
}

static void *grown(void *memory, size_t bytes)
{
	memory = realloc(memory, bytes);
	if (memory == NULL)
		out_of_memory();
	return memory;
}

/* Pools */

static void *pool_take(struct pool *pool)
{
	if (pool->free == NULL) {
		char *slab = allocated(1, sizeof(void *) * 8 + POOL_ITEMS * pool->item_bytes);
		*(void **)slab = pool->slabs;
		pool->slabs = slab;
		char *item = slab + sizeof(void *) * 8;
		for (int n = 0; n < POOL_ITEMS; n++, item += pool->item_bytes) {
			*(void **)item = pool->free;
			pool->free = item;
		}
	}
	void *item = pool->free;
	pool->free = *(void **)item;
	memset(item, 0, pool->item_bytes);
	return item;
}

static void pool_give(struct pool *pool, void *item)
{
	*(void **)item = pool->free;
	pool->free = item;
}

static void pool_empty(struct pool *pool)
{
	while (pool->slabs != NULL) {
		void *slab = pool->slabs;
		pool->slabs = *(void **)slab;
		free(slab);
	}
	pool->free = NULL;
}

/* Histograms and stamps: the same as histogram.py and blocks.py */

uint32_t core_bucket(uint64_t value, uint32_t exact_bits)
{
	uint32_t bits = value == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(value);
	uint32_t shift = bits > exact_bits ? bits - exact_bits : 0;
	return (shift << (exact_bits - 1)) + (uint32_t)(value >> shift);
}

void series_note(struct series *series, int64_t value, uint32_t exact_bits)
{
	uint64_t positive = value < 0 ? 0 : (uint64_t)value;
	series->counts[core_bucket(positive, exact_bits)]++;
	series->sum_low += positive;
	series->sum_high += series->sum_low < positive;
	if (series->count == 0 || value < series->minimum)
		series->minimum = (int64_t)positive;
	if (series->count == 0 || value > series->maximum)
		series->maximum = (int64_t)positive;
	series->count++;
}

static void note(struct scheduler *s, int which, int64_t value)
{
	series_note(&s->account->series[which], value, s->core->config.exact_bits);
}

static uint64_t mix(uint64_t word)
{
	word = (word ^ word >> 30) * MIX_1;
	word = (word ^ word >> 27) * MIX_2;
	return word ^ word >> 31;
}

static uint64_t mix_chunk(uint64_t key, uint64_t chunk, uint32_t version)
{
	return mix(mix(mix(key + MIX_STEP) ^ chunk) ^ version);
}

static void expect(uint64_t stamp[STAMP_WORDS], uint64_t key, uint64_t chunk, uint32_t version,
		   uint64_t block, uint64_t mixed)
{
	stamp[0] = key;
	stamp[1] = chunk;
	stamp[2] = block << 32 | version;
	stamp[3] = mixed ^ mix(block);
}

/* Writes a whole line of the cache past it. The device has long taken the line, perhaps into another
 * cache: to fetch it for a few words costs more than all else that a store needs. */
static void put_line(void *to, const uint64_t line[LINE_WORDS])
{
#ifdef __SSE2__
	for (int n = 0; n < LINE_WORDS / 2; n++)
		_mm_stream_si128((__m128i *)to + n, _mm_loadu_si128((const __m128i *)line + n));
#else
	memcpy(to, line, LINE_WORDS * sizeof *line);
#endif
}

/* Until then others may see lines that were put in any order, or not at all. */
static void lines_are_put(void)
{
#ifdef __SSE2__
	_mm_sfence();
#endif
}

/* A stamp and behind it, to the end of its line, words as good as random. */
static void make_line(uint64_t line[LINE_WORDS], uint64_t key, uint64_t chunk, uint32_t version,
		      uint64_t block, uint64_t mixed)
{
	expect(line, key, chunk, version, block, mixed);
	for (int word = STAMP_WORDS; word < LINE_WORDS; word++)
		line[word] = mix(line[word - 1] + MIX_STEP);
}

/* `lines_are_put` is to follow. */
void core_stamp(void *memory, uint32_t blocks, uint64_t key, uint64_t chunk, uint32_t version,
		uint32_t first_block)
{
	uint64_t mixed = mix_chunk(key, chunk, version), line[LINE_WORDS];
	for (uint32_t n = 0; n < blocks; n++) {
		make_line(line, key, chunk, version, first_block + n, mixed);
		put_line((char *)memory + (size_t)n * BLOCK_BYTES, line);
	}
}

/* Returns how many blocks are wrong; the first of them and both its stamps go to the failure. */
uint32_t core_verify(const void *memory, uint32_t blocks, uint64_t key, uint64_t chunk,
		     uint32_t version, uint32_t first_block, struct failure *failure)
{
	uint64_t mixed = mix_chunk(key, chunk, version), expected[STAMP_WORDS];
	uint32_t wrong = 0;
	for (uint32_t n = 0; n < blocks; n++) {
		const char *found = (const char *)memory + (size_t)n * BLOCK_BYTES;
		__builtin_prefetch(found + PREFETCH_BLOCKS * BLOCK_BYTES);
		expect(expected, key, chunk, version, first_block + n, mixed);
		if (memcmp(expected, found, sizeof expected) == 0)
			continue;
		if (wrong++ == 0) {
			failure->offset = (int64_t)n * BLOCK_BYTES;
			failure->byte = -1;
			memcpy(failure->expected, expected, sizeof expected);
			memcpy(failure->found, found, sizeof expected);
		}
	}
	return wrong;
}

/* What the pool has for a block of a file. */
static const char *around(const struct config *config, uint64_t offset)
{
	return (const char *)config->pool + offset % config->pool_bytes;
}

/* Tells of the first wrong block, given what its line and its rest must be. */
static void note_difference(struct failure *failure, const unsigned char *found,
			    const uint64_t line[LINE_WORDS], const char *rest)
{
	unsigned char block[BLOCK_BYTES];
	int64_t byte = 0;
	failure->byte = -1;
	memcpy(failure->expected, line, sizeof failure->expected);
	memcpy(failure->found, found, sizeof failure->found);
	if (memcmp(line, found, sizeof failure->found) != 0)
		return;
	memcpy(block, rest, BLOCK_BYTES);
	memcpy(block, line, LINE_WORDS * sizeof *line);
	while (byte < BLOCK_BYTES - 1 && block[byte] == found[byte])
		byte++;
	failure->byte = byte;
	failure->expected[0] = block[byte];
	failure->found[0] = found[byte];
}

/* The same for every byte. */
static uint32_t verify_content(const struct config *config, const struct buffer *buffer,
			       struct failure *failure)
{
	uint64_t mixed = mix_chunk(config->key, buffer->chunk, buffer->version), line[LINE_WORDS];
	uint32_t wrong = 0, blocks = buffer->length / BLOCK_BYTES;
	for (uint32_t n = 0; n < blocks; n++) {
		const char *found = (const char *)buffer->memory + (size_t)n * BLOCK_BYTES;
		const char *rest = around(config, buffer->offset + (uint64_t)n * BLOCK_BYTES);
		make_line(line, config->key, buffer->chunk, buffer->version, buffer->first_block + n,
			  mixed);
		if (memcmp(line, found, sizeof line) == 0 &&
		    memcmp(rest + sizeof line, found + sizeof line, BLOCK_BYTES - sizeof line) == 0)
			continue;
		if (wrong++ == 0) {
			failure->offset = (int64_t)n * BLOCK_BYTES;
			note_difference(failure, (const unsigned char *)found, line, rest);
		}
	}
	return wrong;
}

/* Fills a buffer with what the pool has from `turn` on, over and over. */
static void lay(const struct config *config, struct buffer *buffer, uint32_t turn)
{
	uint32_t at = turn;
	buffer->turn = turn;
	for (uint32_t done = 0; done < config->io_bytes; at = 0) {
		uint32_t left = config->io_bytes - done, run = config->pool_bytes - at;
		run = run < left ? run : left;
		memcpy((char *)buffer->memory + done, (const char *)config->pool + at, run);
		done += run;
	}
}

/* Failures */

static void end_all(struct core *core)
{
	atomic_store(&core->ended, true);
}

/* Keeps the shard's first failure; NULL if it has one. */
static struct failure *fail(struct scheduler *s, int reason)
{
	struct failure *failure = &s->account->failure;
	end_all(s->core);
	if (failure->reason != NO_FAILURE)
		return NULL;
	failure->reason = reason;
	return failure;
}

static void fail_core(struct scheduler *s, int error)
{
	struct failure *failure = fail(s, FAILED_CORE);
	if (failure != NULL)
		failure->value = error;
}

static void fail_piece(struct scheduler *s, const struct piece *piece)
{
	struct failure *failure = fail(s, piece->result < 0 ? FAILED_CALL : SHORT_TRANSFER);
	if (failure == NULL)
		return;
	failure->action = piece->node->row.kind;
	failure->file = piece->file;
	failure->offset = (int64_t)piece->offset;
	failure->chunk = (int64_t)piece->chunk;
	failure->value = piece->result < 0 ? -piece->result : piece->result;
	failure->length = piece->length;
}

/* Lists of lanes, and the heap of those with a request to start */

static void empty_list(struct lanes *list)
{
	list->head = NULL;
	list->end = &list->head;
}

static void push(struct lanes *list, struct lane *lane, enum place place)
{
	lane->place = (uint8_t)place;
	lane->next = NULL;
	*list->end = lane;
	list->end = &lane->next;
}

static struct lane *pop(struct lanes *list)
{
	struct lane *lane = list->head;
	if (lane == NULL)
		return NULL;
	list->head = lane->next;
	if (list->head == NULL)
		list->end = &list->head;
	lane->place = NOWHERE;
	return lane;
}

static bool earlier(const struct lane *a, const struct lane *b)
{
	return a->head->request < b->head->request;
}

static void heap_push(struct scheduler *s, struct lane *lane)
{
	if (s->heap_count == s->heap_room) {
		s->heap_room = s->heap_room ? 2 * s->heap_room : 256;
		s->heap = grown(s->heap, s->heap_room * sizeof *s->heap);
	}
	uint32_t at = s->heap_count++;
	for (; at > 0 && earlier(lane, s->heap[(at - 1) / 2]); at = (at - 1) / 2)
		s->heap[at] = s->heap[(at - 1) / 2];
	s->heap[at] = lane;
	lane->place = TO_START;
}

static struct lane *heap_pop(struct scheduler *s)
{
	struct lane *first = s->heap[0], *lane = s->heap[--s->heap_count];
	uint32_t at = 0;
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= s->heap_count)
			break;
		if (child + 1 < s->heap_count && earlier(s->heap[child + 1], s->heap[child]))
			child++;
		if (!earlier(s->heap[child], lane))
			break;
		s->heap[at] = s->heap[child];
		at = child;
	}
	s->heap[at] = lane;
	first->place = NOWHERE;
	return first;
}

/* Lanes */

static struct lane **lane_list(struct scheduler *s, uint32_t user)
{
	return &s->table[mix(user) & (LANE_LISTS - 1)];
}

static struct lane *lane_of(struct scheduler *s, uint32_t user)
{
	struct lane **list = lane_list(s, user);
	for (struct lane *lane = *list; lane != NULL; lane = lane->sibling)
		if (lane->user == user)
			return lane;
	struct lane *lane = pool_take(&s->lanes);
	lane->user = user;
	lane->sibling = *list;
	*list = lane;
	return lane;
}

static void forget_lane(struct scheduler *s, struct lane *lane)
{
	struct lane **link = lane_list(s, lane->user);
	while (*link != lane)
		link = &(*link)->sibling;
	*link = lane->sibling;
	pool_give(&s->lanes, lane);
}

static bool gate_open(const struct scheduler *s, const struct row *row)
{
	const struct core *core = s->core;
	if (row->kind == LOAD)
		return atomic_load(&core->slot_stores[row->slot]) >= row->version;
	return atomic_load(&core->slot_rows[row->slot]) >= row->order;
}

static bool in_window(const struct scheduler *s, int64_t ns)
{
	struct clocks *clocks = s->core->clocks;
	return ns >= atomic_load_explicit(&clocks->window, memory_order_relaxed) &&
	       ns < atomic_load_explicit(&clocks->end, memory_order_relaxed);
}

static void note_entry(struct scheduler *s, int kind, const struct entry *entry)
{
	int64_t took_ns = entry->last_ns - entry->first_ns;
	struct size_class *size = &s->account->sizes[kind][64 - __builtin_clzll(entry->bytes)];
	note(s, kind == LOAD ? READ_ENTRY_LATENCY : WRITE_ENTRY_LATENCY, took_ns);
	size->entries++;
	size->bytes += (int64_t)entry->bytes;
	size->sum_ns += took_ns;
	if (took_ns > size->max_ns)
		size->max_ns = took_ns;
}

/* The step that the lane is at is complete. */
static void finish_step(struct scheduler *s, struct lane *lane)
{
	for (int kind = 0; kind < KINDS; kind++) {
		struct entry *entry = &lane->entries[kind];
		if (entry->bytes > 0 && in_window(s, entry->last_ns))
			note_entry(s, kind, entry);
		*entry = (struct entry){0};
	}
}

static int64_t begun_ns(const struct scheduler *s, const struct lane *lane)
{
	return s->core->config.open_loop ? lane->arrival_ns : lane->first_ns;
}

/* Once all loads before a request's first store are known and complete, which is seen here as soon
 * as both are so. */
static void settle_prefix(struct scheduler *s, struct lane *lane)
{
	if (lane->prefix_ns == 0 || lane->prefix_in_flight > 0)
		return;
	if (!lane->stored && !lane->all_issued && (lane->head == NULL || lane->head->row.kind == LOAD))
		return;
	if (in_window(s, lane->prefix_ns))
		note(s, PREFIX_LATENCY, lane->prefix_ns - begun_ns(s, lane));
	lane->prefix_ns = 0;
}

/* Asks other shards for a nudge; false if the gate has opened meanwhile. */
static bool await_gate(struct scheduler *s, const struct row *row)
{
	atomic_fetch_add(&s->core->slot_waiters[row->slot], 1);
	if (!gate_open(s, row))
		return true;
	atomic_fetch_sub(&s->core->slot_waiters[row->slot], 1);
	return false;
}

/* Puts a lane that is nowhere where it belongs now, which may be nowhere. */
static void place(struct scheduler *s, struct lane *lane)
{
	settle_prefix(s, lane);
	if (lane->place != NOWHERE)
		return;
	const struct node *node = lane->head;
	if (!lane->active) {
		if (node != NULL)
			heap_push(s, lane);
		else if (s->open != lane)
			forget_lane(s, lane);
		return;
	}
	if (node == NULL || lane->all_issued)
		return;
	if (node->row.step != lane->step) {
		if (lane->in_flight > 0)
			return;
		finish_step(s, lane);
		lane->step = node->row.step;
	}
	if (node->row.gate && !gate_open(s, &node->row) && await_gate(s, &node->row))
		push(&s->gate_wait, lane, GATE_WAIT);
	else
		push(&s->ready, lane, READY);
}

static void finish_request(struct scheduler *s, struct lane *lane)
{
	int64_t begun = begun_ns(s, lane);
	finish_step(s, lane);
	settle_prefix(s, lane);
	if (lane->closes && in_window(s, lane->last_ns)) {
		s->account->requests++;
		s->account->generated_tokens += lane->tokens;
		note(s, REQUEST_LATENCY, lane->last_ns - begun);
		if (s->core->config.open_loop) {
			note(s, QUEUE_LATENCY, lane->first_ns - begun);
			note(s, SERVICE_LATENCY, lane->last_ns - lane->first_ns);
		}
	}
	lane->active = lane->all_issued = lane->closes = false;
	s->active--;
	place(s, lane);
}

/* The request of the open lane has no further rows. */
static void close_request(struct scheduler *s)
{
	struct lane *lane = s->open;
	s->open = NULL;
	if (lane == NULL)
		return;
	if (lane->head != NULL) {
		lane->tail->last = true;
		return;
	}
	lane->all_issued = true;
	if (lane->in_flight == 0)
		finish_request(s, lane);
}

/* Rows come in */

static void note_arrival(struct scheduler *s, int64_t ns)
{
	uint64_t waiting = s->requests_seen - s->requests_arrived;
	if (waiting + 1 >= s->arrivals_room) {
		uint64_t room = s->arrivals_room ? 2 * s->arrivals_room : 1024;
		int64_t *ring = allocated(room, sizeof *ring);
		for (uint64_t n = s->requests_arrived; n < s->requests_seen; n++)
			ring[n % room] = s->arrivals[n % s->arrivals_room];
		free(s->arrivals);
		s->arrivals = ring;
		s->arrivals_room = room;
	}
	s->arrivals[s->requests_seen % s->arrivals_room] = ns;
}

static bool chosen(const struct scheduler *s, const struct row *row)
{
	const struct config *config = &s->core->config;
	if (row->kind != LOAD || config->verify == VERIFY_NONE)
		return false;
	/* As in threads.py: spread by the golden ratio. */
	return config->verify >= VERIFY_ALL ||
	       (s->rows_seen * MIX_STEP >> 32) % config->sample_every == 0;
}

static bool acceptable(const struct config *config, const struct row *row)
{
	return row->kind < KINDS && row->purpose < PURPOSES && row->file < config->files &&
	       row->length > 0 && row->length % BLOCK_BYTES == 0 && row->offset % BLOCK_BYTES == 0 &&
	       row->length <= config->largest_bytes && (!row->gate || row->slot < config->gate_slots);
}

static void take_row(struct scheduler *s, const struct row *row)
{
	if (!acceptable(&s->core->config, row)) {
		struct failure *failure = fail(s, BAD_ROW);
		if (failure != NULL)
			failure->value = (int64_t)s->rows_seen;
		return;
	}
	if (s->open != NULL && (s->open->user != row->user || s->open_request != row->request))
		close_request(s);
	struct lane *lane = s->open;
	if (lane == NULL) {
		lane = s->open = lane_of(s, row->user);
		s->open_request = row->request;
		note_arrival(s, atomic_load(&s->core->clocks->start) + (int64_t)row->arrival);
		s->requests_seen++;
	}
	struct node *node = pool_take(&s->nodes);
	node->row = *row;
	node->lane = lane;
	node->request = s->requests_seen - 1;
	node->check = chosen(s, row);
	node->last = row->closes;
	s->rows_seen++;
	s->held++;
	if (lane->head == NULL)
		lane->head = node;
	else
		lane->tail->next = node;
	lane->tail = node;
	if (node->last)
		s->open = NULL;
	place(s, lane);
}

static void wake_feeder(struct core *core)
{
	if (!atomic_load(&core->feeder_waits))
		return;
	pthread_mutex_lock(&core->lock);
	pthread_cond_broadcast(&core->change);
	pthread_mutex_unlock(&core->lock);
}

/* The next row of the queue or NULL; it stays valid until the next call. */
static const struct row *next_row(struct scheduler *s)
{
	uint32_t head = atomic_load_explicit(&s->queue_head, memory_order_relaxed);
	struct fed *fed = &s->queue[head % QUEUE_BLOCKS];
	if (head != atomic_load_explicit(&s->queue_tail, memory_order_acquire) &&
	    s->queue_row == fed->count) {
		free(fed->rows);
		fed->rows = NULL;
		s->queue_row = 0;
		uint32_t left = atomic_fetch_sub(&s->queue_rows, fed->count) - fed->count;
		atomic_store_explicit(&s->queue_head, ++head, memory_order_release);
		fed = &s->queue[head % QUEUE_BLOCKS];
		if (left < QUEUE_ROWS / 2)
			wake_feeder(s->core);
	}
	if (head == atomic_load_explicit(&s->queue_tail, memory_order_acquire))
		return NULL;
	return &fed->rows[s->queue_row++];
}

/* Beyond what it looks at anyway a shard takes rows only to learn how long its backlog is. */
static bool has_room(const struct scheduler *s)
{
	const struct config *config = &s->core->config;
	return s->held < AHEAD_ROWS ||
	       (config->open_loop && s->backlog_limit > 0 && s->requests_arrived == s->requests_seen &&
		s->requests_seen - s->requests_started <= s->backlog_limit);
}

static void count_arrivals(struct scheduler *s)
{
	while (s->requests_arrived < s->requests_seen &&
	       s->arrivals[s->requests_arrived % s->arrivals_room] <= s->shard.now)
		s->requests_arrived++;
}

/* Returns whether more rows would be welcome but none are there yet. */
static bool ingest(struct scheduler *s)
{
	bool all = atomic_load(&s->fed_all); /* before the queue is looked at */
	while (has_room(s)) {
		const struct row *row = next_row(s);
		if (row != NULL) {
			take_row(s, row);
			count_arrivals(s);
			continue;
		}
		if (all)
			close_request(s);
		return !all;
	}
	return false;
}

/* What may run, runs */

static void start_requests(struct scheduler *s)
{
	const struct config *config = &s->core->config;
	int64_t start = atomic_load_explicit(&s->core->clocks->start, memory_order_relaxed);
	while (s->heap_count > 0 && s->active < s->request_limit) {
		int64_t arrival = start + (int64_t)s->heap[0]->head->row.arrival;
		if (config->open_loop && arrival > s->shard.now)
			return;
		struct lane *lane = heap_pop(s);
		lane->active = true;
		lane->step = lane->head->row.step;
		lane->first_ns = lane->last_ns = 0;
		lane->arrival_ns = arrival;
		lane->tokens = 0;
		lane->stored = false;
		s->active++;
		place(s, lane);
	}
}

static void try_gates(struct scheduler *s)
{
	uint32_t epoch = atomic_load(&s->core->gate_epoch);
	if (s->gate_wait.head == NULL || epoch == s->gate_epoch)
		return;
	s->gate_epoch = epoch;
	struct lanes waiting = s->gate_wait;
	if (waiting.head == NULL)
		return;
	empty_list(&s->gate_wait);
	for (struct lane *lane = waiting.head, *next; lane != NULL; lane = next) {
		next = lane->next;
		lane->place = NOWHERE;
		atomic_fetch_sub(&s->core->slot_waiters[lane->head->row.slot], 1);
		place(s, lane);
	}
}

/* Of the row's next piece in its file. */
static uint64_t next_offset(const struct config *config, const struct node *node)
{
	return (config->chunk_files ? 0 : node->row.offset) + node->issued;
}

static uint32_t turn_of(const struct config *config, const struct node *node)
{
	return (uint32_t)(next_offset(config, node) % config->pool_bytes);
}

static void add_piece(struct scheduler *s, struct node *node, struct buffer *buffer)
{
	const struct config *config = &s->core->config;
	struct piece *piece = s->free_pieces;
	s->free_pieces = piece->next;
	uint32_t left = node->row.length - node->issued;
	piece->node = node;
	piece->buffer = buffer;
	piece->transfer = node->row.kind;
	piece->file = node->row.file;
	piece->chunk = node->row.chunk;
	piece->offset = next_offset(config, node);
	piece->length = left < config->io_bytes ? left : config->io_bytes;
	buffer->first_block = node->issued / BLOCK_BYTES;
	if (node->row.kind == STORE && config->placed && buffer->turn != turn_of(config, node))
		lay(config, buffer, turn_of(config, node));
	if (node->row.kind == STORE)
		core_stamp(buffer->memory, piece->length / BLOCK_BYTES, config->key, piece->chunk,
			   node->row.version, buffer->first_block);
	node->issued += piece->length;
	s->transport->add(&s->shard, piece);
	s->added[s->added_count++] = piece;
	s->in_flight++;
}

static struct buffer **free_buffers(struct scheduler *s, int kind)
{
	return kind == LOAD ? &s->free_reads : &s->free_writes;
}

/* For the row's next piece; there is one. Of those for placed content one that holds it, if any does:
 * rows that follow one another find what those before them have left. */
static struct buffer *take_buffer(struct scheduler *s, const struct node *node)
{
	const struct config *config = &s->core->config;
	struct buffer **link = free_buffers(s, node->row.kind), **fits = link;
	if (node->row.kind == STORE && config->placed) {
		uint32_t turn = turn_of(config, node);
		while (*fits != NULL && (*fits)->turn != turn)
			fits = &(*fits)->next;
		if (*fits != NULL)
			link = fits;
	}
	struct buffer *buffer = *link;
	*link = buffer->next;
	return buffer;
}

/* Issues the rows of ready lanes in turn, each row whole before the next. */
static void issue(struct scheduler *s)
{
	while (s->ready.head != NULL && s->free_pieces != NULL) {
		struct lane *lane = s->ready.head;
		struct node *node = lane->head;
		if (*free_buffers(s, node->row.kind) == NULL)
			return;
		bool begins = node->issued == 0, store = node->row.kind == STORE;
		if (begins && store && s->store_limit > 0 && s->stores >= s->store_limit) {
			push(&s->store_wait, pop(&s->ready), STORE_WAIT);
			continue;
		}
		if (begins) {
			node->prefix = !store && !lane->stored;
			lane->stored |= store;
			lane->prefix_in_flight += node->prefix;
			lane->in_flight++;
			s->stores += store;
		}
		add_piece(s, node, take_buffer(s, node));
		if (node->issued < node->row.length)
			continue;
		pop(&s->ready);
		lane->head = node->next;
		lane->all_issued = node->last;
		if (node->row.closes) {
			lane->closes = true;
			lane->tokens = node->row.tokens;
		}
		place(s, lane);
	}
}

/* Notes when what was added is handed over, which is the moment after this. */
static void note_submission(struct scheduler *s)
{
	lines_are_put(); /* before a device looks */
	int64_t now = clock_ns();
	for (uint32_t n = 0; n < s->added_count; n++) {
		struct node *node = s->added[n]->node;
		if (node->first_ns == 0)
			node->first_ns = now;
		if (node->lane->first_ns == 0) {
			node->lane->first_ns = now;
			s->requests_started++;
		}
	}
	s->added_count = 0;
}

/* What has run is accounted for */

static void account_row(struct scheduler *s, const struct node *node)
{
	struct account *account = s->account;
	const struct row *row = &node->row;
	struct flow *flow = &account->flows[row->kind];
	flow->total_operations++;
	/* One writer: read by the supervisor as the live count. */
	atomic_store_explicit(&flow->total_bytes, flow->total_bytes + row->length,
			      memory_order_relaxed);
	if (node->last_ns > account->last_ns)
		account->last_ns = node->last_ns;
	if (!in_window(s, node->last_ns))
		return;
	flow->window_operations++;
	flow->window_bytes += row->length;
	account->purposes[row->purpose]++;
	note(s, row->kind == LOAD ? READ_LATENCY : WRITE_LATENCY, node->last_ns - node->first_ns);
	int64_t bin = (node->last_ns - atomic_load(&s->core->clocks->window)) / SECOND_NS;
	if (bin < account->bins)
		account->timeline[row->kind][bin] += row->length;
}

static void nudge_others(struct scheduler *s)
{
	for (uint32_t n = 0; n < s->core->config.shards; n++) {
		struct scheduler *other = &s->core->schedulers[n];
		if (other == s || atomic_exchange(&other->shard.nudged, true))
			continue;
		pthread_mutex_lock(&other->shard.lock);
		pthread_cond_broadcast(&other->shard.news);
		pthread_mutex_unlock(&other->shard.lock);
		other->transport->nudge(&other->shard);
	}
}

static void open_gates(struct scheduler *s, const struct row *row)
{
	struct core *core = s->core;
	if (!row->gate)
		return;
	if (row->kind == STORE)
		atomic_fetch_add(&core->slot_stores[row->slot], 1);
	atomic_fetch_add(&core->slot_rows[row->slot], 1);
	atomic_fetch_add(&core->gate_epoch, 1);
	if (atomic_load(&core->slot_waiters[row->slot]) > 0)
		nudge_others(s);
}

/* What the row means to its request. */
static void join_row(struct lane *lane, const struct node *node)
{
	struct entry *entry = &lane->entries[node->row.kind];
	entry->bytes += node->row.length;
	if (entry->first_ns == 0 || node->first_ns < entry->first_ns)
		entry->first_ns = node->first_ns;
	if (node->last_ns > entry->last_ns)
		entry->last_ns = node->last_ns;
	if (node->last_ns > lane->last_ns)
		lane->last_ns = node->last_ns;
	if (!node->prefix)
		return;
	lane->prefix_in_flight--;
	if (node->last_ns > lane->prefix_ns)
		lane->prefix_ns = node->last_ns;
}

static void finish_row(struct scheduler *s, struct node *node)
{
	struct lane *lane = node->lane;
	account_row(s, node);
	if (node->check) {
		/* All of it is compared before this round ends; what the end cuts short is not counted. */
		s->account->checked_operations++;
		s->account->checked_blocks += node->row.length / BLOCK_BYTES;
		s->account->checked_bytes += node->row.length;
	}
	join_row(lane, node);
	open_gates(s, &node->row);
	if (node->row.kind == STORE) {
		struct lane *waiting = pop(&s->store_wait);
		s->stores--;
		if (waiting != NULL)
			push(&s->ready, waiting, READY);
	}
	lane->in_flight--;
	s->held--;
	pool_give(&s->nodes, node);
	if (lane->in_flight == 0 && lane->all_issued)
		finish_request(s, lane);
	else
		place(s, lane);
}

static void release_buffer(struct scheduler *s, const struct piece *piece)
{
	const struct node *node = piece->node;
	struct buffer *buffer = piece->buffer, **list = free_buffers(s, node->row.kind);
	if (node->check && piece->result == piece->length) {
		buffer->chunk = piece->chunk;
		buffer->version = node->row.version;
		buffer->file = piece->file;
		buffer->offset = piece->offset;
		buffer->length = piece->length;
		list = &s->to_check;
	}
	buffer->next = *list;
	*list = buffer;
}

static void inject_fault(struct scheduler *s, struct piece *piece)
{
	const struct config *config = &s->core->config;
	if (config->fault_after > 0 && ++s->completions == config->fault_after)
		piece->result = config->fault_result;
}

static void sync_row(struct scheduler *s, struct piece *piece)
{
	piece->transfer = TRANSFER_SYNC;
	piece->buffer = NULL;
	s->transport->add(&s->shard, piece);
	s->in_flight++;
}

static void finish_piece(struct scheduler *s, struct piece *piece)
{
	const struct config *config = &s->core->config;
	struct node *node = piece->node;
	bool synced = piece->transfer == TRANSFER_SYNC;
	s->in_flight--;
	if (!synced) {
		inject_fault(s, piece);
		release_buffer(s, piece);
	}
	bool good = synced ? piece->result == 0 : piece->result == piece->length;
	if (!good)
		fail_piece(s, piece);
	else if (!synced)
		node->done += piece->length;
	if (piece->done_ns > node->last_ns)
		node->last_ns = piece->done_ns;
	bool whole = good && node->done == node->row.length;
	if (whole && !synced && config->sync && !config->chunk_files && node->row.kind == STORE) {
		sync_row(s, piece);
		return;
	}
	piece->next = s->free_pieces;
	s->free_pieces = piece;
	if (whole)
		finish_row(s, node);
}

static void check_buffer(struct scheduler *s, const struct buffer *buffer)
{
	struct account *account = s->account;
	struct failure seen = {0};
	uint32_t blocks = buffer->length / BLOCK_BYTES;
	const struct config *config = &s->core->config;
	uint32_t wrong = config->verify == VERIFY_CONTENT
				 ? verify_content(config, buffer, &seen)
				 : core_verify(buffer->memory, blocks, config->key, buffer->chunk,
					       buffer->version, buffer->first_block, &seen);
	account->mismatches += wrong;
	struct failure *failure = wrong ? fail(s, WRONG_DATA) : NULL;
	if (failure == NULL)
		return;
	*failure = seen;
	failure->reason = WRONG_DATA;
	failure->action = LOAD;
	failure->file = buffer->file;
	failure->offset += (int64_t)buffer->offset;
	failure->chunk = (int64_t)buffer->chunk;
	failure->blocks = blocks;
	failure->wrong = wrong;
}

static void check_buffers(struct scheduler *s)
{
	while (s->to_check != NULL) {
		struct buffer *buffer = s->to_check;
		s->to_check = buffer->next;
		check_buffer(s, buffer);
		buffer->next = s->free_reads;
		s->free_reads = buffer;
	}
}

/* The life of a shard */

static void watch_backlog(struct scheduler *s)
{
	const struct config *config = &s->core->config;
	if (!config->open_loop)
		return;
	count_arrivals(s);
	int64_t backlog = (int64_t)(s->requests_arrived - s->requests_started);
	if (backlog > s->account->backlog_max)
		s->account->backlog_max = backlog;
	if (s->backlog_limit == 0 || backlog <= (int64_t)s->backlog_limit)
		return;
	s->account->overloaded = 1;
	int64_t end = atomic_load(&s->core->clocks->end);
	while (end > s->shard.now && !atomic_compare_exchange_weak(&s->core->clocks->end, &end, s->shard.now)) {
	}
	end_all(s->core);
}

/* How long to wait when nothing can be issued, as `exchange` takes it. */
static int64_t patience(const struct scheduler *s, bool hungry)
{
	struct clocks *clocks = s->core->clocks;
	int64_t wait = s->in_flight > 0 ? INT64_MAX : IDLE_NS;
	if (s->stopping)
		return -1; /* only for what is in flight */
	if (hungry && s->in_flight > 0 && s->free_pieces != NULL && wait > HUNGRY_NS)
		wait = HUNGRY_NS;
	if (s->core->config.open_loop && s->heap_count > 0 && s->active < s->request_limit) {
		int64_t arrival = atomic_load(&clocks->start) + (int64_t)s->heap[0]->head->row.arrival;
		wait = arrival - s->shard.now < wait ? arrival - s->shard.now : wait;
	}
	if (s->in_flight == 0) {
		int64_t end = atomic_load(&clocks->end);
		wait = end - s->shard.now < wait ? end - s->shard.now : wait;
	}
	return wait == INT64_MAX ? -1 : wait < 1 ? 1 : wait;
}

static bool was_fed(const struct scheduler *s, bool hungry)
{
	bool rows = atomic_load(&s->queue_tail) != atomic_load(&s->queue_head);
	return has_room(s) && (rows || (hungry && atomic_load(&s->fed_all)));
}

static void idle(struct scheduler *s, bool hungry, int64_t wait_ns)
{
	pthread_mutex_lock(&s->shard.lock);
	atomic_store(&s->shard.asleep, true);
	if (!was_fed(s, hungry) && !atomic_load(&s->shard.nudged))
		wait_for_news(&s->shard, wait_ns);
	atomic_store(&s->shard.asleep, false);
	pthread_mutex_unlock(&s->shard.lock);
}

static void await(struct scheduler *s, bool hungry)
{
	int64_t wait_ns = patience(s, hungry);
	if (s->in_flight == 0) {
		idle(s, hungry, wait_ns);
	} else {
		int error = s->transport->exchange(&s->shard, wait_ns);
		if (error != 0)
			fail_core(s, error);
	}
	if (hungry && s->free_pieces != NULL)
		s->account->starved_ns += clock_ns() - s->shard.now;
}

static void reap(struct scheduler *s)
{
	struct piece *piece;
	s->shard.now = clock_ns();
	while ((piece = s->transport->reap(&s->shard)) != NULL)
		finish_piece(s, piece);
}

/* One round: whatever has completed, whatever may start, and then a wait. False at the end. */
static bool advance(struct scheduler *s)
{
	bool hungry = false;
	atomic_store(&s->shard.nudged, false); /* before the gates are tried */
	reap(s);
	s->stopping = atomic_load_explicit(&s->core->ended, memory_order_relaxed) ||
		      s->shard.now >= atomic_load_explicit(&s->core->clocks->end, memory_order_relaxed);
	if (!s->stopping) {
		hungry = ingest(s);
		watch_backlog(s);
		start_requests(s);
		try_gates(s);
		issue(s);
	}
	if (s->added_count > 0)
		note_submission(s);
	if (s->to_check != NULL) {
		/* The device works while this thread compares. */
		int error = s->in_flight > 0 ? s->transport->exchange(&s->shard, 0) : 0;
		if (error != 0)
			fail_core(s, error);
		check_buffers(s);
	}
	if (s->account->failure.reason == FAILED_CORE)
		return false; /* the ring itself is broken: nothing more comes out of it */
	if (s->in_flight == 0 && (s->stopping || (!hungry && s->held == 0)))
		return false;
	await(s, hungry);
	return true;
}

static void return_everything(struct scheduler *s)
{
	uint32_t reads = s->shard.buffer_count - s->shard.depth;
	s->free_reads = s->free_writes = s->to_check = NULL;
	for (uint32_t n = 0; n < s->shard.buffer_count; n++) {
		struct buffer *buffer = &s->shard.buffers[n];
		struct buffer **list = n < reads ? &s->free_reads : &s->free_writes;
		buffer->next = *list;
		*list = buffer;
	}
	s->free_pieces = NULL;
	for (uint32_t n = 0; n < s->shard.depth; n++) {
		s->pieces[n].next = s->free_pieces;
		s->free_pieces = &s->pieces[n];
	}
}

static void reset(struct scheduler *s)
{
	empty_list(&s->ready);
	empty_list(&s->store_wait);
	empty_list(&s->gate_wait);
	memset(s->table, 0, LANE_LISTS * sizeof *s->table);
	s->heap_count = s->held = s->active = s->in_flight = s->stores = s->added_count = 0;
	s->rows_seen = s->requests_seen = s->requests_started = s->requests_arrived = 0;
	s->completions = 0;
	s->gate_epoch = 0;
	s->open = NULL;
	s->queue_row = 0;
	s->stopping = false;
	return_everything(s);
}

static void drop_rest(struct scheduler *s)
{
	pool_empty(&s->nodes);
	pool_empty(&s->lanes);
}

static void drop_queue(struct scheduler *s)
{
	while (s->queue_head != s->queue_tail) {
		struct fed *fed = &s->queue[s->queue_head++ % QUEUE_BLOCKS];
		free(fed->rows);
		fed->rows = NULL;
	}
	s->queue_rows = 0;
	s->queue_row = 0;
}

static void work(struct scheduler *s)
{
	while (advance(s)) {
	}
	drop_rest(s);
}

static void report(struct scheduler *s, bool opened)
{
	struct core *core = s->core;
	pthread_mutex_lock(&core->lock);
	s->opened = opened;
	core->reported++;
	pthread_cond_broadcast(&core->change);
	pthread_mutex_unlock(&core->lock);
}

/* Waits for the next run; false when there is none. */
static bool told_to_run(struct scheduler *s)
{
	struct core *core = s->core;
	pthread_mutex_lock(&core->lock);
	while (!s->running && !core->closing)
		pthread_cond_wait(&core->change, &core->lock);
	bool run = s->running;
	pthread_mutex_unlock(&core->lock);
	return run;
}

static void tell_ended(struct scheduler *s)
{
	struct core *core = s->core;
	pthread_mutex_lock(&core->lock);
	s->running = false;
	core->live--;
	pthread_cond_broadcast(&core->change);
	pthread_mutex_unlock(&core->lock);
}

static void *live(void *argument)
{
	struct scheduler *s = argument;
	bool opened = s->transport->open(&s->shard);
	prctl(PR_SET_TIMERSLACK, 1UL); /* an arrival is not to be served 50 us late */
	report(s, opened);
	while (opened && told_to_run(s)) {
		if (s->shard.reopened && s->transport->reopened != NULL)
			s->transport->reopened(&s->shard);
		s->shard.reopened = false;
		work(s);
		tell_ended(s);
	}
	s->transport->close(&s->shard);
	return NULL;
}

/* Making and unmaking; all below runs on threads of the caller */

static bool make_arena(struct scheduler *s)
{
	const struct config *config = &s->core->config;
	/* Twice the reads if they are verified: the device has all it can take meanwhile. */
	uint32_t reads = s->shard.depth * (config->verify == VERIFY_NONE ? 1 : 2);
	uint32_t count = reads + s->shard.depth;
	size_t bytes = (size_t)count * config->io_bytes;
	s->arena_bytes = bytes + HUGE_PAGE_BYTES;
	s->arena = mmap(NULL, s->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->arena == MAP_FAILED) {
		s->arena = NULL;
		return false;
	}
	char *memory = (char *)(((uintptr_t)s->arena + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1));
	madvise(memory, bytes, MADV_HUGEPAGE); /* fewer pages for the kernel to walk at each transfer */
	s->shard.buffers = allocated(count, sizeof *s->shard.buffers);
	s->shard.buffer_count = count;
	for (uint32_t n = 0; n < count; n++) {
		struct buffer *buffer = &s->shard.buffers[n];
		buffer->memory = memory + (size_t)n * config->io_bytes;
		buffer->index = n;
		if (config->placed) {
			lay(config, buffer, (uint32_t)((uint64_t)n * config->io_bytes % config->pool_bytes));
			continue;
		}
		/* Turned, so that no two buffers hold the same blocks around their stamps. */
		size_t words = config->io_bytes / sizeof(uint64_t);
		size_t turn = ((size_t)s->number * config->depth + n) * 513 % words;
		memcpy(buffer->memory, config->pool + turn, (words - turn) * sizeof(uint64_t));
		memcpy((uint64_t *)buffer->memory + words - turn, config->pool, turn * sizeof(uint64_t));
	}
	return true;
}

/* A shard's part of a number that is the rank's; none of it stays 0 unless all of it is. */
static uint32_t share(uint32_t whole, const struct config *config, uint32_t number)
{
	uint32_t part = whole / config->shards + (number < whole % config->shards);
	return whole > 0 && part == 0 ? 1 : part;
}

static const struct transport *const TRANSPORTS[] = {
	[TRANSPORT_URING] = &uring_transport,
	[TRANSPORT_THREADS] = &threads_transport,
	[TRANSPORT_NOOP] = &noop_transport,
};

static bool make_shard(struct core *core, uint32_t number)
{
	struct scheduler *s = &core->schedulers[number];
	const struct config *config = &core->config;
	uint32_t depth = share(config->depth, config, number);
	s->core = core;
	s->number = number;
	s->request_limit = share(config->requests, config, number);
	s->store_limit = share(config->store_cap, config, number);
	s->backlog_limit = share(config->backlog_limit, config, number);
	s->shard.depth = depth;
	s->shard.config = &core->config;
	s->shard.scheduler = s;
	s->transport = TRANSPORTS[config->transport];
	s->nodes.item_bytes = sizeof(struct node);
	s->lanes.item_bytes = sizeof(struct lane);
	s->table = allocated(LANE_LISTS, sizeof *s->table);
	s->pieces = allocated(depth, sizeof *s->pieces);
	s->added = allocated(depth, sizeof *s->added);
	pthread_mutex_init(&s->shard.lock, NULL);
	make_condition(&s->shard.news);
	return make_arena(s);
}

static void free_shard(struct scheduler *s)
{
	if (s->core == NULL)
		return;
	drop_queue(s);
	free(s->table);
	free(s->pieces);
	free(s->added);
	free(s->heap);
	free(s->arrivals);
	free(s->shard.buffers);
	if (s->arena != NULL)
		munmap(s->arena, s->arena_bytes);
	pthread_mutex_destroy(&s->shard.lock);
	pthread_cond_destroy(&s->shard.news);
}

static void free_core(struct core *core)
{
	for (uint32_t n = 0; n < core->config.shards; n++)
		free_shard(&core->schedulers[n]);
	free(core->schedulers);
	free(core->descriptors);
	free(core->slot_rows);
	free(core->slot_stores);
	free(core->slot_waiters);
	pthread_mutex_destroy(&core->lock);
	pthread_cond_destroy(&core->change);
	free(core);
}

/* Signals are for the interpreter's main thread: the new threads inherit that none reach them. */
static uint32_t start_threads(struct core *core, int *error)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	uint32_t started = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, SHARD_STACK_BYTES);
	*error = 0;
	while (started < core->config.shards && *error == 0) {
		struct scheduler *s = &core->schedulers[started];
		*error = pthread_create(&s->thread, &attributes, live, s);
		started += *error == 0;
	}
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

static void end_threads(struct core *core, uint32_t started)
{
	pthread_mutex_lock(&core->lock);
	core->closing = true;
	pthread_cond_broadcast(&core->change);
	pthread_mutex_unlock(&core->lock);
	for (uint32_t n = 0; n < started; n++)
		pthread_join(core->schedulers[n].thread, NULL);
}

static bool all_opened(struct core *core, uint32_t started, char *reason)
{
	bool opened = true;
	pthread_mutex_lock(&core->lock);
	while (core->reported < started)
		pthread_cond_wait(&core->change, &core->lock);
	for (uint32_t n = 0; n < started && opened; n++) {
		opened = core->schedulers[n].opened;
		if (!opened)
			memcpy(reason, core->schedulers[n].shard.reason, REASON_BYTES);
	}
	pthread_mutex_unlock(&core->lock);
	return opened;
}

static struct core *make_core(const struct config *config)
{
	struct core *core = allocated(1, sizeof *core);
	core->config = *config;
	size_t bytes = config->files * sizeof(int32_t);
	core->descriptors = allocated(config->files, sizeof(int32_t));
	memcpy(core->descriptors, config->descriptors, bytes);
	core->config.descriptors = core->descriptors;
	core->schedulers = allocated(config->shards, sizeof *core->schedulers);
	core->slot_rows = allocated(config->gate_slots, sizeof *core->slot_rows);
	core->slot_stores = allocated(config->gate_slots, sizeof *core->slot_stores);
	core->slot_waiters = allocated(config->gate_slots, sizeof *core->slot_waiters);
	pthread_mutex_init(&core->lock, NULL);
	make_condition(&core->change);
	return core;
}

/* Makes a core whose shards stand ready; NULL with the reason (REASON_BYTES) if that fails. */
struct core *core_open(const struct config *config, char *reason)
{
	struct core *core = make_core(config);
	bool good = true;
	for (uint32_t n = 0; n < config->shards && good; n++)
		good = make_shard(core, n);
	if (!good) {
		snprintf(reason, REASON_BYTES, "memory for buffers: %s", strerror(errno));
		free_core(core);
		return NULL;
	}
	if (!config->placed)
		core->config.pool = NULL; /* the caller's, no longer needed */
	int error;
	uint32_t started = start_threads(core, &error);
	good = all_opened(core, started, reason);
	if (good && error != 0)
		snprintf(reason, REASON_BYTES, "pthread_create: %s", strerror(error));
	if (good && error == 0)
		return core;
	end_threads(core, started);
	free_core(core);
	return NULL;
}

/* Why buffers could not be registered, empty if they are. */
const char *core_unregistered(const struct core *core)
{
	return core->schedulers[0].shard.unregistered;
}

/* Goes on with other files, however many; only while no shard is at work. */
void core_reopen(struct core *core, const int32_t *descriptors, uint32_t files)
{
	int32_t *copied = allocated(files, sizeof *copied);
	memcpy(copied, descriptors, files * sizeof *copied);
	pthread_mutex_lock(&core->lock);
	free(core->descriptors);
	core->config.descriptors = core->descriptors = copied;
	core->config.files = files;
	for (uint32_t n = 0; n < core->config.shards; n++)
		core->schedulers[n].shard.reopened = true;
	pthread_mutex_unlock(&core->lock);
}

/* Starts all shards; `accounts` has one for each. */
void core_start(struct core *core, struct clocks *clocks, struct account *accounts)
{
	const struct config *config = &core->config;
	core->clocks = clocks;
	atomic_store(&core->ended, false);
	atomic_store(&core->gate_epoch, 1);
	memset((void *)core->slot_rows, 0, config->gate_slots * sizeof *core->slot_rows);
	memset((void *)core->slot_stores, 0, config->gate_slots * sizeof *core->slot_stores);
	memset((void *)core->slot_waiters, 0, config->gate_slots * sizeof *core->slot_waiters);
	for (uint32_t n = 0; n < config->shards; n++) {
		struct scheduler *s = &core->schedulers[n];
		s->account = &accounts[n];
		drop_queue(s);
		atomic_store(&s->fed_all, false);
		reset(s);
	}
	pthread_mutex_lock(&core->lock);
	core->live = config->shards;
	for (uint32_t n = 0; n < config->shards; n++)
		core->schedulers[n].running = true;
	pthread_cond_broadcast(&core->change);
	pthread_mutex_unlock(&core->lock);
}

static void wake(struct scheduler *s)
{
	if (!atomic_load(&s->shard.asleep))
		return;
	pthread_mutex_lock(&s->shard.lock);
	pthread_cond_broadcast(&s->shard.news);
	pthread_mutex_unlock(&s->shard.lock);
}

/* Whether a shard's queue takes another block. */
bool core_room(const struct core *core, uint32_t shard)
{
	const struct scheduler *s = &core->schedulers[shard];
	return atomic_load(&s->queue_rows) < QUEUE_ROWS &&
	       atomic_load(&s->queue_tail) - atomic_load(&s->queue_head) < QUEUE_BLOCKS;
}

/* Gives a shard a block of rows, which are copied. Only after core_room has said that it fits. */
void core_feed(struct core *core, uint32_t shard, const struct row *rows, uint32_t count)
{
	struct scheduler *s = &core->schedulers[shard];
	uint32_t tail = atomic_load(&s->queue_tail);
	struct fed *fed = &s->queue[tail % QUEUE_BLOCKS];
	if (count == 0)
		return;
	fed->rows = malloc(count * sizeof *rows);
	if (fed->rows == NULL)
		out_of_memory();
	memcpy(fed->rows, rows, count * sizeof *rows);
	fed->count = count;
	atomic_fetch_add(&s->queue_rows, count);
	atomic_store(&s->queue_tail, tail + 1);
	wake(s);
}

/* A shard has been given all its rows. */
void core_fed_all(struct core *core, uint32_t shard)
{
	struct scheduler *s = &core->schedulers[shard];
	atomic_store(&s->fed_all, true);
	wake(s);
}

/* Ends the run early: nothing more is issued. */
void core_end(struct core *core)
{
	end_all(core);
}

static bool some_hungry(const struct core *core)
{
	for (uint32_t n = 0; n < core->config.shards; n++) {
		const struct scheduler *s = &core->schedulers[n];
		if (!atomic_load(&s->fed_all) && atomic_load(&s->queue_rows) < QUEUE_ROWS / 2)
			return true;
	}
	return false;
}

/* Waits until a queue is half empty, a shard has ended or the time is over; returns how many
 * shards are still at work. */
uint32_t core_wait(struct core *core, int64_t ns)
{
	pthread_mutex_lock(&core->lock);
	uint32_t before = core->live;
	atomic_store(&core->feeder_waits, true);
	if (ns > 0 && before > 0 && !some_hungry(core))
		wait_until_signal(&core->change, &core->lock, ns);
	atomic_store(&core->feeder_waits, false);
	uint32_t after = core->live;
	pthread_mutex_unlock(&core->lock);
	return after;
}

/* Waits for all shards to end: what is in flight is the drain. */
void core_join(struct core *core)
{
	pthread_mutex_lock(&core->lock);
	while (core->live > 0)
		pthread_cond_wait(&core->change, &core->lock);
	pthread_mutex_unlock(&core->lock);
}

/* Ends the threads and frees all. */
void core_close(struct core *core)
{
	end_threads(core, core->config.shards);
	free_core(core);
}

/* What core.py must agree with. */
void core_sizes(uint32_t sizes[4])
{
	sizes[0] = sizeof(struct row);
	sizes[1] = sizeof(struct config);
	sizes[2] = sizeof(struct account);
	sizes[3] = sizeof(struct clocks);
}
