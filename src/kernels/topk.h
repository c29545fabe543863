#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace foveal::kernels {

/// Indices of the `k` largest of `values`, by value descending; equal values (-0 and +0 are equal)
/// by index ascending, so that of a tie at the k-th place the lowest indices are taken. NaN counts
/// as -inf. For host use, on the calling thread: about one read of `values` while k is far below
/// their number (150k values, k = 1000: well under a millisecond), a sort when it is not.
/// Throws kInvalidArgument unless 0 <= k <= values.size() < 2^31.
std::vector<int32_t> top_k(std::span<const float> values, int64_t k);

}  // namespace foveal::kernels
