#include "attention/rocket/page_select.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/check.h"
#include "base/math.h"

namespace foveal::attention::rocket {
namespace {

using kernels::AttentionSeq;

/// Keys of a scoring task, over all of its KV heads: 0.1 ms at most, and no less than pays for a
/// task. A page's score is its own, whatever the task.
constexpr int32_t kScoreTokens = 16384;
constexpr int32_t kFewestScoreTokens = 512;
constexpr int64_t kTasksAThread = 4;  ///< the last ones to end differ by less than a task
constexpr int64_t kLine = 64;
constexpr int32_t kMaxHeadDim = 256;

/// A (sequence, KV head) with more candidates than it may select.
struct Row {
  int32_t seq = 0;
  int32_t head = 0;
  int32_t num_candidates = 0;
  int32_t num_cache_pages = 0;  ///< that are scored
  int64_t stride = 0;           ///< of a query head's scores: whole cache pages, a multiple of 16
  int64_t begin = 0;            ///< of its scores, in floats
  int64_t table = -1;           ///< of listed candidates: where their cache pages begin in tables_
  int64_t list = 0;             ///< and they themselves, in listed_
};

/// Some cache pages of neighbouring rows that read the same ones: a task.
struct Split {
  size_t row = 0;
  int32_t num_rows = 0;
  int32_t first = 0;  ///< cache page
  int32_t end = 0;
};

/// A listed candidate.
struct Listed {
  int32_t page = 0;
  int32_t place = 0;  ///< among the pages that are scored
};

class SelectCall {
 public:
  SelectCall(const PageSelectParams& params, Stream& stream, OwnedSelection& out)
      : p_(params),
        isa_(rocket_kernels()),
        out_(out),
        heads_(params.kv.num_kv_heads),
        group_(params.num_heads / heads_),
        per_cache_page_(params.kv.page_size / params.bounds.page_size),
        head_bytes_(params.bounds.bytes_per_page / heads_) {
    const int64_t threads = stream.pool().num_threads();
    const int64_t tasks = threads == 1 ? 1 : kTasksAThread * threads;
    const auto num_seqs = std::max<int64_t>(1, std::ssize(p_.seqs));
    rows_.reserve(p_.seqs.size() * static_cast<size_t>(heads_));
    out_.offsets.reserve(rows_.capacity() + 1);
    out_.indices.reserve(rows_.capacity() * static_cast<size_t>(p_.topk));
    out_.offsets.push_back(0);
    for (size_t seq = 0; seq < p_.seqs.size(); ++seq) add(seq, ceil_div(tasks, num_seqs));
    num_query_ints_ = int64_t{2} * p_.num_channels + 1 + ceil_div(head_bytes_, kLine) + 1;
    num_query_floats_ = int64_t{2} * group_ * p_.num_channels;
    const int64_t query_bytes = 4 * (num_query_ints_ + num_query_floats_) * std::ssize(rows_);
    scores_ = reinterpret_cast<float*>(
        stream.scratch(static_cast<size_t>(num_floats_ * 4 + query_bytes)));
    queries_.resize(rows_.size());
  }

  void run(Stream& stream) {
    ThreadPool& pool = stream.pool();
    const auto num_rows = static_cast<int64_t>(rows_.size());
    if (p_.seqs.size() == 1) {  // less work than waking another thread
      for (int64_t row = 0; row < num_rows; ++row) open(static_cast<size_t>(row));
    } else {
      pool.run(num_rows, [&](int64_t row, int) { open(static_cast<size_t>(row)); });
    }
    pool.run(std::ssize(splits_),
             [&](int64_t task, int) { isa_.scores(item(splits_[static_cast<size_t>(task)])); });
    pool.run(num_rows, [&](int64_t row, int) { choose(rows_[static_cast<size_t>(row)]); });
    if (p_.ranks != nullptr) copy_ranks();
  }

 private:
  /// Rows of a sequence and about `tasks` tasks that score them.
  void add(size_t idx, int64_t tasks) {
    const size_t first = rows_.size();
    for (int32_t head = 0; head < heads_; ++head) add_row(idx, head);
    const auto count = static_cast<int32_t>(rows_.size() - first);
    if (count == 0) return;
    if (rows_[first].table < 0) {
      add_splits(first, count, tasks);
    } else {
      for (int32_t row = 0; row < count; ++row) {
        add_splits(first + static_cast<size_t>(row), 1, ceil_div(tasks, int64_t{count}));
      }
    }
  }

