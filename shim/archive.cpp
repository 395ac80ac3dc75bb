/* archive.cpp : save and load. Keys: "param.<name>", "buffer.<name>", "m.<name>", "v.<name>" with dots written as
 * '/', since the archive takes dots for submodules; "optim" (kind), "steps", "note". */
#include "shim.hpp"
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <sys/stat.h>
#include <torch/serialize/archive.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

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

/* A zip archive ends with 22 bytes whose last two are the length of a comment that follows. save puts the checksum of
 * all that is before it there: readers of zip files skip it, and load looks at nothing else until it is right. */
constexpr size_t END_BYTES = 22, MARK_BYTES = 8, SUM_BYTES = sizeof(XXH128_canonical_t);
const char       END_MAGIC[] = "PK\5\6", MARK[] = "TAUTXXH3";

/* sink : what libtorch writes, on its way to the file. Errors are kept, not thrown: libtorch's writer flushes in its
 * destructor, where an exception ends the process. The last END_BYTES are held back until the end is known. */
class sink
{
  public:
    explicit sink(FILE *file) : f(file), state(XXH3_createState())
    {
        if (!state || XXH3_128bits_reset(state) != XXH_OK) throw std::bad_alloc();
    }
    ~sink() { XXH3_freeState(state); }
    sink(const sink &) = delete;
    sink &operator=(const sink &) = delete;

    size_t write(const void *p, size_t n)
    {
        const char *c = static_cast<const char *>(p);
        size_t      all = tail.size() + n, out = all > END_BYTES ? all - END_BYTES : 0;
        size_t      old = out < tail.size() ? out : tail.size();
        emit(tail.data(), old);
        tail.erase(0, old);
        emit(c, out - old);
        tail.append(c + (out - old), n - (out - old));
        return n;
    }

    /* 0, or the errno of the first failure; EPROTO: the archive has another end than expected */
    int finish()
    {
        if (tail.size() != END_BYTES || tail.compare(0, 4, END_MAGIC, 4) != 0 || tail[20] || tail[21])
            return error ? error : EPROTO;
        tail[20] = static_cast<char>(MARK_BYTES + SUM_BYTES);
        emit(tail.data(), tail.size());
        emit(MARK, MARK_BYTES);
        XXH128_canonical_t sum;
        XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(state));
        emit(sum.digest, sizeof sum.digest);
        if (!error && (std::fflush(f) != 0 || fsync(fileno(f)) != 0)) error = errno;
        return error;
    }

  private:
    FILE         *f;
    XXH3_state_t *state;
    std::string   tail;
    int           error = 0;

    void emit(const void *p, size_t n)
    {
        if (error || n == 0) return;
        errno = 0;
        if (std::fwrite(p, 1, n, f) != n) error = errno ? errno : EIO;
        else XXH3_128bits_update(state, p, n);
    }
};

/* Is the file what taut_torch_save() wrote, to the last bit? */
taut_status verify(FILE *f, const char *path)
{
    char               end[END_BYTES + MARK_BYTES + SUM_BYTES];
    XXH128_canonical_t sum;
    std::vector<char>  block(1 << 18);
    if (std::fseek(f, 0, SEEK_END) != 0) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
    long size = std::ftell(f), left = size - static_cast<long>(SUM_BYTES);
    if (size < static_cast<long>(sizeof end) || std::fseek(f, size - static_cast<long>(sizeof end), SEEK_SET) != 0 ||
        std::fread(end, 1, sizeof end, f) != sizeof end || std::memcmp(end, END_MAGIC, 4) != 0 ||
        std::memcmp(end + END_BYTES, MARK, MARK_BYTES) != 0)
        return fail(TAUT_E_CORRUPT, "%s: damaged, or not written by taut_torch_save: it does not end with a checksum",
                    path);
    std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state(XXH3_createState(), XXH3_freeState);
    if (!state || XXH3_128bits_reset(state.get()) != XXH_OK) throw std::bad_alloc();
    std::rewind(f);
    while (left > 0) {
        size_t want = static_cast<size_t>(left) < block.size() ? static_cast<size_t>(left) : block.size();
        if (std::fread(block.data(), 1, want, f) != want)
            return fail(TAUT_E_IO, "%s: could not be read, %ld bytes before its checksum: it became shorter", path,
                        left);
        XXH3_128bits_update(state.get(), block.data(), want);
        left -= static_cast<long>(want);
    }
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(state.get()));
    if (std::memcmp(sum.digest, end + END_BYTES + MARK_BYTES, SUM_BYTES) == 0) return TAUT_OK;
    return fail(TAUT_E_CORRUPT, "%s: damaged: its checksum does not match", path);
}

