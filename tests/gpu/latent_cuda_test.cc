// Latent attention as methods call it on a GPU: what it may choose without its caller seeing it.
#include <numeric>

#include "attention/latent.h"
#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/latent.h"

namespace foveal::attention {
namespace {

using kernels::cuda::testing::CudaTest;
using kernels::cuda::testing::DeviceArray;
using kernels::cuda::testing::to_bf16;

constexpr int32_t kDim = FOVEAL_MLA_HEAD_DIM;
constexpr int32_t kValue = FOVEAL_MLA_VALUE_DIM;
constexpr int32_t kPage = 64;

template <class T>
std::span<const T> part(const std::vector<T>& of, int64_t first, int64_t count) {
  return std::span(of).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
}

/// Sequences in shuffled pages of 656-byte rows, and lists of tokens for each of their last rows.
class LatentAttendTest : public CudaTest {
 protected:
  void make(const std::vector<int32_t>& lengths, const std::vector<int32_t>& rows, int32_t heads,
            int32_t most) {
    lens_ = lengths;
    rows_ = rows;
    heads_ = heads;
    most_ = most;
    stride_ = (*std::max_element(lens_.begin(), lens_.end()) + kPage - 1) / kPage;
    table_.resize(lens_.size() * static_cast<size_t>(stride_));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), rng_);
    fill_cache();
    lists_.clear();
    row_seq_.clear();
    for (size_t seq = 0; seq < lens_.size(); ++seq) {
      for (int32_t row = 0; row < rows_[seq]; ++row) {
        std::uniform_int_distribution<int32_t> any(-1, lens_[seq] - rows_[seq] + row);
        for (int32_t i = 0; i < most; ++i) lists_.push_back(any(rng_));
        row_seq_.push_back(static_cast<int32_t>(seq));
      }
    }
    q_ = to_bf16(normal(row_seq_.size() * heads * kDim));
  }

  void fill_cache() {
    const size_t rows = table_.size() * kPage;
    const std::vector<uint16_t> values = to_bf16(normal(rows * kDim));
    cache_ = std::make_unique<DeviceArray<uint8_t>>(stream_, rows * kFp8LatentRowBytes);
    std::vector<int32_t> slots(rows);
    std::iota(slots.begin(), slots.end(), 0);
    const DeviceArray<uint16_t> from = upload(values);
    const DeviceArray<int32_t> to = upload(slots);
    kernels::cuda::mla_store({.struct_size = sizeof(foveal_mla_store_params),
                              .num_rows = static_cast<int32_t>(rows),
                              .latent = from.data(),
                              .latent_stride = kDim,
                              .rope = from.data() + kValue,
                              .rope_stride = kDim,
                              .slots = to.data(),
                              .cache = {.data = cache_->data(),
                                        .page_bytes = int64_t{kPage} * kFp8LatentRowBytes,
                                        .dtype = FOVEAL_E4M3,
                                        .page_size = kPage,
                                        .num_pages = static_cast<int32_t>(table_.size())}},
                             stream_.native());
    stream_.synchronize();
  }

  /// Decode: `count` sequences from `first` on, a row each.
  std::vector<uint16_t> decode(int64_t first, int64_t count, bool listed) {
    return run(first, count, first, count, listed, {});
  }
  std::vector<uint16_t> prefill(LatentRoom room) {
    const auto seqs = static_cast<int64_t>(lens_.size());
    return run(0, seqs, 0, static_cast<int64_t>(row_seq_.size()), /*listed=*/true, room);
  }