  void add_splits(size_t row, int32_t num_rows, int64_t tasks) {
    const int32_t num_pages = rows_[row].num_cache_pages;
    const int64_t fewest = ceil_div(kFewestScoreTokens, p_.kv.page_size);
    const int64_t most = ceil_div(kScoreTokens, p_.kv.page_size * num_rows);
    const auto step = static_cast<int32_t>(
        std::clamp(ceil_div(int64_t{num_pages}, tasks), fewest, std::max(fewest, most)));
    for (int32_t page = 0; page < num_pages; page += step) {
      splits_.push_back({.row = row,
                         .num_rows = num_rows,
                         .first = page,
                         .end = std::min(num_pages, page + step)});
    }
  }

  /// Selects all candidates, or makes a row of them.
  void add_row(size_t idx, int32_t head) {
    const AttentionSeq& seq = p_.seqs[idx];
    const PageCandidates candidates = p_.candidates.empty() ? PageCandidates{} : p_.candidates[idx];
    const auto num_pages = static_cast<int32_t>(ceil_div(seq.kv_len, p_.bounds.page_size));
    std::span<const int32_t> listed;
    int32_t first_new = 0;
    if (candidates.prompt != nullptr) {
      const std::vector<int32_t>& offsets = candidates.prompt->offsets;
      listed = std::span(candidates.prompt->indices).subspan(offsets[head]);
      listed = listed.first(offsets[head + 1] - offsets[head]);
      first_new = candidates.first_new;
    }
    const auto count = static_cast<int32_t>(listed.size()) + num_pages - first_new;
    out_.offsets.push_back(out_.offsets.back() + std::min(p_.topk, count));
    out_.indices.resize(out_.offsets.back());
    if (count <= p_.topk) {
      const auto at = std::copy(listed.begin(), listed.end(), out_.indices.end() - count);
      std::iota(at, out_.indices.end(), first_new);
      return;
    }
    Row row{.seq = static_cast<int32_t>(idx),
            .head = head,
            .num_candidates = count,
            .num_cache_pages = static_cast<int32_t>(ceil_div(seq.kv_len, p_.kv.page_size)),
            .begin = num_floats_};
    if (candidates.prompt != nullptr) add_list(seq, listed, first_new, num_pages, row);
    row.stride = round_up(int64_t{row.num_cache_pages} * per_cache_page_, 16);
    num_floats_ += (group_ + 1) * row.stride;
    rows_.push_back(row);
  }

  /// Only cache pages with candidates are scored.
  void add_list(const AttentionSeq& seq, std::span<const int32_t> listed, int32_t first_new,
                int32_t num_pages, Row& row) {
    row.table = static_cast<int64_t>(tables_.size());
    row.list = static_cast<int64_t>(listed_.size());
    int32_t last = -1;
    const auto add_page = [&](int32_t page) {
      const int32_t cache_page = page / per_cache_page_;
      if (cache_page != last) tables_.push_back(seq.pages[cache_page]);
      last = cache_page;
      const auto scored = static_cast<int32_t>(static_cast<int64_t>(tables_.size()) - row.table);
      listed_.push_back({page, (scored - 1) * per_cache_page_ + page % per_cache_page_});
    };
    for (const int32_t page : listed) add_page(page);
    for (int32_t page = first_new; page < num_pages; ++page) add_page(page);
    row.num_cache_pages = static_cast<int32_t>(static_cast<int64_t>(tables_.size()) - row.table);
  }

  float* scores(const Row& row) const { return scores_ + row.begin; }
  float* ranks(const Row& row) const { return scores(row) + group_ * row.stride; }

  kernels::cpu::RocketScoreItem item(const Split& split) const {
    const Row& row = rows_[split.row];
    const int32_t* table =
        row.table < 0 ? p_.seqs[static_cast<size_t>(row.seq)].pages : tables_.data() + row.table;
    return {.bounds = p_.bounds.data + head_bytes_ * row.head,
            .head_bytes = head_bytes_,
            .bytes_per_page = p_.bounds.bytes_per_page,
            .cache_pages = table + split.first,
            .num_cache_pages = split.end - split.first,
            .pages_per_cache_page = per_cache_page_,
            .format = p_.bounds.format,
            .queries = queries_.data() + split.row,
            .num_kv_heads = split.num_rows,
            .num_rows = p_.num_channels,
            .group = group_,
            .exact = p_.exact,
            .scores = scores(row) + int64_t{split.first} * per_cache_page_,
            .head_stride = (group_ + 1) * row.stride,
            .score_stride = row.stride};
  }

