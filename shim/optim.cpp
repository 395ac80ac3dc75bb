/* optim.cpp : SGD, Adam and AdamW over a model's parameters. Written out in tensor operations instead of taken from
 * torch::optim, whose state has no stable way in: its keys changed between 1.13 and 2.x. */
#include "shim.hpp"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros_like.h>
#include <cmath>

using namespace taut_shim;

namespace
{

taut_status settle(taut_torch_optim_config &c)
{
    bool sgd = std::strcmp(c.kind, "sgd") == 0;
    if (!sgd && std::strcmp(c.kind, "adam") != 0 && std::strcmp(c.kind, "adamw") != 0)
        return fail(TAUT_E_INVALID, "kind='%s': must be sgd, adam or adamw", c.kind);
    if (c.lr == 0) c.lr = sgd ? 0.1 : 1e-3;
    if (c.beta1 == 0) c.beta1 = 0.9;
    if (c.beta2 == 0) c.beta2 = 0.999;
    if (c.eps == 0) c.eps = 1e-8;
    if (c.beta1 < 0) c.beta1 = 0;
    if (c.beta2 < 0) c.beta2 = 0;
    if (!(c.lr > 0) || !std::isfinite(c.lr)) return fail(TAUT_E_RANGE, "lr=%g: must be above 0", c.lr);
    if (!(c.momentum >= 0 && c.momentum < 1)) return fail(TAUT_E_RANGE, "momentum=%g: must be in [0,1)", c.momentum);
    if (!(c.beta1 < 1)) return fail(TAUT_E_RANGE, "beta1=%g: must be below 1", c.beta1);
    if (!(c.beta2 < 1)) return fail(TAUT_E_RANGE, "beta2=%g: must be below 1", c.beta2);
    if (!(c.eps > 0)) return fail(TAUT_E_RANGE, "eps=%g: must be above 0", c.eps);
    if (!(c.weight_decay >= 0)) return fail(TAUT_E_RANGE, "weight_decay=%g: must not be negative", c.weight_decay);
    return TAUT_OK;
}

void step_sgd(taut_torch_optim &o, at::Tensor &p, at::Tensor &m)
{
    const auto &c = o.cfg;
    at::Tensor  g = p.grad();
    if (c.weight_decay > 0) g = g.add(p, c.weight_decay);
    if (c.momentum > 0) g = m.mul_(c.momentum).add_(g);
    p.sub_(g, c.lr);
}

/* out = sqrt(v / fix) + eps; out may be v. */
void denominators(at::Tensor &out, const at::Tensor &v, double fix, double eps)
{
    at::sqrt_out(out, v).mul_(1 / std::sqrt(fix)).add_(eps);
}

/* What no s is to be smaller than, one number where v lies: that of a v of floor^2 times the mean. Square roots, products and sums are
 * rounded monotonously, so the larger of two s is the s of the larger v, to the last bit. */
at::Tensor least_of(const at::Tensor &v, double floor, double fix, double eps)
{
    at::Tensor least = v.mean().mul_(floor * floor);
    denominators(least, least, fix, eps);
    return least;
}

void step_adam(taut_torch_optim &o, at::Tensor &p, at::Tensor &m, at::Tensor &v, taut_torch_optim::denominator &d)
{
    const auto &c = o.cfg;
    double      t = static_cast<double>(o.steps), fix1 = 1 - std::pow(c.beta1, t), fix2 = 1 - std::pow(c.beta2, t);
    at::Tensor  g = p.grad();
    if (c.weight_decay > 0) {
        if (std::strcmp(c.kind, "adamw") == 0) p.mul_(1 - c.lr * c.weight_decay);
        else g = g.add(p, c.weight_decay);
    }
    m.mul_(c.beta1).add_(g, 1 - c.beta1);
    v.mul_(c.beta2).addcmul_(g, g, 1 - c.beta2);
    at::Tensor s = d.s.defined() ? d.s : at::empty_like(v);
    denominators(s, v, fix2, c.eps);
    p.addcdiv_(m, s, -c.lr / fix1);
    if (!d.s.defined()) return;
    at::maximum_out(s, s, least_of(v, d.floor, fix2, c.eps));
    d.steps = o.steps;
}

} // namespace

