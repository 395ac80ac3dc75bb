/* model_script.cpp : a TorchScript module as a model. */
#include "shim.hpp"
#include <algorithm>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

namespace taut_shim
{
namespace
{

struct script final : net {
    torch::jit::Module module;

    explicit script(torch::jit::Module m) : module(std::move(m))
    {
        bool some = false;
        for (const auto &p : module.named_parameters()) some |= p.value.requires_grad();
        for (const auto &p : module.named_parameters()) {
            std::vector<named> &where = !some || p.value.requires_grad() ? params : buffers;
            bool                known =
                std::any_of(where.begin(), where.end(), [&](const named &n) { return n.tensor.is_same(p.value); });
            if (!known) where.push_back({p.name, p.value});
        }
        for (const auto &b : module.named_buffers()) buffers.push_back({b.name, b.value});
    }
    void       training(bool on) override { module.train(on); }
    void       move(at::Device to) override { module.to(to); }
    at::Tensor forward(const at::Tensor &x) override
    {
        c10::IValue y = module.forward({x});
        if (y.isTuple() && !y.toTuple()->elements().empty()) y = y.toTuple()->elements()[0];
        if (!y.isTensor()) throw std::invalid_argument("the module's forward returns neither a tensor nor a tuple");
        return y.toTensor();
    }
};

} // namespace

std::unique_ptr<net> load_script(const char *path)
{
    return std::unique_ptr<net>(new script(torch::jit::load(path, at::kCPU)));
}

} // namespace taut_shim