  /// What of a row's query its pages are scored with: channels by the group's |q|, the side of each
  /// by the sign of the group's sum, and coefficients with SparQ's correction for the channels left
  /// out.
  void open(size_t at) {
    const Row& row = rows_[at];
    float* coefs = scores_ + num_floats_ + static_cast<int64_t>(at) * num_query_floats_;
    auto* ints =
        reinterpret_cast<int32_t*>(scores_ + num_floats_ + std::ssize(rows_) * num_query_floats_) +
        static_cast<int64_t>(at) * num_query_ints_;
    const int32_t count = p_.num_channels;
    const int32_t dim = p_.kv.head_dim;
    const float* q = p_.q + p_.seqs[static_cast<size_t>(row.seq)].q_begin * p_.q_stride +
                     int64_t{row.head} * group_ * dim;
    std::array<int32_t, kMaxHeadDim> channels;
    if (count < dim) {
      std::array<float, kMaxHeadDim> importance{};
      for (int32_t idx = 0; idx < group_ * dim; ++idx) importance[idx % dim] += std::abs(q[idx]);
      isa_.top(importance.data(), dim, count, channels.data());
    } else {
      std::iota(channels.begin(), channels.begin() + dim, 0);
    }
    for (int32_t idx = 0; idx < count; ++idx) {
      float sum = 0;
      for (int32_t head = 0; head < group_; ++head) sum += q[head * dim + channels[idx]];
      ints[idx] = channels[idx] + (sum > 0 ? dim : 0);
    }
    for (int32_t head = 0; head < group_; ++head) {
      const float* own = q + int64_t{head} * dim;
      float all = 0;
      for (int32_t ch = 0; ch < dim; ++ch) all += std::abs(own[ch]);
      float kept = 0;
      for (int32_t idx = 0; idx < count; ++idx) kept += std::abs(own[channels[idx]]);
      const float scale = p_.softmax_scale * std::numbers::log2e_v<float> *
                          (kept > 0 ? std::sqrt(all / kept) : 1.0F);
      for (int32_t idx = 0; idx < count; ++idx) {
        coefs[head * count + idx] = own[channels[idx]] * scale;
      }
    }
    int32_t* lines = ints + 2 * count + 1;
    queries_[at] = {.rows = ints,
                    .coefs = coefs,
                    .offsets = ints + count,
                    .factors = coefs + int64_t{group_} * count,
                    .lines = lines,
                    .num_lines = list_lines(ints, lines)};
    isa_.score_open(item({.row = at, .num_rows = 1}));
  }

  /// The cache lines of the rows, which one after the other share them, ascending; answers how
  /// many.
  int32_t list_lines(const int32_t* rows, int32_t* lines) const {
    const int64_t row_bytes =
        int64_t{per_cache_page_} * kernels::cpu::bound_bytes(p_.bounds.format);
    int32_t count = 0;
    int64_t next = 0;
    for (const bool upper : {false, true}) {
      for (int32_t idx = 0; idx < p_.num_channels; ++idx) {
        if ((rows[idx] >= p_.kv.head_dim) != upper) continue;
        const int64_t begin = rows[idx] * row_bytes;
        next = std::max(next, begin / kLine);
        for (; next * kLine < begin + row_bytes; ++next) {
          lines[count++] = static_cast<int32_t>(next * kLine);
        }
      }
    }
    return count;
  }

  void choose(const Row& row) {
    const Listed* listed = row.table < 0 ? nullptr : listed_.data() + row.list;
    for (int32_t head = 0; listed != nullptr && head < group_; ++head) {
      float* s = scores(row) + head * row.stride;
      for (int32_t at = 0; at < row.num_candidates; ++at) s[at] = s[listed[at].place];
    }
    float* ranked = ranks(row);
    isa_.rank({.scores = scores(row),
               .ranks = ranked,
               .score_stride = row.stride,
               .num_pages = row.num_candidates,
               .group = group_,
               .max_over_group = p_.max_over_group});
    int32_t* out = out_.indices.data() + out_.offsets[int64_t{row.seq} * heads_ + row.head];
    const int32_t newest = row.num_candidates - p_.recent;
    const int32_t chosen = p_.topk - p_.recent;  // with the first ones
    std::iota(out, out + p_.sink, 0);
    isa_.top(ranked + p_.sink, newest - p_.sink, chosen - p_.sink, out + p_.sink);
    for (int32_t at = p_.sink; at < chosen; ++at) out[at] += p_.sink;
    std::iota(out + chosen, out + p_.topk, newest);
    if (listed == nullptr) return;
    for (int32_t at = 0; at < p_.topk; ++at) out[at] = listed[out[at]].page;
  }

  void copy_ranks() const {
    p_.ranks->clear();
    for (const Row& row : rows_) {
      p_.ranks->insert(p_.ranks->end(), ranks(row), ranks(row) + row.num_candidates);
    }
  }

