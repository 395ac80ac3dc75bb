/* model.cpp : the C functions of a model: create, parameters, forward, backward, hooks.
 *
 * Gradients keep their addresses because every parameter owns a zeroed .grad before the first backward: AccumulateGrad
 * then adds in place instead of adopting a new tensor. Its post hook is the first moment at which .grad is final (a
 * tensor hook runs before the addition), so that is where the caller hears of it. */
#include "shim.hpp"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/zeros_like.h>
#include <cstddef>
#include <cstdlib>
#include <torch/cuda.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

using namespace taut_shim;
using torch::autograd::variable_list;

namespace
{

struct grad_hook final : torch::autograd::FunctionPostHook {
    taut_torch_model *model;
    size_t            param;
    grad_hook(taut_torch_model *m, size_t p) : model(m), param(p) {}
    variable_list operator()(const variable_list &outputs, const variable_list &) override
    {
        if (model->ready && model->ready_status == TAUT_OK) model->ready_status = model->ready(model->user, param);
        return outputs;
    }
};

void prepare_params(taut_torch_model &m)
{
    for (size_t i = 0; i < m.net->params.size(); i++) {
        named &p = m.net->params[i];
        if (p.tensor.scalar_type() != at::kFloat || p.tensor.device() != m.device)
            throw std::invalid_argument("parameter " + p.name + " is not float32 on " + m.device.str());
        if (p.tensor.dim() > 8) throw std::invalid_argument("parameter " + p.name + " has more than 8 dimensions");
        if (!p.tensor.is_contiguous()) p.tensor.set_data(p.tensor.contiguous());
        p.tensor.set_requires_grad(true);
        p.tensor.mutable_grad() = at::zeros_like(p.tensor);
        auto acc = torch::autograd::impl::grad_accumulator(p.tensor);
        acc->add_post_hook(std::unique_ptr<torch::autograd::FunctionPostHook>(new grad_hook(&m, i)));
        /* a std::shared_ptr up to libtorch 2.14, an intrusive one since */
        m.accumulators.push_back(std::make_shared<decltype(acc)>(std::move(acc)));
    }
}

taut_status check_batch(const taut_torch_batch *b)
{
    int64_t n = 1;
    if (!b || b->size < sizeof *b)
        return fail(TAUT_E_INVALID, "batch: size is not set: begin with TAUT_TORCH_BATCH_INIT");
    if (!b->tokens == !b->values) return fail(TAUT_E_INVALID, "batch: give tokens or values, one of them");
    if (!b->targets || b->n_targets == 0)
        return fail(TAUT_E_INVALID, "batch: %zu targets: must be at least 1", b->targets ? b->n_targets : 0);
    if (b->ndim < 1 || b->ndim > 8) return fail(TAUT_E_RANGE, "batch: ndim=%d: must be 1..8", b->ndim);
    for (int i = 0; i < b->ndim; i++)
        if (b->shape[i] < 1 || __builtin_mul_overflow(n, b->shape[i], &n))
            return fail(TAUT_E_RANGE, "batch: shape[%d]=%lld: must be at least 1", i,
                        static_cast<long long>(b->shape[i]));
    return TAUT_OK;
}

/* The caller's memory as a tensor: a copy where autograd may keep it for backward, since the caller's is good for this call only. from_blob
 * wants a pointer to non-const. */
at::Tensor borrow(const void *p, at::IntArrayRef shape, at::ScalarType type)
{
    at::Tensor there = at::from_blob(const_cast<void *>(p), shape, at::TensorOptions().dtype(type));
    return at::GradMode::is_enabled() ? there.clone() : there;
}

struct result {
    at::Tensor loss, logits, targets;
};

result run(taut_torch_model &m, const taut_torch_batch &b)
{
    at::IntArrayRef shape(b.shape, static_cast<size_t>(b.ndim));
    at::Tensor      x = b.tokens ? borrow(b.tokens, shape, at::kLong) : borrow(b.values, shape, at::kFloat);
    at::Tensor      y = borrow(b.targets, {static_cast<int64_t>(b.n_targets)}, at::kLong).to(m.device);
    at::Tensor      logits = m.net->forward(x.to(m.device));
    if (logits.dim() < 2) throw std::invalid_argument("the model's output has fewer than 2 dimensions: not logits");
    logits = logits.reshape({-1, logits.size(-1)});
    if (logits.size(0) != y.size(0))
        throw std::invalid_argument("the model gives " + std::to_string(logits.size(0)) + " rows of logits for " +
                                    std::to_string(y.size(0)) + " targets");
    if (!b.weights && !b.soft) return {at::nll_loss(at::log_softmax(logits, 1), y), logits, y};
    auto       there = [&](const float *p, at::IntArrayRef as) { return borrow(p, as, at::kFloat).to(m.device); };
    at::Tensor losses = b.soft ? at::log_softmax(logits, 1).mul(there(b.soft, logits.sizes())).sum(1).neg()
                               : at::nll_loss(at::log_softmax(logits, 1), y, {}, at::Reduction::None);
    if (!b.weights) return {losses.mean(), logits, y};
    return {losses.mul(there(b.weights, {y.size(0)})).mean(), logits, y};
}

taut_status backward(taut_torch_model *m, bool zero)
{
    if (!m) return fail(TAUT_E_INVALID, "model is NULL");
    if (!m->loss.defined()) return fail(TAUT_E_STATE, "backward without a forward before it");
    return guarded([&] {
        at::Tensor loss = std::move(m->loss);
        m->loss = at::Tensor();
        m->ready_status = TAUT_OK;
        if (zero)
            for (const named &p : m->net->params) p.tensor.grad().zero_();
        loss.backward();
        if (m->ready_status != TAUT_OK)
            return fail(m->ready_status, "the gradient callback returned %s", taut_status_name(m->ready_status));
        return TAUT_OK;
    });
}

taut_status in_range(const char *what, int64_t v, int64_t lo, int64_t hi)
{
    if (v >= lo && v <= hi) return TAUT_OK;
    return fail(TAUT_E_RANGE, "%s=%lld: must be %lld..%lld", what, static_cast<long long>(v),
                static_cast<long long>(lo), static_cast<long long>(hi));
}

/* Fills the defaults in and checks what the kind needs. */
taut_status settle(taut_torch_model_config &c)
{
    taut_status s = TAUT_OK;
    bool        gpt = std::strcmp(c.kind, "gpt") == 0;
    if (!c.ctx) c.ctx = 64;
    if (!c.dim) c.dim = gpt ? 128 : 256;
    if (!c.blocks) c.blocks = gpt ? 4 : 2;
    if (!c.heads) c.heads = 4;
    if ((s = in_range("dim", c.dim, 1, 65536)) || (s = in_range("blocks", c.blocks, 1, 1024))) return s;
    if (gpt) {
        if ((s = in_range("vocab", c.vocab, 2, 1048576)) || (s = in_range("ctx", c.ctx, 1, 65536))) return s;
        if ((s = in_range("heads", c.heads, 1, c.dim))) return s;
        if (c.dim % c.heads)
            return fail(TAUT_E_RANGE, "heads=%lld: must divide dim=%lld", static_cast<long long>(c.heads),
                        static_cast<long long>(c.dim));
        return TAUT_OK;
    }
    if ((s = in_range("inputs", c.inputs, 1, int64_t(1) << 40))) return s;
    return in_range("classes", c.classes, 2, 1048576);
}

/* "cpu", "cuda", "cuda:N": nothing else, whatever libtorch knows. */
taut_status parse_device(const char *text, at::Device &device)
{
    long n = 0;
    if (!text || std::strcmp(text, "cpu") == 0) return TAUT_OK;
    bool  numbered = std::strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9';
    char *end = nullptr;
    if (numbered) n = std::strtol(text + 5, &end, 10);
    if (std::strcmp(text, "cuda") != 0 && !(numbered && *end == 0))
        return fail(TAUT_E_INVALID, "device='%s': must be cpu, cuda or cuda:N", text);
    if (!torch::cuda::is_available())
        return fail(TAUT_E_UNSUPPORTED, "device='%s': this libtorch sees no CUDA device; use cpu", text);
    long there = static_cast<long>(torch::cuda::device_count()); /* a size_t up to some libtorch, an int since */
    if (n >= there) return fail(TAUT_E_UNSUPPORTED, "device='%s': must be below cuda:%ld", text, there);
    device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(n));
    return TAUT_OK;
}

} // namespace

