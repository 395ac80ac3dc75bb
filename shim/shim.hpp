/* shim.hpp : what the shim's C++ files share. No exception leaves a C function: each body runs inside guarded().
 * Each file includes the operators that it calls: all of ATen/ATen.h takes three times as long to compile. */
#ifndef TAUT_SHIM_HPP
#define TAUT_SHIM_HPP

#include "torch.h"
#include <ATen/core/Tensor.h>
#include <cstdarg>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace taut_shim
{

/* Records what taut_torch_last_error() returns; returns s. */
taut_status fail(taut_status s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
taut_status fail_caught(const std::exception &e); /* first line only: libtorch appends a C++ stack trace */

template <typename F> taut_status guarded(F &&body) noexcept
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return fail(TAUT_E_NOMEM, "out of memory");
    } catch (const std::exception &e) {
        return fail_caught(e);
    } catch (...) {
        return fail(TAUT_E_TORCH, "an exception of unknown type");
    }
}

/* Copies min(size, known) bytes of a config whose first member is its size. */
template <typename T> bool copy_config(T &dst, const T *src)
{
    if (!src || src->size < sizeof src->size) return false;
    std::memcpy(static_cast<void *>(&dst), src, src->size < sizeof dst ? src->size : sizeof dst);
    return true;
}

struct named {
    std::string name;
    at::Tensor  tensor;
};

/* net : a model's mathematics; forward gives logits [rows, classes]. */
struct net {
    std::vector<named> params, buffers;
    virtual ~net() = default;
    virtual at::Tensor forward(const at::Tensor &x) = 0;
    virtual void       training(bool) {}
    virtual void       move(at::Device to) /* all that forward uses; tensors stay the same objects */
    {
        for (named &p : params) p.tensor.set_data(p.tensor.to(to));
        for (named &b : buffers) b.tensor.set_data(b.tensor.to(to));
    }
};

std::unique_ptr<net> make_gpt(const taut_torch_model_config &c);
std::unique_ptr<net> make_mlp(const taut_torch_model_config &c);
std::unique_ptr<net> load_script(const char *path);

} // namespace taut_shim

struct taut_torch_model {
    std::unique_ptr<taut_shim::net>    net;
    at::Device                         device = at::kCPU;
    std::vector<std::shared_ptr<void>> accumulators; /* hold the hooks; one per parameter */
    at::Tensor                         loss;         /* between forward and backward */
    at::Tensor                         hit;          /* of the last forward, where they are kept */
    bool                               keep = false;
    taut_torch_grad_ready              ready = nullptr;
    void                              *user = nullptr;
    taut_status                        ready_status = TAUT_OK; /* of this backward's callbacks */
};

struct taut_torch_optim {
    taut_torch_model       *model;
    taut_torch_optim_config cfg;
    uint64_t                steps = 0;
    std::vector<at::Tensor> m, v; /* one per parameter; v empty for sgd */
    /* What Adam divides by, floored after it has, of parameters for which it was asked; of so many steps, 0: of none. */
    struct denominator {
        at::Tensor s;
        double     floor = 0;
        uint64_t   steps = 0;
    };
    std::vector<denominator> divides; /* as v */
    bool                     adam() const { return !v.empty(); }
};

#endif
