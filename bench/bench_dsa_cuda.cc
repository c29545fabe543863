// Times what DeepSeek Sparse Attention adds to a decode step between its projections, of one layer
// of DeepSeek-V3.2's shape: index keys and queries, the latent's row stored, scores, top-k, latent
// attention; one graph, the L2 cache emptied before it, and each kernel by itself the same way.
//   bench_dsa_cuda
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_bench.h"
#include "kernels/cuda/indexer.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/top_k.h"

namespace foveal::bench {
namespace {

namespace cuda = kernels::cuda;

constexpr int32_t kHeads = 128;
constexpr int32_t kIndexHeads = 64;
constexpr int32_t kIndexDim = 128;
constexpr int32_t kPage = 64;
constexpr int32_t kTopK = 2048;
constexpr int32_t kRope = FOVEAL_MLA_HEAD_DIM - FOVEAL_MLA_VALUE_DIM;

/// A batch of sequences of one length, whose caches were filled by the kernels that fill them in
/// use, from random projections.
class Layer {
 public:
  Layer(CudaBench& bench, int32_t batch, int32_t length, int32_t dtype)
      : bench_(bench), batch_(batch), length_(length), dtype_(dtype) {
    fill();
  }

  void prepare() {
    foveal_indexer_prepare_params p = prepare_params(batch_, index_inputs_);
    p.kv_len = at<int32_t>(lens_);
    p.q = index_q_.data();
    p.q_row_stride = int64_t{kIndexHeads} * kIndexDim;
    p.weights = at<float>(index_weights_);
    p.weights_row_stride = kIndexHeads;
    p.q_out = index_q_out_.data();
    p.weights_out = at<float>(index_weights_out_);
    cuda::indexer_prepare(p, native());
  }
  void store() { store_rows(latents_, batch_, nullptr, at<int32_t>(lens_)); }
  void scores() {
    foveal_indexer_scores_params p{};
    p.struct_size = sizeof(p);
    p.num_seqs = p.num_rows = p.row_count = batch_;
    p.num_heads = kIndexHeads;
    p.head_dim = kIndexDim;
    p.q = index_q_out_.data();
    p.weights = at<float>(index_weights_out_);
    p.kv_len = at<int32_t>(lens_);
    p.page_table = at<int32_t>(table_);
    p.page_table_stride = length_ / kPage;
    p.max_kv_len = length_;
    p.keys = keys();
    p.first_position = kTopK;
    p.scores = at<float>(scores_);
    p.row_stride = length_;
    cuda::indexer_scores(p, native());
  }
  void choose() {
    foveal_top_k_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = batch_;
    p.values = at<float>(scores_);
    p.row_stride = p.max_length = length_;
    p.lengths = at<int32_t>(lens_);
    p.rows_a_length = 1;
    p.k = kTopK;
    p.indices = at<int32_t>(tokens_);
    p.indices_stride = kTopK;
    p.counts = at<int32_t>(counts_);
    cuda::top_k(p, native());
  }
  void attend() { cuda::mla_attention(attention(true), native()); }
  void dense() { cuda::mla_attention(attention(false), native()); }

  /// Chosen tokens are there, ascending and of the row; so is a finite output.
  bool right() {
    std::vector<int32_t> tokens(static_cast<size_t>(batch_) * kTopK);
    std::vector<uint16_t> out(static_cast<size_t>(batch_) * kHeads * FOVEAL_MLA_VALUE_DIM);
    bench_.stream().copy(tokens.data(), tokens_.data(), tokens.size() * 4);
    bench_.stream().copy(out.data(), out_.data(), out.size() * 2);
    bench_.stream().synchronize();
    for (size_t i = 0; i < tokens.size(); ++i) {
      const int32_t before = i % kTopK == 0 ? -1 : tokens[i - 1];
      if (tokens[i] <= before || tokens[i] >= length_) return false;
    }
    bool any = false;
    for (const uint16_t x : out) {
      if ((x & 0x7F80) == 0x7F80) return false;
      any = any || (x & 0x7FFF) != 0;
    }
    return any;
  }

