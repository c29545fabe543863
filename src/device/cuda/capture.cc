#include <cuda_runtime_api.h>

#include "base/error.h"
#include "device/backend.h"
#include "device/cuda/check.h"

namespace foveal::cuda {
namespace {

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaGraphExec_t exec_of(void* graph) { return static_cast<cudaGraphExec_t>(graph); }

}  // namespace

// Per thread: another thread may allocate meanwhile, as one that loads a model does.
void begin_capture(void* stream) {
  check(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture");
}

void* end_capture(void* stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream_of(stream), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t exec = nullptr;
  cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  status =
      cudaGraphUpload(exec, stream_of(stream));  // so that the first launch is as fast as others
  if (status != cudaSuccess) cudaGraphExecDestroy(exec);
  check(status, "cudaGraphUpload");
  return exec;
}

void abandon_capture(void* stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_of(stream), &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // the capture's own error is the one that goes up
}

void launch_graph(void* graph, void* stream) {
  check(cudaGraphLaunch(exec_of(graph), stream_of(stream)), "cudaGraphLaunch");
}

void destroy_graph(void* graph) noexcept { cudaGraphExecDestroy(exec_of(graph)); }

}  // namespace foveal::cuda
