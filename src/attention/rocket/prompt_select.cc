#include "attention/rocket/prompt_select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/check.h"
#include "base/math.h"
#include "kernels/attention_dispatch.h"
#include "kernels/topk.h"

namespace foveal::attention::rocket {
namespace {

using kernels::cpu::kWindowSplit;
using kernels::cpu::RocketWindowItem;

constexpr std::string_view kWhere = "rocket.select_prompt";

void check(const PromptSelectParams& params) {
  check_cache(params.kv, kWhere);
  check_heads(params.kv, params.num_heads, kWhere);
  const auto bad = ErrorKind::kInvalidArgument;
  FOVEAL_CHECK(params.ring != nullptr && params.pages != nullptr, bad, kWhere,
               "got no window queries or no page table; need both");
  const WindowRing& ring = *params.ring;
  const int64_t width = static_cast<int64_t>(params.num_heads) * params.kv.head_dim;
  FOVEAL_CHECK(ring.width() == width, bad, kWhere, "got queries of {} values; need {}",
               ring.width(), width);
  FOVEAL_CHECK(params.prompt_len >= 1 && ring.next_position() == params.prompt_len, bad, kWhere,
               "got queries of {} positions; need the prompt's {}", ring.next_position(),
               params.prompt_len);
  FOVEAL_CHECK(ring.begin_position() <= std::max(0, params.prompt_len - ring.window()), bad, kWhere,
               "got queries from position {}; need the last {} of {}", ring.begin_position(),
               ring.window(), params.prompt_len);
  FOVEAL_CHECK(params.sink >= 0 && params.budget - ring.window() > params.sink, bad, kWhere,
               "got a budget of {} tokens; need more than the window's {} and the first {}",
               params.budget, ring.window(), params.sink);
  FOVEAL_CHECK(params.kernel_size >= 1 && params.kernel_size % 2 == 1, bad, kWhere,
               "got kernel_size {}; need an odd number", params.kernel_size);
  FOVEAL_CHECK(std::isfinite(params.softmax_scale), bad, kWhere,
               "got a softmax scale of {}; need a finite one", params.softmax_scale);
}

/// One call of window_scores: a task is a KV head, or a KV head and a split of keys.
class WindowCall {
 public:
  WindowCall(const PromptSelectParams& params, Stream& stream, std::vector<float>& scores)
      : params_(params),
        isa_(rocket_kernels()),
        scores_(scores),
        heads_(params.kv.num_kv_heads),
        rows_(params.num_heads / heads_ * params.ring->window()),
        splits_(static_cast<int32_t>(ceil_div(params.prompt_len, kWindowSplit))) {
    const int64_t coefs = rows_ * params.kv.head_dim;
    const int64_t floats = heads_ * (coefs + rows_ * (2 * splits_ + 1));
    coefs_ = reinterpret_cast<float*>(stream.scratch(static_cast<size_t>(floats) * sizeof(float)));
    max_ = coefs_ + heads_ * coefs;
    sum_ = max_ + heads_ * splits_ * rows_;
    lse_ = sum_ + heads_ * splits_ * rows_;
  }

  void run(Stream& stream) const {
    ThreadPool& pool = stream.pool();
    pool.run(heads_, [&](int64_t head, int) { isa_.window_open(item(head, 0)); });
    pool.run(heads_ * splits_,
             [&](int64_t task, int) { isa_.window_rows(item(task / splits_, task % splits_)); });
    pool.run(heads_, [&](int64_t head, int) { join(head); });
    pool.run(heads_ * splits_,
             [&](int64_t task, int) { isa_.window_columns(item(task / splits_, task % splits_)); });
  }

 private:
  RocketWindowItem item(int64_t head, int64_t split) const {
    const KvLayerView& kv = params_.kv;
    const WindowRing& ring = *params_.ring;
    const auto group = static_cast<int32_t>(params_.num_heads / heads_);
    const auto key_begin = static_cast<int32_t>(split * kWindowSplit);
    const int64_t part = (head * splits_ + split) * rows_;
    return {.kv = kernels::kv_head(kv, {.pages = params_.pages}, static_cast<int32_t>(head)),
            .ring = ring.rows() + head * group * kv.head_dim,
            .ring_stride = ring.width(),
            .coefs = coefs_ + head * rows_ * kv.head_dim,
            .group = group,
            .window = ring.window(),
            .prompt_len = params_.prompt_len,
            .key_begin = key_begin,
            .key_end = std::min(params_.prompt_len, key_begin + kWindowSplit),
            .scale_log2 = params_.softmax_scale * std::numbers::log2e_v<float>,
            .exact = params_.exact,
            .max = max_ + part,
            .sum = sum_ + part,
            .lse = lse_ + head * rows_,
            .scores = scores_.data() + head * (params_.prompt_len - ring.window())};
  }

  /// A row's splits in ascending order.
  void join(int64_t head) const {
    for (int64_t row = 0; row < rows_; ++row) {
      const auto at = [&](int64_t split) { return (head * splits_ + split) * rows_ + row; };
      double most = -std::numeric_limits<double>::infinity();
      for (int64_t split = 0; split < splits_; ++split) {
        most = std::max(most, static_cast<double>(max_[at(split)]));
      }
      double sum = 0;
      for (int64_t split = 0; split < splits_; ++split) {
        if (sum_[at(split)] > 0) sum += sum_[at(split)] * std::exp2(max_[at(split)] - most);
      }
      lse_[head * rows_ + row] = static_cast<float>(most + std::log2(sum));
    }
  }

