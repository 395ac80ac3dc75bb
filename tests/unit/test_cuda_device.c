/* Bad input to the device: each has a status of its own and a sentence that names what is wrong, and nothing is lost. In the
 * execution model, which can be told to have no driver or little memory. */
#include "tests/support/cuda_case.h"
#include "tests/support/cuda_host/control.h"
#include "../support/suite.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

START_TEST(pointers)
{
    const taut__cuda_device *d = taut__cuda_model.device;
    float                    host[4];
    cuda_begin(1);
    void *device = cuda_new(16, 0);
    ck_assert(d->check(device, true, "buf") == TAUT_OK && d->check(host, false, "buf") == TAUT_OK);
    ck_assert(d->check(host, true, "buf") == TAUT_E_INVALID);
    ck_assert(strstr(taut_last_error(), "host memory") != NULL);
    ck_assert(d->check(device, false, "buf") == TAUT_E_INVALID);
    ck_assert(strstr(taut_last_error(), "must be host memory") != NULL);
    cuda_end();
}
END_TEST

START_TEST(out_of_memory)
{
    const taut__cuda_device *d = taut__cuda_model.device;
    void                    *p = NULL, *small;
    size_t                   before = cuda_model_held();
    cuda_model_memory(before + (1 << 20));
    ck_assert(d->alloc(2 << 20, &p) == TAUT_E_NOMEM && p == NULL);
    ck_assert(strstr(taut_last_error(), "2097152") != NULL);
    ck_assert(d->alloc(1 << 19, &small) == TAUT_OK);
    d->release(small);
    ck_assert(cuda_model_held() == before);
    cuda_model_memory(0);
}
END_TEST

START_TEST(no_driver)
{
    const taut__cuda_device *d = taut__cuda_model.device;
    char                     text[200];
    void                    *p;
    taut__cuda_stream        s;
    ck_assert(d->found(text, sizeof text) && strstr(text, "execution model"));
    cuda_model_driver(0);
    ck_assert(!d->found(text, sizeof text) && strcmp(text, "no driver") == 0);
    ck_assert(d->alloc(16, &p) == TAUT_E_DEVICE && p == NULL);
    ck_assert(strstr(taut_last_error(), "driver") != NULL);
    ck_assert(d->stream_create(&s) == TAUT_E_DEVICE && s == NULL);
    taut__cuda_job   j = {.n = 4, .src = text, .err = (float *)(void *)text};
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    ck_assert(taut__cuda_model.vec->input(&b, 0, NULL) != TAUT_OK);
    cuda_model_driver(13000);
    ck_assert(d->found(text, sizeof text));
}
END_TEST

START_TEST(old_driver)
{
    static const struct {
        int         version;
        const char *told;
    } of[] = {{12080, "it runs CUDA 12.8, this library needs 13.0"},
              {11040, "it runs CUDA 11.4, this library needs 13.0"},
              {9020, "it runs CUDA 9.2, this library needs 13.0"}};
    const taut__cuda_device *d = taut__cuda_model.device;
    char                     text[200];
    void                    *p;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        cuda_model_driver(of[i].version);
        ck_assert(!d->found(text, sizeof text));
        ck_assert_msg(strstr(text, "the driver is too old") && strstr(text, of[i].told), "%s", text);
        ck_assert(d->alloc(16, &p) == TAUT_E_DEVICE && p == NULL);
        ck_assert_msg(strstr(taut_last_error(), "driver version is insufficient"), "%s", taut_last_error());
    }
    cuda_model_driver(13000);
}
END_TEST

START_TEST(old_gpu)
{
    static const int of[] = {75, 61, 35};
    char             text[200], told[32];
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        cuda_model_capability(of[i]);
        snprintf(told, sizeof told, "%d.%d: must be 8.0", of[i] / 10, of[i] % 10);
        ck_assert(!taut__cuda_model.device->found(text, sizeof text));
        ck_assert_msg(strstr(text, told), "%s", text);
    }
    cuda_model_capability(90);
    ck_assert(taut__cuda_model.device->found(text, sizeof text));
    cuda_model_capability(80);
}
END_TEST

/* As a program meets it: a communicator, two layers, one of them too small to travel alone. What is wrong is told at once, and the step
 * that follows, as it should be, is right. */
