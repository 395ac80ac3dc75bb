/* model_builtin.cpp : the two built-in models, written as functions of their parameters.
 *
 * Initial values (GPT-2's choice, Radford et al. 2019, section 2.3): weights N(0, 0.02^2) at width 768, that is
 * 0.55/sqrt(dim); projections that add to the residual stream divided by sqrt(2*blocks); biases 0, norms 1. */
#include "shim.hpp"
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softmax.h>
#include <cmath>

namespace taut_shim
{
namespace
{

struct builder {
    net          &n;
    at::Generator rng;
    builder(net &target, uint64_t seed) : n(target), rng(at::detail::createCPUGenerator(seed)) {}
    at::Tensor add(const std::string &name, at::Tensor t)
    {
        n.params.push_back({name, t});
        return t;
    }
    at::Tensor normal(const std::string &name, at::IntArrayRef shape, double std)
    {
        return add(name, at::empty(shape, at::kFloat).normal_(0, std, rng));
    }
    at::Tensor fill(const std::string &name, int64_t len, double value)
    {
        return add(name, at::full({len}, value, at::kFloat));
    }
};

struct affine { /* a linear layer or a layer norm */
    at::Tensor w, b;
};

struct block {
    affine l1, l2, qkv, proj, fc, out;
};

struct gpt final : net {
    int64_t            ctx, dim, heads;
    at::Tensor         te, pe, head, mask; /* mask: [ctx,ctx], -inf above the diagonal */
    std::vector<block> blocks;
    affine             ln;

    explicit gpt(const taut_torch_model_config &c) : ctx(c.ctx), dim(c.dim), heads(c.heads)
    {
        builder b(*this, c.seed);
        double  std = 0.55 / std::sqrt(static_cast<double>(dim));
        double  add_std = std / std::sqrt(2.0 * static_cast<double>(c.blocks));
        auto    norm = [&](const std::string &s) {
            return affine{b.fill(s + ".weight", dim, 1), b.fill(s + ".bias", dim, 0)};
        };
        auto linear = [&](const std::string &s, int64_t out, int64_t in, double sd) {
            at::Tensor w = b.normal(s + ".weight", {out, in}, sd);
            return affine{w, b.fill(s + ".bias", out, 0)};
        };
        te = b.normal("te.weight", {c.vocab, dim}, std);
        pe = b.normal("pe.weight", {ctx, dim}, std);
        for (int64_t i = 0; i < c.blocks; i++) {
            std::string s = "b." + std::to_string(i) + ".";
            block       k;
            k.l1 = norm(s + "l1");
            k.l2 = norm(s + "l2");
            k.qkv = linear(s + "qkv", 3 * dim, dim, std);
            k.proj = linear(s + "proj", dim, dim, add_std);
            k.fc = linear(s + "fc", 4 * dim, dim, std);
            k.out = linear(s + "out", dim, 4 * dim, add_std);
            blocks.push_back(k);
        }
        ln = norm("ln");
        head = b.normal("head.weight", {c.vocab, dim}, std);
        mask = at::full({ctx, ctx}, -INFINITY, at::kFloat).triu_(1);
    }

    void move(at::Device to) override
    {
        net::move(to);
        mask = mask.to(to);
    }

    at::Tensor layer_norm(const at::Tensor &x, const affine &a) const { return at::layer_norm(x, {dim}, a.w, a.b); }

    /* Scaled dot-product attention, causal (Vaswani et al. 2017, equation 1). x: [batch, len, dim] */
    at::Tensor attention(const at::Tensor &x, const block &k) const
    {
        int64_t    n = x.size(0), len = x.size(1), hd = dim / heads;
        at::Tensor qkv = at::linear(x, k.qkv.w, k.qkv.b).view({n, len, 3, heads, hd}).permute({2, 0, 3, 1, 4});
        qkv = qkv.contiguous().view({3, n * heads, len, hd});
        at::Tensor bias = mask.narrow(0, 0, len).narrow(1, 0, len).unsqueeze(0);
        at::Tensor score = at::baddbmm(bias, qkv[0], qkv[1].transpose(1, 2), 1, 1 / std::sqrt(static_cast<double>(hd)));
        at::Tensor y = at::bmm(at::softmax(score, -1), qkv[2]);
        y = y.view({n, heads, len, hd}).transpose(1, 2).reshape({n, len, dim});
        return at::linear(y, k.proj.w, k.proj.b);
    }

    at::Tensor forward(const at::Tensor &tokens) override
    {
        if (tokens.scalar_type() != at::kLong || tokens.dim() != 2 || tokens.size(1) > ctx)
            throw std::invalid_argument(
                "gpt: the batch must be tokens of shape {batch, length <= " + std::to_string(ctx) + "}");
        at::Tensor x = at::embedding(te, tokens).add(pe.narrow(0, 0, tokens.size(1)));
        for (const block &k : blocks) {
            x = x.add(attention(layer_norm(x, k.l1), k));
            x = x.add(at::linear(at::gelu(at::linear(layer_norm(x, k.l2), k.fc.w, k.fc.b)), k.out.w, k.out.b));
        }
        return at::linear(layer_norm(x, ln), head);
    }
};

struct mlp final : net {
    int64_t             inputs;
    std::vector<affine> layers;

    /* He initialisation for ReLU (He et al. 2015, equation 10): variance 2/fan-in */
    explicit mlp(const taut_torch_model_config &c) : inputs(c.inputs)
    {
        builder b(*this, c.seed);
        int64_t in = c.inputs;
        for (int64_t i = 0; i <= c.blocks; i++) {
            int64_t     out = i < c.blocks ? c.dim : c.classes;
            std::string s = "fc" + std::to_string(i + 1);
            at::Tensor  w = b.normal(s + ".weight", {out, in}, std::sqrt(2.0 / static_cast<double>(in)));
            layers.push_back({w, b.fill(s + ".bias", out, 0)});
            in = out;
        }
    }

    at::Tensor forward(const at::Tensor &values) override
    {
        if (values.scalar_type() != at::kFloat || values.numel() != values.size(0) * inputs)
            throw std::invalid_argument("mlp: the batch must be " + std::to_string(inputs) + " values a sample");
        at::Tensor x = values.reshape({values.size(0), inputs});
        for (size_t i = 0; i < layers.size(); i++) {
            x = at::linear(x, layers[i].w, layers[i].b);
            if (i + 1 < layers.size()) x = at::relu(x);
        }
        return x;
    }
};

} // namespace

std::unique_ptr<net> make_gpt(const taut_torch_model_config &c) { return std::unique_ptr<net>(new gpt(c)); }
std::unique_ptr<net> make_mlp(const taut_torch_model_config &c) { return std::unique_ptr<net>(new mlp(c)); }

} // namespace taut_shim
