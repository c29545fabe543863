// Times RocketKV's kernels on a GPU beside dense decode in the same run: a decode step of 32 query
// and 8 KV heads of 128, bf16, after eviction (a cache of what was kept) and over whole caches,
// with the L2 cache emptied before each; and the end of a prompt.
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "cuda_bench.h"
#include "foveal/kernels_rocket.h"
#include "kernels/cuda/call_entry.h"
#include "rocket_params.h"

namespace foveal::bench {
namespace {

constexpr int32_t kHeads = 32;
constexpr int32_t kKvHeads = 8;
constexpr int32_t kDim = 128;
constexpr int32_t kPage = 64;
constexpr int64_t kPageElements = int64_t{kKvHeads} * kPage * kDim;

struct Setting {
  int32_t page_tokens = 4;
  int32_t topk = 64;
  int32_t bound_dtype = FOVEAL_BOUND_E5M2;
  int32_t num_channels = 0;
  int32_t kind = FOVEAL_BOUND_MIN_MAX;
};

/// One cache for all shapes, in shuffled pages.
class Decode {
 public:
  explicit Decode(CudaBench& bench, int64_t tokens)
      : bench_(bench),
        pages_(tokens / kPage),
        k_(bench.weights(static_cast<size_t>(pages_ * kPageElements), 1)),
        v_(bench.weights(static_cast<size_t>(pages_ * kPageElements), 2)),
        q_(bench.weights(size_t{64} * kHeads * kDim, 3)),
        out_(CudaBench::zeros(size_t{64} * kHeads * kDim * 2)),
        lane_(CudaBench::zeros(static_cast<size_t>(pages_ * kPageElements * 2 * 2))),
        table_(CudaBench::zeros(static_cast<size_t>(pages_) * 4)),
        lens_(CudaBench::zeros(64 * 4)),
        workspace_(CudaBench::zeros(size_t{1} << 30)) {
    std::vector<int32_t> order(static_cast<size_t>(pages_));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    bench_.stream().copy(table_.data(), order.data(), order.size() * 4);
    bench_.stream().synchronize();
  }

  foveal_attention_params attention(int32_t batch, int32_t length, int32_t bound) {
    const std::vector<int32_t> lengths(static_cast<size_t>(batch), length);
    bench_.stream().copy(lens_.data(), lengths.data(), lengths.size() * 4);
    bench_.stream().synchronize();
    foveal_attention_params p{};
    p.struct_size = sizeof(p);
    p.q = q_.data();
    p.out = out_.data();
    p.q_row_stride = p.out_row_stride = int64_t{kHeads} * kDim;
    p.q_head_stride = p.out_head_stride = kDim;
    p.k = k_.data();
    p.v = v_.data();
    p.k_page_stride = p.v_page_stride = kPageElements;
    p.k_head_stride = p.v_head_stride = int64_t{kPage} * kDim;
    p.k_token_stride = p.v_token_stride = kDim;
    p.num_seqs = p.num_rows = batch;
    p.num_heads = kHeads;
    p.num_kv_heads = kKvHeads;
    p.head_dim = kDim;
    p.page_size = kPage;
    p.num_pages = static_cast<int32_t>(pages_);
    p.max_q_len = 1;
    p.max_kv_len = bound;
    p.kv_len = reinterpret_cast<int32_t*>(lens_.data());
    p.page_table = reinterpret_cast<int32_t*>(table_.data());
    p.page_table_stride = bound / kPage;
    p.softmax_scale = 1 / std::sqrt(static_cast<float>(kDim));
    p.q_scale = p.k_scale = p.v_scale = 1;
    p.workspace = workspace_.data();
    p.workspace_bytes = workspace_.size();
    return p;
  }

  double dense(int32_t batch, int32_t length) {
    const foveal_attention_params p = attention(batch, length, length);
    return bench_.time_cold(
        [&] { kernels::cuda::call_entry(foveal_attention_decode, p, native()); });
  }

  foveal_rocket_params rocket(int32_t batch, int32_t length, const Setting& setting) {
    foveal_rocket_params p{};
    p.struct_size = sizeof(p);
    p.attention = attention(batch, length, (length + kPage - 1) / kPage * kPage);
    p.topk = setting.topk;
    p.num_channels = setting.num_channels;
    p.bounds = {.data = lane_.data(),
                .page_stride = int64_t{2} * kKvHeads * kDim * (kPage / setting.page_tokens),
                .dtype = setting.bound_dtype,
                .page_tokens = setting.page_tokens,
                .kind = setting.kind};
    return p;
  }

