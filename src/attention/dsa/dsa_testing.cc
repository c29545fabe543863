#include "attention/dsa/dsa_testing.h"

#include <algorithm>
#include <cmath>

#include "kernels/paged_seqs_testing.h"

namespace foveal::attention::dsa::testing {

IndexCase::IndexCase(const IndexShape& wanted, uint64_t seed, Stream& stream) : shape(wanted) {
  settings = {.num_heads = shape.num_heads,
              .head_dim = shape.dim,
              .topk = shape.topk,
              .max_chunk = shape.max_chunk,
              .skip_short = shape.skip_short,
              .reference = shape.reference,
              .full = {1},
              .owner = {0}};
  const IndexFormat format = shape.reference ? IndexFormat::kF32 : IndexFormat::kFp8;
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  kernels::testing::PagedSeqs paged(shape.seqs, shape.page_size, rng);
  bytes_.resize(
      static_cast<size_t>(paged.num_pages * index_page_bytes(shape.page_size, shape.dim, format)));
  for (std::byte& byte : bytes_) byte = static_cast<std::byte>(rng());
  lane = {.data = bytes_.data(), .page_size = shape.page_size, .dim = shape.dim, .format = format};
  seqs = std::move(paged.queries);
  stores_ = std::move(paged.stores);
  pages_ = std::move(paged.pages);
  // Channels of unlike sizes, as projections give them, and a part that keys share with queries.
  std::vector<float> size(static_cast<size_t>(shape.dim));
  for (float& channel : size) channel = std::exp(0.7F * normal(rng));
  const auto fill = [&](std::vector<float>& out, int64_t vectors) {
    out.resize(static_cast<size_t>(vectors * shape.dim));
    for (size_t at = 0; at < out.size(); ++at) {
      out[at] = size[at % size.size()] * normal(rng) + 0.3F;
    }
  };
  fill(q, int64_t{paged.num_rows} * shape.num_heads);
  fill(k, paged.num_keys);
  weights.resize(static_cast<size_t>(paged.num_rows) * shape.num_heads);
  for (float& weight : weights) weight = normal(rng);
  store(stream);
}

void IndexCase::store(Stream& stream) const {
  store_index_keys(k.data(), shape.dim, lane, stores_, stream);
}

IndexInputs IndexCase::inputs() const {
  return {.q = q.data(),
          .k = nullptr,
          .weights = weights.data(),
          .q_stride = int64_t{shape.num_heads} * shape.dim,
          .k_stride = shape.dim,
          .weights_stride = shape.num_heads};
}

OwnedSets IndexCase::select(Stream& stream) const {
  OwnedSets sets;
  IndexSelector(settings).select(inputs(), lane, seqs, stream, sets);
  return sets;
}

kernels::reference::IndexerSteps IndexCase::steps() const {
  return shape.reference ? kernels::reference::kReferenceMode : kernels::reference::IndexerSteps{};
}

std::vector<double> IndexCase::scores(size_t idx,
                                      const kernels::reference::IndexerSteps& steps) const {
  const int64_t row = seqs[idx].q_begin;
  return kernels::reference::index_scores(
      {.q = q.data() + row * shape.num_heads * shape.dim,
       .k = k.data() + int64_t{stores_[idx].q_begin} * shape.dim,
       .weights = weights.data() + row * shape.num_heads,
       .rows = seqs[idx].q_len,
       .keys = seqs[idx].kv_len,
       .num_heads = shape.num_heads,
       .dim = shape.dim},
      steps);
}

double overlap(std::span<const int32_t> got, std::span<const int32_t> want) {
  std::vector<int32_t> both;
  std::set_intersection(got.begin(), got.end(), want.begin(), want.end(), std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(want.size());
}

}  // namespace foveal::attention::dsa::testing
