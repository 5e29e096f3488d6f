/* How a shard's transfers reach the kernel: an io_uring, or threads that block in preadv and
 * pwritev; or how they do not. No liburing: three system calls and two mapped rings do not warrant a dependency. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "_core.h"

#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

enum { REGISTERED_FILES_LIMIT = 4096, WORKER_STACK_BYTES = 128 * 1024 };
#define SECOND_NS 1000000000LL

static bool refuse(struct shard *shard, const char *what, int error)
{
	snprintf(shard->reason, sizeof shard->reason, "%s: %s", what, strerror(error));
	return false;
}

/* io_uring */

struct uring {
	int descriptor, nudges; /* the ring, and an eventfd that it polls */
	void *rings;
	size_t rings_bytes;
	struct io_uring_sqe *entries;
	size_t entries_bytes;
	_Atomic unsigned *sq_tail, *cq_head, *cq_tail;
	unsigned sq_mask, cq_mask, tail, unsubmitted;
	struct io_uring_cqe *completions;
	bool fixed_buffers, fixed_files;
};

static int enter(struct uring *ring, unsigned wanted, unsigned flags, void *argument, size_t size)
{
	return (int)syscall(__NR_io_uring_enter, ring->descriptor, ring->unsubmitted, wanted, flags,
			    argument, size);
}

static int setup(unsigned depth, struct io_uring_params *parameters)
{
	/* All work of the ring on its one thread, and only when that asks for it: fewest wake-ups. */
	static const unsigned FLAGS[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0};
	int descriptor = -1;
	for (unsigned n = 0; n < sizeof FLAGS / sizeof *FLAGS; n++) {
		memset(parameters, 0, sizeof *parameters);
		parameters->flags = FLAGS[n];
		descriptor = (int)syscall(__NR_io_uring_setup, depth, parameters);
		if (descriptor >= 0 || errno != EINVAL)
			break;
	}
	return descriptor;
}

static bool map_rings(struct uring *ring, const struct io_uring_params *p)
{
	size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
	size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	ring->rings_bytes = sq > cq ? sq : cq;
	ring->entries_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
	int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
	ring->rings = mmap(NULL, ring->rings_bytes, protection, flags, ring->descriptor,
			   IORING_OFF_SQ_RING);
	void *entries = mmap(NULL, ring->entries_bytes, protection, flags, ring->descriptor,
			     IORING_OFF_SQES);
	ring->entries = entries == MAP_FAILED ? NULL : entries;
	if (ring->rings == MAP_FAILED) {
		ring->rings = NULL;
		return false;
	}
	if (ring->entries == NULL)
		return false;
	char *base = ring->rings;
	ring->sq_tail = (_Atomic unsigned *)(base + p->sq_off.tail);
	ring->sq_mask = *(unsigned *)(base + p->sq_off.ring_mask);
	ring->cq_head = (_Atomic unsigned *)(base + p->cq_off.head);
	ring->cq_tail = (_Atomic unsigned *)(base + p->cq_off.tail);
	ring->cq_mask = *(unsigned *)(base + p->cq_off.ring_mask);
	ring->completions = (struct io_uring_cqe *)(base + p->cq_off.cqes);
	/* Entries are used in their own order: the indirection is filled once. */
	unsigned *array = (unsigned *)(base + p->sq_off.array);
	for (unsigned n = 0; n < p->sq_entries; n++)
		array[n] = n;
	return true;
}

static int enroll(struct uring *ring, unsigned what, const void *items, unsigned count)
{
	return (int)syscall(__NR_io_uring_register, ring->descriptor, what, items, count);
}

