#include "kernels/cuda/rocket.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/math.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/decode_launch.h"
#include "kernels/cuda/launch_erased.h"
#include "kernels/cuda/rocket_launch.h"

namespace foveal::kernels::cuda {
namespace {

/// After what attention over lists needs.
struct Workspace {
  size_t lengths;  ///< offsets
  size_t row_lengths;
  size_t slots;
  size_t logits;
  size_t bytes;
};

int32_t max_entries(const foveal_rocket_params& p) {
  return static_cast<int32_t>(
      std::max<int64_t>(ceil_div(p.attention.max_kv_len, p.bounds.page_tokens), 1));
}

int32_t group_of(const foveal_rocket_params& p) {
  return p.attention.num_heads / p.attention.num_kv_heads;
}

/// How the pages of a (sequence, KV head) are chosen.
struct Choosing {
  static constexpr size_t kMostShared = kMaxSharedBytes - kChooseStatic;

  int32_t ctas;         ///< a cluster
  int32_t pitch;        ///< floats from one head's logits to the next
  size_t logits_bytes;  ///< of a CTA

  Choosing(const foveal_rocket_params& p, int32_t parts) : ctas(parts) {
    const int64_t units = ceil_div(ceil_div(max_entries(p), kScoreUnit), parts);
    const auto slice = static_cast<int32_t>(round_up(units * kScoreUnit, 32));
    // So that a warp's two heads of eight entries each meet different banks.
    pitch = slice + 4;
    logits_bytes = static_cast<size_t>(pitch) * static_cast<size_t>(group_of(p)) * 4;
  }
  bool fits() const { return logits_bytes <= kMostShared; }
  size_t shared_bytes() const { return kChooseStatic + (fits() ? logits_bytes : 0); }