  const PromptSelectParams& params_;
  const kernels::cpu::RocketKernels& isa_;
  std::vector<float>& scores_;
  int64_t heads_;
  int64_t rows_;  ///< of a KV head: group * window
  int64_t splits_;
  float* coefs_ = nullptr;  ///< [heads][rows][head_dim]
  float* max_ = nullptr;    ///< [heads][splits][rows]
  float* sum_ = nullptr;    ///< likewise
  float* lse_ = nullptr;    ///< [heads][rows]
};

}  // namespace

WindowRing::WindowRing(int32_t window, int64_t width) : window_(window), width_(width) {
  FOVEAL_CHECK(window >= 1 && width >= 1, ErrorKind::kInvalidArgument, "rocket.window",
               "got {} rows of {}; need at least one of each", window, width);
  rows_.resize(static_cast<size_t>(window * width));
}

void WindowRing::push(const float* q, int64_t q_stride, int32_t position, int32_t num_rows) {
  FOVEAL_CHECK(next_ == begin_ || position == next_, ErrorKind::kInvalidArgument, "rocket.window",
               "got queries from position {}; need position {}, which follows", position, next_);
  if (next_ == begin_) begin_ = next_ = position;
  for (int32_t row = std::max(0, num_rows - window_); row < num_rows; ++row) {
    std::memcpy(rows_.data() + (next_ + row) % window_ * width_, q + row * q_stride,
                static_cast<size_t>(width_) * sizeof(float));
  }
  next_ += num_rows;
}

std::vector<float> window_scores(const PromptSelectParams& params, Stream& stream) {
  check(params);
  const int32_t prefix = params.prompt_len - params.ring->window();
  FOVEAL_CHECK(prefix >= 1, ErrorKind::kInvalidArgument, kWhere,
               "got a prompt of {} tokens; need more than the window's {}", params.prompt_len,
               params.ring->window());
  std::vector<float> scores(static_cast<size_t>(params.kv.num_kv_heads) * prefix);
  WindowCall(params, stream, scores).run(stream);
  return scores;
}

void max_pool(std::span<const float> in, int32_t kernel, std::span<float> out) {
  // van Herk: with running maxima from the left and from the right of every block of `kernel`, a
  // window, which spans at most two blocks, is one of each.
  const auto n = static_cast<int64_t>(in.size());
  const int64_t half = kernel / 2;
  std::vector<float> right(in.begin(), in.end());  // max from i to its block's end
  for (int64_t at = n - 2; at >= 0; --at) {
    if ((at + 1) % kernel != 0) right[at] = std::max(right[at], right[at + 1]);
  }
  std::vector<float> left(in.begin(), in.end());  // max from its block's beginning to i
  for (int64_t at = 1; at < n; ++at) {
    if (at % kernel != 0) left[at] = std::max(left[at], left[at - 1]);
  }
  for (int64_t at = 0; at < n; ++at) {
    const int64_t first = std::max<int64_t>(0, at - half);
    const int64_t last = std::min(n - 1, at + half);
    // Within one block a window reaches the block's beginning, or it was cut at the values' end.
    const float inside = first % kernel == 0 ? left[last] : right[first];
    out[at] = first / kernel == last / kernel ? inside : std::max(right[first], left[last]);
  }
}

OwnedSelection select_prompt(const PromptSelectParams& params, Stream& stream) {
  check(params);
  const int32_t heads = params.kv.num_kv_heads;
  const int32_t kept = std::min(params.budget, params.prompt_len);
  OwnedSelection out{.kind = SelectionKind::kTokens};
  for (int32_t head = 0; head <= heads; ++head) out.offsets.push_back(head * kept);
  out.indices.resize(static_cast<size_t>(heads) * kept);
  if (kept == params.prompt_len) {
    for (int32_t head = 0; head < heads; ++head) {
      std::iota(out.indices.begin() + head * kept, out.indices.begin() + (head + 1) * kept, 0);
    }
    return out;
  }
  const std::vector<float> scores = window_scores(params, stream);
  const int32_t window = params.ring->window();
  const int32_t prefix = params.prompt_len - window;
  stream.pool().run(heads, [&](int64_t head, int) {
    std::vector<float> pooled(prefix);
    max_pool({scores.data() + head * prefix, static_cast<size_t>(prefix)}, params.kernel_size,
             pooled);
    const int32_t sink = params.sink;
    std::vector<int32_t> best =
        kernels::top_k(std::span(pooled).subspan(sink), kept - window - sink);
    std::sort(best.begin(), best.end());
    auto at = out.indices.begin() + head * kept;
    for (int32_t token = 0; token < sink; ++token) *at++ = token;
    for (const int32_t token : best) *at++ = sink + token;
    std::iota(at, at + window, prefix);
  });
  return out;
}

}  // namespace foveal::attention::rocket
