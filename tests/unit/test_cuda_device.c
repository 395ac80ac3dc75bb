/* Bad input to the device: each has a status of its own and a sentence that names what is wrong, and nothing is lost. In the
 * execution model, which can be told to have no driver or little memory. */
#include "tests/support/cuda_case.h"
#include "tests/support/cuda_host/control.h"
#include "../support/suite.h"
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
    cuda_model_driver(false);
    ck_assert(!d->found(text, sizeof text) && strstr(text, "driver"));
    ck_assert(d->alloc(16, &p) == TAUT_E_DEVICE && p == NULL);
    ck_assert(strstr(taut_last_error(), "driver") != NULL);
    ck_assert(d->stream_create(&s) == TAUT_E_DEVICE && s == NULL);
    taut__cuda_job   j = {.n = 4, .src = text, .err = (float *)(void *)text};
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    ck_assert(taut__cuda_model.vec->input(&b, 0, NULL) != TAUT_OK);
    cuda_model_driver(true);
    ck_assert(d->found(text, sizeof text));
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

int main(void)
{
    Suite *s = suite_create("cuda_device");
    TCase *t = suite_case(s, "bad input", 0);
    tcase_add_test(t, pointers);
    tcase_add_test(t, out_of_memory);
    tcase_add_test(t, no_driver);
    tcase_add_test(t, what_is_built);
    tcase_add_test(t, captures);
    return suite_run(s);
}
