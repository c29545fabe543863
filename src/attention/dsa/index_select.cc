#include "attention/dsa/index_select.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "attention/dsa/dispatch.h"
#include "base/check.h"
#include "base/math.h"

namespace foveal::attention::dsa {
namespace {

/// Rows that share a tile of widened keys, where there are many.
constexpr int32_t kBlockRows = 8;
constexpr int64_t kManyRows = 8;      ///< a thread, from which on blocks of rows are the tasks
constexpr int32_t kRangeKeys = 1024;  ///< of a task, where there are few
static_assert(kRangeKeys % kernels::cpu::kIndexBlock == 0);
static_assert(kernels::cpu::kIndexBlock == kernels::kTopKBlock);

}  // namespace

/// Sizes every set, fills those of rows that see no more than topk keys, and cuts the others into
/// blocks.
std::vector<IndexSelector::Rows> IndexSelector::lay_out(std::span<const kernels::AttentionSeq> seqs,
                                                        int32_t block, OwnedSets& out) const {
  std::vector<Rows> blocks;
  out.offsets.assign(1, 0);
  for (const kernels::AttentionSeq& seq : seqs) {
    for (int32_t row = 0; row < seq.q_len; ++row) {
      const int32_t seen = seq.kv_len - seq.q_len + row + 1;
      const auto set = static_cast<int64_t>(out.offsets.size()) - 1;
      out.offsets.push_back(out.offsets.back() + std::min(seen, settings_.topk));
      if (settings_.unscored(seen)) continue;
      const bool goes_on = !blocks.empty() && blocks.back().seq == &seq &&
                           blocks.back().end == row && blocks.back().count() < block;
      if (goes_on) {
        ++blocks.back().end;
      } else {
        blocks.push_back({.seq = &seq, .begin = row, .end = row + 1, .set = set});
      }
    }
  }
  out.tokens.resize(static_cast<size_t>(out.offsets.back()));
  int64_t set = 0;
  for (const kernels::AttentionSeq& seq : seqs) {
    for (int32_t row = 0; row < seq.q_len; ++row, ++set) {
      const int32_t seen = seq.kv_len - seq.q_len + row + 1;
      if (seen > settings_.topk) continue;
      const auto at = out.tokens.begin() + out.offsets[static_cast<size_t>(set)];
      std::iota(at, at + seen, 0);
    }
  }
  return blocks;
}

int64_t IndexSelector::slot_floats() const {
  return kernels::cpu::index_query_floats(settings_.num_heads, settings_.head_dim) +
         kernels::cpu::index_padded_heads(settings_.num_heads);
}

IndexSelector::Slots IndexSelector::slots_at(float* memory, int64_t rows, int64_t stride) const {
  float* factors =
      memory + rows * kernels::cpu::index_query_floats(settings_.num_heads, settings_.head_dim);
  float* scores = factors + rows * kernels::cpu::index_padded_heads(settings_.num_heads);
  return {.queries = memory,
          .factors = factors,
          .scores = scores,
          .stride = stride,
          .maxima = scores + rows * stride,
          .maxima_stride = ceil_div(stride, int64_t{kernels::cpu::kIndexBlock})};
}

void IndexSelector::open(const IndexInputs& index, const Rows& rows, int32_t row,
                         const Slots& slots) const {
  const int64_t input = int64_t{rows.seq->q_begin} + row;
  const int64_t slot = rows.slot + row - rows.begin;
  const auto size =
      static_cast<float>(settings_.head_dim) * static_cast<float>(settings_.num_heads);
  index_kernels().open(
      {.q = static_cast<const float*>(index.q) + input * index.q_stride,
       .weights = index.weights + input * index.weights_stride,
       .num_heads = settings_.num_heads,
       .dim = settings_.head_dim,
       .format = settings_.reference ? IndexFormat::kF32 : IndexFormat::kFp8,
       .scale = 1.0F / std::sqrt(size),
       .queries = slots.queries +
                  slot * kernels::cpu::index_query_floats(settings_.num_heads, settings_.head_dim),
       .factors = slots.factors + slot * kernels::cpu::index_padded_heads(settings_.num_heads)});
}

/// `maxima`: of blocks of the scores; or null. The last block may have been scored to its end, for
/// a later row.
void IndexSelector::choose(const Rows& rows, int32_t row, const float* scores, float* maxima,
                           int worker, OwnedSets& out) {
  int32_t* set = out.tokens.data() + out.offsets[static_cast<size_t>(rows.set + row - rows.begin)];
  const int64_t seen = int64_t{rows.position(row)} + 1;
  const std::span own(scores, static_cast<size_t>(seen));
  kernels::TopKSet& top = top_[static_cast<size_t>(worker)];
  if (maxima == nullptr) return top.select(own, settings_.topk, set);
  const std::span blocks(maxima, static_cast<size_t>(ceil_div(seen, kernels::kTopKBlock)));
  blocks.back() = kernels::largest(own.subspan((blocks.size() - 1) * kernels::kTopKBlock));
  top.select(own, blocks, settings_.topk, set);
}

/// Many rows: a task scores and chooses for a block of them, the longest first.
void IndexSelector::select_blocks(const IndexInputs& index, const IndexLane& lane,
                                  std::vector<Rows>& blocks, Stream& stream, OwnedSets& out) {
  const kernels::cpu::IndexKernels& isa = index_kernels();
  std::stable_sort(blocks.begin(), blocks.end(), [](const Rows& a, const Rows& b) {
    return a.keys() * a.count() > b.keys() * b.count();
  });
  int32_t rows = 0;
  int32_t longest = 0;
  for (const Rows& block : blocks) {
    rows = std::max(rows, block.count());
    longest = std::max(longest, block.keys());
  }
  const auto tile_bytes = static_cast<int64_t>(isa.scratch(settings_.head_dim));
  const int64_t bytes = round_up(tile_bytes + rows * (slot_floats() + longest) * 4, int64_t{4096});
  std::byte* scratch = stream.scratch(static_cast<size_t>(bytes * stream.pool().num_threads()));
  stream.pool().run(static_cast<int64_t>(blocks.size()), [&](int64_t idx, int worker) {
    const Rows& block = blocks[static_cast<size_t>(idx)];
    std::byte* own = scratch + worker * bytes;
    const Slots slots = slots_at(reinterpret_cast<float*>(own + tile_bytes), rows, longest);
    for (int32_t row = block.begin; row < block.end; ++row) open(index, block, row, slots);
    isa.scores({.keys = lane.of(*block.seq),
                .queries = slots.queries,
                .factors = slots.factors,
                .num_rows = block.count(),
                .num_heads = settings_.num_heads,
                .key_begin = 0,
                .key_end = block.keys(),
                .scores = slots.scores,
                .score_stride = longest},
               own);
    for (int32_t row = block.begin; row < block.end; ++row) {
      choose(block, row, slots.scores + int64_t{row - block.begin} * longest, nullptr, worker, out);
    }
  });
}

/// Few rows: a task scores a range of one sequence's keys, and notes the maxima of blocks of them:
/// who chooses then reads little of what other cores wrote.
void IndexSelector::select_few(const IndexInputs& index, const IndexLane& lane, std::span<Rows> few,
                               Stream& stream, OwnedSets& out) {
  const kernels::cpu::IndexKernels& isa = index_kernels();
  struct Row {
    const Rows* rows;
    int32_t row;
  };
  struct Range {
    const Rows* rows;
    int32_t begin;
  };
  std::vector<Row> rows;
  std::vector<Range> ranges;
  int32_t longest = 0;
  for (Rows& block : few) {
    block.slot = static_cast<int64_t>(rows.size());
    longest = std::max(longest, block.keys());
    for (int32_t row = block.begin; row < block.end; ++row) rows.push_back({&block, row});
    for (int32_t begin = 0; begin < block.keys(); begin += kRangeKeys) {
      ranges.push_back({&block, begin});
    }
  }
  const auto num_rows = static_cast<int64_t>(rows.size());
  const auto tile_bytes =
      round_up(static_cast<int64_t>(isa.scratch(settings_.head_dim)), int64_t{4096});
  const int threads = stream.pool().num_threads();
  const int64_t maxima = ceil_div(longest, kernels::cpu::kIndexBlock);
  std::byte* scratch = stream.scratch(static_cast<size_t>(
      tile_bytes * threads + num_rows * (slot_floats() + longest + maxima) * 4));
  const Slots slots =
      slots_at(reinterpret_cast<float*>(scratch + tile_bytes * threads), num_rows, longest);
  stream.pool().run(num_rows, [&](int64_t idx, int) {
    const Row& row = rows[static_cast<size_t>(idx)];
    open(index, *row.rows, row.row, slots);
  });
  stream.pool().run(static_cast<int64_t>(ranges.size()), [&](int64_t idx, int worker) {
    const auto& [block, begin] = ranges[static_cast<size_t>(idx)];
    isa.scores(
        {.keys = lane.of(*block->seq),
         .queries = slots.queries + block->slot * kernels::cpu::index_query_floats(
                                                      settings_.num_heads, settings_.head_dim),
         .factors =
             slots.factors + block->slot * kernels::cpu::index_padded_heads(settings_.num_heads),
         .num_rows = block->count(),
         .num_heads = settings_.num_heads,
         .key_begin = begin,
         .key_end = std::min(begin + kRangeKeys, block->keys()),
         .scores = slots.scores + block->slot * longest,
         .score_stride = longest,
         .maxima = slots.maxima + block->slot * maxima,
         .maxima_stride = maxima},
        scratch + worker * tile_bytes);
  });
  stream.pool().run(num_rows, [&](int64_t idx, int worker) {
    const Row& row = rows[static_cast<size_t>(idx)];
    choose(*row.rows, row.row, slots.scores + idx * longest, slots.maxima + idx * maxima, worker,
           out);
  });
}

int64_t IndexSelector::workspace_bytes(const StepLimits& limits) const {
  const int64_t few = std::min({kManyRows * limits.threads, limits.max_rows,
                                static_cast<int64_t>(settings_.max_chunk) + kBlockRows});
  const int64_t blocks = std::min(int64_t{kBlockRows} * limits.threads, limits.max_rows);
  const int64_t tiles =
      limits.threads * static_cast<int64_t>(index_kernels().scratch(settings_.head_dim));
  const int64_t sets =
      limits.max_rows * (std::min<int64_t>(settings_.topk, limits.max_kv_len) * 4 + 8);
  const int64_t maxima = ceil_div(int64_t{limits.max_kv_len}, int64_t{kernels::cpu::kIndexBlock});
  return tiles + std::max(few, blocks) * (slot_floats() + limits.max_kv_len + maxima) * 4 + sets;
}

void IndexSelector::select(const IndexInputs& index, const IndexLane& lane,
                           std::span<const kernels::AttentionSeq> seqs, Stream& stream,
                           OwnedSets& out) {
  FOVEAL_INVARIANT(lane.data != nullptr && index.q != nullptr && index.weights != nullptr);
  top_.resize(static_cast<size_t>(stream.pool().num_threads()));
  std::vector<Rows> blocks = lay_out(seqs, std::min(kBlockRows, settings_.max_chunk), out);
  if (blocks.empty()) return;
  int64_t rows = 0;
  for (const Rows& block : blocks) rows += block.count();
  const int threads = stream.pool().num_threads();
  if (rows >= kManyRows * threads) {
    // Every thread has one block's scores at a time: fewer rows than a chunk may have.
    if (int64_t{kBlockRows} * threads <= settings_.max_chunk) {
      return select_blocks(index, lane, blocks, stream, out);
    }
  }
  for (size_t begin = 0; begin < blocks.size();) {
    size_t end = begin;
    int64_t taken = 0;
    const int64_t most = std::min<int64_t>(settings_.max_chunk, kManyRows * threads);
    while (end < blocks.size() && (end == begin || taken + blocks[end].count() <= most)) {
      taken += blocks[end++].count();
    }
    select_few(index, lane, std::span(blocks).subspan(begin, end - begin), stream, out);
    begin = end;
  }
}

}  // namespace foveal::attention::dsa
