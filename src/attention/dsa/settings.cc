#include "attention/dsa/settings.h"

#include <bit>
#include <limits>

#include "attention/dsa/index_item.h"
#include "base/check.h"
#include "base/log.h"

namespace foveal::attention::dsa {
namespace {

void check_equal(std::string_view field, const std::optional<int64_t>& wanted, int32_t has) {
  FOVEAL_CHECK(!wanted || *wanted == has, ErrorKind::kInvalidArgument,
               std::string("dsa.").append(field),
               "got {}; need {}, which the checkpoint's weights have", *wanted, has);
}

void check_shape(const ModelShape& shape, const IndexerShape& indexer, bool reference) {
  FOVEAL_CHECK(shape.value_dim > 0, ErrorKind::kUnsupported, "dsa",
               "got a model without a latent cache; need multi-head latent attention");
  FOVEAL_CHECK(indexer.full.size() == static_cast<size_t>(shape.num_layers) &&
                   !indexer.full.empty() && indexer.full.front() != 0,
               ErrorKind::kInvalidArgument, "dsa",
               "got indexers for {} of {} layers; need to know of each, and one in the first",
               indexer.full.size(), shape.num_layers);
  FOVEAL_CHECK(indexer.num_heads >= 1 && indexer.num_heads <= 1024, ErrorKind::kUnsupported, "dsa",
               "got {} indexer heads; need 1 to 1024", indexer.num_heads);
  const auto dim = static_cast<uint32_t>(indexer.head_dim);
  FOVEAL_CHECK(indexer.head_dim >= 16 && indexer.head_dim <= kernels::cpu::kMaxIndexDim &&
                   (reference || std::has_single_bit(dim)),
               ErrorKind::kUnsupported, "dsa",
               "got indexer heads of {} channels; need a power of two from 16 to {} for the "
               "Hadamard transform (indexer_reference: true does without)",
               indexer.head_dim, kernels::cpu::kMaxIndexDim);
}

}  // namespace

Settings make_settings(const DeepSeekSparseAttentionConfig* config, const MethodContext& context) {
  const ModelShape& shape = context.shape;
  FOVEAL_CHECK(
      shape.indexer.has_value(), ErrorKind::kUnsupported, "sparse_attention_config",
      "got algorithm 'dsa' for a model without a lightning indexer; need a checkpoint that "
      "has one (DeepSeek-V3.2 and its kin), or another algorithm");
  const IndexerShape& indexer = *shape.indexer;
  const DeepSeekSparseAttentionConfig fields = config ? *config : DeepSeekSparseAttentionConfig{};
  const bool reference = fields.indexer_reference.value_or(context.exact);
  check_shape(shape, indexer, reference);
  check_equal("index_n_heads", fields.index_n_heads, indexer.num_heads);
  check_equal("index_head_dim", fields.index_head_dim, indexer.head_dim);
  FOVEAL_CHECK(!fields.indexer_rope_interleave || indexer.rope_interleave,
               ErrorKind::kInvalidArgument, "dsa.indexer_rope_interleave",
               "got true; need false: the checkpoint's indexer rotates halves, and its weights "
               "were trained so");
  const int64_t topk = fields.index_topk.value_or(indexer.topk);
  FOVEAL_CHECK(topk >= 1 && topk <= std::numeric_limits<int32_t>::max(),
               ErrorKind::kInvalidArgument, "dsa.index_topk", "got {}; need at least 1", topk);
  Settings out{
      .num_heads = indexer.num_heads,
      .head_dim = indexer.head_dim,
      .topk = static_cast<int32_t>(topk),
      .max_chunk = static_cast<int32_t>(fields.indexer_max_chunk_size.value_or(kDefaultChunk)),
      .skip_short = fields.skip_indexer_for_short_seqs,
      .reference = reference,
      .configured = config != nullptr,
      .full = indexer.full,
      .owner = {}};
  for (size_t layer = 0; layer < out.full.size(); ++layer) {
    out.owner.push_back(out.full[layer] != 0 ? static_cast<int32_t>(layer) : out.owner.back());
  }
  return out;
}

void log_synonyms(const DeepSeekSparseAttentionConfig& config) {
  const auto say = [](std::string_view field, std::string_view why) {
    log_info("dsa.{} changes nothing: {}", field, why);
  };
  if (config.use_cute_dsl_topk) say("use_cute_dsl_topk", "the top-k has one kernel, Foveal's own");
  if (config.use_cute_dsl_paged_mqa_logits) {
    say("use_cute_dsl_paged_mqa_logits", "index scores have one kernel, Foveal's own");
  }
  if (config.enable_heuristic_topk) {
    say("enable_heuristic_topk", "long rows are always guessed, verified and refined, exactly");
  }
  const DeepSeekSparseAttentionConfig plain;
  if (config.q_split_threshold != plain.q_split_threshold) {
    say("q_split_threshold", "one rank has all rows");
  }
}

}  // namespace foveal::attention::dsa