 private:
  template <class T>
  static T* at(const Buffer& buffer) {
    return reinterpret_cast<T*>(buffer.data());
  }
  void* native() { return bench_.stream().native(); }
  Buffer upload(const std::vector<int32_t>& values) {
    Buffer out = CudaBench::zeros(values.size() * 4);
    bench_.stream().copy(out.data(), values.data(), values.size() * 4);
    bench_.stream().synchronize();
    return out;
  }

  int32_t num_pages() const { return batch_ * (length_ / kPage); }
  int64_t latent_row() const {
    return dtype_ == FOVEAL_E4M3 ? FOVEAL_MLA_FP8_ROW : FOVEAL_MLA_HEAD_DIM * 2;
  }
  foveal_index_keys keys() const {
    return {.data = keys_.data(),
            .page_bytes = int64_t{kPage} * (kIndexDim + 4),
            .page_size = kPage,
            .num_pages = num_pages()};
  }
  foveal_latent_cache cache() const {
    return {.data = cache_.data(),
            .page_bytes = kPage * latent_row(),
            .dtype = dtype_,
            .page_size = kPage,
            .num_pages = num_pages()};
  }

  foveal_indexer_prepare_params prepare_params(int32_t rows, const Buffer& k) {
    foveal_indexer_prepare_params p{};
    p.struct_size = sizeof(p);
    p.num_seqs = batch_;
    p.num_rows = rows;
    p.num_heads = kIndexHeads;
    p.head_dim = kIndexDim;
    p.k = k.data();
    p.k_row_stride = kIndexDim;
    p.page_table = at<int32_t>(table_);
    p.page_table_stride = length_ / kPage;
    p.keys = keys();
    return p;
  }

  void store_rows(const Buffer& latents, int32_t rows, const int32_t* slots,
                  const int32_t* counts) {
    foveal_mla_store_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = rows;
    p.latent = latents.data();
    p.latent_stride = p.rope_stride = FOVEAL_MLA_HEAD_DIM;
    p.rope = at<uint16_t>(latents) + FOVEAL_MLA_VALUE_DIM;
    p.slots = slots;
    p.counts = counts;
    p.page_table = at<int32_t>(table_);
    p.page_table_stride = length_ / kPage;
    p.cache = cache();
    cuda::mla_store(p, native());
  }

  foveal_mla_params attention(bool listed) {
    foveal_mla_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = batch_;
    p.num_heads = kHeads;
    p.max_keys = listed ? kTopK : length_;
    p.q = q_.data();
    p.q_row_stride = int64_t{kHeads} * FOVEAL_MLA_HEAD_DIM;
    p.q_head_stride = FOVEAL_MLA_HEAD_DIM;
    p.out = out_.data();
    p.out_row_stride = int64_t{kHeads} * FOVEAL_MLA_VALUE_DIM;
    p.out_head_stride = FOVEAL_MLA_VALUE_DIM;
    p.cache = cache();
    if (listed) {
      p.indices = at<int32_t>(tokens_);
      p.indices_stride = kTopK;
      p.flags = FOVEAL_MLA_LOCAL;
    }
    p.counts = listed ? at<int32_t>(counts_) : at<int32_t>(lens_);
    p.page_table = at<int32_t>(table_);
    p.page_table_stride = length_ / kPage;
    p.softmax_scale = 1 / std::sqrt(192.0F);
    p.workspace = workspace_.data();
    p.workspace_bytes = workspace_.size();
    return p;
  }

