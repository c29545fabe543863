#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/device_workspace.h"
#include "base/dtype.h"
#include "base/kv_view.h"
#include "base/trace.h"
#include "device/stream.h"
#include "foveal/config.h"
#include "kernels/paged_attention.h"
#include "kv/capacity.h"
#include "kv/lanes.h"

namespace foveal::attention {

enum class Phase : uint8_t { kPrefill, kDecode };
inline constexpr Phase kPhases[] = {Phase::kPrefill, Phase::kDecode};
constexpr std::string_view phase_name(Phase phase) {
  return phase == Phase::kPrefill ? "prefill" : "decode";
}

/// What a method can do on the device it was made for, as data. A request outside of it is refused
/// with both lists.
struct Capabilities {
  std::vector<DeviceKind> devices;
  std::vector<DType> kv_dtypes;
  std::vector<int32_t> head_dims;  ///< of caches per KV head; empty: any
  bool prefill = true;
  bool decode = true;
  bool sliding_window = true;
  bool per_head = true;                ///< caches of K and V per KV head
  bool latent = false;                 ///< latent caches (MLA), see base/kv_view.h
  bool shares_prefix_pages = true;     ///< pages it writes may be reused by another request
  int32_t prefill_chunk_multiple = 1;  ///< chunks but the last end at multiples of this position
};

/// A lightning indexer (DeepSeek Sparse Attention) as the checkpoint has it.
struct IndexerShape {
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  int32_t topk = 0;
  bool rope_interleave = false;  ///< pairs (2i, 2i + 1) rotate, else (i, i + rotary_dim / 2)
  std::vector<uint8_t> full;     ///< [num_layers]: 1 = has an indexer, 0 = uses the set of the last
                                 ///< layer that has one
};

/// What the model looks like to a method.
struct ModelShape {
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;          ///< of the cache: MLA's latent and rotating channels together
  int32_t value_dim = 0;         ///< above 0: MLA over a latent cache
  std::vector<int32_t> windows;  ///< [num_layers], 0: full attention
  std::optional<IndexerShape> indexer;
};

/// What a method may know when it is made.
struct MethodContext {
  ModelShape shape;
  /// The checkpoint's `sparse_attention_config` as JSON text, or empty.
  std::string_view checkpoint_sparse_json;
  Device device;
  bool exact = false;         ///< compute_dtype f32
  bool e4m3_prefill = false;  ///< CUDA: prefill's attention multiplies in e4m3
};

/// How large a step can get.
struct StepLimits {
  int64_t max_kv_len = 0;  ///< of a sequence
  int64_t max_rows = 0;    ///< of all sequences together
  int64_t max_seqs = 0;    ///< that decode has a row of each
  int64_t max_cached = 0;  ///< tokens that the cache can hold at most
  DType kv_dtype = DType::kBF16;
  int32_t threads = 1;  ///< of the host
};

/// Which method runs in one layer and phase, and why: what `foveal inspect` prints.
struct Resolution {
  std::string method;   ///< "dense" or the method's name
  std::string setting;  ///< e.g. "threshold_scale_factor 1000"
  std::string why;      ///< e.g. "from the configuration", "layer matches ignore pattern '...'"
};

/// What a method keeps of one request between steps. Made when the request starts, and anew when it
/// starts again; gone with it, whatever ends it.
class SequenceState {
 public:
  virtual ~SequenceState() = default;
  /// What kernels read of it on a device that runs behind the host (DeviceSeqs::states).
  virtual const void* device_data() const { return nullptr; }
};

/// What a layer's own indexer projections give for the rows of a call, in the activation type but
/// for the weights. Rows and strides are those of q: row i of `q` is row i here.
struct IndexInputs {
  const void* q = nullptr;         ///< [rows, num_heads, head_dim] after rope
  const void* k = nullptr;         ///< [rows, head_dim] after LayerNorm and rope
  const float* weights = nullptr;  ///< [rows, num_heads] as projected, unscaled
  int64_t q_stride = 0;
  int64_t k_stride = 0;
  int64_t weights_stride = 0;
};

struct AttendArgs;

/// Memory on CUDA that the model lends to attention over a latent cache: for the rows of any one
/// sequence in bf16.
struct LatentRoom {
  uint16_t* rows = nullptr;   ///< null: there is none
  int32_t* starts = nullptr;  ///< [2]
};

/// Latent attention over all keys in another form, which the model has on CUDA: keys and values of
/// each head made from the latents, so that a pair of rows costs a head's width and not a latent's.
class HeadForm {
 public:
  virtual ~HeadForm() = default;
  /// Over every key up to a row's own; the output goes where the model wants it.
  virtual void attend(const AttendArgs& args, Stream& stream) const = 0;
};

/// One layer's attention of one phase in one step. Sequences are of that phase only. Matrices lie
/// on the stream's device, in `activation`: f32 on a CPU, bf16 on CUDA; strides are in elements.
struct AttendArgs {
  DType activation = DType::kF32;
  const void* q = nullptr;  ///< [rows, num_heads, head_dim] after rope; of a latent cache absorbed
  const void* k = nullptr;  ///< [rows, num_kv_heads, head_dim] after rope; already in the cache
  const void* v = nullptr;  ///< null with a latent cache
  void* out = nullptr;      ///< [rows, num_heads, head_dim; of a latent cache kv.value_dim]
  const IndexInputs* index = nullptr;  ///< null: the layer has no indexer
  /// CUDA prefill: q again, rounded, [rows, num_heads, head_dim] without gaps; the kernel of dense
  /// attention and Skip Softmax then multiplies in e4m3 throughout. Null: it takes q.
  const uint8_t* q_e4m3 = nullptr;
  /// A latent cache where the method attends_to_all: who computes. q and out are not given then.
  const HeadForm* heads = nullptr;
  LatentRoom room;  ///< CUDA prefill over a latent cache
  int64_t q_stride = 0;
  int64_t kv_stride = 0;
  int64_t out_stride = 0;
  int32_t num_heads = 0;
  KvLayerView kv;
  std::span<const kernels::AttentionSeq> seqs;
  /// [seqs.size()]: what AttentionMethod::make_state made for each; AttentionStep gives it.
  std::span<SequenceState* const> states;
  /// CUDA: the same sequences on the device, and what graphs replay with others; there q and out
  /// begin at the phase's first row. Null on a CPU.
  const kernels::DeviceSeqs* device_seqs = nullptr;
  float softmax_scale = 1;
  int32_t window = 0;
  bool exact = false;
  bool batch_invariant = false;          ///< CUDA: decode splits at absolute positions
  DeviceWorkspace* workspace = nullptr;  ///< CUDA: of the kernels; AttentionStep gives it
  /// [seqs.size()] or null: on the host; on CUDA, on the device.
  kernels::AttentionCounters* counters = nullptr;
  /// For what the method selected, as tensors `<method>.<phase>.<layer>...`; null: nothing is
  /// traced. A traced request runs alone.
  TraceSink* trace = nullptr;
};

/// A prompt whose last chunk has been computed.
struct PromptEnd {
  const kernels::AttentionSeq& seq;  ///< of that chunk
  SequenceState* state = nullptr;
  std::span<const KvLayerView> kv;  ///< [num_layers]
  /// Zeroed pages for kept_tokens(prompt length) tokens, which become the sequence's page table;
  /// empty where it keeps all, or has nothing more to do.
  std::span<const int32_t> fresh;
  TraceSink* trace = nullptr;
};

/// One way to compute attention. A method owns its policy; pages, batches and layers are the
/// engine's. All calls come from the engine thread. See docs/adding_a_method.md.
class AttentionMethod {
 public:
  virtual ~AttentionMethod() = default;
  virtual std::string_view name() const = 0;
  virtual const Capabilities& capabilities() const = 0;

