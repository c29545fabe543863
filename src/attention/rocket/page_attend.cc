#include "attention/rocket/page_attend.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "attention/rocket/dispatch.h"
#include "base/check.h"
#include "base/math.h"
#include "kernels/attention_check.h"
#include "kernels/attention_dispatch.h"

namespace foveal::attention::rocket {
namespace {

using kernels::AttentionSeq;
using kernels::PagedAttentionParams;
using kernels::cpu::kAttendChunk;
using kernels::cpu::kAttendSplit;

constexpr std::string_view kWhere = "rocket.attend_pages";

/// A (sequence, KV head) that does not attend to everything.
struct Row {
  int32_t seq = 0;
  int32_t head = 0;
  int64_t first_chunk = 0;
  int64_t first_split = 0;
  int32_t num_chunks = 0;
  int32_t num_splits = 0;
};

/// The selected tokens as bits of chunks: a chunk of K is a vector whatever is selected of it.
struct Chunks {
  std::vector<int32_t> at;
  std::vector<uint16_t> tokens;

  /// Tokens [begin, end), which follow what was added before, of a row whose chunks begin at
  /// `first`.
  void add(int32_t begin, int32_t end, int64_t first) {
    while (begin < end) {
      const int32_t chunk = begin / kAttendChunk;
      const int32_t stop = std::min(end, (chunk + 1) * kAttendChunk);
      const uint32_t upto = (1U << (stop - chunk * kAttendChunk)) - 1U;
      const uint32_t below = (1U << (begin - chunk * kAttendChunk)) - 1U;
      if (static_cast<int64_t>(at.size()) == first || at.back() != chunk) {
        at.push_back(chunk);
        tokens.push_back(0);
      }
      tokens.back() = static_cast<uint16_t>(tokens.back() | (upto & ~below));
      begin = stop;
    }
  }
};

class AttendCall {
 public:
  AttendCall(const PagedAttentionParams& params, const Selection& selection, int32_t page_size)
      : p_(params),
        isa_(rocket_kernels()),
        heads_(params.kv.num_kv_heads),
        group_(params.num_heads / heads_) {
    for (size_t idx = 0; idx < p_.seqs.size(); ++idx) add(idx, selection, page_size);
    for (const Row& row : rows_) {
      for (int32_t split = 0; split < row.num_splits; ++split) {
        splits_.push_back(static_cast<int32_t>(&row - rows_.data()));
      }
    }
  }

  void run(Stream& stream) {
    run_dense(stream);
    if (rows_.empty()) return;
    ThreadPool& pool = stream.pool();
    threads_ = pool.num_threads();
    const auto splits = static_cast<int64_t>(splits_.size());
    const int32_t dim = p_.kv.head_dim;
    item_bytes_ = round_up(static_cast<int64_t>(isa_.attend_scratch(dim, group_)), 4096);
    const int64_t acc_bytes = splits * group_ * kernels::cpu::padded_dim(dim) * 4;
    const int64_t max_bytes = round_up(splits * group_ * 4, 64);
    const auto left_bytes = static_cast<int64_t>(rows_.size() * sizeof(int32_t));
    scratch_ = stream.scratch(static_cast<size_t>(item_bytes_ * pool.num_threads() + acc_bytes +
                                                  2 * max_bytes + left_bytes));
    std::byte* partial = scratch_ + item_bytes_ * pool.num_threads();
    acc_ = reinterpret_cast<float*>(partial);
    max_ = reinterpret_cast<float*>(partial + acc_bytes);
    sum_ = reinterpret_cast<float*>(partial + acc_bytes + max_bytes);
    left_ = reinterpret_cast<int32_t*>(partial + acc_bytes + 2 * max_bytes);
    for (size_t idx = 0; idx < rows_.size(); ++idx) left_[idx] = rows_[idx].num_splits;
    pool.run(splits, [&](int64_t task, int worker) { run_task(task, worker); });
  }

 private:
  void add(size_t idx, const Selection& selection, int32_t page_size) {
    const AttentionSeq& seq = p_.seqs[idx];
    const auto num_pages = static_cast<int32_t>(ceil_div(seq.kv_len, page_size));
    const int32_t* offsets = selection.offsets + idx * heads_;
    bool all = true;
    for (int32_t head = 0; head < heads_; ++head) {
      const int32_t count = offsets[head + 1] - offsets[head];
      FOVEAL_CHECK(count >= 1 && count <= num_pages, ErrorKind::kInvalidArgument, kWhere,
                   "got {} pages of a sequence; need 1 to {}", count, num_pages);
      all = all && count == num_pages;
    }
    if (all) {
      dense_.push_back(idx);
      return;
    }
    uint64_t used = 0;
    for (int32_t head = 0; head < heads_; ++head) {
      Row row{.seq = static_cast<int32_t>(idx),
              .head = head,
              .first_chunk = static_cast<int64_t>(chunks_.at.size()),
              .first_split = num_splits_};
      int32_t last = -1;
      for (int32_t at = offsets[head]; at < offsets[head + 1]; ++at) {
        const int32_t page = selection.indices[at];
        FOVEAL_CHECK(page > last && page < num_pages, ErrorKind::kInvalidArgument, kWhere,
                     "got page {} after page {}; need ascending ones below {}", page, last,
                     num_pages);
        const int32_t end = std::min(seq.kv_len, (page + 1) * page_size);
        chunks_.add(page * page_size, end, row.first_chunk);
        used += static_cast<uint64_t>(end - page * page_size) * group_;
        last = page;
      }
      row.num_chunks =
          static_cast<int32_t>(static_cast<int64_t>(chunks_.at.size()) - row.first_chunk);
      row.num_splits = static_cast<int32_t>(ceil_div(row.num_chunks, kAttendSplit));
      num_splits_ += row.num_splits;
      rows_.push_back(row);
    }
    if (p_.counters == nullptr) return;
    p_.counters[idx].pairs += kernels::dense_pairs(seq, 0, p_.num_heads);
    p_.counters[idx].pairs_used += used;
  }

