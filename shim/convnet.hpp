/* convnet.hpp : the small convolutional network that image distillation is usually measured with (Gidaris & Komodakis 2018; Zhao & Bilen 2021): blocks of
 * a 3x3 convolution, instance normalisation, ReLU and 2x2 average pooling, then one linear layer; and random transformations of its
 * inputs that gradients pass through. */
#ifndef TAUT_CONVNET_HPP
#define TAUT_CONVNET_HPP

#include "shim.hpp"

namespace taut_shim
{

struct convnet_shape {
    int64_t channels, height, width, classes; /* of the images */
    int64_t filters = 128, blocks = 3;
    bool    stride =
        false; /* the first block halves by a stride of its convolution instead of pooling: a third of the work */
};

struct convnet final : net {
    convnet_shape           shape;
    std::vector<at::Tensor> w, b, gain, shift; /* of each block */
    at::Tensor              head, bias;

    convnet(const convnet_shape &s, uint64_t seed);
    at::Tensor features(const at::Tensor &x) const; /* [n, channels, height, width] -> [n, numbers] */
    at::Tensor forward(const at::Tensor &x) override;
};

/* random_numbers : uniform in [0,1) from a seed, as a sequence. */
struct random_numbers {
    uint64_t state;
    explicit random_numbers(uint64_t seed) : state(seed) {}
    double   next();
    double   between(double a, double b) { return a + (b - a) * next(); }
    uint64_t below(uint64_t n) { return static_cast<uint64_t>(next() * static_cast<double>(n)); }
};

/* What augment() does to an image. Of an eighth of the side at most: shift; of 0.8..1.25 along each axis: scale; of 15 degrees at most: rotation; brightness
 *  and contrast; a square of half the side blanked.
 *  several: rotated, scaled and moved at once (7 of 10), blanked, or changed in light; mirrored by chance as well, where `mirror`.
 *  one: one of all of these, as in DSA (Zhao & Bilen, ICML 2021); none: the image as it is. */
struct augment_rule {
    int32_t how; /* TAUT_TORCH_AUGMENT_... */
    bool    mirror;
};

/* augment() : transforms images, differentiable in x. The x.size(0) images are `groups` runs of equal length; each run has one transformation, so that groups
 *  = the batch gives every image its own. The same seed and groups give the same transformations, whatever the length of the runs:
 *  siamese augmentation. */
at::Tensor augment(const at::Tensor &x, int64_t groups, uint64_t seed, const augment_rule &rule);

} // namespace taut_shim

#endif