  /// Extra bytes a token or a page that live under the same page table as K and V.
  /// Refuses caches that it cannot work with.
  virtual std::vector<kv::LaneSpec> lanes(const kv::KvGeometry& /*cache*/) const { return {}; }

  /// Memory that its steps take beside the cache: part of the capacity plan.
  virtual int64_t workspace_bytes(const StepLimits& /*limits*/) const { return 0; }

  /// Whether the settings change anything in this phase. At most one method of an engine may be
  /// active in a phase; where none is, attention is dense.
  virtual bool active(Phase phase) const = 0;

  /// Throws where its settings leave nothing for it to do and cannot have been meant that way.
  virtual void require_use() const {}

  /// How this method resolves for one layer and phase; "dense" where it drops nothing.
  virtual Resolution resolve(int32_t layer, Phase phase) const = 0;

  /// Whether a request may bring a factor of its own (AttentionSeq::own_skip_factor) for what this
  /// method does.
  virtual bool takes_factors() const { return false; }

  /// Folded into the root of the prefix index: whatever makes prefill of a prompt of this length
  /// write other K and V than dense prefill does. Empty: it writes the same. Without a length:
  /// for callers that accept pages of prompts of another length (see skip_softmax/README.md).
  /// `own`: the request's own factors, where it has any.
  virtual std::string prefix_key(std::optional<int64_t> /*prompt_len*/,
                                 const PhaseValue& /*own*/) const {
    return {};
  }

  /// Of a prompt's K and V, how many tokens stay (the same number in every layer and KV head) once
  /// it has been read. Where that is fewer than all, `after_prefill` moves them.
  virtual int32_t kept_tokens(int32_t prompt_len) const { return prompt_len; }
  /// Of those, or of all, how many decode can reach at most, whatever it selects in a step.
  virtual int32_t reached_tokens(int32_t prompt_len) const { return kept_tokens(prompt_len); }
  /// How many of a prompt's last tokens must be computed by the request itself, although pages with
  /// their K and V could be reused.
  virtual int32_t own_tokens(int32_t /*prompt_len*/) const { return 1; }

  /// Whether rows of sequences of up to so many keys attend to every key before them, so that
  /// AttendArgs::heads may be given.
  virtual bool attends_to_all(Phase /*phase*/, int64_t /*max_kv_len*/) const { return false; }

  /// What it keeps of one request; null: nothing.
  virtual std::unique_ptr<SequenceState> make_state() const { return nullptr; }

  /// Host work once a step, before the first layer. Fixes every size.
  virtual void plan(Phase /*phase*/, std::span<const kernels::AttentionSeq> /*seqs*/) {}

  /// New K and V are in their pages. Called in both phases, whichever of them the method serves.
  virtual void append(int32_t /*layer*/, Phase /*phase*/, const AttendArgs&, Stream&) {}

  /// Select, then compute.
  virtual void attend(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) = 0;

  /// After the last chunk of a prompt: selects what decode may attend to, and moves what stays.
  virtual void after_prefill(const PromptEnd& /*end*/, Stream& /*stream*/) {}
};

}  // namespace foveal::attention
