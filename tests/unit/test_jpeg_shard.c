/* test_jpeg_shard.c : JPEGs decoded on read: pixels, scaled extents, damage. */
#include "comm/taut_data.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TAUT_HAVE_JPEG
#include <jpeglib.h>
enum { ROWS = 50, COLS = 70 };

static uint8_t ramp(int y, int x, int c) { return (uint8_t)(40 + 2 * y + (c ? x : 100 - x)); }

static unsigned char *encode(int channels, unsigned long *bytes)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr       e;
    unsigned char              *out = NULL, row[COLS * 3];
    JSAMPROW                    line = row;
    c.err = jpeg_std_error(&e);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, bytes);
    c.image_width = COLS, c.image_height = ROWS, c.input_components = channels;
    c.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 95, TRUE);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < ROWS; y++) {
        for (int x = 0; x < COLS; x++)
            for (int k = 0; k < channels; k++) row[x * channels + k] = ramp(y, x, k);
        jpeg_write_scanlines(&c, &line, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return out;
}

START_TEST(pixels_at_every_scale)
{
    int            channels = _i ? 3 : 1;
    unsigned long  bytes = 0;
    unsigned char *jpeg = encode(channels, &bytes);
    for (int scale = 1; scale <= 8; scale *= 2) {
        size_t   shape[3], again[3];
        uint8_t *p;
        ck_assert_int_eq(taut_jpeg_info(jpeg, bytes, scale, shape), TAUT_OK);
        ck_assert_uint_eq(shape[0], (size_t)(ROWS + scale - 1) / (size_t)scale);
        ck_assert_uint_eq(shape[1], (size_t)(COLS + scale - 1) / (size_t)scale);
        ck_assert_uint_eq(shape[2], (size_t)channels);
        p = malloc(shape[0] * shape[1] * shape[2]);
        ck_assert_int_eq(taut_jpeg_decode(jpeg, bytes, scale, p, shape[0] * shape[1] * shape[2] - 1, again),
                         TAUT_E_CAPACITY);
        ck_assert_int_eq(taut_jpeg_decode(jpeg, bytes, scale, p, shape[0] * shape[1] * shape[2], again), TAUT_OK);
        for (size_t y = 0; y + 1 < shape[0]; y++)
            for (size_t x = 0; x + 1 < shape[1]; x++)
                for (int k = 0; k < channels; k++) { /* a ramp: the mean of a square is its middle */
                    int want = ramp((int)y * scale + scale / 2, (int)x * scale + scale / 2, k),
                        got = p[(y * shape[1] + x) * shape[2] + (size_t)k];
                    ck_assert_int_le(abs(want - got), 8);
                }
        free(p);
    }
    free(jpeg);
}
END_TEST

START_TEST(damage)
{
    unsigned long  bytes = 0;
    unsigned char *jpeg = encode(3, &bytes);
    uint8_t        p[ROWS * COLS * 3];
    size_t         shape[3];
    for (size_t n = 0; n + 2 < bytes; n += 1 + bytes / 40)
        ck_assert_int_eq(taut_jpeg_decode(jpeg, n, 1, p, sizeof p, shape), TAUT_E_CORRUPT);
    ck_assert_int_eq(taut_jpeg_decode("\x89PNG\r\n\x1a\n....", 12, 1, p, sizeof p, shape), TAUT_E_CORRUPT);
    ck_assert_int_eq(taut_jpeg_decode(jpeg, bytes, 3, p, sizeof p, shape), TAUT_E_RANGE);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "1, 2, 4 or 8"));
    ck_assert_int_eq(taut_jpeg_decode(jpeg, bytes, 1, NULL, 0, shape), TAUT_E_INVALID);
    free(jpeg);
}
END_TEST
#else
START_TEST(left_out)
{
    size_t shape[3];
    ck_assert_int_eq(taut_jpeg_info("x", 1, 1, shape), TAUT_E_UNSUPPORTED);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("jpeg");
    TCase *t = suite_case(suite, "jpeg", 0);
#ifdef TAUT_HAVE_JPEG
    tcase_add_loop_test(t, pixels_at_every_scale, 0, 2);
    tcase_add_test(t, damage);
#else
    puts("SKIP built without libjpeg-turbo: decoding of JPEGs");
    tcase_add_test(t, left_out);
#endif
    return suite_run(suite);
}
