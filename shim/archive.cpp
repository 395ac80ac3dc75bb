/* archive.cpp : save and load. Keys: "param.<name>", "buffer.<name>", "m.<name>", "v.<name>" with dots written as
 * '/', since the archive takes dots for submodules; "optim" (kind), "steps", "note". */
#include "shim.hpp"
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <torch/serialize/archive.h>
#include <unistd.h>

using namespace taut_shim;

namespace
{

std::string key(const char *what, const std::string &name)
{
    std::string k = std::string(what) + "/" + name;
    std::replace(k.begin(), k.end(), '.', '/');
    return k;
}

/* (key, tensor) of everything that a checkpoint holds. */
std::vector<named> contents(const taut_torch_model *m, const taut_torch_optim *o)
{
    std::vector<named> all;
    for (const named &p : m->net->params) all.push_back({key("param", p.name), p.tensor.detach()});
    for (const named &b : m->net->buffers) all.push_back({key("buffer", b.name), b.tensor});
    for (size_t i = 0; o && i < o->m.size(); i++) {
        const std::string &name = m->net->params[i].name;
        all.push_back({key("m", name), o->m[i]});
        if (o->adam()) all.push_back({key("v", name), o->v[i]});
    }
    return all;
}

std::string shape_text(const at::Tensor &t)
{
    std::string s = "[";
    for (int64_t d = 0; d < t.dim(); d++) s += (d ? "," : "") + std::to_string(t.size(d));
    return s + "]";
}

/* Reads every tensor before the first one is overwritten, so that a mismatch changes nothing. */
taut_status read_tensors(torch::serialize::InputArchive &in, const std::vector<named> &want, const char *path,
                         std::vector<at::Tensor> &got)
{
    for (const named &w : want) {
        at::Tensor t;
        if (!in.try_read(w.name, t))
            return fail(TAUT_E_MISMATCH, "%s holds no %s: it was saved from another model or optimizer", path,
                        w.name.c_str());
        if (t.sizes() != w.tensor.sizes() || t.scalar_type() != w.tensor.scalar_type())
            return fail(TAUT_E_MISMATCH, "%s holds %s as %s, here it is %s", path, w.name.c_str(),
                        shape_text(t).c_str(), shape_text(w.tensor).c_str());
        got.push_back(t);
    }
    return TAUT_OK;
}

} // namespace

extern "C" taut_status taut_torch_save(const taut_torch_model *model, const taut_torch_optim *optim, const char *note,
                                       const char *path)
{
    if (!model || !path || !*path) return fail(TAUT_E_INVALID, "model or path is NULL");
    std::string part = std::string(path) + ".part";
    taut_status s = guarded([&] {
        torch::serialize::OutputArchive out;
        FILE *probe = std::fopen(part.c_str(), "wb"); /* a clear message before libtorch's */
        if (!probe) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
        std::fclose(probe);
        for (const named &t : contents(model, optim)) out.write(t.name, t.tensor, true);
        if (optim) out.write("optim", c10::IValue(std::string(optim->cfg.kind)));
        if (optim) out.write("steps", c10::IValue(static_cast<int64_t>(optim->steps)));
        out.write("note", c10::IValue(std::string(note ? note : "")));
        out.save_to(part);
        if (std::rename(part.c_str(), path) != 0) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
        return TAUT_OK;
    });
    if (s != TAUT_OK) unlink(part.c_str());
    return s;
}

extern "C" taut_status taut_torch_load(taut_torch_model *model, taut_torch_optim *optim, const char *path,
                                       char **note)
{
    if (note) *note = nullptr;
    if (!model || !path) return fail(TAUT_E_INVALID, "model or path is NULL");
    FILE *probe = std::fopen(path, "rb");
    if (!probe) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
    std::fclose(probe);
    taut_status s = guarded([&] {
        at::NoGradGuard                no_grad;
        torch::serialize::InputArchive in;
        std::vector<named>             want = contents(model, optim);
        std::vector<at::Tensor>        got;
        c10::IValue                    kind, steps, text;
        in.load_from(path, at::kCPU);
        in.read("note", text);
        if (optim) {
            if (!in.try_read("optim", kind) || !in.try_read("steps", steps))
                return fail(TAUT_E_MISMATCH, "%s was saved without an optimizer", path);
            if (kind.toStringRef() != optim->cfg.kind)
                return fail(TAUT_E_MISMATCH, "%s holds the state of %s, here it is %s", path,
                            kind.toStringRef().c_str(), optim->cfg.kind);
        }
        if (taut_status bad = read_tensors(in, want, path, got)) return bad;
        if (note && !(*note = strdup(text.toStringRef().c_str()))) return fail(TAUT_E_NOMEM, "out of memory");
        for (size_t i = 0; i < want.size(); i++) want[i].tensor.copy_(got[i]);
        if (optim) optim->steps = static_cast<uint64_t>(steps.toInt());
        return TAUT_OK;
    });
    /* libtorch's words name no file */
    return s == TAUT_E_TORCH ? fail(s, "%s: %s", path, taut_torch_last_error()) : s;
}

extern "C" void taut_torch_note_free(char *note) { std::free(note); }
