#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "foveal/kernels.h"

namespace foveal::kernels::cuda::testing {

/// What a random call of paged decode looks like.
struct DecodeCase {
  std::vector<int32_t> lengths;
  int32_t kv_heads = 2;
  int32_t group = 4;
  int32_t head_dim = 128;
  int32_t page_size = 64;  ///< 0: contiguous
  int32_t q_dtype = FOVEAL_BF16;
  int32_t kv_dtype = FOVEAL_BF16;
  bool token_major =
      false;  ///< pages [page_size, kv_heads, head_dim] instead of [kv_heads, page_size, .]
  int32_t window = 0;
  float q_spread = 1;     ///< standard deviation of the queries
  float tile_spread = 0;  ///< of a component that all keys of a 64-key tile share along the queries
  float k_scale = 1;
  float v_scale = 1;
  float skip_factor = 0;
  uint32_t flags = 0;
  int32_t split_keys = 0;
  int32_t slack_len = 0;  ///< max_kv_len is this much above the longest
  uint64_t seed = 1;
};

/// What came out of the device, in float.
struct DecodeOutput {
  std::vector<float> out;  ///< [rows, heads, head_dim]
  std::vector<float> lse;  ///< [rows, heads]
  std::vector<uint64_t> counters;
  std::vector<uint16_t> bits;  ///< of out
};

/// Double precision over the values as stored, and what errors scale with.
struct DecodeTruth {
  std::vector<double> out;
  std::vector<double> lse;
  std::vector<double> magnitude;   ///< weights' mean of |v|
  std::vector<double> score_norm;  ///< [rows, heads] largest sum over d of |q k| scale
  std::vector<uint64_t> counters;  ///< [rows, 4]
  double margin = 1e9;             ///< smallest log2 distance of a vote from its threshold
};

/// Inputs on the host and the device; runs the C entry.
class DecodeFixture {
 public:
  explicit DecodeFixture(const DecodeCase& what);
  ~DecodeFixture();
  DecodeFixture(const DecodeFixture&) = delete;
  DecodeFixture& operator=(const DecodeFixture&) = delete;

  foveal_attention_params params() const { return params_; }
  foveal_attention_params& mutable_params() { return params_; }
  DecodeOutput run();
  /// As every call must leave it for the next.
  bool workspace_is_zero() const;
  DecodeTruth truth() const;
  /// |out - truth| that rounding alone explains, for element i.
  double tolerance(const DecodeTruth& truth, size_t i) const;

  DecodeCase what;

 private:
  double query(size_t index) const;
  double value(bool key, int32_t seq, int32_t head, int32_t position, int32_t channel) const;
  int32_t page_rows() const { return what.page_size > 0 ? what.page_size : 1; }
  void lay_out_pages();
  void set_strides();
  void fill_queries();
  void fill_cache();
  void fill_row(int32_t seq, int32_t head);
  void upload();
  size_t element(int32_t seq, int32_t head, int32_t position, int32_t channel) const;
  static int32_t processors();
  struct Row;
  void truth_of(DecodeTruth& truth, Row& row) const;
  void score_row(Row& row) const;
  void vote_row(Row& row) const;
  std::vector<double> seeds(const Row& row) const;
  std::vector<int32_t> split_keys_of(int32_t seq, int32_t head) const;
  void* to_device(const void* data, size_t bytes);

  std::vector<uint8_t> q_, k_, v_;
  std::vector<int32_t> table_;
  int32_t stride_ = 0;
  std::vector<int32_t> starts_;
  foveal_attention_params params_{};
  std::vector<void*> owned_;
};

/// body(0 .. count - 1) on all cores.
void parallel(int32_t count, const std::function<void(int32_t)>& body);

/// Compares with the truth; the first few differences as text, empty when good.
std::string differences(const DecodeFixture& fixture, const DecodeOutput& got);

}  // namespace foveal::kernels::cuda::testing