  void run_dense(Stream& stream) const {
    if (dense_.empty()) return;
    std::vector<AttentionSeq> seqs;
    for (const size_t idx : dense_) seqs.push_back(p_.seqs[idx]);
    std::vector<kernels::AttentionCounters> counters(seqs.size());
    PagedAttentionParams params = p_;
    params.seqs = seqs;
    params.counters = p_.counters == nullptr ? nullptr : counters.data();
    kernels::paged_decode(params, stream);
    for (size_t at = 0; at < dense_.size() && p_.counters != nullptr; ++at) {
      p_.counters[dense_[at]].add(counters[at]);
    }
  }

  kernels::cpu::RocketAttendItem item(int64_t task) const {
    const Row& row = rows_[splits_[task]];
    const int64_t split = task - row.first_split;
    const int64_t chunk = row.first_chunk + split * kAttendSplit;
    const AttentionSeq& seq = p_.seqs[row.seq];
    return {.kv = kernels::kv_head(p_.kv, seq, row.head),
            .q = p_.q + seq.q_begin * p_.q_stride + channel(row),
            .chunks = chunks_.at.data() + chunk,
            .tokens = chunks_.tokens.data() + chunk,
            .num_chunks = static_cast<int32_t>(
                std::min<int64_t>(kAttendSplit, row.num_chunks - split * kAttendSplit)),
            .num_heads = group_,
            .scale_log2 = kernels::scale_log2(p_),
            .exact = p_.exact,
            .max = max_ + task * group_,
            .sum = sum_ + task * group_,
            .acc = acc(task)};
  }

  void run_task(int64_t task, int worker) const {
    const Row& row = rows_[splits_[task]];
    kernels::cpu::RocketAttendItem own = item(task);
    kernels::cpu::RocketAttendItem next;
    if (task + threads_ < std::ssize(splits_)) {
      next = item(task + threads_);
      own.next = &next;
    }
    isa_.attend(own, scratch_ + worker * item_bytes_);
    // Whoever finishes a row's last split joins them, in ascending order whoever it is.
    const std::atomic_ref<int32_t> left(left_[splits_[task]]);
    if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    kernels::attention_kernels().combine(
        {.max = max_ + row.first_split * group_,
         .sum = sum_ + row.first_split * group_,
         .acc = acc(row.first_split),
         .out = p_.out + p_.seqs[row.seq].q_begin * p_.out_stride + channel(row),
         .num_splits = row.num_splits,
         .num_heads = group_,
         .head_dim = p_.kv.head_dim});
  }

  int64_t channel(const Row& row) const { return int64_t{row.head} * group_ * p_.kv.head_dim; }
  float* acc(int64_t split) const {
    return acc_ + split * group_ * kernels::cpu::padded_dim(p_.kv.head_dim);
  }

  const PagedAttentionParams& p_;
  const kernels::cpu::RocketKernels& isa_;
  int32_t heads_;
  int32_t group_;
  std::vector<size_t> dense_;
  std::vector<Row> rows_;
  std::vector<int32_t> splits_;  ///< the row of each
  Chunks chunks_;
  int64_t num_splits_ = 0;
  int64_t item_bytes_ = 0;
  int32_t threads_ = 1;
  std::byte* scratch_ = nullptr;
  float* acc_ = nullptr;  ///< [splits][group][padded_dim]
  float* max_ = nullptr;  ///< [splits][group]
  float* sum_ = nullptr;
  int32_t* left_ = nullptr;  ///< [rows] splits still to be done
};

}  // namespace

void attend_pages(const PagedAttentionParams& params, const Selection& selection, int32_t page_size,
                  Stream& stream) {
  kernels::check_attention(params, kernels::AttentionPhase::kDecode);
  FOVEAL_CHECK(params.window == 0 && params.skip_factor == 0, ErrorKind::kUnsupported, kWhere,
               "got a window of {} and a skip factor of {}; need 0 for both", params.window,
               params.skip_factor);
  if (selection.kind == SelectionKind::kAll) {
    kernels::paged_decode(params, stream);
    return;
  }
  check_page_size(params.kv.page_size, page_size, kWhere);
  const auto rows = static_cast<int64_t>(params.seqs.size()) * params.kv.num_kv_heads;
  FOVEAL_CHECK(selection.kind == SelectionKind::kPages && selection.num_rows == rows,
               ErrorKind::kInvalidArgument, kWhere,
               "got a selection of {} rows; need pages for {} sequences and KV heads",
               selection.num_rows, rows);
  AttendCall(params, selection, page_size).run(stream);
}

}  // namespace foveal::attention::rocket
