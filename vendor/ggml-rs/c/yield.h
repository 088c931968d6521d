// Put in front of ggml's thread code. Its threads wait for each other by spinning on a pause; where the machine is
// busy, the one that is waited for may not even be running, and every wait then lasts a turn of the scheduler. A
// thread that has waited for long gives up its turn instead.

#include <immintrin.h>
#include <sched.h>

// About 20 microseconds: longer than the waits of a quiet machine.
#define OWLET_PAUSES_A_TURN 512

static inline void owlet_pause(void) {
    static _Thread_local unsigned n_pauses;
    _mm_pause();
    if (++n_pauses % OWLET_PAUSES_A_TURN == 0) {
        sched_yield();
    }
}

#define _mm_pause owlet_pause
