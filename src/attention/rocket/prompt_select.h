#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/rocket/dispatch.h"
#include "base/kv_view.h"
#include "device/stream.h"

namespace foveal::attention::rocket {

/// The queries of a sequence's last `window` positions in one layer, after rope. The query of
/// position p is row p % window, so however the prompt was cut, the same rows are left at its end.
class WindowRing {
 public:
  /// `width`: num_heads * head_dim.
  WindowRing(int32_t window, int64_t width);

  /// The rows of a chunk, of which the last `window` are copied. The first chunk may begin anywhere
  /// (a reused prefix lies before it); throws kInvalidArgument unless others follow each other.
  void push(const float* q, int64_t q_stride, int32_t position, int32_t num_rows);

  int32_t window() const { return window_; }
  int64_t width() const { return width_; }
  int32_t begin_position() const { return begin_; }
  int32_t next_position() const { return next_; }
  const float* rows() const { return rows_.data(); }  ///< [window, width]

 private:
  int32_t window_;
  int64_t width_;
  int32_t begin_ = 0;
  int32_t next_ = 0;
  std::vector<float> rows_;
};

/// RocketKV's first stage for one sequence and layer, at the end of its prompt.
struct PromptSelectParams {
  const WindowRing* ring = nullptr;  ///< has seen the prompt's last `window` positions
  KvLayerView kv;
  const int32_t* pages = nullptr;  ///< cache page ids of the prompt
  int32_t num_heads = 0;
  int32_t prompt_len = 0;
  int32_t budget = 0;       ///< tokens kept per KV head, more than the window and the sink
  int32_t sink = 0;         ///< first tokens, kept whatever their scores
  int32_t kernel_size = 0;  ///< of the max pool, odd
  float softmax_scale = 1;
  bool exact = false;  ///< queries are not rounded to bf16
};

/// Which positions of the prompt each KV head keeps: `budget` of them, ascending, or all when there
/// are no more. See README.md for the equations. The calling thread and the stream's pool.
OwnedSelection select_prompt(const PromptSelectParams& params, Stream& stream);

/// The steps of it. Scores [num_kv_heads, prompt_len - window]; needs prompt_len > window.
std::vector<float> window_scores(const PromptSelectParams& params, Stream& stream);
/// out[i] = max of in[max(0, i - kernel / 2) .. i + kernel / 2], `kernel` odd. May not overlap.
void max_pool(std::span<const float> in, int32_t kernel, std::span<float> out);

}  // namespace foveal::attention::rocket
