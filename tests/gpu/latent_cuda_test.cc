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

/// Sequences in shuffled pages of 656-byte rows, and lists of tokens for each row.
class LatentAttendTest : public CudaTest {
 protected:
  void make(const std::vector<int32_t>& lengths, int32_t rows, int32_t heads, int32_t most) {
    lens_ = lengths;
    heads_ = heads;
    most_ = most;
    stride_ = (*std::max_element(lens_.begin(), lens_.end()) + kPage - 1) / kPage;
    table_.resize(lens_.size() * static_cast<size_t>(stride_));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), rng_);
    fill_cache();
    q_ = to_bf16(normal(static_cast<size_t>(rows) * heads * kDim));
    lists_.resize(static_cast<size_t>(rows) * most);
    for (int32_t row = 0; row < rows; ++row) {
      const int32_t seen = lens_.size() == 1 ? lens_[0] - rows + row + 1 : lens_.at(row);
      std::uniform_int_distribution<int32_t> any(-1, seen - 1);
      for (int32_t i = 0; i < most; ++i) lists_[static_cast<size_t>(row) * most + i] = any(rng_);
    }
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

  /// `count` sequences from `first` on, a row each, or all rows of the only one.
  std::vector<uint16_t> run(int64_t first, int64_t count, bool listed, LatentRoom room) {
    const bool decode = lens_.size() > 1;
    const auto rows = static_cast<int64_t>(lists_.size()) / most_;
    const int64_t rows_now = decode ? count : rows;
    const auto q = part(q_, first * heads_ * kDim, rows_now * heads_ * kDim);
    const auto tokens = part(lists_, first * most_, rows_now * most_);
    const auto lens = part(lens_, first, count);
    const auto pages = part(table_, first * stride_, count * stride_);
    const DeviceArray<uint16_t> queries = upload(std::vector(q.begin(), q.end()));
    const DeviceArray<int32_t> lists = upload(std::vector(tokens.begin(), tokens.end()));
    const DeviceArray<int32_t> kv_len = upload(std::vector(lens.begin(), lens.end()));
    const DeviceArray<int32_t> table = upload(std::vector(pages.begin(), pages.end()));
    const DeviceArray<int32_t> cu_q = upload(std::vector<int32_t>{0, static_cast<int32_t>(rows)});
    const DeviceArray<int32_t> row_seq = upload(std::vector<int32_t>(rows_now, 0));
    const DeviceArray<uint16_t> out(stream_, static_cast<size_t>(rows_now * heads_ * kValue));
    kernels::DeviceSeqs device{.num_seqs = static_cast<int32_t>(count),
                               .num_rows = static_cast<int32_t>(rows_now),
                               .max_kv_len = *std::max_element(lens.begin(), lens.end()),
                               .cu_q = decode ? nullptr : cu_q.data(),
                               .kv_len = kv_len.data(),
                               .row_keys = kv_len.data(),
                               .row_seq = decode ? nullptr : row_seq.data(),
                               .page_table = table.data(),
                               .page_table_stride = stride_};
    std::vector<kernels::AttentionSeq> seqs;
    for (const int32_t length : lens) {
      seqs.push_back({.q_len = decode ? 1 : static_cast<int32_t>(rows), .kv_len = length});
    }
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
                          .batch_invariant = true};
    LatentLists keys;
    if (listed) keys = {.tokens = lists.data(), .stride = most_, .most = most_};
    const DeviceArray<std::byte> workspace(stream_, latent_workspace_bytes(args, keys));
    attend_latent_cuda(args, keys, workspace.data(), stream_);
    return out.download();
  }

  std::vector<int32_t> lens_, table_, lists_;
  std::vector<uint16_t> q_;
  std::unique_ptr<DeviceArray<uint8_t>> cache_;
  int64_t stride_ = 0;
  int32_t heads_ = 0, most_ = 0;
};

// Where lists name rows often, and where they do not.
TEST_F(LatentAttendTest, APromptsRowsWidenedOnceGiveTheSameBits) {
  constexpr int32_t kLength = 1500;
  for (const int32_t rows : {200, 30}) {
    make({kLength}, rows, /*heads=*/128, /*most=*/300);
    const DeviceArray<uint16_t> room(stream_, size_t{kLength} * kDim);
    const DeviceArray<int32_t> starts(stream_, size_t{2});
    const std::vector<uint16_t> untouched = room.download();
    const std::vector<uint16_t> plain = run(0, 1, /*listed=*/true, {});
    EXPECT_EQ(run(0, 1, true, {.rows = room.data(), .starts = starts.data()}), plain) << rows;
    EXPECT_EQ(room.download() != untouched, rows == 200) << rows;
  }
}

TEST_F(LatentAttendTest, BatchInvariantDecodeDoesNotKnowItsBatch) {
  std::vector<int32_t> lengths = {3000, 1, 600, 2000};
  while (lengths.size() < 32) lengths.push_back(static_cast<int32_t>(lengths.size()) * 40);
  make(lengths, /*rows=*/32, /*heads=*/64, /*most=*/700);
  for (const bool listed : {true, false}) {
    const std::vector<uint16_t> batch = run(0, 32, listed, {});
    const auto width = static_cast<size_t>(heads_) * kValue;
    for (size_t row = 0; row < 4; ++row) {
      const std::vector<uint16_t> alone = run(static_cast<int64_t>(row), 1, listed, {});
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), batch.begin() + row * width)) << row;
    }
  }
}

}  // namespace
}  // namespace foveal::attention
