/* judge.cpp : a small network as teacher or judge; see distill.h. */
#include "images.hpp"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

using namespace taut_shim;

struct taut_torch_judge {
    std::unique_ptr<convnet> net;
    double                   mean, deviation;
};

namespace
{

/* A batch without repetition where that is possible: a shuffled order, gone through again and again. */
struct order {
    std::vector<int64_t> at;
    size_t               next;
    random_numbers       random;
    order(size_t n, uint64_t seed) : at(n), next(n), random(seed)
    {
        for (size_t i = 0; i < n; i++) at[i] = static_cast<int64_t>(i);
    }
    std::vector<int64_t> take(size_t n)
    {
        std::vector<int64_t> out;
        for (; out.size() < n; out.push_back(at[next++]))
            if (next == at.size()) {
                for (size_t i = at.size(); i > 1; i--) std::swap(at[i - 1], at[random.below(i)]);
                next = 0;
            }
        return out;
    }
};

at::Tensor loss_of(const at::Tensor &logits, const taut_torch_images &t, const std::vector<int64_t> &which)
{
    int64_t            n = static_cast<int64_t>(which.size());
    std::vector<float> soft; /* and the labels below: autograd keeps its inputs for backward, so it gets copies */
    if (t.soft) {            /* cross-entropy with the teacher's probabilities */
        for (int64_t i : which) soft.insert(soft.end(), t.soft + i * t.classes, t.soft + (i + 1) * t.classes);
        return at::log_softmax(logits, 1)
            .mul(at::from_blob(soft.data(), {n, t.classes}, at::kFloat).clone())
            .sum()
            .div(-static_cast<double>(n));
    }
    std::vector<int64_t> label;
    for (int64_t i : which) label.push_back(t.labels[i]);
    return at::nll_loss(at::log_softmax(logits, 1), at::from_blob(label.data(), {n}, at::kLong).clone());
}

double rate_at(const taut_torch_judge_config &c, int64_t step)
{
    double rate = c.lr * (step < c.steps / 2 ? 1 : step < c.steps * 3 / 4 ? 0.1 : 0.01);
    return step < 20 ? rate * static_cast<double>(step + 1) / 20 : rate;
}

taut_status train(const taut_torch_judge_config &c, const taut_torch_images &t, convnet &net, const image_set &set)
{
    std::vector<at::Tensor> momentum;
    order                   samples(t.n, c.seed);
    for (named &p : net.params) {
        p.tensor.set_requires_grad(true);
        momentum.push_back(at::zeros_like(p.tensor).set_requires_grad(false));
    }
    for (int64_t step = 0; step < c.steps; step++) {
        std::vector<int64_t> which = samples.take(std::min(static_cast<size_t>(c.batch), t.n));
        at::Tensor           x =
            augment(scaled(set.take(which), net.shape.height, net.shape.width), static_cast<int64_t>(which.size()),
                    c.seed * 7919u + static_cast<uint64_t>(step), {c.augment, c.mirror != 0});
        for (named &p : net.params) p.tensor.mutable_grad() = at::Tensor();
        at::Tensor loss = loss_of(net.forward(x), t, which);
        loss.backward();
        at::NoGradGuard no_grad;
        for (size_t i = 0; i < momentum.size(); i++) {
            at::Tensor &p = net.params[i].tensor;
            momentum[i].mul_(0.9).add_(p.grad().add(p, 5e-4));
            p.sub_(momentum[i], rate_at(c, step));
        }
        if (c.progress && c.progress(c.ctx, step + 1, c.steps, loss.item<float>()))
            return fail(TAUT_E_STATE, "stopped");
    }
    return TAUT_OK;
}

} // namespace

extern "C" taut_status taut_torch_judge_train(const taut_torch_judge_config *cfg, const taut_torch_images *images,
                                              taut_torch_judge **judge)
{
    taut_torch_judge_config c = TAUT_TORCH_JUDGE_INIT;
    if (!judge) return fail(TAUT_E_INVALID, "judge is NULL");
    *judge = nullptr;
    if (!copy_config(c, cfg)) return fail(TAUT_E_INVALID, "config: size is not set: begin with TAUT_TORCH_JUDGE_INIT");
    if (!c.filters) c.filters = 64;
    if (!c.steps) c.steps = 600;
    if (!c.batch) c.batch = 128;
    if (c.lr == 0) c.lr = 0.02;
    if (c.filters < 1 || c.steps < 1 || c.batch < 1 || !(c.lr > 0))
        return fail(TAUT_E_RANGE, "filters=%lld, steps=%lld, batch=%lld, lr=%g: must be above 0",
                    static_cast<long long>(c.filters), static_cast<long long>(c.steps), static_cast<long long>(c.batch),
                    c.lr);
    if (taut_status s = settle_augment(c.augment, c.mirror != 0)) return s;
    if (taut_status s = check_images(images, true)) return s;
    return guarded([&] {
        std::unique_ptr<taut_torch_judge> j(new taut_torch_judge);
        image_set                         set(*images);
        if (c.height) set.shape.height = c.height;
        if (c.width) set.shape.width = c.width;
        set.shape.filters = c.filters;
        set.shape.stride = true;
        j->net.reset(new convnet(set.shape, c.seed));
        j->mean = set.mean, j->deviation = set.deviation;
        if (taut_status s = train(c, *images, *j->net, set)) return s;
        *judge = j.release();
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_judge_ask(taut_torch_judge *judge, const taut_torch_images *images,
                                            double temperature, float *probability, int64_t *hits)
{
    constexpr size_t CHUNK = 250;
    if (!judge || !(temperature > 0))
        return fail(TAUT_E_INVALID, "judge is NULL, or temperature=%g: must be above 0", temperature);
    if (hits) *hits = 0;
    if (taut_status s = check_images(images, hits != nullptr)) return s;
    if (probability && images->classes != judge->net->shape.classes)
        return fail(TAUT_E_MISMATCH, "images of %lld classes: the judge was trained on %lld",
                    static_cast<long long>(images->classes), static_cast<long long>(judge->net->shape.classes));
    return guarded([&] {
        at::NoGradGuard   no_grad;
        taut_torch_images t = *images;
        t.mean = judge->mean, t.deviation = judge->deviation;
        image_set set(t);
        for (size_t first = 0; first < t.n; first += CHUNK) {
            size_t     n = std::min(CHUNK, t.n - first);
            at::Tensor logits =
                judge->net->forward(scaled(set.range(first, n), judge->net->shape.height, judge->net->shape.width));
            if (hits)
                *hits += logits.argmax(1)
                             .eq(at::from_blob(const_cast<int64_t *>(t.labels + first), {static_cast<int64_t>(n)},
                                               at::kLong))
                             .sum()
                             .item<int64_t>();
            if (!probability) continue;
            at::Tensor p = at::softmax(logits.div(temperature), 1).contiguous();
            std::memcpy(probability + first * static_cast<size_t>(t.classes), p.data_ptr(),
                        n * static_cast<size_t>(t.classes) * sizeof(float));
        }
        return TAUT_OK;
    });
}

extern "C" void taut_torch_judge_destroy(taut_torch_judge *judge) { delete judge; }