  /// Every token's row and index key, one sequence after the other.
  void fill() {
    std::vector<int32_t> order(static_cast<size_t>(num_pages()));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    table_ = upload(order);
    lens_ = upload(std::vector<int32_t>(static_cast<size_t>(batch_), length_));
    const int32_t rows = num_pages() * kPage;
    cache_ = CudaBench::zeros(static_cast<size_t>(rows * latent_row()));
    keys_ = CudaBench::zeros(static_cast<size_t>(rows) * (kIndexDim + 4));
    std::vector<int32_t> slots(static_cast<size_t>(rows));
    std::iota(slots.begin(), slots.end(), 0);
    const Buffer slots_dev = upload(slots);
    const Buffer all = bench_.weights(static_cast<size_t>(rows) * FOVEAL_MLA_HEAD_DIM, 2);
    store_rows(all, rows, at<int32_t>(slots_dev), nullptr);
    std::vector<int32_t> begins;
    for (int32_t s = 0; s <= batch_; ++s) begins.push_back(s * length_);
    const Buffer cu_q = upload(begins);
    foveal_indexer_prepare_params p = prepare_params(rows, all);
    p.cu_q = at<int32_t>(cu_q);
    p.kv_len = at<int32_t>(lens_);
    cuda::indexer_prepare(p, native());
    bench_.stream().synchronize();
  }

  size_t rows_of(int64_t width) const { return static_cast<size_t>(batch_ * width); }

  CudaBench& bench_;
  int32_t batch_, length_, dtype_;
  Buffer table_, lens_, cache_, keys_;
  Buffer latents_ = bench_.weights(rows_of(FOVEAL_MLA_HEAD_DIM), 3);
  Buffer q_ = bench_.weights(rows_of(int64_t{kHeads} * FOVEAL_MLA_HEAD_DIM), 4);
  Buffer index_inputs_ = bench_.weights(rows_of(kIndexDim), 5);
  Buffer index_q_ = bench_.weights(rows_of(int64_t{kIndexHeads} * kIndexDim), 6);
  Buffer index_weights_ = bench_.weights(rows_of(int64_t{kIndexHeads} * 2), 7);
  Buffer index_q_out_ = CudaBench::zeros(rows_of(int64_t{kIndexHeads} * kIndexDim));
  Buffer index_weights_out_ = CudaBench::zeros(rows_of(kIndexHeads * 4));
  Buffer scores_ = CudaBench::zeros(rows_of(int64_t{length_} * 4));
  Buffer tokens_ = CudaBench::zeros(rows_of(kTopK * 4));
  Buffer counts_ = CudaBench::zeros(rows_of(4));
  Buffer out_ = CudaBench::zeros(rows_of(int64_t{kHeads} * FOVEAL_MLA_VALUE_DIM * 2));
  Buffer workspace_ = CudaBench::zeros(size_t{512} << 20);
};

void run(CudaBench& bench, int32_t batch, int32_t length, int32_t dtype) {
  Layer layer(bench, batch, length, dtype);
  const double all = bench.time_cold([&] {
    layer.prepare();
    layer.store();
    layer.scores();
    layer.choose();
    layer.attend();
  });
  const bool right = layer.right();
  const double prepare = bench.time_cold([&] { layer.prepare(); });
  const double store = bench.time_cold([&] { layer.store(); });
  const double scores = bench.time_cold([&] { layer.scores(); });
  const double choose = bench.time_cold([&] { layer.choose(); });
  const double attend = bench.time_cold([&] { layer.attend(); });
  const double dense = bench.time_cold([&] { layer.dense(); }, 5);
  std::printf(
      "%3d x %-6d %s rows: layer %6.1f us; alone: prepare %5.1f, store %5.1f, scores %6.1f, "
      "top-k %5.1f, latent attention %6.1f; all keys %8.1f us%s\n",
      batch, length, dtype == FOVEAL_E4M3 ? "656-byte" : "bf16", all, prepare, store, scores,
      choose, attend, dense, right ? "" : "  WRONG");
  std::fflush(stdout);
}

}  // namespace
}  // namespace foveal::bench

int main() {
  foveal::bench::CudaBench bench;
  const foveal::Buffer word = foveal::bench::CudaBench::zeros(256);
  std::printf("a graph that fills 256 bytes reads %.1f us\n",
              bench.time_cold([&] { bench.stream().fill(word.data(), 0, 256); }));
  for (const int32_t dtype : {FOVEAL_E4M3, FOVEAL_BF16}) {
    for (const int32_t batch : {1, 8, 32}) {
      for (const int32_t length : {8192, 32768, 131072}) {
        foveal::bench::run(bench, batch, length, dtype);
      }
    }
  }
  return 0;
}