START_TEST(programs)
{
    enum { N = 4096, SMALL = 64 };
    static const char *const codec[] = {"none", "quant:bits=4", "grid", "topk:density=0.1", "fp16"};
    static const struct {
        taut_dtype type;
        size_t     size;
    } of[] = {{TAUT_F32, 4}, {TAUT_F16, 2}, {TAUT_BF16, 2}};
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_comm  *comm;
    taut_layer *w[2];
    float       host[N] = {0};
    cfg.codec = codec[_i];
    taut__cuda_use(&taut__cuda_model);
    taut__cuda_stream s = cuda_begin((uint64_t)_i);
    for (int t = 0; t < 3; t++) {
        ck_assert(taut_comm_create_threads(1, &cfg, &comm) == TAUT_OK);
        ck_assert(taut_layer_register(comm, "w", of[t].type, 1, (size_t[]){N}, &w[0]) == TAUT_OK);
        ck_assert(taut_layer_register(comm, "small", of[t].type, 1, (size_t[]){SMALL}, &w[1]) == TAUT_OK);
        for (int l = 0; l < 2; l++) {
            char *there = cuda_put(host, 4 * N, 0);
#define REFUSED(call, status, text)                                                                                    \
    do {                                                                                                               \
        taut_status got = (call);                                                                                      \
        ck_assert_msg(got == status && strstr(taut_last_error(), text), "%s, layer %d: %d, wanted %d and '%s': %s",    \
                      codec[_i], l, (int)got, (int)status, text, taut_last_error());                                   \
    } while (0)
            REFUSED(taut_allreduce(w[l], there, TAUT_SUM), TAUT_E_INVALID, "memory of the CUDA device: must be host");
            REFUSED(taut_allreduce_start(w[l], there, TAUT_MEAN), TAUT_E_INVALID, "must be host memory");
            REFUSED(taut_allreduce_start_on(w[l], there, TAUT_MEAN, TAUT_HOST, 0, NULL), TAUT_E_INVALID,
                    "must be host");
            REFUSED(taut_allreduce_start_on(w[l], host, TAUT_SUM, TAUT_CUDA, 0, s), TAUT_E_INVALID,
                    "is host memory: must be");
            REFUSED(taut_allreduce_start_on(w[l], there + of[t].size / 2, TAUT_SUM, TAUT_CUDA, 0, s), TAUT_E_INVALID,
                    "must be aligned to");
            REFUSED(taut_allreduce_start_on(w[l], there, (taut_op)7, TAUT_CUDA, 0, s), TAUT_E_INVALID, "op=7");
            if (l == 0) {
                REFUSED(taut_reduce_scatter(w[l], there, TAUT_SUM), TAUT_E_INVALID, "must be host memory");
                REFUSED(taut_allgather(w[l], there), TAUT_E_INVALID, "must be host memory");
            }
            ck_assert_msg(taut_allreduce_start_on(w[l], there, TAUT_SUM, TAUT_CUDA, 0, s) == TAUT_OK, "%s",
                          taut_last_error());
        }
        taut_layer *none = NULL;
        int         l = 0;
        REFUSED(taut_layer_register(comm, "other", (taut_dtype)9, 1, (size_t[]){N}, &none), TAUT_E_INVALID, "9");
        ck_assert_ptr_null(none);
        ck_assert_msg(taut_step_end(comm) == TAUT_OK, "%s", taut_last_error());
        taut_comm_destroy(comm);
    }
    cuda_end();
    taut__cuda_use(NULL);
}
END_TEST

START_TEST(what_is_built)
{
    const char *why = NULL;
    ck_assert(taut__cuda_get(&why) == NULL || why != NULL);
    ck_assert(why && *why);
    taut__cuda_use(&taut__cuda_model);
    ck_assert(taut__cuda_get(&why) == &taut__cuda_model && strcmp(why, "model") == 0);
    taut__cuda_use(NULL);
#ifdef TAUT_HAVE_CUDA
    ck_assert(strstr(taut_features(), " cuda") != NULL);
#else
    ck_assert(strstr(taut_features(), " cuda") == NULL);
#endif
}
END_TEST

/* A wait during a capture spoils it, and says so. */
START_TEST(captures)
{
    const taut__cuda_device *d = taut__cuda_model.device;
    void                    *graph;
    taut__cuda_stream        s = cuda_begin(3);
    ck_assert(d->capture_begin(s) == TAUT_OK && d->wait(s) == TAUT_E_DEVICE);
    ck_assert(d->capture_end(s, &graph) == TAUT_E_DEVICE && graph == NULL);
    ck_assert(d->wait(s) == TAUT_OK);
    cuda_end();
}
END_TEST

/* A program captures a stream, in the mode in which CUDA forbids all threads to wait, ask or allocate: what we do meanwhile, in this thread or another, on
 * other streams, is ours, and spoils nothing. */
