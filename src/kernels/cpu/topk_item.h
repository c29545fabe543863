#pragma once

#include <cstdint>

namespace foveal::kernels::cpu {

struct TopKKernels {
  /// Writes the indices of values >= threshold, ascending, while they are fewer than `room`;
  /// answers how many values these are, or `room` where they are as many or more. NaN is below
  /// every threshold.
  int64_t (*at_least)(const float* values, int64_t n, float threshold, int32_t* out, int64_t room);
};

namespace portable {
extern const TopKKernels kTopKKernels;
}
namespace avx2 {
extern const TopKKernels kTopKKernels;
}
namespace avx512 {
extern const TopKKernels kTopKKernels;
}
namespace avx512bf16 {
extern const TopKKernels kTopKKernels;
}

}  // namespace foveal::kernels::cpu
