/* The reader of batches: threads that carry out a table of reads in its order, a bounded number of
 * batches ahead of a consumer, and the consumer's clock. It never touches the interpreter.
 *
 * The table comes in blocks. A batch is open, so that its reads may start, once fewer than
 * `look_ahead` batches before it have not been released. A batch is done when its reads and those of
 * all batches before it are complete. All state below `lock` is guarded by it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "_core.h"

enum { READER_STACK_BYTES = 256 * 1024, BLOCKS_HELD = 4 };
#define SECOND_NS 1000000000LL
/* A sleep may end this much late: that much before the deadline it ends, and the rest is spun. */
#define SPIN_NS 150000LL
/* What a read does is in three parts; `reason` of a failure. */
enum { READ_OPENS = 1, READ_READS, READ_IS_SHORT };

/* The structures up to the next comment are mirrored in reader_core.py. */
struct read_row {
	uint64_t offset, length;
	uint32_t file, batch; /* both within the block */
};
_Static_assert(sizeof(struct read_row) == 24, "a row is what READ says");

struct reader_config {
	const char *directory;
	uint64_t buffer_bytes;
	uint32_t threads, look_ahead, descriptors, evict, enabled, checksum;
	uint32_t exact_bits, buckets, bins;
};

struct reader_block {
	const char *paths; /* each ends with a zero byte */
	const uint64_t *path_starts;
	const uint32_t *numbers; /* of the files, in the dataset */
	const struct read_row *rows; /* batches ascend */
	uint64_t path_bytes;
	uint32_t files, reads, batches, direct;
};

struct reader_account {
	struct series reads_ns, batches_ns;
	int64_t *timeline; /* bytes of each second since the start */
	int64_t bytes, transferred_bytes, calls, reads, opens, batches, ahead_max;
	uint64_t checksum;
};

struct reader_failure {
	int64_t reason, error, offset, moved, length;
	char path[PATH_MAX];
};

struct reader_step {
	int64_t waited_ns, begun_ns, computed_ns;
};

/* A block as it is kept, in one piece of memory. */
struct kept {
	struct kept *next;
	uint64_t first_batch;
	uint32_t batches, reads;
	bool direct;
	struct read_row *rows;
	uint64_t *path_starts;
	uint32_t *numbers, *batch_reads;
	char *paths;
};

struct slot { /* of an open batch */
	int64_t first_ns;
	uint32_t left;
};

struct descriptor { /* that outlasts a read */
	uint64_t last_use;
	uint32_t number, users;
	int fd; /* -1: free */
};

struct lease {
	int fd, place; /* -1: it is closed after the read */
};

struct reader {
	struct reader_config config;
	int directory;
	int64_t start_ns;
	pthread_t *threads;
	uint32_t started;
	_Atomic bool ended; /* by a failure, or stopped */

	pthread_mutex_t lock;
	pthread_cond_t work, ready;
	uint32_t idle, held;
	bool fed_all, stopped;
	struct kept *head, *tail, *opening, *claiming;
	uint32_t claimed; /* reads of the block `claiming` */
	uint64_t claimable, fed, opened, done, released, awaited;
	struct slot *slots;
	struct reader_account account;
	struct reader_failure failure;

	pthread_mutex_t descriptors_lock;
	struct descriptor *descriptors;
	uint64_t uses;
};

struct hand { /* a thread and its buffer */
	struct reader *reader;
	char *buffer;
	size_t mapped_bytes;
};

struct claim {
	const struct kept *block;
	const struct read_row *row;
	struct slot *slot;
};

/* Failures */

static void end_reader(struct reader *r)
{
	atomic_store(&r->ended, true);
	pthread_cond_broadcast(&r->work);
	pthread_cond_broadcast(&r->ready);
}

static const char *path_of(const struct claim *claim)
{
	return claim->block->paths + claim->block->path_starts[claim->row->file];
}

/* The first one is kept. */
static bool fail(struct reader *r, const struct claim *claim, int reason, int error, uint64_t moved)
{
	pthread_mutex_lock(&r->lock);
	struct reader_failure *failure = &r->failure;
	if (failure->reason == 0) {
		failure->reason = reason;
		failure->error = error;
		failure->moved = (int64_t)moved;
		failure->length = (int64_t)claim->row->length;
		failure->offset = (int64_t)claim->row->offset;
		snprintf(failure->path, sizeof failure->path, "%s", path_of(claim));
	}
	end_reader(r);
	pthread_mutex_unlock(&r->lock);
	return false;
}