static void register_buffers(struct shard *shard, struct uring *ring)
{
	struct iovec *vectors = calloc(shard->buffer_count, sizeof *vectors);
	if (vectors == NULL)
		return;
	for (uint32_t n = 0; n < shard->buffer_count; n++) {
		vectors[n].iov_base = shard->buffers[n].memory;
		vectors[n].iov_len = shard->config->io_bytes;
	}
	ring->fixed_buffers =
		enroll(ring, IORING_REGISTER_BUFFERS, vectors, shard->buffer_count) == 0;
	/* Most often the limit of locked memory: `ulimit -l`. Plain buffers cost more processor
	 * time, yet less than any other core. */
	if (!ring->fixed_buffers)
		snprintf(shard->unregistered, sizeof shard->unregistered, "register buffers: %s",
			 strerror(errno));
	free(vectors);
}

static void register_files(struct shard *shard, struct uring *ring)
{
	const struct config *config = shard->config;
	ring->fixed_files = config->files > 0 && config->files <= REGISTERED_FILES_LIMIT &&
			    enroll(ring, IORING_REGISTER_FILES, config->descriptors, config->files) == 0;
}

/* Registered files would stay open as long as the ring, and what is removed keep its space. */
static void uring_reopened(struct shard *shard)
{
	struct uring *ring = shard->transport_state;
	if (ring->fixed_files)
		enroll(ring, IORING_UNREGISTER_FILES, NULL, 0);
	ring->fixed_files = false;
}

static struct io_uring_sqe *next_entry(struct uring *ring)
{
	struct io_uring_sqe *entry = &ring->entries[ring->tail & ring->sq_mask];
	memset(entry, 0, sizeof *entry);
	ring->tail++;
	ring->unsubmitted++;
	atomic_store_explicit(ring->sq_tail, ring->tail, memory_order_release);
	return entry;
}

/* One entry of the ring more than transfers can take: its completion names no piece. */
static void poll_nudges(struct uring *ring)
{
	struct io_uring_sqe *entry = next_entry(ring);
	entry->opcode = IORING_OP_POLL_ADD;
	entry->fd = ring->nudges;
	entry->poll32_events = POLLIN;
}

static void uring_nudge(struct shard *shard)
{
	struct uring *ring = shard->transport_state;
	uint64_t one = 1;
	/* Can only fail if it was nudged 2^64 times without looking. */
	ssize_t written = write(ring->nudges, &one, sizeof one);
	(void)written;
}

