/* Steps of training in one call: waits for a batch, computes, meets the other ranks; again and again
 * until something is to be seen to by the interpreter, whose part in a step would take as long as
 * all the rest.
 *
 * Ranks meet by messages: in round k each sends to the one 2^k places after it and receives from the
 * one 2^k places before, so that after log2(ranks) rounds it has heard of all. MPI is called through
 * pointers, with requests that the caller has made: they have one form in every MPI.
 */
#define _GNU_SOURCE
#include <time.h>

#include "_core.h"

/* Who is this much later than others is waited for without a core: in naps of a part of the time
 * that was waited, so that they add little to it and take little of the processor. */
#define MEETING_SPIN_NS 100000LL
#define NAP_PART 32
#define NAP_LEAST_NS 20000LL
#define NAP_MOST_NS 1000000LL
/* What MPI calls MPI_Status is smaller everywhere. */
enum { STATUS_BYTES = 256 };

/* Where a step is. */
enum { PHASE_LOADS, PHASE_COMPUTES, PHASE_MEETS };
/* What a call ends with, beside what a wait can end with. */
enum { STEPS_DONE = 100, STEPS_PENDING, STEPS_LEFT };

/* Both structures are mirrored in native_steps.py. */
struct meeting {
	int (*start)(void *request);
	int (*test)(void *request, int *flag, void *status);
	void **receives, **sends; /* requests, of each round */
	int32_t *received, *sent; /* what they carry: whether anybody leaves */
	uint32_t rounds, round, started;
	int32_t leaves;
	int64_t begun_ns;
};

struct steps {
	uint64_t step, until;
	int64_t compute_ns;
	uint32_t phase;
	int32_t leaves; /* this rank wants to end */
	int64_t load_ns, begun_ns, arrived_ns; /* of this step */
	int64_t load_sum_ns, compute_sum_ns, meeting_sum_ns, first_ns, first_compute_ns, ended_ns;
	int64_t *waits; /* for batches, in ns */
	uint32_t waits_room, waits_count;
};

static void nap(int64_t waited_ns)
{
	int64_t ns = waited_ns / NAP_PART;
	ns = ns < NAP_LEAST_NS ? NAP_LEAST_NS : ns > NAP_MOST_NS ? NAP_MOST_NS : ns;
	nanosleep(&(struct timespec){0, ns}, NULL);
}

/* Whether all ranks were met before it is too late; goes on where it was. */
static bool meet(struct meeting *m, int32_t leaves, int64_t give_up_ns)
{
	unsigned char status[STATUS_BYTES];

	if (m->round == 0 && !m->started) {
		m->leaves = leaves;
		m->begun_ns = clock_ns();
	}
	while (m->round < m->rounds) {
		uint32_t k = m->round;
		if (!m->started) {
			m->sent[k] = m->leaves;
			m->start(m->receives[k]);
			m->start(m->sends[k]);
			m->started = 1;
		}
		int received = 0, sent = 0;
		m->test(m->receives[k], &received, status);
		m->test(m->sends[k], &sent, status);
		if (received && sent) {
			m->leaves |= m->received[k];
			m->started = 0;
			m->round++;
			continue;
		}
		int64_t now_ns = clock_ns();
		if (now_ns >= give_up_ns)
			return false;
		if (now_ns - m->begun_ns >= MEETING_SPIN_NS)
			nap(now_ns - m->begun_ns);
	}
	m->round = 0;
	return true;
}

static void count(struct steps *s, int64_t now_ns)
{
	int64_t compute_ns = s->arrived_ns - s->begun_ns;
	s->load_sum_ns += s->load_ns;
	s->compute_sum_ns += compute_ns;
	s->meeting_sum_ns += now_ns - s->arrived_ns;
	if (s->step == 0) {
		s->first_ns = s->load_ns + compute_ns;
		s->first_compute_ns = compute_ns;
	}
	s->waits[s->waits_count++] = s->load_ns;
	s->ended_ns = now_ns;
	s->load_ns = 0;
	s->step++;
}

/* Goes on from where the last call ended. After a failed wait, and where this rank is to stop, the
 * caller sets `leaves` and goes on with the meeting of this step. */
int reader_steps(struct reader *r, struct steps *s, struct meeting *m, int64_t patience_ns)
{
	int64_t give_up_ns = clock_ns() + patience_ns, now_ns;

	for (;;) {
		if (s->phase == PHASE_LOADS) {
			if (s->step == s->until || s->waits_count == s->waits_room)
				return STEPS_DONE;
			int64_t left_ns = give_up_ns - clock_ns();
			int status = reader_wait(r, s->step, left_ns > 0 ? left_ns : 0, &s->load_ns);
			if (status == BATCH_PENDING)
				return STEPS_PENDING;
			if (status != BATCH_READY)
				return status;
			s->begun_ns = clock_ns(); /* an accelerator that has its batch waits for nobody */
			reader_release(r, s->step);
			s->phase = PHASE_COMPUTES;
		}
		if (s->phase == PHASE_COMPUTES) {
			int64_t end_ns = s->begun_ns + s->compute_ns, left_ns = give_up_ns - clock_ns();
			now_ns = reader_compute(end_ns, left_ns > 0 ? left_ns : 0);
			if (now_ns < end_ns)
				return STEPS_PENDING;
			s->arrived_ns = now_ns;
			s->phase = PHASE_MEETS;
		}
		if (!meet(m, s->leaves, give_up_ns))
			return STEPS_PENDING;
		now_ns = clock_ns();
		if (m->leaves)
			return STEPS_LEFT;
		count(s, now_ns);
		s->phase = PHASE_LOADS;
		if (s->leaves || now_ns >= give_up_ns)
			return STEPS_PENDING;
	}
}

/* What native_steps.py must agree with. */
void steps_sizes(uint32_t sizes[2])
{
	sizes[0] = sizeof(struct meeting);
	sizes[1] = sizeof(struct steps);
}
