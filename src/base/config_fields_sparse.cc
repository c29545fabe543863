// The tables of sparse_attention_config. Names and defaults are TensorRT-LLM's; where it is lax
// (any phase key, NaN, even kernel sizes) these are not.
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/options_scalar.h"

namespace foveal {
namespace {

// The one table of algorithm names: an alternative of SparseAttentionConfig without a line here
// does not compile.
constexpr std::string_view name_of(const RocketSparseAttentionConfig&) { return "rocket"; }
constexpr std::string_view name_of(const DeepSeekSparseAttentionConfig&) { return "dsa"; }
constexpr std::string_view name_of(const SkipSoftmaxAttentionConfig&) { return "skip_softmax"; }

template <class Visit>
void for_each_alternative(Visit visit) {
  [&]<size_t... kIdx>(std::index_sequence<kIdx...>) {
    (visit(std::variant_alternative_t<kIdx, SparseAttentionConfig>{}), ...);
  }(std::make_index_sequence<std::variant_size_v<SparseAttentionConfig>>{});
}

const std::string& known_algorithms() {
  static const std::string kNames = [] {
    std::string names;
    for_each_alternative([&](const auto& config) {
      if (!names.empty()) names += ", ";
      names += name_of(config);
    });
    return names;
  }();
  return kNames;
}

constexpr double kMaxTokens = 2147483647;
constexpr double kMaxChannels = 65536;

OptionField algorithm_field(std::string_view name) {
  return {.name = "algorithm", .target = FixedOption{name, "names the method"}, .help = ""};
}

// A TensorRT-LLM switch between its own kernels, of which only one value is what Foveal does.
OptionField fixed_field(std::string_view name, std::string_view accepts, std::string_view why) {
  return {.name = name, .target = FixedOption{accepts, why}, .help = ""};
}

constexpr std::string_view kPageSizeNeed = "a power of two from 1 to 4096";
bool is_page_size(double value) {
  const auto whole = static_cast<int64_t>(value);
  return value <= 4096 && whole > 0 && (whole & (whole - 1)) == 0;
}

// As TensorRT-LLM types it: an int is a number of channels, a float a share of them. So 1 is one
// channel and 1.0 all.
constexpr std::string_view kToprNeed =
    "an integer from 1 to 2147483647 (channels) or a ratio above 0 and up to 1.0 (share of the "
    "channels)";
using Topr = std::variant<int64_t, double>;

std::optional<Topr> to_topr(double value, bool integer) {
  constexpr double kMost = std::numeric_limits<int32_t>::max();
  const bool whole = value >= 1 && value <= kMost && value == std::floor(value);
  if (whole && (integer || value > 1)) return static_cast<int64_t>(value);
  if (!integer && value > 0 && value <= 1) return value;
  return std::nullopt;
}

double topr_number(const Topr& topr) {
  return std::visit([](auto value) { return static_cast<double>(value); }, topr);
}

OptionField topr_field(Topr& topr) {
  CustomOption custom;
  custom.bind = [&topr](const ConfigNode& node, const std::string& path) {
    const double value = read_double(node, path, kToprNeed);
    const std::optional<Topr> read = to_topr(value, is_integer_text(node.text));
    if (!read) refuse(node, path, kToprNeed);
    topr = *read;
  };
  custom.validate = [&topr](const std::string& path) {
    const double value = topr_number(topr);
    FOVEAL_CHECK(to_topr(value, std::holds_alternative<int64_t>(topr)), ErrorKind::kInvalidArgument,
                 path, "got {}; need {}", value, kToprNeed);
  };
  custom.placeholder = "X";
  custom.shown_value = [&topr] {
    const double value = topr_number(topr);
    return value == 1 && std::holds_alternative<double>(topr) ? "1.0" : fmt::format("{}", value);
  };
  return {.name = "topr",
          .target = std::move(custom),
          .help = "query channels used to score pages in decode",
          .rule_text = kToprNeed};
}

// What TensorRT-LLM has no fields for.
std::vector<OptionField> rocket_additions(RocketSparseAttentionConfig& config) {
  return {{.name = "mode",
           .target = &config.mode,
           .help = "evict: only prompt_budget tokens of a prompt stay in memory; multi_turn: all "
                   "stay",
           .choices = {"evict", "multi_turn"}},
          {.name = "candidates",
           .target = &config.candidates,
           .help = "what decode chooses its pages from in mode multi_turn: all, or of a prompt "
                   "those with the prompt_budget tokens that its last queries choose",
           .choices = {"all", "prompt"}},
          {.name = "rank_size",
           .target = &config.rank_size,
           .help = "tokens of a page, which is ranked and chosen as one, up to page_size; absent: "
                   "page_size, and half of it in mode multi_turn",
           .number_rule = is_page_size,
           .rule_text = kPageSizeNeed},
          {.name = "score",
           .target = &config.score,
           .help = "what stands for a page's keys: their least and largest, or mean and spread; "
                   "auto: minmax, and mean_std in mode multi_turn",
           .choices = {"auto", "minmax", "mean_std"}},
          {.name = "pool_group",
           .target = &config.pool_group,
           .help = "how the query heads of a KV head agree on pages",
           .choices = {"mean", "max"}},
          {.name = "force_recent",
           .target = &config.force_recent,
           .help = "times page_size: newest tokens that are always attended",
           .range = {.min = 1, .max = kMaxTokens}},
          {.name = "sink",
           .target = &config.sink,
           .help = "times page_size: first tokens of a prompt that are always kept and attended",
           .range = {.min = 0, .max = kMaxTokens}},
          {.name = "dense_layers",
           .target = &config.dense_layers,
           .help = "layers that attend to everything; only with mode multi_turn",
           .range = {.min = 0, .max = kMaxChannels}}};
}

std::optional<Complaint> rocket_complaint(const RocketSparseAttentionConfig& config) {
  // Where a step of multi_turn chooses from all, no window and no budget count for anything.
  const bool selects = config.mode == "evict" || config.candidates == "prompt";
  // Tokens of the sink are at most 2^31 times 2^12.
  const int64_t sink_tokens = config.sink * config.page_size;
  const std::string beside =
      config.sink == 0 ? "" : fmt::format(" less sink ({}) times page_size", config.sink);
  if (selects && config.window_size >= config.prompt_budget - sink_tokens) {
    return Complaint{"window_size", fmt::format("got {}; need less than prompt_budget ({}){}",
                                                config.window_size, config.prompt_budget, beside)};
  }
  if (config.settled_topk() < config.sink + config.force_recent) {
    return Complaint{"topk", fmt::format("got {}; need at least sink ({}) and force_recent ({})",
                                         config.settled_topk(), config.sink, config.force_recent)};
  }
  if (config.rank_size.value_or(1) > config.page_size) {
    return Complaint{"rank_size", fmt::format("got {}; need at most page_size ({})",
                                              *config.rank_size, config.page_size)};
  }
  if (config.mode == "evict" && config.candidates != "all") {
    return Complaint{"candidates", fmt::format("got {} with mode evict; need mode multi_turn: what "
                                               "is evicted no step can choose",
                                               config.candidates)};
  }
  if (config.mode == "evict" && !config.dense_layers.empty()) {
    return Complaint{
        "dense_layers",
        fmt::format("got {} layers with mode evict; need mode multi_turn: a page holds "
                    "all layers, so what one layer keeps no other can give back",
                    config.dense_layers.size())};
  }
  return std::nullopt;
}

std::vector<OptionField> dsa_fixed_fields() {
  constexpr std::string_view kExactTopk = "the top-k is exact whichever way it is found";
  return {
      fixed_field("use_self_sampling_topk", "true", kExactTopk),
      fixed_field("use_gvr_emission", "false", kExactTopk),
      fixed_field("indexer_k_dtype", "fp8",
                  "fp4 needs a GPU generation that Foveal does not serve"),
      fixed_field("index_share_for_mtp_iteration", "false", "Foveal has no multi-token prediction"),
      fixed_field("seq_len_threshold", "", "it follows from index_topk"),
  };
}

SparseAttentionConfig make_config(const ConfigNode& node, const std::string& path) {
  FOVEAL_CHECK(node.kind == ConfigNode::Kind::kMap, ErrorKind::kInvalidArgument, where(node, path),
               "got {}; need a mapping with an algorithm among {}, or a list of such mappings",
               shown(node), known_algorithms());
  const ConfigNode* algorithm = node.find("algorithm");
  FOVEAL_CHECK(algorithm, ErrorKind::kInvalidArgument, where(node, join_path(path, "algorithm")),
               "got no algorithm; need one of {}", known_algorithms());
  std::optional<SparseAttentionConfig> found;
  for_each_alternative([&](auto config) {
    const bool named = algorithm->kind == ConfigNode::Kind::kScalar;
    if (named && algorithm->text == name_of(config)) found = std::move(config);
  });
  if (found) return *std::move(found);
  fail(ErrorKind::kInvalidArgument, where(*algorithm, join_path(path, "algorithm")),
       "got {}; need one of {}", shown(*algorithm), known_algorithms());
}

OptionGroup describe_alternative(SparseAttentionConfig& config) {
  return std::visit([](auto& alternative) { return describe(alternative); }, config);
}

void bind_sparse(std::vector<SparseAttentionConfig>& out, const ConfigNode& node,
                 const std::string& path) {
  const bool is_list = node.kind == ConfigNode::Kind::kList;
  const size_t count = is_list ? node.items.size() : 1;
  FOVEAL_CHECK(count > 0, ErrorKind::kInvalidArgument, where(node, path),
               "got an empty list; need an algorithm among {} (to switch a checkpoint's own method "
               "off: {{algorithm: skip_softmax, threshold_scale_factor: 0}})",
               known_algorithms());
  out.clear();
  for (size_t idx = 0; idx < count; ++idx) {
    const ConfigNode& item = is_list ? node.items[idx] : node;
    const std::string item_path = is_list ? join_path(path, fmt::format("{}", idx)) : path;
    SparseAttentionConfig config = make_config(item, item_path);
    for (const SparseAttentionConfig& earlier : out) {
      FOVEAL_CHECK(earlier.index() != config.index(), ErrorKind::kInvalidArgument,
                   where(item, item_path), "got {} twice; need each algorithm once",
                   algorithm_name(config));
    }
    bind_options(describe_alternative(config), item, item_path);
    out.push_back(std::move(config));
  }
}

void validate_sparse(std::vector<SparseAttentionConfig>& configs, const std::string& path) {
  uint32_t seen = 0;
  for (size_t idx = 0; idx < configs.size(); ++idx) {
    const std::string item_path =
        configs.size() == 1 ? path : join_path(path, fmt::format("{}", idx));
    const uint32_t bit = 1U << configs[idx].index();
    FOVEAL_CHECK((seen & bit) == 0, ErrorKind::kInvalidArgument, item_path,
                 "got {} twice; need each algorithm once", algorithm_name(configs[idx]));
    seen |= bit;
    validate_options(describe_alternative(configs[idx]), item_path);
  }
}

// For help: a table together with the defaults it points at.
template <class Config>
std::pair<std::string, std::shared_ptr<OptionGroup>> alternative() {
  struct Held {
    Config config;
    OptionGroup group = describe(config);
  };
  auto held = std::make_shared<Held>();
  return {std::string(algorithm_name(held->config)),
          std::shared_ptr<OptionGroup>(held, &held->group)};
}

}  // namespace

std::string_view algorithm_name(const SparseAttentionConfig& config) {
  return std::visit([](const auto& alternative) { return name_of(alternative); }, config);
}

OptionGroup describe(SkipSoftmaxAttentionConfig& config) {
  return {.fields = {algorithm_field("skip_softmax"),
                     {.name = "threshold_scale_factor",
                      .target = &config.threshold_scale_factor,
                      .help = "skip key tiles whose weight is below factor / length; 0: off; one "
                              "number or {prefill: X, decode: X}",
                      .range = {.min = 0}},
                     {.name = "target_sparsity",
                      .target = &config.target_sparsity,
                      .help = "share of tiles to skip, turned into a factor by the checkpoint's "
                              "calibration; one number or {prefill: X, decode: X}",
                      .range = {.min = 0, .max = 1}},
                     {.name = "dense_layers",
                      .target = &config.dense_layers,
                      .help = "layers that skip nothing",
                      .range = {.min = 0, .max = kMaxChannels}},
                     {.name = "vote_precision",
                      .target = &config.vote_precision,
                      .help = "exact: a prompt's tiles are judged by their scores; int8: by scores "
                              "of rounded keys and queries, ahead of the softmax; CUDA only",
                      .choices = {"exact", "int8"}}}};
}

OptionGroup describe(RocketSparseAttentionConfig& config) {
  OptionGroup group;
  group.fields = {
      algorithm_field("rocket"),
      {.name = "window_size",
       .target = &config.window_size,
       .help = "last prompt tokens, which choose what the prompt keeps",
       .range = {.min = 1, .max = kMaxTokens}},
      {.name = "kernel_size",
       .target = &config.kernel_size,
       .help = "width of the max pooling over scores",
       .number_rule =
           [](double value) { return value >= 1 && value <= 65535 && std::fmod(value, 2) == 1; },
       .rule_text = "an odd integer from 1 to 65535"},
      topr_field(config.topr),
      {.name = "topk",
       .target = &config.topk,
       .help =
           "times page_size: tokens attended in decode, for each KV head; absent: 64, and 128 in "
           "mode multi_turn",
       .range = {.min = 1, .max = kMaxTokens}},
      {.name = "prompt_budget",
       .target = &config.prompt_budget,
       .help = "prompt tokens kept (mode evict) or chosen as candidates, for each KV head",
       .range = {.min = 2, .max = kMaxTokens}},
      {.name = "page_size",
       .target = &config.page_size,
       .help = "tokens that topk, force_recent and sink count by",
       .number_rule = is_page_size,
       .rule_text = kPageSizeNeed},
      {.name = "kt_cache_dtype",
       .target = &config.kt_cache_dtype,
       .help = "type of the page bounds",
       .choices = {"bfloat16", "float8_e5m2"}},
      fixed_field("seq_len_threshold", "", "rocket does not use it")};
  for (OptionField& field : rocket_additions(config)) group.fields.push_back(std::move(field));
  group.check = [&config] {
    config.topk = config.settled_topk();  // so that whoever asks sees the number
    return rocket_complaint(config);
  };
  return group;
}

OptionGroup describe(DeepSeekSparseAttentionConfig& config) {
  const Range positive{.min = 1, .max = kMaxChannels};
  OptionGroup group;
  group.fields = {
      algorithm_field("dsa"),
      {.name = "index_n_heads",
       .target = &config.index_n_heads,
       .help = "heads of the indexer; absent: the checkpoint's",
       .range = positive},
      {.name = "index_head_dim",
       .target = &config.index_head_dim,
       .help = "channels of an indexer head; absent: the checkpoint's",
       .range = positive},
      {.name = "index_topk",
       .target = &config.index_topk,
       .help = "tokens attended; absent: the checkpoint's",
       .range = {.min = 1, .max = kMaxTokens}},
      {.name = "indexer_max_chunk_size",
       .target = &config.indexer_max_chunk_size,
       .help = "prompt tokens the indexer scores at once; absent: 32768",
       .range = {.min = 1, .max = kMaxTokens}},
      {.name = "skip_indexer_for_short_seqs",
       .target = &config.skip_indexer_for_short_seqs,
       .help = "attend to everything while the sequence is within index_topk"},
      {.name = "q_split_threshold",
       .target = &config.q_split_threshold,
       .help = "chunk tokens from which ranks share the indexer's rows; negative: never; changes "
               "nothing on one rank",
       .range = {.min = -kMaxTokens, .max = kMaxTokens}},
      {.name = "indexer_rope_interleave",
       .target = &config.indexer_rope_interleave,
       .help = "the indexer rotates neighbouring channels instead of halves; false: as the "
               "checkpoint says"},
      {.name = "enable_heuristic_topk",
       .target = &config.enable_heuristic_topk,
       .help = "guess, verify, refine; changes nothing: the top-k always does so on long rows"},
      {.name = "use_cute_dsl_topk",
       .target = &config.use_cute_dsl_topk,
       .help = "Foveal's own kernel, either way"},
      {.name = "use_cute_dsl_paged_mqa_logits",
       .target = &config.use_cute_dsl_paged_mqa_logits,
       .help = "Foveal's own kernel, either way"},
      {.name = "indexer_reference",
       .target = &config.indexer_reference,
       .help = "score in float32, without the Hadamard transform and without FP8; absent: with "
               "compute_dtype f32 only"}};
  for (OptionField& field : dsa_fixed_fields()) group.fields.push_back(std::move(field));
  return group;
}

OptionField describe_sparse_field(std::vector<SparseAttentionConfig>& configs) {
  CustomOption custom;
  custom.bind = [&configs](const ConfigNode& node, const std::string& path) {
    bind_sparse(configs, node, path);
  };
  custom.validate = [&configs](const std::string& path) { validate_sparse(configs, path); };
  custom.placeholder = "YAML";
  for_each_alternative([&](const auto& config) {
    custom.alternatives.push_back(alternative<std::decay_t<decltype(config)>>());
  });
  static const std::string kHelp =
      "sparse attention: {algorithm: NAME, ...} or a list of them; NAME: " + known_algorithms();
  return {.name = "sparse_attention_config", .target = std::move(custom), .help = kHelp};
}

}  // namespace foveal
