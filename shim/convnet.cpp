/* convnet.cpp : see convnet.hpp. */
#include "convnet.hpp"
#include "distill.h"
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/affine_grid_generator.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/grid_sampler.h>
#include <ATen/ops/instance_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <cmath>

namespace taut_shim
{

double random_numbers::next()
{
    uint64_t x = state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

/* Uniform in +-1/sqrt(fan in), which is what PyTorch's layers begin with. */
convnet::convnet(const convnet_shape &s, uint64_t seed) : shape(s)
{
    at::Generator rng = at::detail::createCPUGenerator(seed);
    int64_t       in = s.channels, h = s.height, wide = s.width;
    auto          add = [&](const std::string &name, at::Tensor t) {
        params.push_back({name, t});
        return t;
    };
    auto uniform = [&](const std::string &name, at::IntArrayRef size, int64_t fan_in) {
        double bound = 1 / std::sqrt(static_cast<double>(fan_in));
        return add(name, at::empty(size, at::kFloat).uniform_(-bound, bound, rng));
    };
    for (int64_t i = 0; i < s.blocks; i++) {
        std::string name = "conv" + std::to_string(i + 1);
        w.push_back(uniform(name + ".weight", {s.filters, in, 3, 3}, 9 * in));
        b.push_back(uniform(name + ".bias", {s.filters}, 9 * in));
        gain.push_back(add("norm" + std::to_string(i + 1) + ".weight", at::full({s.filters}, 1.0, at::kFloat)));
        shift.push_back(add("norm" + std::to_string(i + 1) + ".bias", at::full({s.filters}, 0.0, at::kFloat)));
        in = s.filters, h /= 2, wide /= 2;
        if (h < 1 || wide < 1)
            throw std::invalid_argument("convnet: " + std::to_string(s.blocks) +
                                        " blocks halve these images to nothing");
    }
    head = uniform("head.weight", {s.classes, in * h * wide}, in * h * wide);
    bias = uniform("head.bias", {s.classes}, in * h * wide);
}

at::Tensor convnet::features(const at::Tensor &input) const
{
    at::Tensor x = input;
    for (size_t i = 0; i < w.size(); i++) {
        bool stride = shape.stride && i == 0;
        x = at::conv2d(x, w[i], b[i], stride ? 2 : 1, 1);
        x = at::relu(at::instance_norm(x, gain[i], shift[i], {}, {}, true, 0.1, 1e-5, false));
        if (!stride) x = at::avg_pool2d(x, 2);
    }
    return x.flatten(1);
}

at::Tensor convnet::forward(const at::Tensor &x)
{
    const convnet_shape &s = shape;
    if (x.scalar_type() != at::kFloat || x.numel() != x.size(0) * s.channels * s.height * s.width)
        throw std::invalid_argument("convnet: the batch must be images of " + std::to_string(s.channels) + "x" +
                                    std::to_string(s.height) + "x" + std::to_string(s.width));
    return at::linear(features(x.reshape({x.size(0), s.channels, s.height, s.width})), head, bias);
}

/* values of each group for each of its images, in memory of its own: autograd keeps them until backward */
static at::Tensor each_group(std::vector<float> &values, at::IntArrayRef group, int64_t groups, int64_t each)
{
    std::vector<int64_t> one = {groups, 1}, all = {groups, each}, flat = {groups * each};
    for (std::vector<int64_t> *shape : {&one, &all, &flat}) shape->insert(shape->end(), group.begin(), group.end());
    return at::from_blob(values.data(), one, at::kFloat).expand(all).clone(at::MemoryFormat::Contiguous).reshape(flat);
}

/* One transformation; x, y in units of half the side, the blanked square's centre in the side. */
struct transformation {
    double angle = 0, scale_x = 1, scale_y = 1, x = 0, y = 0, flip = 1, bright = 0, contrast = 1, centre_x = 0,
           centre_y = 0;
    bool blank = false;
};

static transformation draw_several(random_numbers &r, bool mirror)
{
    transformation t, still;
    t.angle = r.between(-1, 1) * 15 * M_PI / 180;
    t.scale_x = std::exp(r.between(-0.223, 0.223)), t.scale_y = std::exp(r.between(-0.223, 0.223));
    t.x = r.between(-0.25, 0.25), t.y = r.between(-0.25, 0.25);
    still.flip = t.flip = mirror && r.next() < 0.5 ? -1 : 1;
    double which = r.next();
    if (which >= 0.7) t = still; /* three tenths keep their place */
    double bright = r.between(-0.3, 0.3), contrast = r.between(0.7, 1.3);
    if (which >= 0.85) t.bright = bright, t.contrast = contrast;
    t.centre_y = r.next(), t.centre_x = r.next();
    t.blank = which >= 0.7 && which < 0.85;
    return t;
}

static transformation draw_one(random_numbers &r, bool mirror)
{
    transformation t;
    switch (r.below(mirror ? 6 : 5)) {
    case 0: t.x = r.between(-0.25, 0.25), t.y = r.between(-0.25, 0.25); break;
    case 1: t.scale_x = std::exp(r.between(-0.223, 0.223)), t.scale_y = std::exp(r.between(-0.223, 0.223)); break;
    case 2: t.angle = r.between(-1, 1) * 15 * M_PI / 180; break;
    case 3: t.bright = r.between(-0.3, 0.3), t.contrast = r.between(0.7, 1.3); break;
    case 4: t.blank = true, t.centre_y = r.next(), t.centre_x = r.next(); break;
    default: t.flip = r.next() < 0.5 ? -1 : 1;
    }
    return t;
}

/* 0 in the square of half the side around its centre, of keep[h*w] */
static void blank_square(float *keep, int64_t h, int64_t w, const transformation &t)
{
    for (int64_t i = 0; i < h; i++)
        for (int64_t j = 0; j < w; j++)
            if (std::fabs(static_cast<double>(i) / static_cast<double>(h) - t.centre_y) < 0.25 &&
                std::fabs(static_cast<double>(j) / static_cast<double>(w) - t.centre_x) < 0.25)
                keep[i * w + j] = 0;
}

at::Tensor augment(const at::Tensor &x, int64_t groups, uint64_t seed, const augment_rule &rule)
{
    if (rule.how == TAUT_TORCH_AUGMENT_NONE) return x;
    int64_t            n = x.size(0), each = n / groups, h = x.size(2), w = x.size(3);
    random_numbers     r(seed);
    std::vector<float> theta, light, keep(static_cast<size_t>(groups * h * w), 1.0f);
    bool               blanked = false;
    for (int64_t g = 0; g < groups; g++) {
        transformation t = rule.how == TAUT_TORCH_AUGMENT_ONE ? draw_one(r, rule.mirror) : draw_several(r, rule.mirror);
        double         c = std::cos(t.angle), s = std::sin(t.angle);
        for (double v : {t.flip * c * t.scale_x, -s * t.scale_x, t.x, t.flip * s * t.scale_y, c * t.scale_y, t.y})
            theta.push_back(static_cast<float>(v));
        light.push_back(static_cast<float>(t.bright)), light.push_back(static_cast<float>(t.contrast));
        if (t.blank) blank_square(&keep[static_cast<size_t>(g * h * w)], h, w, t);
        blanked = blanked || t.blank;
    }
    at::Tensor grid = at::affine_grid_generator(each_group(theta, {2, 3}, groups, each), {n, x.size(1), h, w}, false);
    at::Tensor y = at::grid_sampler(x, grid, 0, 1 /* border */, false);
    at::Tensor l = each_group(light, {2, 1, 1, 1}, groups, each);
    at::Tensor mean = y.mean({1, 2, 3}, true);
    y = y.sub(mean).mul(l.select(1, 1)).add(mean).add(l.select(1, 0));
    if (blanked) y = y.mul(each_group(keep, {1, h, w}, groups, each));
    return y;
}

} // namespace taut_shim