extern "C" taut_status taut_torch_model_create(const taut_torch_model_config *cfg, taut_torch_model **model)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    if (!model) return fail(TAUT_E_INVALID, "model is NULL");
    *model = nullptr;
    if (!copy_config(c, cfg))
        return fail(TAUT_E_INVALID, "config: size is not set: begin with TAUT_TORCH_MODEL_CONFIG_INIT");
    std::string kind = c.kind ? c.kind : "";
    if (kind != "gpt" && kind != "mlp" && kind != "script")
        return fail(TAUT_E_INVALID, "kind='%s': must be gpt, mlp or script", kind.c_str());
    if (kind == "script" && (!c.script || !*c.script)) return fail(TAUT_E_INVALID, "kind=script: no file is named");
    if (kind != "script")
        if (taut_status s = settle(c)) return s;
    return guarded([&] {
        std::unique_ptr<taut_torch_model> m(new taut_torch_model);
        if (taut_status s = parse_device(c.device, m->device)) return s;
        m->net = kind == "gpt" ? make_gpt(c) : kind == "mlp" ? make_mlp(c) : load_script(c.script);
        if (m->net->params.empty()) return fail(TAUT_E_INVALID, "the model has no parameters");
        if (!m->device.is_cpu()) m->net->move(m->device);
        prepare_params(*m);
        *model = m.release();
        return TAUT_OK;
    });
}