extern "C" taut_status taut_torch_optim_create(taut_torch_model *model, const taut_torch_optim_config *cfg,
                                               taut_torch_optim **optim)
{
    taut_torch_optim_config c = TAUT_TORCH_OPTIM_CONFIG_INIT;
    if (!model || !optim) return fail(TAUT_E_INVALID, "model or optim is NULL");
    *optim = nullptr;
    if (!copy_config(c, cfg))
        return fail(TAUT_E_INVALID, "config: size is not set: begin with TAUT_TORCH_OPTIM_CONFIG_INIT");
    if (!c.kind) c.kind = "adam";
    if (taut_status s = settle(c)) return s;
    c.kind = std::strcmp(c.kind, "sgd") == 0 ? "sgd" : std::strcmp(c.kind, "adam") == 0 ? "adam" : "adamw";
    return guarded([&] {
        std::unique_ptr<taut_torch_optim> o(new taut_torch_optim);
        o->model = model;
        o->cfg = c;
        for (const named &p : model->net->params) {
            o->m.push_back(at::zeros_like(p.tensor).set_requires_grad(false));
            if (std::strcmp(c.kind, "sgd") != 0) o->v.push_back(at::zeros_like(p.tensor).set_requires_grad(false));
        }
        o->divides.resize(o->v.size());
        *optim = o.release();
        return TAUT_OK;
    });
}

extern "C" void taut_torch_optim_destroy(taut_torch_optim *optim) { delete optim; }

