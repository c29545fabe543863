#include "device/choose.h"

#include <fmt/format.h>

#include "base/check.h"

namespace foveal {
namespace {

constexpr char kNeed[] = "compute capability 9.0 (H100, H200, GH200)";

// Kernels are compiled for sm_90a, which runs on 9.0 and on nothing newer.
bool is_supported(const Gpu& gpu) { return gpu.major == 9 && gpu.minor == 0; }

std::string describe(const Gpu& gpu) {
  return fmt::format("{} (compute capability {}.{})", gpu.name, gpu.major, gpu.minor);
}

}  // namespace

GpuChoice choose_gpu(const GpuList& list) {
  if (!list.problem.empty()) return {.index = {}, .reason = list.problem};
  if (list.gpus.empty()) return {.index = {}, .reason = "the CUDA driver shows no GPU"};
  for (size_t idx = 0; idx < list.gpus.size(); ++idx) {
    if (is_supported(list.gpus[idx])) return {.index = static_cast<int>(idx), .reason = {}};
  }
  return {.index = {},
          .reason = fmt::format("GPU 0 is {}, supported is {}", describe(list.gpus[0]), kNeed)};
}

void check_gpu(const GpuList& list, int index) {
  FOVEAL_CHECK(list.problem.empty(), ErrorKind::kUnsupported, "device",
               "got cuda:{}; need auto or cpu ({})", index, list.problem);
  FOVEAL_CHECK(!list.gpus.empty(), ErrorKind::kUnsupported, "device",
               "got cuda:{}; need auto or cpu (the CUDA driver shows no GPU)", index);
  FOVEAL_CHECK(
      index >= 0 && static_cast<size_t>(index) < list.gpus.size(), ErrorKind::kUnsupported,
      "device", "got cuda:{} on a machine with {} GPU{}; need {}", index, list.gpus.size(),
      list.gpus.size() == 1 ? "" : "s",
      list.gpus.size() == 1 ? "cuda:0" : fmt::format("cuda:0 to cuda:{}", list.gpus.size() - 1));
  const Gpu& gpu = list.gpus[static_cast<size_t>(index)];
  FOVEAL_CHECK(is_supported(gpu), ErrorKind::kUnsupported, "device",
               "got cuda:{}, {}; need a GPU of {}, or cpu", index, describe(gpu), kNeed);
}

}  // namespace foveal