extern "C" void taut_torch_model_destroy(taut_torch_model *model) { delete model; }

extern "C" size_t taut_torch_model_params(const taut_torch_model *model)
{
    return model ? model->net->params.size() : 0;
}

extern "C" taut_status taut_torch_model_param(const taut_torch_model *model, size_t i, taut_torch_param *param)
{
    if (!model || !param || param->size < offsetof(taut_torch_param, device))
        return fail(TAUT_E_INVALID,
                    "model or param is NULL, or param->size is not set: set it to sizeof(taut_torch_param)");
    if (i >= model->net->params.size())
        return fail(TAUT_E_RANGE, "parameter %zu: must be below %zu", i, model->net->params.size());
    const named &p = model->net->params[i];
    param->name = p.name.c_str();
    param->ndim = static_cast<int>(p.tensor.dim());
    for (int d = 0; d < param->ndim; d++) param->shape[d] = static_cast<size_t>(p.tensor.size(d));
    param->elements = static_cast<size_t>(p.tensor.numel());
    param->data = static_cast<float *>(p.tensor.data_ptr());
    param->grad = static_cast<float *>(p.tensor.grad().data_ptr());
    if (param->size >= sizeof *param) param->device = model->device.is_cpu() ? -1 : model->device.index();
    return TAUT_OK;
}

extern "C" taut_status taut_torch_model_on_grad(taut_torch_model *model, taut_torch_grad_ready ready, void *user)
{
    if (!model) return fail(TAUT_E_INVALID, "model is NULL");
    model->ready = ready;
    model->user = user;
    return TAUT_OK;
}

extern "C" taut_status taut_torch_forward(taut_torch_model *model, const taut_torch_batch *batch, double *loss)
{
    if (!model || !loss) return fail(TAUT_E_INVALID, "model or loss is NULL");
    *loss = 0;
    if (taut_status s = check_batch(batch)) return s;
    return guarded([&] {
        model->loss = at::Tensor();
        model->net->training(true);
        result r = run(*model, *batch);
        model->loss = r.loss;
        if (model->keep) model->hit = r.logits.detach().argmax(1).eq(r.targets).to(at::kByte);
        *loss = model->loss.item<float>();
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_backward(taut_torch_model *model) { return backward(model, true); }
extern "C" taut_status taut_torch_accumulate(taut_torch_model *model) { return backward(model, false); }

extern "C" taut_status taut_torch_evaluate(taut_torch_model *model, const taut_torch_batch *batch, double *loss,
                                           int64_t *hits)
{
    if (!model || !loss || !hits) return fail(TAUT_E_INVALID, "model, loss or hits is NULL");
    *loss = 0;
    *hits = 0;
    if (taut_status s = check_batch(batch)) return s;
    return guarded([&] {
        at::NoGradGuard no_grad;
        model->net->training(false);
        result r = run(*model, *batch);
        *loss = r.loss.item<float>();
        *hits = r.logits.argmax(1).eq(r.targets).sum().item<int64_t>();
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_rows(taut_torch_model *model, const taut_torch_batch *batch, float *loss, float *el2n,
                                       uint8_t *hit)
{
    if (!model) return fail(TAUT_E_INVALID, "model is NULL");
    if (taut_status s = check_batch(batch)) return s;
    return guarded([&] {
        at::NoGradGuard no_grad;
        model->net->training(false);
        result     r = run(*model, *batch);
        size_t     n = static_cast<size_t>(r.targets.size(0));
        at::Tensor p = at::log_softmax(r.logits, 1), at_target = r.targets.unsqueeze(1);
        if (loss) std::memcpy(loss, p.gather(1, at_target).neg().contiguous().cpu().data_ptr(), n * sizeof *loss);
        p = p.exp();
        if (el2n) { /* |p|^2 - 2 p_y + 1 */
            at::Tensor square =
                p.pow(2).sum(1).sub(p.gather(1, at_target).squeeze(1), 2).add(1).clamp_min(0).sqrt().contiguous().cpu();
            std::memcpy(el2n, square.data_ptr(), n * sizeof *el2n);
        }
        if (hit) std::memcpy(hit, r.logits.argmax(1).eq(r.targets).to(at::kByte).contiguous().cpu().data_ptr(), n);
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_keep(taut_torch_model *model, int keep)
{
    if (!model) return fail(TAUT_E_INVALID, "model is NULL");
    model->keep = keep != 0;
    model->hit = at::Tensor();
    return TAUT_OK;
}

extern "C" taut_status taut_torch_hits(taut_torch_model *model, uint8_t *hit)
{
    if (!model || !hit) return fail(TAUT_E_INVALID, "model or hit is NULL");
    if (!model->hit.defined()) return fail(TAUT_E_STATE, "no hits were kept: taut_torch_keep(model, 1), then forward");
    return guarded([&] {
        std::memcpy(hit, model->hit.cpu().data_ptr(), static_cast<size_t>(model->hit.numel()));
        return TAUT_OK;
    });
}