  std::vector<uint16_t> run(int64_t first, int64_t count, int64_t first_row, int64_t rows,
                            bool listed, LatentRoom room) {
    const bool decode = rows == count;
    const auto q = part(q_, first_row * heads_ * kDim, rows * heads_ * kDim);
    const auto tokens = part(lists_, first_row * most_, rows * most_);
    const auto lens = part(lens_, first, count);
    const auto pages = part(table_, first * stride_, count * stride_);
    const DeviceArray<uint16_t> queries = upload(std::vector(q.begin(), q.end()));
    const DeviceArray<int32_t> lists = upload(std::vector(tokens.begin(), tokens.end()));
    const DeviceArray<int32_t> kv_len = upload(std::vector(lens.begin(), lens.end()));
    const DeviceArray<int32_t> table = upload(std::vector(pages.begin(), pages.end()));
    const DeviceArray<int32_t> row_seq = upload(row_seq_);
    const DeviceArray<uint16_t> out(stream_, static_cast<size_t>(rows * heads_ * kValue));
    std::vector<kernels::AttentionSeq> seqs;
    std::vector<int32_t> begins = {0};
    for (int64_t seq = first; seq < first + count; ++seq) {
      const auto at = static_cast<size_t>(seq);
      seqs.push_back({.q_len = rows_[at], .kv_len = lens_[at]});
      begins.push_back(begins.back() + rows_[at]);
    }
    const DeviceArray<int32_t> cu_q = upload(begins);
    kernels::DeviceSeqs device{.num_seqs = static_cast<int32_t>(count),
                               .num_rows = static_cast<int32_t>(rows),
                               .max_kv_len = *std::max_element(lens.begin(), lens.end()),
                               .cu_q = decode ? nullptr : cu_q.data(),
                               .kv_len = kv_len.data(),
                               .row_keys = kv_len.data(),
                               .row_seq = decode ? nullptr : row_seq.data(),
                               .page_table = table.data(),
                               .page_table_stride = stride_};
    const AttendArgs args{.activation = DType::kBF16,
                          .q = queries.data(),
                          .out = out.data(),
                          .room = room,
                          .q_stride = int64_t{heads_} * kDim,
                          .out_stride = int64_t{heads_} * kValue,
                          .num_heads = heads_,
                          .kv = {.k = reinterpret_cast<std::byte*>(cache_->data()),
                                 .page_bytes = int64_t{kPage} * kFp8LatentRowBytes,
                                 .dtype = DType::kF8E4M3,
                                 .num_pages = static_cast<int32_t>(table_.size()),
                                 .page_size = kPage,
                                 .num_kv_heads = 1,
                                 .head_dim = kDim,
                                 .value_dim = kValue},
                          .seqs = seqs,
                          .device_seqs = &device,
                          .softmax_scale = 0.04F,
                          .batch_invariant = decode};
    LatentLists keys;
    if (listed) keys = {.tokens = lists.data(), .stride = most_, .most = most_};
    const DeviceArray<std::byte> workspace(stream_, latent_workspace_bytes(args, keys));
    attend_latent_cuda(args, keys, workspace.data(), stream_);
    return out.download();
  }

  std::vector<int32_t> lens_, rows_, table_, lists_, row_seq_;
  std::vector<uint16_t> q_;
  std::unique_ptr<DeviceArray<uint8_t>> cache_;
  int64_t stride_ = 0;
  int32_t heads_ = 0, most_ = 0;
};

// Of sequences whose lists name rows often, and of the others between them.
TEST_F(LatentAttendTest, APromptsRowsWidenedOnceGiveTheSameBits) {
  const std::vector<std::pair<std::vector<int32_t>, std::vector<int32_t>>> kCases = {
      {{1500}, {200}}, {{1500}, {30}}, {{900, 1500, 400, 1400, 300}, {150, 3, 5, 200, 40}}};
  for (const auto& [lengths, rows] : kCases) {
    make(lengths, rows, /*heads=*/128, /*most=*/300);
    const DeviceArray<uint16_t> room(stream_, size_t{1500} * kDim);
    const DeviceArray<int32_t> starts(stream_, size_t{2});
    const std::vector<uint16_t> untouched = room.download();
    const std::vector<uint16_t> plain = prefill({});
    EXPECT_EQ(prefill({.rows = room.data(), .starts = starts.data()}), plain) << rows[0];
    EXPECT_EQ(room.download() != untouched, rows[0] != 30) << rows[0];
  }
}

TEST_F(LatentAttendTest, BatchInvariantDecodeDoesNotKnowItsBatch) {
  std::vector<int32_t> lengths = {3000, 1, 600, 2000};
  while (lengths.size() < 32) lengths.push_back(static_cast<int32_t>(lengths.size()) * 40);
  make(lengths, std::vector<int32_t>(32, 1), /*heads=*/64, /*most=*/700);
  for (const bool listed : {true, false}) {
    const std::vector<uint16_t> batch = decode(0, 32, listed);
    const auto width = static_cast<size_t>(heads_) * kValue;
    for (size_t row = 0; row < 4; ++row) {
      const std::vector<uint16_t> alone = decode(static_cast<int64_t>(row), 1, listed);
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), batch.begin() + row * width)) << row;
    }
  }
}

}  // namespace
}  // namespace foveal::attention