taut_status write_archive(torch::serialize::OutputArchive &out, const std::string &part, const char *path)
{
    FILE *f = std::fopen(part.c_str(), "wb");
    if (!f) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
    int error;
    try {
        sink to(f);
        out.save_to([&](const void *p, size_t n) { return to.write(p, n); });
        error = to.finish();
    } catch (...) {
        std::fclose(f);
        throw;
    }
    if (std::fclose(f) != 0 && !error) error = errno;
    if (error == EPROTO) return fail(TAUT_E_TORCH, "%s: libtorch's archive does not end as a zip file does", path);
    if (error) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(error));
    return std::rename(part.c_str(), path) == 0 ? TAUT_OK : fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
}

taut_status read_archive(taut_torch_model *model, taut_torch_optim *optim, const char *path, char **note)
{
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
            return fail(TAUT_E_MISMATCH, "%s holds the state of %s, here it is %s", path, kind.toStringRef().c_str(),
                        optim->cfg.kind);
    }
    if (taut_status bad = read_tensors(in, want, path, got)) return bad;
    if (note && !(*note = strdup(text.toStringRef().c_str()))) return fail(TAUT_E_NOMEM, "out of memory");
    for (size_t i = 0; i < want.size(); i++) want[i].tensor.copy_(got[i]);
    if (optim) optim->steps = static_cast<uint64_t>(steps.toInt());
    for (size_t i = 0; optim && i < optim->divides.size(); i++) optim->divides[i].steps = 0; /* of another v */
    return TAUT_OK;
}

} // namespace

extern "C" taut_status taut_torch_save(const taut_torch_model *model, const taut_torch_optim *optim, const char *note,
                                       const char *path)
{
    if (!model || !path || !*path) return fail(TAUT_E_INVALID, "model or path is NULL");
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) /* a rename would take the place of a device */
        return fail(TAUT_E_IO, "%s: is there and not a regular file", path);
    char real[PATH_MAX]; /* of a link, which stays one */
    if (realpath(path, real)) path = real;
    std::string part = std::string(path) + ".part";
    taut_status s = guarded([&] {
        torch::serialize::OutputArchive out;
        for (const named &t : contents(model, optim)) out.write(t.name, t.tensor.cpu(), true);
        if (optim) out.write("optim", c10::IValue(std::string(optim->cfg.kind)));
        if (optim) out.write("steps", c10::IValue(static_cast<int64_t>(optim->steps)));
        out.write("note", c10::IValue(std::string(note ? note : "")));
        return write_archive(out, part, path);
    });
    if (s != TAUT_OK) unlink(part.c_str());
    return s;
}

extern "C" taut_status taut_torch_load(taut_torch_model *model, taut_torch_optim *optim, const char *path, char **note)
{
    if (note) *note = nullptr;
    if (!model || !path) return fail(TAUT_E_INVALID, "model or path is NULL");
    FILE *f = std::fopen(path, "rb");
    if (!f) return fail(TAUT_E_IO, "%s: %s", path, std::strerror(errno));
    taut_status s = guarded([&] { return verify(f, path); });
    std::fclose(f);
    if (s == TAUT_OK) s = guarded([&] { return read_archive(model, optim, path, note); });
    /* libtorch's words name no file */
    return s == TAUT_E_TORCH ? fail(s, "%s: %s", path, taut_torch_last_error()) : s;
}

extern "C" void taut_torch_note_free(char *note) { std::free(note); }