extern "C" taut_status taut_torch_optim_step(taut_torch_optim *optim)
{
    if (!optim) return fail(TAUT_E_INVALID, "optim is NULL");
    return guarded([&] {
        at::NoGradGuard no_grad;
        optim->steps++;
        for (size_t i = 0; i < optim->m.size(); i++) {
            at::Tensor &p = optim->model->net->params[i].tensor;
            if (optim->adam()) step_adam(*optim, p, optim->m[i], optim->v[i], optim->divides[i]);
            else step_sgd(*optim, p, optim->m[i]);
        }
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_optim_set_lr(taut_torch_optim *optim, double lr)
{
    if (!optim) return fail(TAUT_E_INVALID, "optim is NULL");
    if (!(lr > 0) || !std::isfinite(lr)) return fail(TAUT_E_RANGE, "lr=%g: must be above 0", lr);
    optim->cfg.lr = lr;
    return TAUT_OK;
}

extern "C" uint64_t taut_torch_optim_steps(const taut_torch_optim *optim) { return optim ? optim->steps : 0; }

extern "C" taut_status taut_torch_clip(taut_torch_model *model, double max_norm, double *norm)
{
    if (norm) *norm = 0;
    if (!model) return fail(TAUT_E_INVALID, "model is NULL");
    if (!(max_norm > 0)) return fail(TAUT_E_RANGE, "max_norm=%g: must be above 0", max_norm);
    return guarded([&] {
        at::NoGradGuard no_grad;
        double          sum = 0;
        for (const named &p : model->net->params) {
            double n = p.tensor.grad().norm().item<float>();
            sum += n * n;
        }
        double total = std::sqrt(sum);
        if (norm) *norm = total;
        if (std::isfinite(total) && total > max_norm)
            for (const named &p : model->net->params) p.tensor.grad().mul_(max_norm / total);
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_optim_state(taut_torch_optim *optim, size_t param, const char *which, float **state)
{
    if (state) *state = nullptr;
    if (!optim || !which || !state) return fail(TAUT_E_INVALID, "optim, which or state is NULL");
    if (param >= optim->m.size()) return fail(TAUT_E_RANGE, "parameter %zu: must be below %zu", param, optim->m.size());
    if (std::strcmp(which, "m") != 0 && std::strcmp(which, "v") != 0)
        return fail(TAUT_E_INVALID, "which='%s': must be m or v", which);
    if (*which == 'v' && !optim->adam()) return fail(TAUT_E_UNSUPPORTED, "sgd has no second moment");
    *state = static_cast<float *>((*which == 'm' ? optim->m : optim->v)[param].data_ptr());
    return TAUT_OK;
}

extern "C" taut_status taut_torch_copy_param(taut_torch_model *model, taut_torch_optim *optim, size_t i,
                                             const char *which, float *host, int to_host)
{
    if (!model || !which || !host) return fail(TAUT_E_INVALID, "model, which or host is NULL");
    if (i >= model->net->params.size())
        return fail(TAUT_E_RANGE, "parameter %zu: must be below %zu", i, model->net->params.size());
    bool state = std::strcmp(which, "m") == 0 || std::strcmp(which, "v") == 0;
    if (!state && std::strcmp(which, "data") != 0 && std::strcmp(which, "grad") != 0)
        return fail(TAUT_E_INVALID, "which='%s': must be data, grad, m or v", which);
    if (state && !optim) return fail(TAUT_E_INVALID, "which='%s': optim is NULL", which);
    if (*which == 'v' && !optim->adam()) return fail(TAUT_E_UNSUPPORTED, "sgd has no second moment");
    return guarded([&] {
        at::NoGradGuard no_grad;
        at::Tensor     &p = model->net->params[i].tensor;
        at::Tensor      t = *which == 'm'   ? optim->m[i]
                            : *which == 'v' ? optim->v[i]
                            : *which == 'g' ? p.grad()
                                            : p.detach();
        at::Tensor      here = at::from_blob(host, t.sizes(), at::kFloat);
        if (to_host) here.copy_(t);
        else t.copy_(here);
        if (!to_host && *which == 'v') optim->divides[i].steps = 0; /* of another v */
        return TAUT_OK;
    });
}

namespace
{

taut_status may_scale(const taut_torch_optim *optim, size_t param, double floor)
{
    if (!optim->adam()) return fail(TAUT_E_UNSUPPORTED, "sgd has no second moment to scale by");
    if (optim->steps == 0) return fail(TAUT_E_STATE, "no second moment before the first step");
    if (param >= optim->v.size()) return fail(TAUT_E_RANGE, "parameter %zu: must be below %zu", param, optim->v.size());
    if (!(floor >= 0 && floor <= 1)) return fail(TAUT_E_RANGE, "floor=%g: must be 0..1", floor);
    return TAUT_OK;
}

double fix_of(const taut_torch_optim *o) { return 1 - std::pow(o->cfg.beta2, static_cast<double>(o->steps)); }

} // namespace

extern "C" taut_status taut_torch_optim_scale(const taut_torch_optim *optim, size_t param, double floor, float *s,
                                              size_t n)
{
    if (!optim || !s) return fail(TAUT_E_INVALID, "optim or s is NULL");
    if (taut_status status = may_scale(optim, param, floor)) return status;
    return guarded([&] {
        const at::Tensor v = optim->v[param].cpu(); /* itself, where it lies there */
        size_t           elems = static_cast<size_t>(v.numel()), rows = v.dim() ? static_cast<size_t>(v.size(0)) : 1;
        if (n != 1 && n != rows && n != elems)
            return fail(TAUT_E_INVALID, "n=%zu: must be 1, %zu (rows) or %zu (elements)", n, rows, elems);
        at::NoGradGuard no_grad;
        double          fix = fix_of(optim), eps = optim->cfg.eps;
        at::Tensor      out = at::from_blob(s, {static_cast<int64_t>(n)}, at::kFloat);
        int64_t         run = static_cast<int64_t>(elems / n); /* elements behind one value of s */
        if (run == 1) out.copy_(v.reshape({-1}));
        else out.copy_(v.reshape({static_cast<int64_t>(n), run}).mean(1));
        denominators(out, out, fix, eps);
        at::maximum_out(out, out, least_of(optim->v[param], floor, fix, eps).cpu()); /* the device's own mean */
        return TAUT_OK;
    });
}

extern "C" taut_status taut_torch_optim_denominator(taut_torch_optim *optim, size_t param, double floor,
                                                    const float **s)
{
    if (s) *s = nullptr;
    if (!optim || !s) return fail(TAUT_E_INVALID, "optim or s is NULL");
    if (taut_status status = may_scale(optim, param, floor)) return status;
    return guarded([&] {
        at::NoGradGuard                no_grad;
        taut_torch_optim::denominator &d = optim->divides[param];
        const at::Tensor              &v = optim->v[param];
        if (!d.s.defined()) d.s = at::empty_like(v);
        if (d.steps != optim->steps || d.floor != floor) {
            denominators(d.s, v, fix_of(optim), optim->cfg.eps);
            at::maximum_out(d.s, d.s, least_of(v, floor, fix_of(optim), optim->cfg.eps));
            d.floor = floor, d.steps = optim->steps;
        }
        *s = static_cast<const float *>(d.s.data_ptr());
        return TAUT_OK;
    });
}
