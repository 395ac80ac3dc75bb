/* images.hpp : images of bytes as tensors. */
#ifndef TAUT_IMAGES_HPP
#define TAUT_IMAGES_HPP

#include "convnet.hpp"
#include "distill.h"

namespace taut_shim
{

/* Pointers, extents and labels make sense? labels: they are needed. */
taut_status check_images(const taut_torch_images *t, bool labels);

/* What `auto` stands for; a rule that there is? */
taut_status settle_augment(int32_t &how, bool mirror);

struct image_set {
    convnet_shape            shape;
    const taut_torch_images &from;
    double                   mean, deviation;

    explicit image_set(const taut_torch_images &t);
    at::Tensor take(
        const std::vector<int64_t> &which) const; /* as networks see them: [which, channels, height, width] */
    at::Tensor range(size_t first, size_t n) const;
    at::Tensor clamp(const at::Tensor &x) const;                  /* to what bytes can hold */
    void       to_bytes(const at::Tensor &x, uint8_t *out) const; /* rounded */
};

/* [n, channels, any, any] -> [n, channels, height, width]: bilinear; x itself where it has that size. */
at::Tensor scaled(const at::Tensor &x, int64_t height, int64_t width);

} // namespace taut_shim

#endif