static void *while_captured(void *ok)
{
    const taut__cuda_device *d = taut__cuda_model.device;
    void                    *p, *e, *host;
    taut__cuda_stream        s;
    bool                     passed, good = d->stream_create(&s) == TAUT_OK && d->event_create(&e) == TAUT_OK;
    good = good && d->alloc(64, &p) == TAUT_OK && (host = d->host_alloc(64)) != NULL;
    good = good && d->copy(host, p, 64, s) == TAUT_OK && d->event_record(e, s) == TAUT_OK;
    good = good && d->event_test(e, &passed) == TAUT_OK && d->query(s) == TAUT_OK && d->wait(s) == TAUT_OK;
    if (good) d->release(p), d->host_release(host), d->event_destroy(e), d->stream_destroy(s);
    return good ? ok : NULL;
}
START_TEST(beside_a_capture)
{
    taut__cuda_stream s = cuda_begin(4);
    pthread_t         other;
    void             *there = NULL;
    cuda_model_capture(s);
    ck_assert_ptr_nonnull(while_captured(s));
    ck_assert_int_eq(pthread_create(&other, NULL, while_captured, s), 0);
    pthread_join(other, &there);
    ck_assert_ptr_nonnull(there);
    ck_assert(cuda_model_captured(s));
    cuda_end();
}
END_TEST

/* Memory in stream order is not taken from the system anew in every step, though the program waits for the device in each. */
START_TEST(stream_memory)
{
    const taut__cuda_device *d = taut__cuda_model.device;
    taut__cuda_stream        s = cuda_begin(5);
    size_t                   before = cuda_model_mapped();
    for (int step = 0; step < 4; step++) {
        void *p;
        ck_assert(d->alloc_in(4096, &p, s) == TAUT_OK);
        d->release_in(p, s);
        ck_assert(d->wait(s) == TAUT_OK);
    }
    ck_assert_int_le(cuda_model_mapped() - before, 1);
    cuda_end();
}
END_TEST

/* Bytes of the host to any address: those of fields in a struct on the device, too; and nothing beside them. */
START_TEST(put_anywhere)
{
    enum { N = 20000 };
    const taut__cuda_device *d = taut__cuda_model.device;
    static uint8_t           from[N], to[N + 64];
    static const size_t      lengths[] = {0, 1, 7, 8, 15, 16, 17, 40, 264 * 8, 16384, 16384 + 24, N};
    for (size_t i = 0; i < N; i++) from[i] = (uint8_t)(i * 37 + i / 256);
    for (size_t offset = 0; offset <= 24; offset += offset < 4 ? 1 : 4)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            taut__cuda_stream s = cuda_begin(offset + k);
            uint8_t          *there = cuda_new(sizeof to, 0);
            ck_assert(d->fill(there, 0x5a, sizeof to, s) == TAUT_OK);
            ck_assert_msg(d->put(there + offset, from, lengths[k], s) == TAUT_OK, "%s", taut_last_error());
            cuda_get(to, there, sizeof to);
            ck_assert_msg(memcmp(to + offset, from, lengths[k]) == 0, "%zu bytes to %zu", lengths[k], offset);
            for (size_t i = 0; i < sizeof to; i++) ck_assert(to[i] == 0x5a || (i >= offset && i < offset + lengths[k]));
            cuda_end();
        }
}
END_TEST

/* Memory of another device than the one that is named, as where a program drives several. */
START_TEST(other_device)
{
    taut_config       cfg = TAUT_CONFIG_INIT;
    taut_comm        *comm;
    taut_layer       *w;
    taut__cuda_stream s = cuda_begin(6);
    taut__cuda_use(&taut__cuda_model);
    cfg.codec = "fp16";
    ck_assert(taut_comm_create_threads(1, &cfg, &comm) == TAUT_OK);
    ck_assert(taut_layer_register(comm, "w", TAUT_F32, 1, (size_t[]){4096}, &w) == TAUT_OK);
    cuda_model_elsewhere(1);
    void *there = cuda_new(4 * 4096, 0);
    cuda_model_elsewhere(0);
    ck_assert(taut_allreduce_start_on(w, there, TAUT_SUM, TAUT_CUDA, 0, s) == TAUT_E_INVALID);
    ck_assert_msg(strstr(taut_last_error(), "device 1: must be of device 0"), "%s", taut_last_error());
    taut_comm_destroy(comm);
    cuda_end();
    taut__cuda_use(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_device");
    TCase *t = suite_case(s, "bad input", 0);
    tcase_add_test(t, pointers);
    tcase_add_test(t, out_of_memory);
    tcase_add_test(t, no_driver);
    tcase_add_test(t, old_driver);
    tcase_add_test(t, old_gpu);
    tcase_add_loop_test(t, programs, 0, 5);
    tcase_add_test(t, what_is_built);
    tcase_add_test(t, captures);
    tcase_add_test(t, beside_a_capture);
    tcase_add_test(t, stream_memory);
    tcase_add_test(t, put_anywhere);
    tcase_add_test(t, other_device);
    return suite_run(s);
}