  /// As many CTAs as hold the logits, or the most; and more while there are processors for them and
  /// entries enough to be worth the exchange.
  static Choosing of(const foveal_rocket_params& p, int32_t processors) {
    constexpr int32_t kSlice = 1024;
    const int64_t rows = int64_t{p.attention.num_seqs} * p.attention.num_kv_heads;
    Choosing out(p, 1);
    while (out.ctas < kMostChooseCtas && (!out.fits() || (out.ctas * kSlice < max_entries(p) &&
                                                          rows * out.ctas * 2 <= processors))) {
      out = Choosing(p, out.ctas * 2);
    }
    return out;
  }
};

/// No list is longer than there are pages.
int32_t list_pages(const foveal_rocket_params& p) { return std::min(p.topk, max_entries(p)); }

foveal_attention_params over_lists(const foveal_rocket_params& p) {
  return listed_params(p.attention, list_pages(p), p.bounds.page_tokens);
}

Workspace workspace_of(const foveal_rocket_params& p) {
  const auto rows =
      static_cast<size_t>(p.attention.num_seqs) * static_cast<size_t>(p.attention.num_kv_heads);
  const auto align = [](size_t bytes) {
    return static_cast<size_t>(round_up(static_cast<int64_t>(bytes), 256));
  };
  Workspace out{};
  // Calls over all pages may use the same memory, of which they keep zero what they use.
  out.lengths =
      align(std::max(decode_workspace_bytes(p.attention), decode_workspace_bytes(over_lists(p))));
  out.row_lengths = out.lengths + align(static_cast<size_t>(p.attention.num_seqs) * 4);
  out.slots = out.row_lengths + align(rows * 4);
  out.logits = out.slots + align(rows * static_cast<size_t>(list_pages(p)) * 4);
  out.bytes = out.logits;
  const Choosing most(p, kMostChooseCtas);
  if (!most.fits()) out.bytes += align(rows * kMostChooseCtas * most.logits_bytes);
  return out;
}

RocketArgs make_args(const foveal_rocket_params& p, int32_t processors) {
  const foveal_attention_params& a = p.attention;
  RocketArgs args{};
  args.decode = decode_args(a, decode_choose(a, processors));
  args.num_kv_heads = a.num_kv_heads;
  args.heads = group_of(p);
  args.kv_dtype = a.kv_dtype;
  args.bounds = static_cast<char*>(p.bounds.data);
  args.bounds_page_bytes = p.bounds.page_stride * (p.bounds.dtype == FOVEAL_BOUND_BF16 ? 2 : 1);
  args.bound_kind = p.bounds.kind;
  args.slot_shift = std::countr_zero(static_cast<uint32_t>(p.bounds.page_tokens));
  args.topk = list_pages(p);
  args.num_channels = p.num_channels > 0 ? p.num_channels : a.head_dim;
  args.sink_pages = p.sink_pages;
  args.recent_pages = p.recent_pages;
  args.flags = p.flags;
  args.candidates = p.candidates;
  args.candidates_offset = p.candidates_offset;
  args.candidates_stride = p.candidates_stride;
  const Workspace offsets = workspace_of(p);
  auto* workspace = static_cast<char*>(a.workspace);
  args.lengths = reinterpret_cast<int32_t*>(workspace + offsets.lengths);
  args.row_lengths = reinterpret_cast<int32_t*>(workspace + offsets.row_lengths);
  args.slots = reinterpret_cast<int32_t*>(workspace + offsets.slots);
  const Choosing choosing = Choosing::of(p, processors);
  args.logits = choosing.fits() ? nullptr : reinterpret_cast<float*>(workspace + offsets.logits);
  args.logits_pitch = choosing.pitch;
  args.pages = p.pages;
  args.pages_stride = p.topk;
  args.count = p.count;
  args.ranks = p.ranks;
  args.ranks_stride = p.ranks_stride;
  return args;
}

void launch_choose(const foveal_rocket_params& p, RocketArgs& args, int32_t processors,
                   void* stream) {
  const bool bf16 = p.bounds.dtype == FOVEAL_BOUND_BF16;
  const ChooseShape shape{p.attention.head_dim, bf16 ? 2 : 1,
                          static_cast<int32_t>(ceil_div(args.decode.group, 8))};
  const void* kernel = bf16 ? rocket_choose_kernel_bf16(shape) : rocket_choose_kernel_e5m2(shape);
  FOVEAL_INVARIANT(kernel != nullptr);
  const Choosing choosing = Choosing::of(p, processors);
  const auto ctas = static_cast<unsigned>(choosing.ctas);
  const Grid grid{
      .blocks = dim3(ctas, static_cast<unsigned>(p.attention.num_seqs * p.attention.num_kv_heads)),
      .threads = dim3(kChooseThreads),
      .shared_bytes = choosing.shared_bytes(),
      .cluster = ctas};
  void* arguments[] = {&args};
  launch_erased("rocket_choose", kernel, grid, stream, arguments);
}

}  // namespace

void rocket_bounds(const foveal_bounds_params& params, void* stream) {
  rocket_bounds_check(params);
  usable_device("rocket_bounds");
  launch_rocket_bounds(params, stream);
}

size_t rocket_decode_workspace_bytes(const foveal_rocket_params& params) {
  return workspace_of(params).bytes;
}

void rocket_decode(const foveal_rocket_params& params, void* stream) {
  rocket_check(params);
  const int32_t processors =
      foveal::cuda::device_properties(usable_device("rocket_decode")).num_sms;
  RocketArgs args = make_args(params, processors);
  launch_choose(params, args, processors, stream);
  if ((params.flags & FOVEAL_ROCKET_SELECT) != 0) return;
  attention_decode_listed(params.attention,
                          {.slots = args.slots,
                           .stride = args.topk,
                           .lengths = args.lengths,
                           .row_lengths = args.row_lengths,
                           .page_tokens = params.bounds.page_tokens},
                          stream);
}

}  // namespace foveal::kernels::cuda