/* Descriptors */

static int open_once(struct reader *r, const char *path, int flags)
{
	int fd;
	do
		fd = openat(r->directory, path, flags);
	while (fd < 0 && errno == EINTR);
	return fd;
}

/* A pipe among the files is not waited for. A file that must be fetched from tape first is. */
static int open_file(struct reader *r, const struct claim *claim)
{
	int flags = O_RDONLY | O_CLOEXEC | (claim->block->direct ? O_DIRECT : 0);
	int fd = open_once(r, path_of(claim), flags | O_NONBLOCK);
	if (fd < 0 && errno == EAGAIN)
		fd = open_once(r, path_of(claim), flags);
	if (fd < 0)
		return fd;
	/* Where descriptors are kept there are many reads of a file, not all of it. */
	if (!claim->block->direct && r->config.descriptors == 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	pthread_mutex_lock(&r->lock);
	r->account.opens++;
	pthread_mutex_unlock(&r->lock);
	return fd;
}

/* The place of a file's descriptor, or -1. */
static int kept_place(struct reader *r, uint32_t number)
{
	for (uint32_t n = 0; n < r->config.descriptors; n++)
		if (r->descriptors[n].fd >= 0 && r->descriptors[n].number == number)
			return (int)n;
	return -1;
}

/* A free place, or the one that nobody has used for longest; -1 if all are in use. */
static int spare_place(struct reader *r)
{
	int found = -1;
	for (uint32_t n = 0; n < r->config.descriptors; n++) {
		const struct descriptor *each = &r->descriptors[n];
		if (each->fd < 0)
			return (int)n;
		if (each->users == 0 &&
		    (found < 0 || each->last_use < r->descriptors[found].last_use))
			found = (int)n;
	}
	return found;
}

static bool take_kept(struct reader *r, uint32_t number, struct lease *lease)
{
	int place = kept_place(r, number);
	if (place < 0)
		return false;
	r->descriptors[place].users++;
	r->descriptors[place].last_use = ++r->uses;
	*lease = (struct lease){r->descriptors[place].fd, place};
	return true;
}

static void keep(struct reader *r, uint32_t number, struct lease *lease)
{
	int fresh = lease->fd, unwanted = -1, place;
	pthread_mutex_lock(&r->descriptors_lock);
	if (take_kept(r, number, lease)) {
		unwanted = fresh; /* another thread was faster */
	} else if ((place = spare_place(r)) >= 0) {
		unwanted = r->descriptors[place].fd;
		r->descriptors[place] = (struct descriptor){++r->uses, number, 1, fresh};
		lease->place = place;
	}
	pthread_mutex_unlock(&r->descriptors_lock);
	if (unwanted >= 0)
		close(unwanted);
}

static bool borrow(struct reader *r, const struct claim *claim, struct lease *lease)
{
	uint32_t number = claim->block->numbers[claim->row->file];
	if (r->config.descriptors > 0) {
		pthread_mutex_lock(&r->descriptors_lock);
		bool found = take_kept(r, number, lease);
		pthread_mutex_unlock(&r->descriptors_lock);
		if (found)
			return true;
	}
	*lease = (struct lease){open_file(r, claim), -1};
	if (lease->fd < 0)
		return fail(r, claim, READ_OPENS, errno, 0);
	if (r->config.descriptors > 0)
		keep(r, number, lease);
	return true;
}

static void give_back(struct reader *r, const struct lease *lease)
{
	if (lease->place < 0) {
		close(lease->fd);
		return;
	}
	pthread_mutex_lock(&r->descriptors_lock);
	r->descriptors[lease->place].users--;
	pthread_mutex_unlock(&r->descriptors_lock);
}

/* Reading */

static uint64_t down(uint64_t bytes)
{
	return bytes & ~(uint64_t)(BLOCK_BYTES - 1);
}

static uint64_t up(uint64_t bytes)
{
	return down(bytes + BLOCK_BYTES - 1);
}

/* The sum does not depend on how the bytes came, but on each and on its place. */
static uint64_t sum_of(const unsigned char *bytes, uint64_t count, uint64_t number, uint64_t offset)
{
	uint64_t sum = 0, weight = (number << 41) + 2 * offset + 1;
	for (uint64_t n = 0; n < count; n++, weight += 2)
		sum += (bytes[n] + 1) * weight;
	return sum;
}

static void count_call(struct reader *r, uint64_t bytes, uint64_t transferred, uint64_t sum)
{
	pthread_mutex_lock(&r->lock);
	int64_t second = (clock_ns() - r->start_ns) / SECOND_NS;
	r->account.bytes += (int64_t)bytes;
	r->account.transferred_bytes += (int64_t)transferred;
	r->account.calls++;
	r->account.checksum += sum;
	if (second < r->config.bins)
		r->account.timeline[second] += (int64_t)bytes;
	pthread_mutex_unlock(&r->lock);
}

/* Direct reads begin and end at multiples of a block, more than was asked for; a file's last one
 * ends where the file does. */
static bool read_row(struct hand *hand, const struct claim *claim, int fd)
{
	struct reader *r = hand->reader;
	bool direct = claim->block->direct;
	uint64_t at = claim->row->offset, end = at + claim->row->length;
	while (at < end && !atomic_load_explicit(&r->ended, memory_order_relaxed)) {
		uint64_t from = direct ? down(at) : at, want = (direct ? up(end) : end) - from;
		if (want > r->config.buffer_bytes)
			want = r->config.buffer_bytes;
		ssize_t got = pread(fd, hand->buffer, want, (off_t)from);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(r, claim, READ_READS, errno, at - claim->row->offset);
		uint64_t reached = from + (uint64_t)got;
		if (reached <= at)
			return fail(r, claim, READ_IS_SHORT, 0, at - claim->row->offset);
		uint64_t useful = (reached < end ? reached : end) - at, sum = 0;
		if (r->config.checksum)
			sum = sum_of((unsigned char *)hand->buffer + (at - from), useful,
				     claim->block->numbers[claim->row->file], at);
		count_call(r, useful, (uint64_t)got, sum);
		at += useful;
	}
	return at == end;
}

static bool carry_out(struct hand *hand, const struct claim *claim)
{
	struct reader *r = hand->reader;
	struct lease lease;
	if (!r->config.enabled)
		return true;
	if (!borrow(r, claim, &lease))
		return false;
	bool good = read_row(hand, claim, lease.fd);
	if (good && r->config.evict) {
		/* Only whole pages are dropped. */
		uint64_t from = down(claim->row->offset);
		uint64_t bytes = up(claim->row->offset + claim->row->length) - from;
		posix_fadvise(lease.fd, (off_t)from, (off_t)bytes, POSIX_FADV_DONTNEED);
	}
	give_back(r, &lease);
	return good;
}

/* Batches; the lock is held in all of this part */

static void drop_blocks(struct reader *r)
{
	while (r->head != NULL && r->head->next != NULL &&
	       r->done >= r->head->first_batch + r->head->batches) {
		struct kept *old = r->head;
		r->head = old->next;
		if (r->opening == old)
			r->opening = old->next;
		if (r->claiming == old) {
			r->claiming = old->next;
			r->claimed = 0;
		}
		free(old);
		r->held--;
	}
}

static void advance_done(struct reader *r)
{
	uint64_t before = r->done;
	while (r->done < r->opened && r->slots[r->done % r->config.look_ahead].left == 0)
		r->done++;
	if (r->done == before)
		return;
	r->account.batches += (int64_t)(r->done - before);
	if (r->done > r->awaited)
		pthread_cond_broadcast(&r->ready);
	drop_blocks(r);
}

static void open_batches(struct reader *r)
{
	uint32_t before = r->idle;
	while (r->opened < r->fed && r->opened - r->released < r->config.look_ahead) {
		while (r->opened >= r->opening->first_batch + r->opening->batches)
			r->opening = r->opening->next;
		struct slot *slot = &r->slots[r->opened % r->config.look_ahead];
		slot->left = r->opening->batch_reads[r->opened - r->opening->first_batch];
		slot->first_ns = 0;
		r->claimable += slot->left;
		r->opened++;
	}
	if ((int64_t)(r->opened - r->released) > r->account.ahead_max)
		r->account.ahead_max = (int64_t)(r->opened - r->released);
	for (uint32_t n = 0; n < before && n < r->claimable; n++)
		pthread_cond_signal(&r->work);
	advance_done(r);
}

/* Waits for a read that may start; false when there will be none. */
static bool take(struct reader *r, struct claim *claim)
{
	while (r->claimable == 0) {
		if (atomic_load(&r->ended) || (r->fed_all && r->opened == r->fed))
			return false;
		r->idle++;
		pthread_cond_wait(&r->work, &r->lock);
		r->idle--;
	}
	if (atomic_load(&r->ended))
		return false;
	while (r->claimed == r->claiming->reads) {
		r->claiming = r->claiming->next;
		r->claimed = 0;
	}
	claim->block = r->claiming;
	claim->row = &r->claiming->rows[r->claimed++];
	uint64_t batch = r->claiming->first_batch + claim->row->batch;
	claim->slot = &r->slots[batch % r->config.look_ahead];
	r->claimable--;
	return true;
}

static void complete(struct reader *r, const struct claim *claim, int64_t began_ns)
{
	int64_t now = clock_ns();
	struct slot *slot = claim->slot;
	series_note(&r->account.reads_ns, now - began_ns, r->config.exact_bits);
	r->account.reads++;
	if (slot->first_ns == 0 || began_ns < slot->first_ns)
		slot->first_ns = began_ns;
	if (--slot->left > 0)
		return;
	series_note(&r->account.batches_ns, now - slot->first_ns, r->config.exact_bits);
	advance_done(r);
}

static void *live(void *argument)
{
	struct hand *hand = argument;
	struct reader *r = hand->reader;
	struct claim claim;
	pthread_mutex_lock(&r->lock);
	while (take(r, &claim)) {
		pthread_mutex_unlock(&r->lock);
		int64_t began_ns = clock_ns();
		bool good = carry_out(hand, &claim);
		pthread_mutex_lock(&r->lock);
		if (!good)
			break;
		complete(r, &claim, began_ns);
	}
	pthread_mutex_unlock(&r->lock);
	munmap(hand->buffer, hand->mapped_bytes);
	free(hand);
	return NULL;
}

/* Making and unmaking */

static struct hand *make_hand(struct reader *r)
{
	struct hand *hand = allocated(1, sizeof *hand);
	hand->reader = r;
	hand->mapped_bytes = r->config.buffer_bytes;
	hand->buffer = mmap(NULL, hand->mapped_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hand->buffer == MAP_FAILED) {
		free(hand);
		return NULL;
	}
	madvise(hand->buffer, hand->mapped_bytes, MADV_HUGEPAGE);
	return hand;
}

/* Returns 0 or an errno. Signals are for the interpreter's main thread. */
static int start_thread(struct reader *r)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	struct hand *hand = make_hand(r);
	if (hand == NULL)
		return errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, READER_STACK_BYTES);
	int error = pthread_create(&r->threads[r->started], &attributes, live, hand);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0) {
		munmap(hand->buffer, hand->mapped_bytes);
		free(hand);
		return error;
	}
	r->started++;
	return 0;
}

