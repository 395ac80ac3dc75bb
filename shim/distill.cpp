/* distill.cpp : distribution matching; see distill.h. */
#include "distill.h"
#include "images.hpp"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/zeros_like.h>
#include <cmath>

using namespace taut_shim;

namespace
{

struct matching {
    taut_torch_distill_config         c;
    image_set                         real;
    std::vector<std::vector<int64_t>> members; /* of each class */
    random_numbers                    random;
    at::Tensor                        images, momentum; /* S, [classes*per_class*parts^2, channels, height, width] */

    matching(const taut_torch_distill_config &cfg, const taut_torch_images &t)
        : c(cfg), real(t), members(static_cast<size_t>(t.classes)), random(cfg.seed)
    {
        for (size_t i = 0; i < t.n; i++) members[static_cast<size_t>(t.labels[i])].push_back(static_cast<int64_t>(i));
    }
    at::Tensor draw(int64_t each)
    {
        std::vector<int64_t> which;
        for (const auto &m : members)
            for (int64_t k = 0; k < each; k++) which.push_back(m[random.below(m.size())]);
        return real.take(which);
    }
    /* Without two the same, as long as there are enough. */
    at::Tensor draw_first(int64_t each)
    {
        std::vector<int64_t> which;
        for (auto m : members)
            for (int64_t k = 0; k < each; k++) {
                size_t left = m.size() - static_cast<size_t>(k) % m.size(), at = random.below(left);
                which.push_back(m[at]);
                std::swap(m[at], m[left - 1]);
            }
        return real.take(which);
    }
};

double iterate(matching &m, int64_t it)
{
    int64_t       classes = static_cast<int64_t>(m.members.size());
    convnet_shape s = m.real.shape;
    uint64_t      seed = m.c.seed * 1000003u + static_cast<uint64_t>(it);
    at::Tensor    target;
    augment_rule  rule = {m.c.augment, m.c.mirror != 0};
    s.filters = m.c.filters;
    s.stride = true;
    convnet net(s, seed);
    {
        at::NoGradGuard no_grad;
        target = net.features(augment(m.draw(m.c.real), classes, seed, rule)).view({classes, m.c.real, -1}).mean(1);
    }
    at::Tensor leaf = m.images.detach().requires_grad_(true);
    at::Tensor mine = net.features(augment(scaled(leaf, s.height, s.width), classes, seed, rule))
                          .view({classes, m.c.per_class * m.c.parts * m.c.parts, -1})
                          .mean(1);
    at::Tensor loss = mine.sub(target).pow(2).sum();
    loss.backward();
    at::NoGradGuard no_grad;
    double          done = static_cast<double>(it) / static_cast<double>(m.c.iterations);
    double          rate = m.c.lr * static_cast<double>(m.images.size(0) / classes) * (1 + std::cos(M_PI * done)) / 2;
    m.momentum.mul_(0.5).add_(leaf.grad());
    m.images = m.real.clamp(m.images.sub(m.momentum, rate));
    return loss.item<float>();
}

taut_status settle(taut_torch_distill_config &c)
{
    if (!c.iterations) c.iterations = 1200;
    if (!c.real) c.real = 64;
    if (!c.filters) c.filters = 64;
    if (c.lr == 0) c.lr = 0.25;
    if (!c.parts) c.parts = 1;
    if (c.parts < 1 || c.parts > 8)
        return fail(TAUT_E_RANGE, "parts=%lld: must be 1..8", static_cast<long long>(c.parts));
    if (taut_status s = settle_augment(c.augment, c.mirror != 0)) return s;
    if (c.per_class < 1 || c.per_class > 10000)
        return fail(TAUT_E_RANGE, "per_class=%lld: must be 1..10000", static_cast<long long>(c.per_class));
    if (c.iterations < 1 || c.real < 1 || c.filters < 1 || !(c.lr > 0))
        return fail(TAUT_E_RANGE, "iterations=%lld, real=%lld, filters=%lld, lr=%g: must be above 0",
                    static_cast<long long>(c.iterations), static_cast<long long>(c.real),
                    static_cast<long long>(c.filters), c.lr);
    return TAUT_OK;
}

} // namespace

extern "C" taut_status taut_torch_distill(const taut_torch_distill_config *cfg, const taut_torch_images *images,
                                          uint8_t *out)
{
    taut_torch_distill_config c = TAUT_TORCH_DISTILL_INIT;
    if (!out || !copy_config(c, cfg))
        return fail(TAUT_E_INVALID,
                    "out is NULL, or the size of config is not set: begin with TAUT_TORCH_DISTILL_INIT");
    if (taut_status s = settle(c)) return s;
    if (taut_status s = check_images(images, true)) return s;
    return guarded([&] {
        matching m(c, *images);
        for (size_t k = 0; k < m.members.size(); k++)
            if (m.members[k].empty())
                return fail(TAUT_E_INVALID, "class %zu has no image: %lld of each class are to be made", k,
                            static_cast<long long>(c.per_class));
        m.images = m.draw_first(c.per_class * c.parts * c.parts);
        if (c.parts > 1)
            m.images = at::adaptive_avg_pool2d(
                m.images, {(images->height + c.parts - 1) / c.parts, (images->width + c.parts - 1) / c.parts});
        m.momentum = at::zeros_like(m.images);
        for (int64_t it = 0; it < c.iterations; it++) {
            double loss = iterate(m, it);
            if (c.progress && c.progress(c.ctx, it + 1, c.iterations, loss)) return fail(TAUT_E_STATE, "stopped");
        }
        m.real.to_bytes(m.images, out);
        return TAUT_OK;
    });
}
