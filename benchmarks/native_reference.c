/*
 * The floor to compare with: what the patch does, and nothing else, in C.
 *
 * A sorted list of handlers, two for each device around one ordinary handler of their depth. Starting walks it
 * upwards, stopping downwards, each in a prepare pass and a main pass; whichever of a device's two handlers is
 * met first creates a POSIX thread that sleeps, the other joins it.
 *
 *     native_reference DEVICES LATENCY_NS CYCLES
 *
 * prints a line for each cycle (a stop and a start): nanoseconds in all, and of them for launching; then a line
 * with the most threads seen and the peak of resident memory above that before the first thread, in KiB.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum pass { PREPARE, MAIN };

struct handler {
    long priority;
    long registered; /* keeps the sort stable */
    void (*call)(struct handler *self, enum pass pass, bool running);
    struct device *device;
};

struct device {
    pthread_t thread;
    struct handler *lower;
};

static struct timespec latency;
static long long pass_began_ns, launching_ns;
static long peak_threads;

static long long now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long status_field(const char *name)
{
    char line[256];
    long value = 0;
    FILE *status = fopen("/proc/self/status", "r");
    if (status == NULL) {
        return 0;
    }
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            value = atol(line + strlen(name));
        }
    }
    fclose(status);
    return value;
}

static void *change_state(void *device)
{
    (void)device;
    nanosleep(&latency, NULL);
    return NULL;
}

static void meet_device(struct handler *self, enum pass pass, bool running)
{
    (void)pass;
    bool first = (self == self->device->lower) == running;
    int error = first ? pthread_create(&self->device->thread, NULL, change_state, self->device)
                      : pthread_join(self->device->thread, NULL);
    if (error != 0) {
        fprintf(stderr, "native_reference: thread: %s\n", strerror(error));
        exit(1);
    }
}

static void meet_ordinary(struct handler *self, enum pass pass, bool running)
{
    (void)self, (void)pass, (void)running;
    launching_ns += now_ns() - pass_began_ns;
    long threads = status_field("Threads:"); /* while devices wait, so that reading it costs nothing */
    peak_threads = threads > peak_threads ? threads : peak_threads;
}

static int compare(const void *a, const void *b)
{
    const struct handler *x = *(struct handler *const *)a, *y = *(struct handler *const *)b;
    if (x->priority != y->priority) {
        return x->priority < y->priority ? -1 : 1;
    }
    return x->registered < y->registered ? -1 : 1;
}

static void notify(struct handler **order, long count, bool running)
{
    for (enum pass pass = PREPARE; pass <= MAIN; pass++) {
        pass_began_ns = now_ns();
        for (long place = 0; place < count; place++) {
            struct handler *next = order[running ? place : count - 1 - place];
            next->call(next, pass, running);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4 || atol(argv[1]) < 1) {
        fprintf(stderr, "usage: native_reference DEVICES LATENCY_NS CYCLES\n");
        return 2;
    }
    long devices = atol(argv[1]), cycles = atol(argv[3]), count = 2 * devices + 1;
    long long latency_ns = atoll(argv[2]);
    struct device *device = calloc(devices, sizeof *device);
    struct handler *handlers = calloc(count, sizeof *handlers);
    struct handler **order = calloc(count, sizeof *order);
    long before_kib = status_field("VmRSS:");
    if (device == NULL || handlers == NULL || order == NULL) {
        return 1;
    }
    for (long number = 0; number < devices; number++) {
        handlers[2 * number] = (struct handler){-1, 2 * number, meet_device, &device[number]};
        handlers[2 * number + 1] = (struct handler){+1, 2 * number + 1, meet_device, &device[number]};
        device[number].lower = &handlers[2 * number];
    }
    handlers[count - 1] = (struct handler){0, count - 1, meet_ordinary, NULL};
    for (long place = 0; place < count; place++) {
        order[place] = &handlers[place];
    }
    qsort(order, count, sizeof *order, compare);
    notify(order, count, false); /* without latency: the first threads are dearer than all others */
    latency = (struct timespec){latency_ns / 1000000000LL, latency_ns % 1000000000LL};
    for (long cycle = 0; cycle < cycles; cycle++) {
        launching_ns = 0;
        long long start = now_ns();
        notify(order, count, false);
        notify(order, count, true);
        printf("%lld %lld\n", now_ns() - start, launching_ns);
    }
    printf("%ld %ld\n", peak_threads, status_field("VmHWM:") - before_kib);
    return 0;
}
