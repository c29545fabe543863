#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "device/stream.h"

namespace foveal::bench {

// What rows of CUDA kernels are held against after their timed run: a few of their outputs, in
// double precision from the inputs as they lie on the device.

/// Copies from the device and waits.
template <class T>
std::vector<T> to_host(const void* from, size_t count, const Stream& stream) {
  std::vector<T> out(count);
  stream.copy(out.data(), from, count * sizeof(T));
  stream.synchronize();
  return out;
}

template <class T>
void to_device(const Buffer& to, const std::vector<T>& from, const Stream& stream) {
  stream.copy(to.data(), from.data(), from.size() * sizeof(T));
  stream.synchronize();
}

/// One query and head.
struct AttentionTruth {
  std::vector<double> out, magnitude;  ///< the second: the weights' mean of |v|
  double may_lose = 0;  ///< share of the weight of keys that Skip Softmax may leave out
  double largest = 0;   ///< |v|
};

struct TruthCall {
  std::span<const uint16_t> q;  ///< bf16
  int32_t num_keys = 0;
  /// bf16 rows of key `idx`.
  std::function<const uint16_t*(int32_t idx)> key, value;
  int32_t value_dim = 0;
  double scale = 1;
  /// Keys whose score is this far below the row's largest may be left out.
  double log_threshold = -std::numeric_limits<double>::infinity();
};

AttentionTruth attend(const TruthCall& call);

/// Throws kInternal unless bf16 `got` is the truth within what rounding explains: probabilities and
/// outputs are rounded to bf16 once each; keys that may be left out move the mean by at most twice
/// their share of the largest value.
void expect_attention(std::string_view what, std::span<const uint16_t> got,
                      const AttentionTruth& truth);

/// Throws kInternal unless |got - want| <= allowed.
void expect_near(std::string_view what, double got, double want, double allowed);

}  // namespace foveal::bench