static void free_reader(struct reader *r)
{
	while (r->head != NULL) {
		struct kept *next = r->head->next;
		free(r->head);
		r->head = next;
	}
	for (uint32_t n = 0; n < r->config.descriptors; n++)
		if (r->descriptors[n].fd >= 0)
			close(r->descriptors[n].fd);
	if (r->directory >= 0)
		close(r->directory);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->descriptors_lock);
	pthread_cond_destroy(&r->work);
	pthread_cond_destroy(&r->ready);
	free(r->account.reads_ns.counts);
	free(r->account.batches_ns.counts);
	free(r->account.timeline);
	free(r->descriptors);
	free(r->slots);
	free(r->threads);
	free(r);
}

static struct reader *make_reader(const struct reader_config *config)
{
	struct reader *r = allocated(1, sizeof *r);
	r->config = *config;
	r->directory = open(config->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r->config.directory = NULL; /* the caller's */
	r->start_ns = clock_ns();
	r->threads = allocated(config->threads, sizeof *r->threads);
	r->slots = allocated(config->look_ahead, sizeof *r->slots);
	r->descriptors = allocated(config->descriptors, sizeof *r->descriptors);
	for (uint32_t n = 0; n < config->descriptors; n++)
		r->descriptors[n].fd = -1;
	r->account.reads_ns.counts = allocated(config->buckets, sizeof(int64_t));
	r->account.batches_ns.counts = allocated(config->buckets, sizeof(int64_t));
	r->account.timeline = allocated(config->bins, sizeof(int64_t));
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->descriptors_lock, NULL);
	make_condition(&r->work);
	make_condition(&r->ready);
	return r;
}