  double bounds(const foveal_rocket_params& rocket) {
    const foveal_bounds_params p = bounds_of_all(rocket);
    return bench_.time_cold([&] { kernels::cuda::call_entry(foveal_rocket_bounds, p, native()); },
                            3);
  }

  static foveal_rocket_prompt_params prompt_params(const foveal_attention_params& a, int32_t budget,
                                                   int32_t* kept) {
    foveal_rocket_prompt_params p{};
    p.struct_size = sizeof(p);
    p.q = a.q;
    p.q_row_stride = a.q_row_stride;
    p.q_head_stride = a.q_head_stride;
    p.k = a.k;
    p.k_page_stride = a.k_page_stride;
    p.k_head_stride = a.k_head_stride;
    p.k_token_stride = a.k_token_stride;
    p.page_table = a.page_table;
    p.num_heads = kHeads;
    p.num_kv_heads = kKvHeads;
    p.head_dim = kDim;
    p.page_size = kPage;
    p.prompt_len = a.max_kv_len;
    p.window = 32;
    p.budget = budget;
    p.kernel_size = 63;
    p.softmax_scale = a.softmax_scale;
    p.q_scale = p.k_scale = 1;
    p.kept = kept;
    p.workspace = a.workspace;
    p.workspace_bytes = a.workspace_bytes;
    return p;
  }

  /// Stage one of a prompt beside the attention of its prefill, which runs hot and once a layer.
  void prompt(int32_t length, int32_t budget) {
    const foveal_attention_params a = attention(1, length, length);
    const Buffer kept = CudaBench::zeros(static_cast<size_t>(kKvHeads) * budget * 4);
    const foveal_rocket_prompt_params p =
        prompt_params(a, budget, reinterpret_cast<int32_t*>(kept.data()));
    const double select =
        bench_.time_cold([&] { kernels::cuda::call_entry(foveal_rocket_prompt, p, native()); });
    foveal_compact_params c{};
    c.struct_size = sizeof(c);
    c.k = k_.data();
    c.v = v_.data();
    c.k_page_stride = c.v_page_stride = kPageElements;
    c.k_head_stride = c.v_head_stride = int64_t{kPage} * kDim;
    c.k_token_stride = c.v_token_stride = kDim;
    c.num_kv_heads = kKvHeads;
    c.head_dim = kDim;
    c.page_size = kPage;
    c.num_tokens = budget;
    c.kept = p.kept;
    c.kept_stride = budget;
    c.from_pages = p.page_table;
    c.to_pages = p.page_table + length / kPage;
    const double move =
        bench_.time_cold([&] { kernels::cuda::call_entry(foveal_rocket_compact, c, native()); });
    const Buffer q = bench_.weights(static_cast<size_t>(length) * kHeads * kDim, 7);
    const Buffer out = CudaBench::zeros(static_cast<size_t>(length) * kHeads * kDim * 2);
    const std::vector<int32_t> ends = {0, length};
    const Buffer cu_q = CudaBench::zeros(64);
    bench_.stream().copy(cu_q.data(), ends.data(), 8);
    foveal_attention_params f = a;
    f.q = q.data();
    f.out = out.data();
    f.num_rows = f.max_q_len = length;
    f.cu_q = reinterpret_cast<int32_t*>(cu_q.data());
    f.workspace = nullptr;
    f.workspace_bytes = 0;
    const Buffer workspace = CudaBench::zeros(foveal_attention_prefill_workspace(&f) + 256);
    f.workspace = workspace.data();
    f.workspace_bytes = workspace.size();
    const double prefill =
        bench_.time([&] { kernels::cuda::call_entry(foveal_attention_prefill, f, native()); }, 3);
    std::printf(
        "prompt of %-6d, 1 layer: attention %9.1f us; selection %7.1f us (%.2f %%), copy of "
        "%d tokens %6.1f us\n",
        length, prefill, select, 100 * select / prefill, budget, move);
    std::fflush(stdout);
  }

  void top_k(int32_t rows, int32_t length, int32_t k) {
    foveal_top_k_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = rows;
    p.values = reinterpret_cast<const float*>(k_.data());
    p.row_stride = length;
    p.max_length = length;
    p.k = k;
    p.indices = reinterpret_cast<int32_t*>(workspace_.data());
    p.indices_stride = k;
    const double us =
        bench_.time_cold([&] { kernels::cuda::call_entry(foveal_top_k, p, native()); });
    std::printf("top_k %3d rows of %-7d k %-5d %7.1f us\n", rows, length, k, us);
    // top_k leaves indices where attention wants zeros.
    bench_.stream().fill(workspace_.data(), 0, static_cast<size_t>(rows) * k * 4);
  }

