/* jpeg.c : JPEG to pixels by libjpeg-turbo, whose errors come back by longjmp. */
#include "../../../comm/base/base.h"
#include "../../../comm/taut_data.h"
#ifdef TAUT_HAVE_JPEG
#include <setjmp.h>
#include <stdio.h>
#include <jpeglib.h>

typedef struct handler {
    struct jpeg_error_mgr base;
    jmp_buf               back;
    char                  text[JMSG_LENGTH_MAX];
    bool                  truncated;
} handler;

static void on_error(j_common_ptr c)
{
    handler *h = (handler *)(void *)c->err;
    c->err->format_message(c, h->text);
    longjmp(h->back, 1);
}

/* A warning means that bytes are missing or wrong, and pixels made up. */
static void on_message(j_common_ptr c, int level)
{
    if (level < 0) on_error(c);
}

static taut_status decode(const void *jpeg, size_t bytes, int scale, uint8_t *pixels, size_t cap, size_t shape[3])
{
    struct jpeg_decompress_struct d;
    handler                       h;
    size_t                        row;
    d.err = jpeg_std_error(&h.base);
    h.base.error_exit = on_error;
    h.base.emit_message = on_message;
    if (setjmp(h.back)) {
        jpeg_destroy_decompress(&d);
        return taut__fail(TAUT_E_CORRUPT, "not a whole JPEG: %s", h.text);
    }
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, jpeg, (unsigned long)bytes);
    jpeg_read_header(&d, TRUE);
    d.scale_num = 1;
    d.scale_denom = (unsigned)scale;
    d.dct_method = JDCT_ISLOW;
    d.out_color_space = d.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_calc_output_dimensions(&d);
    shape[0] = d.output_height, shape[1] = d.output_width, shape[2] = (size_t)d.out_color_components;
    row = shape[1] * shape[2];
    if (pixels && cap / row < shape[0]) {
        jpeg_destroy_decompress(&d);
        return taut__fail(TAUT_E_CAPACITY, "a JPEG of %zu x %zu x %zu pixels: the buffer has %zu bytes", shape[0],
                          shape[1], shape[2], cap);
    }
    if (pixels) {
        jpeg_start_decompress(&d);
        while (d.output_scanline < d.output_height) {
            JSAMPROW line = pixels + d.output_scanline * row;
            jpeg_read_scanlines(&d, &line, 1);
        }
        jpeg_finish_decompress(&d);
    }
    jpeg_destroy_decompress(&d);
    return TAUT_OK;
}
#else
static taut_status decode(const void *jpeg, size_t bytes, int scale, uint8_t *pixels, size_t cap, size_t shape[3])
{
    (void)jpeg, (void)bytes, (void)scale, (void)pixels, (void)cap, (void)shape;
    return taut__fail(TAUT_E_UNSUPPORTED, "this library was built without libjpeg-turbo");
}
#endif

static taut_status check(const void *jpeg, size_t bytes, int scale, uint8_t *pixels, size_t cap, size_t shape[3])
{
    shape[0] = shape[1] = shape[2] = 0;
    if (scale != 1 && scale != 2 && scale != 4 && scale != 8)
        return taut__fail(TAUT_E_RANGE, "scale=%d: must be 1, 2, 4 or 8", scale);
    if (!jpeg || bytes == 0) return taut__fail(TAUT_E_CORRUPT, "not a whole JPEG: empty");
    return decode(jpeg, bytes, scale, pixels, cap, shape);
}

taut_status taut_jpeg_info(const void *jpeg, size_t bytes, int scale, size_t shape[3])
{
    return check(jpeg, bytes, scale, NULL, 0, shape);
}

taut_status taut_jpeg_decode(const void *jpeg, size_t bytes, int scale, uint8_t *pixels, size_t cap, size_t shape[3])
{
    if (!pixels) return taut__fail(TAUT_E_INVALID, "no buffer for pixels");
    return check(jpeg, bytes, scale, pixels, cap, shape);
}
