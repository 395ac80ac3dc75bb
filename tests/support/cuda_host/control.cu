/* control.cu : see control.h. */
#include "control.h"
#include <cuda_runtime.h>

extern "C" {
extern const taut__cuda_device taut__cuda_device_model;
extern const taut__cuda_vec    taut__cuda_vec_model;
extern const taut__cuda_quant  taut__cuda_quant_model;

extern const taut__cuda_grid     taut__cuda_grid_model;
extern const taut__cuda_stats    taut__cuda_stats_model;
extern const taut__cuda_topk     taut__cuda_topk_model;
extern const taut__cuda_randk    taut__cuda_randk_model;
extern const taut__cuda_powersgd taut__cuda_powersgd_model;
extern const taut__cuda_stack    taut__cuda_stack_model;
extern const taut__cuda_frame    taut__cuda_frame_model;
extern const taut__cuda_basis    taut__cuda_basis_model;

const taut__cuda taut__cuda_model = {"model",
                                     &taut__cuda_device_model,
                                     &taut__cuda_vec_model,
                                     &taut__cuda_quant_model,
                                     &taut__cuda_grid_model,
                                     &taut__cuda_stats_model,
                                     &taut__cuda_topk_model,
                                     &taut__cuda_randk_model,
                                     &taut__cuda_powersgd_model,
                                     &taut__cuda_stack_model,
                                     &taut__cuda_frame_model,
                                     &taut__cuda_basis_model};

void cuda_model_seed(uint64_t seed)
{
    cuda_host::set_seed(seed);
    cuda_host::set_eagerness(cuda_host::eagerness::by_seed);
}
void   cuda_model_memory(size_t bytes) { cuda_host::set_memory_limit(bytes); }
size_t cuda_model_held(void) { return cuda_host::memory_held(); }
size_t cuda_model_mapped(void) { return cuda_host::memory_mapped(); }
void   cuda_model_elsewhere(int device) { cuda_host::set_elsewhere(device); }
void   cuda_model_capture(taut__cuda_stream s) { cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal); }
bool   cuda_model_captured(taut__cuda_stream s)
{
    cudaGraph_t graph = nullptr;
    bool        good = cudaStreamEndCapture(s, &graph) == cudaSuccess;
    if (good) cudaGraphDestroy(graph);
    cudaGetLastError();
    return good;
}
void cuda_model_driver(int version)
{
    cuda_host::set_driver(version >= 13000 ? cudaSuccess : cudaErrorInsufficientDriver, version);
}
void     cuda_model_capability(int tenfold) { cuda_host::set_capability(tenfold); }
void     cuda_model_ends(unsigned blocks) { cuda_host::set_ends(blocks); }
size_t   cuda_model_kernels(const char **names, size_t cap) { return cuda_host::kernels_seen(names, cap); }
uint64_t cuda_model_launches(const char *kernel) { return cuda_host::kernel_tally(kernel).launches; }
}