  const PageSelectParams& p_;
  const kernels::cpu::RocketKernels& isa_;
  OwnedSelection& out_;
  int32_t heads_;
  int32_t group_;
  int32_t per_cache_page_;
  int64_t head_bytes_;  ///< of a KV head's bounds in a cache page
  int64_t num_floats_ = 0;
  int64_t num_query_ints_ = 0;  ///< of a row
  int64_t num_query_floats_ = 0;
  std::vector<Row> rows_;
  std::vector<Split> splits_;
  std::vector<int32_t> tables_;  ///< page ids of cache pages with listed candidates
  std::vector<Listed> listed_;
  std::vector<kernels::cpu::RocketScoreQuery> queries_;  ///< a row's
  float* scores_ =
      nullptr;  ///< by row: [group + 1][stride], ranks last; then what queries_ point to
};

void check_candidates(const PageSelectParams& params, size_t idx, std::string_view where) {
  const PageCandidates& candidates = params.candidates[idx];
  if (candidates.prompt == nullptr) return;
  const auto rows = static_cast<size_t>(params.kv.num_kv_heads);
  FOVEAL_CHECK(candidates.prompt->offsets.size() == rows + 1, ErrorKind::kInvalidArgument, where,
               "got candidates of {} rows; need one for each of {} KV heads",
               std::ssize(candidates.prompt->offsets) - 1, rows);
  FOVEAL_CHECK(int64_t{candidates.first_new} * params.bounds.page_size < params.seqs[idx].kv_len,
               ErrorKind::kInvalidArgument, where,
               "got pages from {} on as new; need the newest key's among them",
               candidates.first_new);
  for (size_t row = 0; row < rows; ++row) {
    int32_t last = -1;
    for (int32_t at = candidates.prompt->offsets[row]; at < candidates.prompt->offsets[row + 1];
         ++at) {
      const int32_t page = candidates.prompt->indices[at];
      FOVEAL_CHECK(page > last && page < candidates.first_new, ErrorKind::kInvalidArgument, where,
                   "got candidate {} after {}; need ascending ones below {}", page, last,
                   candidates.first_new);
      last = page;
    }
  }
}

void check(const PageSelectParams& params) {
  constexpr std::string_view kWhere = "rocket.select_pages";
  constexpr ErrorKind kBad = ErrorKind::kInvalidArgument;
  check_cache(params.kv, kWhere);
  check_heads(params.kv, params.num_heads, kWhere);
  check_bounds(params.kv, params.bounds, kWhere);
  const int64_t width = int64_t{params.num_heads} * params.kv.head_dim;
  FOVEAL_CHECK(params.seqs.empty() || (params.q != nullptr && params.q_stride >= width), kBad,
               kWhere, "got queries with row stride {}; need at least {}", params.q_stride, width);
  FOVEAL_CHECK(
      params.sink >= 0 && params.recent >= 1 && int64_t{params.sink} + params.recent <= params.topk,
      kBad, kWhere,
      "got topk {} with {} first and {} newest pages; need the newest at least, and topk "
      "for all of them",
      params.topk, params.sink, params.recent);
  FOVEAL_CHECK(params.num_channels >= 1 && params.num_channels <= params.kv.head_dim, kBad, kWhere,
               "got {} channels; need 1 to {}", params.num_channels, params.kv.head_dim);
  FOVEAL_CHECK(std::isfinite(params.softmax_scale), kBad, kWhere,
               "got a softmax scale of {}; need a finite one", params.softmax_scale);
  for (const AttentionSeq& seq : params.seqs) {
    FOVEAL_CHECK(seq.q_begin >= 0 && seq.q_len == 1 && seq.kv_len >= 1 && seq.pages != nullptr,
                 kBad, kWhere, "got {} rows with {} keys; need 1 row, its key and a page table",
                 seq.q_len, seq.kv_len);
  }
  FOVEAL_CHECK(params.candidates.empty() || params.candidates.size() == params.seqs.size(), kBad,
               kWhere, "got candidates of {} sequences; need those of all {}, or none",
               params.candidates.size(), params.seqs.size());
  for (size_t idx = 0; idx < params.candidates.size(); ++idx) {
    check_candidates(params, idx, kWhere);
  }
}

}  // namespace

OwnedSelection select_pages(const PageSelectParams& params, Stream& stream) {
  check(params);
  OwnedSelection out{.kind = SelectionKind::kPages};
  SelectCall call(params, stream, out);
  call.run(stream);
  return out;
}

int32_t num_channels(const std::variant<int64_t, double>& topr, int32_t head_dim) {
  const double share = std::holds_alternative<double>(topr) ? std::get<double>(topr) : 1.0;
  const int64_t count = std::holds_alternative<double>(topr) ? head_dim : std::get<int64_t>(topr);
  FOVEAL_CHECK(share > 0 && share <= 1 && count >= 1, ErrorKind::kInvalidArgument, "rocket.topr",
               "got {} channels and a share of {}; need at least one, and a share up to 1", count,
               share);
  if (count < head_dim) return static_cast<int32_t>(count);
  return static_cast<int32_t>(std::ceil(share * head_dim));
}

}  // namespace foveal::attention::rocket
