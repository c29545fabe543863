// Dense latent attention of a prompt's rows in its two forms, DeepSeek-V3's sizes, one layer, with
// all that one form needs and the other does not: queries into the latents' space, attention over
// latents 576 wide, values out of it; or keys and values of heads and attention 192 wide.
//   bench_latent_prefill [heads]     (none: 128 and 16)

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "cuda_bench.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/latent_context.h"
#include "kernels/cuda/prefill_heads.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

constexpr int64_t kWidth = FOVEAL_MLA_HEAD_DIM;
constexpr int64_t kRank = FOVEAL_MLA_VALUE_DIM;
constexpr int64_t kPage = 64;
constexpr int64_t kHeadRows = int64_t{256} << 20;  ///< as DecoderScratch has it
constexpr HeadFormDims kDims;
constexpr int64_t kOwnWidth = kDims.own + kDims.values;

struct Shape {
  int64_t rows, keys;
};

class LatentBench : public CudaBench {
 public:
  explicit LatentBench(int64_t heads) : heads_(heads), gemm_(kGpu, {.autotune = true}) {
    q_ = weights(static_cast<size_t>(kMostRows * heads * kDims.dim), 1);
    absorbed_ = weights(static_cast<size_t>(kMostRows * heads * kWidth), 2);
    latent_out_ = zeros(static_cast<size_t>(kMostRows * heads * kRank) * 2);
    out_ = zeros(static_cast<size_t>(kMostRows * heads * kDims.values) * 2);
    pool_ = weights(static_cast<size_t>(kMostKeys * kWidth), 3);
    context_ = zeros(static_cast<size_t>(kMostKeys * kWidth) * 2);
    head_rows_ = zeros(static_cast<size_t>(kHeadRows) * 2);
    weights_ = weights(static_cast<size_t>(heads * kOwnWidth * kRank), 4);
    counter_ = zeros(256);
    stream().fill(counter_.data(), 0, 256);
    std::vector<int32_t> pages(static_cast<size_t>(kMostKeys / kPage));
    std::iota(pages.begin(), pages.end(), 0);
    pages_ = ints(pages);
  }

  void run(const Shape& shape) {
    std::vector<int32_t> counts(static_cast<size_t>(shape.rows));
    std::iota(counts.begin(), counts.end(), static_cast<int32_t>(shape.keys - shape.rows) + 1);
    counts_ = ints(counts);
    row_seq_ = ints(std::vector<int32_t>(counts.size()));
    cu_q_ = ints({0, static_cast<int32_t>(shape.rows)});
    kv_len_ = ints({static_cast<int32_t>(shape.keys)});
    starts_ = ints({0, 0});
    const double absorbed = time([&] { in_latents(shape); }, 5);
    const double heads = time([&] { in_heads(shape); }, 5);
    const auto rows = static_cast<double>(shape.rows);
    const double pairs = rows * (static_cast<double>(shape.keys) - rows / 2);
    std::printf(
        "%4d heads, %5d rows at the end of %6d keys: latents %9.1f us (%4.0f TFLOPS), "
        "heads %9.1f us (%4.0f), %.2fx\n",
        static_cast<int>(heads_), static_cast<int>(shape.rows), static_cast<int>(shape.keys),
        absorbed, 2e-6 * pairs * static_cast<double>(heads_ * (kWidth + kRank)) / absorbed, heads,
        2e-6 * pairs * static_cast<double>(heads_ * (kDims.dim + kDims.values)) / heads,
        absorbed / heads);
    std::fflush(stdout);
  }

 private:
  static constexpr int64_t kMostRows = 8192;
  static constexpr int64_t kMostKeys = 131072;

  Buffer ints(const std::vector<int32_t>& values) {
    Buffer out = zeros(values.size() * sizeof(int32_t));
    stream().copy(out.data(), values.data(), values.size() * sizeof(int32_t));
    stream().synchronize();
    return out;
  }
  template <class T>
  static T* as(const Buffer& buffer) {
    return reinterpret_cast<T*>(buffer.data());
  }
  foveal_latent_cache cache() const {
    return {.data = pool_.data(),
            .page_bytes = kPage * kWidth * 2,
            .dtype = FOVEAL_BF16,
            .page_size = static_cast<int32_t>(kPage),
            .num_pages = static_cast<int32_t>(kMostKeys / kPage)};
  }

