#include "attention/rocket/page_select.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/check.h"
#include "base/math.h"
#include "kernels/topk.h"

namespace foveal::attention::rocket {
namespace {

using kernels::AttentionSeq;

/// Keys of a scoring task: about 0.1 ms of one KV head's bounds at most.
constexpr int32_t kScoreTokens = 4096;

/// Some cache pages of a sequence: with a KV head, a task.
struct Split {
  int32_t seq = 0;
  int32_t first = 0;  ///< cache page
  int32_t end = 0;
  int32_t num_splits = 0;  ///< of the sequence
};

/// Where a ranked sequence's numbers lie.
struct Place {
  int64_t stride = 0;  ///< of a head's scores: the pages of whole cache pages, a multiple of 16
  int64_t begin = 0;   ///< of its first KV head's scores, in floats
  int32_t num_pages = 0;
};

/// What of the query a KV head's pages are scored with.
struct Query {
  float* coefs = nullptr;   ///< [group][num_channels]
  int32_t* rows = nullptr;  ///< [num_channels]
  std::vector<float> importance;
};

class SelectCall {
 public:
  SelectCall(const PageSelectParams& params, Stream& stream, OwnedSelection& out)
      : p_(params),
        isa_(rocket_kernels()),
        out_(out),
        heads_(params.kv.num_kv_heads),
        group_(params.num_heads / heads_),
        per_cache_page_(params.kv.page_size / params.bounds.page_size) {
    int64_t floats = 0;
    out_.offsets.push_back(0);
    for (size_t idx = 0; idx < p_.seqs.size(); ++idx) floats = add(idx, floats);
    out_.indices.resize(out_.offsets.back());
    query_bytes_ = round_up(int64_t{group_ + 1} * p_.num_channels * 4, 64);
    const int64_t left = static_cast<int64_t>(p_.seqs.size()) * heads_ * 4;
    std::byte* scratch = stream.scratch(
        static_cast<size_t>(floats * 4 + query_bytes_ * stream.pool().num_threads() + left));
    scores_ = reinterpret_cast<float*>(scratch);
    queries_ = scratch + floats * 4;
    left_ = reinterpret_cast<int32_t*>(queries_ + query_bytes_ * stream.pool().num_threads());
    for (const Split& split : splits_) {
      std::fill_n(left_ + int64_t{split.seq} * heads_, heads_, split.num_splits);
    }
  }

  void run(Stream& stream) {
    fill_all();
    stream.pool().run(static_cast<int64_t>(splits_.size()) * heads_,
                      [&](int64_t task, int worker) { run_task(task, worker); });
    if (p_.ranks != nullptr) copy_ranks();
  }

 private:
  /// Sequence `idx`: all of its pages, or a place for their scores and tasks that fill it.
  int64_t add(size_t idx, int64_t floats) {
    const AttentionSeq& seq = p_.seqs[idx];
    const auto num_pages = static_cast<int32_t>(ceil_div(seq.kv_len, p_.bounds.page_size));
    const int32_t kept = std::min(p_.topk, num_pages);
    for (int32_t head = 0; head < heads_; ++head) {
      out_.offsets.push_back(out_.offsets.back() + kept);
    }
    const auto cache_pages = static_cast<int32_t>(ceil_div(seq.kv_len, p_.kv.page_size));
    places_.push_back({.stride = round_up(int64_t{cache_pages} * per_cache_page_, 16),
                       .begin = floats,
                       .num_pages = num_pages});
    if (kept == num_pages) {
      all_.push_back(static_cast<int32_t>(idx));
      return floats;
    }
    const int32_t step = std::max(1, kScoreTokens / p_.kv.page_size);
    const auto count = static_cast<int32_t>(ceil_div(cache_pages, step));
    for (int32_t first = 0; first < cache_pages; first += step) {
      splits_.push_back({.seq = static_cast<int32_t>(idx),
                         .first = first,
                         .end = std::min(cache_pages, first + step),
                         .num_splits = count});
    }
    return floats + heads_ * (group_ + 1) * places_.back().stride;
  }

