#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_attention.h"
#include "kernels/reference/attention.h"

namespace foveal::kernels::testing {

/// What a random case looks like.
struct CaseShape {
  int32_t num_kv_heads = 1;
  int32_t group = 1;
  int32_t head_dim = 64;
  int32_t page_size = 64;
  DType dtype = DType::kBF16;
  int32_t window = 0;
  float skip_factor = 0;
  float spread =
      1;  ///< standard deviation of the scores: the larger, the more a tile can be skipped
  float tile_spread = 0;  ///< standard deviation of a key tile's common part of the scores
  bool exact = false;
  bool garbage = true;  ///< in slots past a sequence's length; else zeros
  /// {q_len, kv_len} of each sequence
  std::vector<std::pair<int32_t, int32_t>> seqs;
};

/// A random cache, filled through `kv_store` in shuffled pages whose unused slots hold garbage, and
/// the queries of its last rows.
class AttentionCase {
 public:
  AttentionCase(const CaseShape& shape, uint64_t seed, Stream& stream);

  PagedAttentionParams params();
  int32_t num_rows() const { return num_rows_; }
  int64_t width() const {
    return static_cast<int64_t>(shape.num_kv_heads) * shape.group * shape.head_dim;
  }

  CaseShape shape;
  std::vector<float> q;
  std::vector<float> out;
  std::vector<float> k_rows;  ///< of all keys of all sequences, as stored
  std::vector<float> v_rows;
  std::vector<AttentionSeq> seqs;
  std::vector<AttentionCounters> counters;
  KvLayerView kv;

 private:
  int32_t num_rows_ = 0;
  std::vector<std::vector<int32_t>> pages_;
  std::vector<std::byte> k_bytes_;
  std::vector<std::byte> v_bytes_;
};

/// Runs the case's phase; `out` holds the result.
std::vector<float> run(AttentionCase& data, AttentionPhase phase, Stream& stream);

/// True when the active level rounds this case's queries and weights to bf16.
bool rounds(const AttentionCase& data);

/// Compares with the reference within a bound derived from the path's roundings. Rows that a vote
/// within rounding of its threshold could change are left out.
void expect_matches(AttentionCase& data, AttentionPhase phase,
                    const reference::AttentionResult& want, Stream& stream);

/// All levels that this machine can run.
std::vector<cpu::Isa> isa_levels();

}  // namespace foveal::kernels::testing