  void in_latents(const Shape& shape) {
    gemm_.run({.x = q_.data(),
               .weight = weights_.data(),
               .y = absorbed_.data(),
               .m = shape.rows,
               .n = kRank,
               .k = kDims.own,
               .x_stride = heads_ * kDims.dim,
               .weight_stride = kDims.own,
               .y_stride = heads_ * kWidth,
               .route = GemmRoute::kLibrary,
               .batch = heads_,
               .x_batch_stride = kDims.dim,
               .weight_batch_stride = kRank * kDims.own,
               .y_batch_stride = kWidth},
              stream());
    foveal_mla_params params{};
    params.struct_size = sizeof(params);
    params.num_rows = static_cast<int32_t>(shape.rows);
    params.num_heads = static_cast<int32_t>(heads_);
    params.max_keys = static_cast<int32_t>(shape.keys);
    params.q = absorbed_.data();
    params.q_row_stride = heads_ * kWidth;
    params.q_head_stride = kWidth;
    params.out = latent_out_.data();
    params.out_row_stride = heads_ * kRank;
    params.out_head_stride = kRank;
    params.cache = cache();
    params.counts = as<int32_t>(counts_);
    params.page_table = as<int32_t>(pages_);
    params.page_table_stride = kMostKeys / kPage;
    params.row_seq = as<int32_t>(row_seq_);
    params.softmax_scale = 0.0722F;
    const size_t bytes = mla_workspace_bytes(params);
    if (workspace_.size() < bytes) workspace_ = zeros(bytes);
    params.workspace = workspace_.data();
    params.workspace_bytes = bytes;
    mla_attention(params, stream().native());
    gemm_.run({.x = latent_out_.data(),
               .weight = weights_.data(),
               .y = out_.data(),
               .m = shape.rows,
               .n = kDims.values,
               .k = kRank,
               .x_stride = heads_ * kRank,
               .weight_stride = kRank,
               .y_stride = heads_ * kDims.values,
               .route = GemmRoute::kLibrary,
               .batch = heads_,
               .x_batch_stride = kRank,
               .weight_batch_stride = kOwnWidth * kRank,
               .y_batch_stride = kDims.values},
              stream());
  }

  void in_heads(const Shape& shape) {
    latent_context({.cache = cache(),
                    .kv_len = as<int32_t>(kv_len_),
                    .page_table = as<int32_t>(pages_),
                    .page_table_stride = kMostKeys / kPage,
                    .num_seqs = 1,
                    .num_rows = static_cast<int32_t>(shape.keys),
                    .starts = as<int32_t>(starts_),
                    .rows = as<uint16_t>(context_)},
                   stream().native());
    const int64_t fit = std::clamp<int64_t>(kHeadRows / (shape.keys * kOwnWidth), 1, heads_);
    for (int64_t head = 0; head < heads_; head += fit) {
      const int64_t count = std::min(fit, heads_ - head);
      gemm_.run({.x = context_.data(),
                 .weight = as<uint16_t>(weights_) + head * kOwnWidth * kRank,
                 .y = head_rows_.data(),
                 .m = shape.keys,
                 .n = count * kOwnWidth,
                 .k = kRank,
                 .x_stride = kWidth,
                 .weight_stride = kRank,
                 .y_stride = count * kOwnWidth,
                 .route = GemmRoute::kLibrary},
                stream());
      prefill_heads({.q = as<uint16_t>(q_) + head * kDims.dim,
                     .q_row_stride = heads_ * kDims.dim,
                     .own = as<uint16_t>(head_rows_),
                     .shared = as<uint16_t>(context_) + kRank,
                     .shared_row_stride = kWidth,
                     .out = as<uint16_t>(out_) + head * kDims.values,
                     .out_row_stride = heads_ * kDims.values,
                     .num_heads = static_cast<int32_t>(count),
                     .num_seqs = 1,
                     .num_rows = static_cast<int32_t>(shape.rows),
                     .num_keys = static_cast<int32_t>(shape.keys),
                     .cu_q = as<int32_t>(cu_q_),
                     .kv_len = as<int32_t>(kv_len_),
                     .cu_k = as<int32_t>(starts_),
                     .softmax_scale = 0.0722F,
                     .counter = as<uint32_t>(counter_)},
                    stream().native());
    }
  }

  int64_t heads_;
  DenseGemm gemm_;
  Buffer q_, absorbed_, latent_out_, out_, pool_, context_, head_rows_, weights_, counter_, pages_;
  Buffer counts_, row_seq_, cu_q_, kv_len_, starts_, workspace_;
};

int run(int argc, char** argv) {
  const std::vector<int64_t> heads =
      argc > 1 ? std::vector<int64_t>{std::atoll(argv[1])} : std::vector<int64_t>{128, 16};
  for (const int64_t count : heads) {
    LatentBench bench(count);
    for (const Shape& shape :
         {Shape{64, 64}, Shape{512, 512}, Shape{2048, 2048}, Shape{8192, 8192}, Shape{64, 8192},
          Shape{128, 8192}, Shape{256, 8192}, Shape{512, 8192}, Shape{128, 32768},
          Shape{256, 32768}, Shape{512, 32768}, Shape{2048, 32768}, Shape{8192, 32768},
          Shape{512, 131072}, Shape{2048, 131072}}) {
      bench.run(shape);
    }
  }
  return 0;
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) { return foveal::bench::run(argc, argv); }
