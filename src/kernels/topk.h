#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace foveal::kernels {

/// Values whose largest one a row may bring along.
inline constexpr int64_t kTopKBlock = 16;

/// Of such values; NaN counts as -inf.
float largest(std::span<const float> values);

/// Indices of the `k` largest of `values`, by value descending; equal values (-0 and +0 are equal)
/// by index ascending, so that of a tie at the k-th place the lowest indices are taken. NaN counts
/// as -inf. For host use, on the calling thread: about one read of `values` while k is far below
/// their number (150k values, k = 1000: well under a millisecond), a sort when it is not.
/// Throws kInvalidArgument unless 0 <= k <= values.size() < 2^31.
std::vector<int32_t> top_k(std::span<const float> values, int64_t k);

/// The same set, its indices ascending, in linear time whatever k and the values are: a guess from
/// a sample lets one read find a few more candidates than k, which are counted (the verification)
/// and refined by their bits; where the guess fails, the whole row is. Keeps its memory between
/// calls.
class TopKSet {
 public:
  /// Writes min(k, values.size()) indices to `out`. k >= 0, values.size() < 2^31.
  void select(std::span<const float> values, int32_t k, int32_t* out);

  /// The same for whoever knows the largest of each kTopKBlock consecutive values (NaN counts as
  /// -inf): of a small k most values are not read again.
  void select(std::span<const float> values, std::span<const float> maxima, int32_t k,
              int32_t* out);

  /// Rows so far that were long enough to guess, and those of them whose guess failed.
  int64_t guesses() const { return guesses_; }
  int64_t fallbacks() const { return fallbacks_; }

 private:
  bool guess(std::span<const float> values, int32_t k, int32_t* out);
  void refine(std::span<const float> values, std::span<const int32_t> found, int32_t k,
              int32_t* out);

  std::vector<uint32_t> keys_;
  std::vector<int32_t> indices_;
  std::vector<int32_t> blocks_;
  std::vector<uint32_t> bins_;
  int64_t guesses_ = 0;
  int64_t fallbacks_ = 0;
};

/// Rows shorter than this are refined without a guess.
inline constexpr int64_t kTopKGuessLength = 4096;

}  // namespace foveal::kernels