/* Whether the ring carries out anything: a NOP goes through it and comes back. */
static bool try_ring(struct shard *shard, struct uring *ring)
{
	next_entry(ring)->opcode = IORING_OP_NOP;
	int submitted = enter(ring, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	if (submitted != 1)
		return refuse(shard, "io_uring_enter", submitted < 0 ? errno : EIO);
	ring->unsubmitted = 0;
	unsigned head = atomic_load(ring->cq_head);
	if (atomic_load(ring->cq_tail) == head || ring->completions[head & ring->cq_mask].res != 0)
		return refuse(shard, "io_uring NOP", EIO);
	atomic_store(ring->cq_head, head + 1);
	return true;
}

static void uring_close(struct shard *shard)
{
	struct uring *ring = shard->transport_state;
	if (ring == NULL)
		return;
	if (ring->rings != NULL)
		munmap(ring->rings, ring->rings_bytes);
	if (ring->entries != NULL)
		munmap(ring->entries, ring->entries_bytes);
	if (ring->descriptor >= 0)
		close(ring->descriptor);
	if (ring->nudges >= 0)
		close(ring->nudges);
	free(ring);
	shard->transport_state = NULL;
}

static bool uring_open(struct shard *shard)
{
	struct io_uring_params parameters;
	struct uring *ring = calloc(1, sizeof *ring);
	if (ring == NULL)
		return refuse(shard, "io_uring", ENOMEM);
	shard->transport_state = ring;
	ring->nudges = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ring->descriptor = setup(shard->depth + 1, &parameters);
	if (ring->descriptor < 0)
		return refuse(shard, "io_uring_setup", errno);
	if (ring->nudges < 0)
		return refuse(shard, "eventfd", errno);
	/* The second: waiting with a time limit in the same call, since Linux 5.11. */
	if (!(parameters.features & IORING_FEAT_SINGLE_MMAP) ||
	    !(parameters.features & IORING_FEAT_EXT_ARG))
		return refuse(shard, "io_uring of a kernel before 5.11", ENOSYS);
	if (!map_rings(ring, &parameters))
		return refuse(shard, "mmap of the io_uring", errno);
	register_buffers(shard, ring);
	register_files(shard, ring);
	if (!try_ring(shard, ring))
		return false;
	poll_nudges(ring);
	return true;
}

static void uring_add(struct shard *shard, struct piece *piece)
{
	struct uring *ring = shard->transport_state;
	struct io_uring_sqe *entry = next_entry(ring);
	entry->user_data = (uintptr_t)piece;
	entry->fd = ring->fixed_files ? (int)piece->file : shard->config->descriptors[piece->file];
	entry->flags = ring->fixed_files ? IOSQE_FIXED_FILE : 0;
	if (piece->transfer == TRANSFER_SYNC) {
		entry->opcode = IORING_OP_FSYNC;
		entry->fsync_flags = IORING_FSYNC_DATASYNC;
		return;
	}
	bool load = piece->transfer == TRANSFER_LOAD;
	if (ring->fixed_buffers)
		entry->opcode = load ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
	else
		entry->opcode = load ? IORING_OP_READ : IORING_OP_WRITE;
	entry->off = piece->offset;
	entry->addr = (uintptr_t)piece->buffer->memory;
	entry->len = piece->length;
	entry->buf_index = ring->fixed_buffers ? (uint16_t)piece->buffer->index : 0;
}

static int uring_exchange(struct shard *shard, int64_t wait_ns)
{
	struct uring *ring = shard->transport_state;
	unsigned flags = wait_ns ? IORING_ENTER_GETEVENTS : 0;
	struct __kernel_timespec limit = {wait_ns / SECOND_NS, wait_ns % SECOND_NS};
	struct io_uring_getevents_arg argument = {.ts = (uintptr_t)&limit};
	bool limited = wait_ns > 0;
	if (wait_ns == 0 && ring->unsubmitted == 0)
		return 0;
	int submitted = enter(ring, wait_ns != 0, flags | (limited ? IORING_ENTER_EXT_ARG : 0),
			      limited ? &argument : NULL, limited ? sizeof argument : 0);
	if (submitted >= 0) {
		/* What the kernel had no room for stays in the ring for the next call. */
		ring->unsubmitted -= (unsigned)submitted;
	} else if (errno != ETIME && errno != EINTR && errno != EAGAIN && errno != EBUSY) {
		return errno;
	}
	return 0;
}

static struct piece *uring_reap(struct shard *shard)
{
	struct uring *ring = shard->transport_state;
	unsigned head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
	if (head == atomic_load_explicit(ring->cq_tail, memory_order_acquire))
		return NULL;
	const struct io_uring_cqe *completion = &ring->completions[head & ring->cq_mask];
	struct piece *piece = (struct piece *)(uintptr_t)completion->user_data;
	int32_t result = completion->res;
	atomic_store_explicit(ring->cq_head, head + 1, memory_order_release);
	if (piece == NULL) {
		uint64_t nudges;
		ssize_t taken = read(ring->nudges, &nudges, sizeof nudges);
		(void)taken;
		poll_nudges(ring);
		return uring_reap(shard);
	}
	piece->result = result;
	piece->done_ns = shard->now;
	return piece;
}

const struct transport uring_transport = {
	uring_open, uring_close, uring_add,	uring_exchange,
	uring_reap, uring_nudge, uring_reopened,
};

/* Threads */

struct crew {
	pthread_t *workers;
	uint32_t count;
	pthread_cond_t work;
	struct piece *added, **added_end;	/* not handed over yet */
	struct piece *waiting, **waiting_end; /* guarded by the shard's lock, as all below */
	struct piece *done, **done_end;
	struct piece *reaped; /* the shard's own again */
	bool closing;
};

static void append(struct piece ***end, struct piece *piece)
{
	piece->next = NULL;
	**end = piece;
	*end = &piece->next;
}

static int64_t result_of(ssize_t moved)
{
	return moved < 0 ? -errno : moved;
}

static int64_t load_or_store(int descriptor, const struct piece *piece, off_t offset)
{
	struct iovec vector = {piece->buffer->memory, piece->length};
	if (piece->transfer == TRANSFER_LOAD)
		return result_of(preadv(descriptor, &vector, 1, offset));
	return result_of(pwritev(descriptor, &vector, 1, offset));
}

/* A chunk's own file, below one of 65,536 directories that its number names; a row's offset means
 * nothing here. It is there whole or not at all. */
static int64_t move_chunk_file(const struct config *config, const struct piece *piece)
{
	bool store = piece->transfer == TRANSFER_STORE;
	int directory = config->descriptors[piece->file];
	unsigned long long chunk = piece->chunk;
	char name[48], draft[52];
	snprintf(name, sizeof name, "%02llx/%02llx/%016llx", chunk & 0xff, chunk >> 8 & 0xff, chunk);
	snprintf(draft, sizeof draft, "%s.new", name);
	int flags = (int)config->open_flags | O_CLOEXEC | (store ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY);
	int descriptor = openat(directory, store ? draft : name, flags, 0644);
	if (descriptor < 0)
		return -errno;
	int64_t result = load_or_store(descriptor, piece, (off_t)piece->offset);
	if (store && config->sync && result >= 0 && fdatasync(descriptor) != 0)
		result = -errno;
	if (close(descriptor) != 0 && result >= 0)
		result = -errno;
	if (!store)
		return result;
	if (result == piece->length && renameat(directory, draft, directory, name) != 0)
		result = -errno;
	if (result != piece->length)
		unlinkat(directory, draft, 0);
	return result;
}

static int64_t move(const struct config *config, const struct piece *piece)
{
	int descriptor = config->descriptors[piece->file];
	if (config->chunk_files)
		return move_chunk_file(config, piece);
	if (piece->transfer == TRANSFER_SYNC)
		return result_of(fdatasync(descriptor));
	return load_or_store(descriptor, piece, (off_t)piece->offset);
}

static void *toil(void *argument)
{
	struct shard *shard = argument;
	struct crew *crew = shard->transport_state;
	pthread_mutex_lock(&shard->lock);
	for (;;) {
		while (crew->waiting == NULL && !crew->closing)
			pthread_cond_wait(&crew->work, &shard->lock);
		struct piece *piece = crew->waiting;
		if (piece == NULL)
			break;
		crew->waiting = piece->next;
		if (crew->waiting == NULL)
			crew->waiting_end = &crew->waiting;
		pthread_mutex_unlock(&shard->lock);
		piece->result = move(shard->config, piece);
		piece->done_ns = clock_ns();
		pthread_mutex_lock(&shard->lock);
		append(&crew->done_end, piece);
		pthread_cond_signal(&shard->news);
	}
	pthread_mutex_unlock(&shard->lock);
	return NULL;
}

static void threads_close(struct shard *shard)
{
	struct crew *crew = shard->transport_state;
	if (crew == NULL)
		return;
	pthread_mutex_lock(&shard->lock);
	crew->closing = true;
	pthread_cond_broadcast(&crew->work);
	pthread_mutex_unlock(&shard->lock);
	for (uint32_t n = 0; n < crew->count; n++)
		pthread_join(crew->workers[n], NULL);
	pthread_cond_destroy(&crew->work);
	free(crew->workers);
	free(crew);
	shard->transport_state = NULL;
}

static bool threads_open(struct shard *shard)
{
	uint32_t depth = shard->depth;
	struct crew *crew = calloc(1, sizeof *crew);
	pthread_t *workers = calloc(depth, sizeof *workers);
	if (crew == NULL || workers == NULL) {
		free(crew);
		free(workers);
		return refuse(shard, "threads", ENOMEM);
	}
	crew->workers = workers;
	crew->added_end = &crew->added;
	crew->waiting_end = &crew->waiting;
	crew->done_end = &crew->done;
	pthread_cond_init(&crew->work, NULL);
	shard->transport_state = crew;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
	int error = 0;
	while (crew->count < depth && error == 0) {
		error = pthread_create(&workers[crew->count], &attributes, toil, shard);
		crew->count += error == 0;
	}
	pthread_attr_destroy(&attributes);
	return error == 0 || refuse(shard, "pthread_create", error);
}

static void threads_add(struct shard *shard, struct piece *piece)
{
	struct crew *crew = shard->transport_state;
	append(&crew->added_end, piece);
}

static void hand_over(struct crew *crew)
{
	bool many = crew->added->next != NULL;
	*crew->waiting_end = crew->added;
	crew->waiting_end = crew->added_end;
	crew->added = NULL;
	crew->added_end = &crew->added;
	if (many)
		pthread_cond_broadcast(&crew->work);
	else
		pthread_cond_signal(&crew->work);
}

static int threads_exchange(struct shard *shard, int64_t wait_ns)
{
	struct crew *crew = shard->transport_state;
	pthread_mutex_lock(&shard->lock);
	if (crew->added != NULL)
		hand_over(crew);
	if (crew->done == NULL && wait_ns != 0 && !atomic_load(&shard->nudged))
		wait_for_news(shard, wait_ns);
	pthread_mutex_unlock(&shard->lock);
	return 0;
}

static struct piece *threads_reap(struct shard *shard)
{
	struct crew *crew = shard->transport_state;
	if (crew->reaped == NULL) {
		pthread_mutex_lock(&shard->lock);
		crew->reaped = crew->done;
		crew->done = NULL;
		crew->done_end = &crew->done;
		pthread_mutex_unlock(&shard->lock);
	}
	struct piece *piece = crew->reaped;
	if (piece != NULL)
		crew->reaped = piece->next;
	return piece;
}

/* The news and the flag are all that it waits for. */
static void nudged_enough(struct shard *shard)
{
	(void)shard;
}

const struct transport threads_transport = {
	threads_open, threads_close, threads_add, threads_exchange, threads_reap, nudged_enough, NULL,
};

/* None: what the planner and the scheduler could do at most */

struct nowhere {
	struct piece *added, **end;
};

static bool noop_open(struct shard *shard)
{
	struct nowhere *nowhere = calloc(1, sizeof *nowhere);
	if (nowhere == NULL)
		return refuse(shard, "noop", ENOMEM);
	nowhere->end = &nowhere->added;
	shard->transport_state = nowhere;
	return true;
}

static void noop_close(struct shard *shard)
{
	free(shard->transport_state);
	shard->transport_state = NULL;
}

static void noop_add(struct shard *shard, struct piece *piece)
{
	struct nowhere *nowhere = shard->transport_state;
	append(&nowhere->end, piece);
}

static int noop_exchange(struct shard *shard, int64_t wait_ns)
{
	(void)shard;
	(void)wait_ns;
	return 0;
}

static struct piece *noop_reap(struct shard *shard)
{
	struct nowhere *nowhere = shard->transport_state;
	struct piece *piece = nowhere->added;
	if (piece == NULL)
		return NULL;
	nowhere->added = piece->next;
	if (nowhere->added == NULL)
		nowhere->end = &nowhere->added;
	piece->result = piece->transfer == TRANSFER_SYNC ? 0 : piece->length;
	piece->done_ns = shard->now;
	return piece;
}

const struct transport noop_transport = {
	noop_open, noop_close, noop_add, noop_exchange, noop_reap, nudged_enough, NULL,
};
