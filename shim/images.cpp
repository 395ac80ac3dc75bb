/* images.cpp : see images.hpp. */
#include "images.hpp"
#include <ATen/ops/empty.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <cmath>

namespace taut_shim
{

taut_status check_images(const taut_torch_images *t, bool labels)
{
    if (!t || t->size < sizeof *t)
        return fail(TAUT_E_INVALID, "images: NULL, or its size is not set: begin with TAUT_TORCH_IMAGES_INIT");
    if (!t->pixels || t->n == 0) return fail(TAUT_E_INVALID, "images: there are none");
    if (t->channels < 1 || t->height < 1 || t->width < 1 || t->channels > 64 || t->height > 4096 || t->width > 4096)
        return fail(TAUT_E_RANGE, "images of %lldx%lldx%lld: must be 1..64 channels of 1..4096 rows and columns",
                    static_cast<long long>(t->channels), static_cast<long long>(t->height),
                    static_cast<long long>(t->width));
    if (t->classes < 2 || t->classes > 1048576)
        return fail(TAUT_E_RANGE, "images: %lld classes: must be 2 or more", static_cast<long long>(t->classes));
    if (labels && !t->labels) return fail(TAUT_E_INVALID, "images: no labels");
    for (size_t i = 0; t->labels && i < t->n; i++)
        if (t->labels[i] < 0 || t->labels[i] >= t->classes)
            return fail(TAUT_E_RANGE, "image %zu: class %lld: must be 0..%lld", i, static_cast<long long>(t->labels[i]),
                        static_cast<long long>(t->classes - 1));
    return TAUT_OK;
}

taut_status settle_augment(int32_t &how, bool mirror)
{
    if (how == TAUT_TORCH_AUGMENT_AUTO) how = mirror ? TAUT_TORCH_AUGMENT_ONE : TAUT_TORCH_AUGMENT_SEVERAL;
    if (how == TAUT_TORCH_AUGMENT_SEVERAL || how == TAUT_TORCH_AUGMENT_ONE || how == TAUT_TORCH_AUGMENT_NONE)
        return TAUT_OK;
    return fail(TAUT_E_RANGE, "augment=%d: must be 0 (by mirror), 1 (several), 2 (one) or 3 (none)",
                static_cast<int>(how));
}

image_set::image_set(const taut_torch_images &t) : from(t), mean(t.mean), deviation(t.deviation)
{
    size_t elems = static_cast<size_t>(t.channels * t.height * t.width);
    double sum = 0, square = 0, all = static_cast<double>(t.n * elems);
    shape.channels = t.channels, shape.height = t.height, shape.width = t.width, shape.classes = t.classes;
    if (deviation > 0) return;
    for (size_t i = 0; i < t.n * elems; i++)
        sum += t.pixels[i], square += static_cast<double>(t.pixels[i]) * t.pixels[i];
    mean = sum / all;
    deviation = std::sqrt(square / all - mean * mean);
    if (!(deviation > 0)) deviation = 1;
}

at::Tensor image_set::take(const std::vector<int64_t> &which) const
{
    size_t     elems = static_cast<size_t>(from.channels * from.height * from.width);
    at::Tensor x = at::empty({static_cast<int64_t>(which.size()), from.channels, from.height, from.width}, at::kFloat);
    float     *to = static_cast<float *>(x.data_ptr()), scale = static_cast<float>(1 / deviation),
          shift = static_cast<float>(mean);
    for (int64_t i : which)
        for (size_t k = 0; k < elems; k++)
            *to++ = (static_cast<float>(from.pixels[static_cast<size_t>(i) * elems + k]) - shift) * scale;
    return x;
}

at::Tensor image_set::range(size_t first, size_t n) const
{
    std::vector<int64_t> which;
    for (size_t i = first; i < first + n; i++) which.push_back(static_cast<int64_t>(i));
    return take(which);
}

at::Tensor image_set::clamp(const at::Tensor &x) const { return x.clamp(-mean / deviation, (255 - mean) / deviation); }

void image_set::to_bytes(const at::Tensor &x, uint8_t *out) const
{
    at::Tensor   flat = clamp(x).contiguous();
    const float *p = static_cast<const float *>(flat.data_ptr());
    for (int64_t i = 0; i < flat.numel(); i++)
        out[i] = static_cast<uint8_t>(
            std::lround(std::min(255.0, std::max(0.0, static_cast<double>(p[i]) * deviation + mean))));
}

at::Tensor scaled(const at::Tensor &x, int64_t height, int64_t width)
{
    if (x.size(2) == height && x.size(3) == width) return x;
    return at::upsample_bilinear2d(x, {height, width}, false);
}

} // namespace taut_shim