/* Nothing more is read, and a wait ends; called on any thread. */
void reader_stop(struct reader *r)
{
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	end_reader(r);
	pthread_mutex_unlock(&r->lock);
}

/* Ends the threads, which complete the call that each is in, and frees all. */
void reader_close(struct reader *r)
{
	reader_stop(r);
	for (uint32_t n = 0; n < r->started; n++)
		pthread_join(r->threads[n], NULL);
	free_reader(r);
}

/* NULL with an errno if that fails. */
struct reader *reader_open(const struct reader_config *config, int32_t *error)
{
	struct reader *r = make_reader(config);
	*error = r->directory < 0 ? errno : 0;
	while (*error == 0 && r->started < config->threads)
		*error = start_thread(r);
	if (*error == 0)
		return r;
	reader_close(r);
	return NULL;
}

/* Feeding */

static struct kept *kept_copy(const struct reader_block *block)
{
	size_t rows = block->reads * sizeof(struct read_row);
	size_t starts = block->files * sizeof(uint64_t), numbers = block->files * sizeof(uint32_t);
	size_t counts = block->batches * sizeof(uint32_t);
	struct kept *kept =
		allocated(1, sizeof *kept + rows + starts + numbers + counts + block->path_bytes);
	kept->rows = (struct read_row *)(kept + 1);
	kept->path_starts = (uint64_t *)((char *)kept->rows + rows);
	kept->numbers = (uint32_t *)((char *)kept->path_starts + starts);
	kept->batch_reads = (uint32_t *)((char *)kept->numbers + numbers);
	kept->paths = (char *)kept->batch_reads + counts;
	memcpy(kept->rows, block->rows, rows);
	memcpy(kept->path_starts, block->path_starts, starts);
	memcpy(kept->numbers, block->numbers, numbers);
	memcpy(kept->paths, block->paths, block->path_bytes);
	kept->batches = block->batches;
	kept->reads = block->reads;
	kept->direct = block->direct;
	for (uint32_t n = 0; n < block->reads; n++)
		kept->batch_reads[block->rows[n].batch]++;
	return kept;
}

