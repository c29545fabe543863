#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/dsa/index_keys.h"
#include "attention/dsa/settings.h"
#include "attention/method.h"
#include "kernels/latent_attention.h"
#include "kernels/topk.h"

namespace foveal::attention::dsa {

/// Sets of the rows of a call, with their arrays.
struct OwnedSets {
  std::vector<int64_t> offsets;
  std::vector<int32_t> tokens;

  kernels::TokenSets view() const { return {.offsets = offsets.data(), .tokens = tokens.data()}; }
};

/// The min(topk, t + 1) keys with the largest index scores of each row, t being its position. Of
/// equal scores the lowest positions win; NaN is the lowest score. Keeps its memory between calls.
class IndexSelector {
 public:
  explicit IndexSelector(const Settings& settings) : settings_(settings) {}

  void select(const IndexInputs& index, const IndexLane& lane,
              std::span<const kernels::AttentionSeq> seqs, Stream& stream, OwnedSets& out);

  /// Opened queries and scores of a step's rows, and their sets.
  int64_t workspace_bytes(const StepLimits& limits) const;

 private:
  /// Consecutive rows of one sequence.
  struct Rows {
    const kernels::AttentionSeq* seq = nullptr;
    int32_t begin = 0;  ///< among the sequence's rows
    int32_t end = 0;
    int64_t set = 0;   ///< of the first of them in the sets
    int64_t slot = 0;  ///< of the first of them in scratch

    int32_t count() const { return end - begin; }
    int32_t position(int32_t row) const { return seq->kv_len - seq->q_len + row; }
    int32_t keys() const { return position(end - 1) + 1; }
  };
  /// Where opened queries and scores of some rows lie.
  struct Slots {
    float* queries = nullptr;
    float* factors = nullptr;
    float* scores = nullptr;
    int64_t stride = 0;  ///< of the scores
    float* maxima = nullptr;
    int64_t maxima_stride = 0;
  };

  std::vector<Rows> lay_out(std::span<const kernels::AttentionSeq> seqs, int32_t block,
                            OwnedSets& out) const;
  void open(const IndexInputs& index, const Rows& rows, int32_t row, const Slots& slots) const;
  void choose(const Rows& rows, int32_t row, const float* scores, float* maxima, int worker,
              OwnedSets& out);
  void select_blocks(const IndexInputs& index, const IndexLane& lane, std::vector<Rows>& blocks,
                     Stream& stream, OwnedSets& out);
  void select_few(const IndexInputs& index, const IndexLane& lane, std::span<Rows> few,
                  Stream& stream, OwnedSets& out);
  int64_t slot_floats() const;
  Slots slots_at(float* memory, int64_t rows, int64_t stride) const;

  Settings settings_;
  std::vector<kernels::TopKSet> top_;  ///< [workers]
};

}  // namespace foveal::attention::dsa
