#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace foveal {

/// A number for both phases or one for each; a phase that is absent is off. Written in YAML as
/// `1000.0` or `{prefill: 1000.0, decode: 500.0}`.
struct PhaseValue {
  std::optional<double> prefill;
  std::optional<double> decode;
  bool operator==(const PhaseValue&) const = default;
};

/// `algorithm: skip_softmax` (BLASST). The direct factor wins over the target; a factor of 0 counts
/// as set and means off.
struct SkipSoftmaxAttentionConfig {
  std::optional<PhaseValue> threshold_scale_factor;  ///< at least 0
  std::optional<PhaseValue> target_sparsity;         ///< in [0, 1]; needs a calibrated checkpoint
  std::vector<int32_t> dense_layers;                 ///< layers that skip nothing; an addition
  std::string vote_precision = "exact";  ///< or int8: of prefill's scores, on CUDA; an addition
};

/// `algorithm: rocket` (RocketKV). The first seven fields are TensorRT-LLM's.
struct RocketSparseAttentionConfig {
  int64_t window_size = 32;  ///< last prompt tokens: their queries choose, and they are kept
  int64_t kernel_size = 63;  ///< width of the max pooling over scores, odd
  /// Query channels that score pages: a number of them, or a share in (0, 1].
  std::variant<int64_t, double> topr = int64_t{128};
  /// Pages a KV head, those of sink and force_recent included. Absent: 64, in multi_turn 128.
  std::optional<int64_t> topk;
  int64_t prompt_budget = 2048;                ///< prompt tokens kept, or candidates, a KV head
  int64_t page_size = 4;                       ///< tokens; a power of two
  std::string kt_cache_dtype = "float8_e5m2";  ///< of page bounds; or bfloat16
  std::string mode = "evict";                  ///< evict; multi_turn: all K and V stay
  std::string candidates = "all";     ///< of multi_turn's decode: all pages; prompt: chosen once
  std::optional<int64_t> rank_size;   ///< tokens of a page that rank as one; absent: by mode
  std::string score = "auto";         ///< of a page: by minmax (bounds) or mean_std; auto: by mode
  std::string pool_group = "mean";    ///< of a page's probabilities over a group's heads; max
  int64_t force_recent = 1;           ///< newest pages always attended, at least one
  int64_t sink = 0;                   ///< first pages always kept and attended
  std::vector<int32_t> dense_layers;  ///< layers that attend to everything; needs multi_turn

  /// TensorRT-LLM's where it evicts. Of a whole text more matters than of what a prompt kept.
  int64_t settled_topk() const { return topk.value_or(mode == "multi_turn" ? 128 : 64); }
};

/// `algorithm: dsa` (DeepSeek Sparse Attention). Absent fields come from the checkpoint.
struct DeepSeekSparseAttentionConfig {
  std::optional<int64_t> index_n_heads;           ///< must be the weights'
  std::optional<int64_t> index_head_dim;          ///< likewise
  std::optional<int64_t> index_topk;              ///< tokens that a row attends to
  std::optional<int64_t> indexer_max_chunk_size;  ///< rows scored at once; absent: 32768
  bool skip_indexer_for_short_seqs = true;        ///< false: score even where all are chosen
  int64_t q_split_threshold = 8192;               ///< accepted: one rank has all rows
  bool indexer_rope_interleave = false;           ///< false: as the checkpoint says
  bool enable_heuristic_topk = false;             ///< accepted: the top-k is exact either way
  bool use_cute_dsl_topk = false;                 ///< accepted: the native kernel, as without
  bool use_cute_dsl_paged_mqa_logits = false;     ///< likewise
  /// Float32 index keys and queries, without the Hadamard transform and FP8, as Hugging Face
  /// transformers scores. Absent: with compute_dtype f32 only.
  std::optional<bool> indexer_reference;
};

using SparseAttentionConfig = std::variant<SkipSoftmaxAttentionConfig, RocketSparseAttentionConfig,
                                           DeepSeekSparseAttentionConfig>;

/// Where keys and values of all requests lie.
struct KvCacheConfig {
  std::string dtype = "auto";         ///< auto, bf16; on a CPU f16, f32; fp8 (e4m3): CUDA's
  bool enable_block_reuse = true;     ///< share the pages of equal prompt prefixes
  std::optional<int64_t> max_tokens;  ///< cache size in tokens; absent: from free memory
  /// Of the free memory after weights; beside max_tokens the smaller counts. Absent: 0.5, CUDA 0.9.
  std::optional<double> free_memory_fraction;
  int64_t tokens_per_block = 32;  ///< page size: 16, 32, 64 or 128
};

/// On CUDA, steps that only decode are recorded once and replayed: one launch instead of hundreds.
struct CudaGraphConfig {
  bool enable = true;
  bool enable_padding = true;        ///< fill a step up to the next recorded size
  std::vector<int32_t> batch_sizes;  ///< recorded sizes; empty: 1, 2, 4, 8, 16, 24, ...
  int64_t max_batch_size = 0;        ///< largest of them; 0: the engine's max_batch_size
};

/// Everything an engine is started with.
struct LlmConfig {
  std::string model;            ///< a .gguf file or a folder with config.json
  std::string tokenizer;        ///< a tokenizer.json or its folder; empty: the model's own
  std::string device = "auto";  ///< cpu, cuda, cuda:N; auto: the first GPU with kernels, else cpu
  std::string compute_dtype = "auto";  ///< auto, f32
  std::string load_format = "auto";    ///< auto; dummy: random weights, from config.json alone
  std::optional<int64_t> num_layers;   ///< with dummy weights: fewer layers than config.json says
  int64_t threads = 0;                 ///< 0: one a core
  /// Prompt tokens of one request in one step, and tokens in one step, all requests together.
  /// Absent: 512 and 2048, on CUDA 8192 and 8192.
  std::optional<int64_t> prefill_chunk;
  std::optional<int64_t> max_num_tokens;
  int64_t max_batch_size = 64;         ///< requests running at once
  std::optional<int64_t> max_seq_len;  ///< absent: the model's context
  bool batch_invariant = false;        ///< CUDA: results do not depend on what shares a step
  bool use_fp8_context_fmha = false;   ///< CUDA, fp8 cache: prefill's attention all in e4m3
  bool sparsity_counters = true;       ///< count what attention leaves out
  /// CUDA: launch a step only when the tokens of the one before are known to the host.
  bool disable_overlap_scheduler = false;
  CudaGraphConfig cuda_graph_config;
  /// One active method a phase at most. Empty: the checkpoint's own, where it has one, else dense.
  std::vector<SparseAttentionConfig> sparse_attention_config;
  KvCacheConfig kv_cache_config;
};

}  // namespace foveal