  double step(foveal_rocket_params p, uint32_t flags) {
    p.flags = flags;
    return bench_.time_cold([&] { kernels::cuda::call_entry(foveal_rocket_decode, p, native()); });
  }

  void once(const foveal_rocket_params& p) {
    kernels::cuda::call_entry(foveal_rocket_decode, p, native());
    bench_.stream().synchronize();
  }

 private:
  void* native() { return bench_.stream().native(); }

  CudaBench& bench_;
  int64_t pages_;
  Buffer k_, v_, q_, out_, lane_, table_, lens_, workspace_;
};

void compare(Decode& decode, int32_t batch, int32_t context, int32_t cached,
             const Setting& setting) {
  const double dense = decode.dense(batch, context);
  const foveal_rocket_params p = decode.rocket(batch, cached, setting);
  const double bounds = decode.bounds(p);
  const double select = decode.step(p, FOVEAL_ROCKET_SELECT);
  const double step = decode.step(p, 0);
  std::printf(
      "%2dx%-6d cache %-6d pages of %-2d topk %-3d %s %3d ch: dense %7.1f us, step %6.1f us "
      "(%.1fx), "
      "of it selection %6.1f us; bounds of all pages %7.1f us\n",
      batch, context, cached, setting.page_tokens, setting.topk,
      setting.bound_dtype == FOVEAL_BOUND_E5M2 ? "e5m2" : "bf16",
      setting.num_channels > 0 ? setting.num_channels : kDim, dense, step, dense / step, select,
      bounds);
  std::fflush(stdout);
}

void decode_shapes(Decode& decode) {
  const Setting small;
  const Setting large{.page_tokens = 16, .topk = 16};
  // After eviction to 2,048 tokens, with 512 generated since.
  for (const int32_t context : {8192, 32768, 131072}) {
    compare(decode, 8, context, 2048 + 512, small);
  }
  compare(decode, 1, 32768, 2048 + 512, small);
  compare(decode, 8, 32768, 2048 + 512, large);
  compare(decode, 8, 32768, 2048 + 512, {.bound_dtype = FOVEAL_BOUND_BF16});
  compare(decode, 8, 32768, 2048 + 512, {.num_channels = 64});
  // Whole caches.
  for (const int32_t context : {8192, 32768, 131072}) {
    compare(decode, 8, context, context, small);
    compare(decode, 8, context, context, large);
  }
  compare(decode, 1, 32768, 32768, small);
  compare(decode, 1, 32768, 32768, large);
  compare(decode, 1, 131072, 131072, small);
  compare(decode, 32, 32768, 32768, small);
  // What `mode: multi_turn` does by default: pairs of tokens rank, 512 are attended to.
  Setting pairs{.page_tokens = 2, .topk = 256, .kind = FOVEAL_BOUND_MEAN_STD};
  for (const int32_t context : {8192, 32768, 131072}) {
    for (const int32_t batch : {1, 8, 32}) {
      if (int64_t{batch} * context <= int64_t{8} * 131072) {
        compare(decode, batch, context, context, pairs);
      }
    }
  }
  pairs.num_channels = kDim / 2;
  compare(decode, 1, 32768, 32768, pairs);
  compare(decode, 8, 32768, 32768, pairs);
}

void run(std::span<char* const> args) {
  CudaBench bench;
  Decode decode(bench, int64_t{8} * 131072);
  if (is_wanted(args, "decode")) decode_shapes(decode);
  if (is_wanted(args, "prompt")) {
    for (const int32_t length : {8192, 32768, 131072}) decode.prompt(length, 2048);
  }
  if (is_wanted(args, "top_k")) {
    for (const int32_t length : {8192, 32768, 131072, 1 << 20}) {
      decode.top_k(8, length, 2048);
      decode.top_k(64, length, 2048);
    }
  }
  if (args.size() == 1 && is_wanted(args, "profile")) {  // for a profiler: each kernel once
    for (const auto& [batch, length] : {std::pair{8, 2560}, {1, 2560}, {8, 32768}}) {
      decode.once(decode.rocket(batch, length, {}));
    }
  }
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  foveal::bench::run(std::span(argv + 1, static_cast<size_t>(argc - 1)));
}