/* Whether another block is taken. */
bool reader_room(struct reader *r)
{
	pthread_mutex_lock(&r->lock);
	bool room = r->held < BLOCKS_HELD;
	pthread_mutex_unlock(&r->lock);
	return room;
}

/* Gives a block, which is copied. Only after reader_room has said that it fits. */
void reader_feed(struct reader *r, const struct reader_block *block)
{
	struct kept *kept = kept_copy(block);
	pthread_mutex_lock(&r->lock);
	kept->first_batch = r->fed;
	if (r->tail == NULL)
		r->head = r->opening = r->claiming = kept;
	else
		r->tail->next = kept;
	r->tail = kept;
	r->held++;
	r->fed += kept->batches;
	open_batches(r);
	drop_blocks(r);
	pthread_mutex_unlock(&r->lock);
}

/* All blocks have been given. */
void reader_fed_all(struct reader *r)
{
	pthread_mutex_lock(&r->lock);
	r->fed_all = true;
	pthread_cond_broadcast(&r->work);
	pthread_mutex_unlock(&r->lock);
}

/* The consumer, which is one thread */

/* Waits until the batch and all before it are complete, for some time at most. */
static int await_batch(struct reader *r, uint64_t batch, int64_t until_ns)
{
	if (batch >= r->fed || batch < r->released || batch - r->released >= r->config.look_ahead)
		return BATCH_UNKNOWN;
	r->awaited = batch;
	while (r->done <= batch) {
		if (r->failure.reason != 0)
			return BATCH_FAILED;
		if (r->stopped)
			return READER_STOPPED;
		int64_t left_ns = until_ns - clock_ns();
		if (left_ns <= 0)
			return BATCH_PENDING;
		wait_until_signal(&r->ready, &r->lock, left_ns);
	}
	return BATCH_READY;
}