  float* scores(int32_t seq, int32_t head) const {
    const Place& place = places_[seq];
    return scores_ + place.begin + int64_t{head} * (group_ + 1) * place.stride;
  }
  float* ranks(int32_t seq, int32_t head) const {
    return scores(seq, head) + group_ * places_[seq].stride;
  }

  void run_task(int64_t task, int worker) {
    const Split& split = splits_[task / heads_];
    const auto head = static_cast<int32_t>(task % heads_);
    const AttentionSeq& seq = p_.seqs[split.seq];
    Query query{.coefs = reinterpret_cast<float*>(queries_ + worker * query_bytes_)};
    query.rows = reinterpret_cast<int32_t*>(query.coefs + int64_t{group_} * p_.num_channels);
    open(seq, head, query);
    isa_.scores({.bounds = p_.bounds.data + p_.bounds.bytes_per_page / heads_ * head,
                 .bytes_per_page = p_.bounds.bytes_per_page,
                 .cache_pages = seq.pages + split.first,
                 .num_cache_pages = split.end - split.first,
                 .pages_per_cache_page = per_cache_page_,
                 .format = p_.bounds.format,
                 .rows = query.rows,
                 .coefs = query.coefs,
                 .num_rows = p_.num_channels,
                 .group = group_,
                 .scores = scores(split.seq, head) + int64_t{split.first} * per_cache_page_,
                 .score_stride = places_[split.seq].stride});
    // Whoever finishes a sequence's last split ranks its pages.
    const std::atomic_ref<int32_t> left(left_[int64_t{split.seq} * heads_ + head]);
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) choose(split.seq, head);
  }

  /// Channels by the group's |q|, the side of each by the sign of the group's sum, and coefficients
  /// with SparQ's correction for the channels left out.
  void open(const AttentionSeq& seq, int32_t head, Query& query) const {
    const int32_t dim = p_.kv.head_dim;
    const float* q = p_.q + seq.q_begin * p_.q_stride + int64_t{head} * group_ * dim;
    std::vector<int32_t> channels;
    if (p_.num_channels < dim) {
      query.importance.assign(dim, 0);
      for (int32_t idx = 0; idx < group_ * dim; ++idx) {
        query.importance[idx % dim] += std::abs(q[idx]);
      }
      channels = kernels::top_k(query.importance, p_.num_channels);
      std::sort(channels.begin(), channels.end());
    } else {
      channels.resize(dim);
      std::iota(channels.begin(), channels.end(), 0);
    }
    for (int32_t idx = 0; idx < p_.num_channels; ++idx) {
      float sum = 0;
      for (int32_t row = 0; row < group_; ++row) sum += q[row * dim + channels[idx]];
      query.rows[idx] = channels[idx] + (sum > 0 ? dim : 0);
    }
    for (int32_t row = 0; row < group_; ++row) {
      float all = 0;
      for (int32_t ch = 0; ch < dim; ++ch) all += std::abs(q[row * dim + ch]);
      float kept = 0;
      for (const int32_t ch : channels) kept += std::abs(q[row * dim + ch]);
      const float scale = p_.softmax_scale * std::numbers::log2e_v<float> *
                          (kept > 0 ? std::sqrt(all / kept) : 1.0F);
      for (int32_t idx = 0; idx < p_.num_channels; ++idx) {
        query.coefs[row * p_.num_channels + idx] = q[row * dim + channels[idx]] * scale;
      }
    }
  }

