/*
 * Preloaded into a ThreadSanitizer build: GLib's locks are futexes in a
 * library that is not instrumented, so the sanitizer would see none of them.
 * Here they are pthread's, which it knows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>

/* The sanitizer's, if the program has them: what was written before release is
 * seen by whoever acquires @addr, or reads it with an atomic load of its own. */
void __tsan_release(volatile void *addr) __attribute__((weak));
void __tsan_acquire(volatile void *addr) __attribute__((weak));

/* A GMutex that was never initialized is all zero. */
static pthread_mutex_t *get(GMutex *mutex)
{
    pthread_mutex_t *m = __atomic_load_n(&mutex->p, __ATOMIC_ACQUIRE);
    gpointer expected = NULL;

    if (m) {
        if (__tsan_acquire) {
            __tsan_acquire(mutex);
        }
        return m;
    }
    m = malloc(sizeof(*m));
    if (!m || pthread_mutex_init(m, NULL)) {
        abort();
    }
    if (__tsan_release) {
        __tsan_release(mutex);
    }
    if (!__atomic_compare_exchange_n(&mutex->p, &expected, m, 0,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        pthread_mutex_destroy(m);
        free(m);
        m = expected;
        if (__tsan_acquire) {
            __tsan_acquire(mutex);
        }
    }
    return m;
}

void g_mutex_init(GMutex *mutex)
{
    mutex->p = NULL;
    get(mutex);
}

void g_mutex_clear(GMutex *mutex)
{
    pthread_mutex_destroy(get(mutex));
    free(mutex->p);
    mutex->p = NULL;
}

void g_mutex_lock(GMutex *mutex)
{
    pthread_mutex_lock(get(mutex));
}

void g_mutex_unlock(GMutex *mutex)
{
    pthread_mutex_unlock(get(mutex));
}

gboolean g_mutex_trylock(GMutex *mutex)
{
    return pthread_mutex_trylock(get(mutex)) == 0;
}

/* One lock for all: enter() keeps it until leave(). */
static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

gboolean(g_once_init_enter)(volatile void *location)
{
    volatile gsize *value = location;

    if (__atomic_load_n(value, __ATOMIC_ACQUIRE)) {
        return FALSE;
    }
    pthread_mutex_lock(&once);
    if (*value) {
        pthread_mutex_unlock(&once);
        return FALSE;
    }
    return TRUE;
}

void(g_once_init_leave)(volatile void *location, gsize result)
{
    if (__tsan_release) {
        __tsan_release(location);
    }
    __atomic_store_n((volatile gsize *)location, result, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&once);
}