/* Waits for a batch, some time at most; how long it took is added to `waited_ns`. */
int reader_wait(struct reader *r, uint64_t batch, int64_t patience_ns, int64_t *waited_ns)
{
	int64_t began_ns = clock_ns();
	pthread_mutex_lock(&r->lock);
	int status = await_batch(r, batch, began_ns + patience_ns);
	pthread_mutex_unlock(&r->lock);
	*waited_ns += clock_ns() - began_ns;
	return status;
}

/* The consumer has done with this batch and all before it: as many more may be read. */
bool reader_release(struct reader *r, uint64_t batch)
{
	pthread_mutex_lock(&r->lock);
	bool good = batch >= r->released && batch < r->done;
	if (good) {
		r->released = batch + 1;
		open_batches(r);
	}
	pthread_mutex_unlock(&r->lock);
	return good;
}

/* Computes, which is to do nothing until a time, for some time at most; returns what time it is. */
int64_t reader_compute(int64_t until_ns, int64_t patience_ns)
{
	static _Thread_local bool exact;
	int64_t now = clock_ns(), stop = now + patience_ns < until_ns ? now + patience_ns : until_ns;
	if (!exact) /* else a sleep takes 50 us more than it is to */
		exact = prctl(PR_SET_TIMERSLACK, 1UL) == 0;
	if (stop - now > SPIN_NS) {
		struct timespec limit = {(stop - SPIN_NS) / SECOND_NS, (stop - SPIN_NS) % SECOND_NS};
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &limit, NULL) == EINTR)
			return clock_ns(); /* a signal: the interpreter is to see it */
	}
	while ((now = clock_ns()) < stop)
		;
	return now;
}

/* A step: waits for its batch, lets the next one be read, computes. Either of both ends after some
 * time at most; what is left of the computation is the caller's to go on with. */
int reader_step(struct reader *r, uint64_t batch, int64_t compute_ns, int64_t patience_ns,
		struct reader_step *step)
{
	if (r == NULL)
		return READER_CLOSED;
	step->waited_ns = 0;
	int status = reader_wait(r, batch, patience_ns, &step->waited_ns);
	if (status != BATCH_READY)
		return status;
	step->begun_ns = clock_ns(); /* an accelerator that has its batch waits for nobody */
	reader_release(r, batch);
	step->computed_ns = reader_compute(step->begun_ns + compute_ns, patience_ns) - step->begun_ns;
	return step->computed_ns < compute_ns ? STEP_COMPUTES : BATCH_READY;
}

/* What can be seen from outside */

static void copy_series(struct series *to, const struct series *from, uint32_t buckets)
{
	int64_t *counts = to->counts;
	*to = *from;
	to->counts = counts;
	memcpy(counts, from->counts, buckets * sizeof *counts);
}

/* A copy of all that was counted so far; `to` has arrays of its own. */
void reader_read_account(struct reader *r, struct reader_account *to)
{
	struct reader_account own = *to;
	pthread_mutex_lock(&r->lock);
	*to = r->account;
	to->reads_ns.counts = own.reads_ns.counts;
	to->batches_ns.counts = own.batches_ns.counts;
	to->timeline = own.timeline;
	copy_series(&to->reads_ns, &r->account.reads_ns, r->config.buckets);
	copy_series(&to->batches_ns, &r->account.batches_ns, r->config.buckets);
	memcpy(to->timeline, r->account.timeline, r->config.bins * sizeof(int64_t));
	pthread_mutex_unlock(&r->lock);
}

void reader_read_failure(struct reader *r, struct reader_failure *to)
{
	pthread_mutex_lock(&r->lock);
	*to = r->failure;
	pthread_mutex_unlock(&r->lock);
}

/* What reader_core.py must agree with. */
void reader_sizes(uint32_t sizes[5])
{
	sizes[0] = sizeof(struct reader_config);
	sizes[1] = sizeof(struct reader_block);
	sizes[2] = sizeof(struct reader_account);
	sizes[3] = sizeof(struct reader_failure);
	sizes[4] = sizeof(struct reader_step);
}