  void choose(int32_t seq, int32_t head) {
    const Place& place = places_[seq];
    float* ranked = ranks(seq, head);
    isa_.rank({.scores = scores(seq, head),
               .ranks = ranked,
               .score_stride = place.stride,
               .num_pages = place.num_pages,
               .group = group_});
    const auto older = static_cast<size_t>(place.num_pages) - 1;
    std::vector<int32_t> best = kernels::top_k({ranked, older}, p_.topk - 1);
    std::sort(best.begin(), best.end());
    best.push_back(place.num_pages - 1);
    std::copy(best.begin(), best.end(),
              out_.indices.begin() + out_.offsets[int64_t{seq} * heads_ + head]);
  }

  void fill_all() {
    const auto begin = out_.indices.begin();
    for (const int32_t seq : all_) {
      for (int32_t head = 0; head < heads_; ++head) {
        const int64_t row = int64_t{seq} * heads_ + head;
        std::iota(begin + out_.offsets[row], begin + out_.offsets[row + 1], 0);
      }
    }
  }

  void copy_ranks() const {
    p_.ranks->clear();
    std::vector<bool> ranked(places_.size());
    for (const Split& split : splits_) ranked[split.seq] = true;
    for (size_t seq = 0; seq < places_.size(); ++seq) {
      for (int32_t head = 0; head < heads_ && ranked[seq]; ++head) {
        const float* from = ranks(static_cast<int32_t>(seq), head);
        p_.ranks->insert(p_.ranks->end(), from, from + places_[seq].num_pages);
      }
    }
  }

  const PageSelectParams& p_;
  const kernels::cpu::RocketKernels& isa_;
  OwnedSelection& out_;
  int32_t heads_;
  int32_t group_;
  int32_t per_cache_page_;
  int64_t query_bytes_ = 0;
  std::vector<Place> places_;  ///< [seqs]
  std::vector<Split> splits_;
  std::vector<int32_t> all_;  ///< sequences that keep all pages
  float* scores_ = nullptr;   ///< by place: [heads][group + 1][stride], ranks last
  std::byte* queries_ = nullptr;
  int32_t* left_ = nullptr;  ///< [seqs][heads] splits still to be done
};

void check(const PageSelectParams& params) {
  constexpr std::string_view kWhere = "rocket.select_pages";
  constexpr ErrorKind kBad = ErrorKind::kInvalidArgument;
  check_cache(params.kv, kWhere);
  check_heads(params.kv, params.num_heads, kWhere);
  check_bounds(params.kv, params.bounds, kWhere);
  const int64_t width = int64_t{params.num_heads} * params.kv.head_dim;
  FOVEAL_CHECK(params.seqs.empty() || (params.q != nullptr && params.q_stride >= width), kBad,
               kWhere, "got queries with row stride {}; need at least {}", params.q_stride, width);
  FOVEAL_CHECK(params.topk >= 1, kBad, kWhere, "got topk {}; need at least 1", params.topk);
  FOVEAL_CHECK(params.num_channels >= 1 && params.num_channels <= params.kv.head_dim, kBad, kWhere,
               "got {} channels; need 1 to {}", params.num_channels, params.kv.head_dim);
  FOVEAL_CHECK(std::isfinite(params.softmax_scale), kBad, kWhere,
               "got a softmax scale of {}; need a finite one", params.softmax_scale);
  for (const AttentionSeq& seq : params.seqs) {
    FOVEAL_CHECK(seq.q_begin >= 0 && seq.q_len == 1 && seq.kv_len >= 1 && seq.pages != nullptr,
                 kBad, kWhere, "got {} rows with {} keys; need 1 row, its key and a page table",
                 seq.q_len, seq.kv_len);
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

int32_t num_channels(double topr, int32_t head_dim) {
  FOVEAL_CHECK(topr > 0 && (topr <= 1 || topr >= 2), ErrorKind::kInvalidArgument, "rocket.topr",
               "got {}; need a share up to 1 or a number of channels from 2 on", topr);
  const double channels = topr <= 1 ? std::ceil(topr * head_dim) : std::floor(topr);
  return static_cast<int32_t>(std::min<double>(channels, head_dim));
}

}  // namespace foveal::attention::rocket
