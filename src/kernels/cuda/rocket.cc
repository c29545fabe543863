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
  size_t maxima;
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

int32_t rows_of(const foveal_rocket_params& p) {
  return p.attention.num_seqs * p.attention.num_kv_heads;
}

/// How the pages of each (sequence, KV head), a row, are chosen: in one launch, a CTA a row, while
/// rows are short; or scored by as many CTAs as there are processors, and selected from by some.
struct Choosing {
  bool together;
  int32_t rows;  ///< of a launch
  int32_t logits_pitch = 0;
  int32_t parts = 0;          ///< CTAs that score a row
  int32_t ctas = 1;           ///< that select from it, a cluster
  int32_t weights_pitch = 0;  ///< of a selecting CTA in shared memory; 0: they do not fit
  size_t weights_end = 0;     ///< in its shared memory
  size_t gathered_bytes = 0;  ///< after those, what the first of a cluster is sent; 0: too much
  size_t maxima_bytes = 0;    ///< of a launch
  size_t logits_bytes = 0;

  Choosing(const foveal_rocket_params& p, int32_t processors) : rows(rows_of(p)) {
    constexpr int32_t kShort = 1024;
    const int32_t entries = max_entries(p);
    weights_pitch = pitch_of(entries);
    weights_end = kChooseStatic + weights_bytes(p);
    together = entries <= kShort && weights_end <= size_t{kMaxSharedBytes};
    if (together) return;
    score(p, entries, processors);
    select(p, entries, processors);
  }
  size_t shared_bytes() const { return weights_end + gathered_bytes; }

 private:
  /// So that a warp's two heads of eight entries each meet different banks.
  static int32_t pitch_of(int64_t entries) {
    return static_cast<int32_t>(round_up(entries, 32)) + 4;
  }
  size_t weights_bytes(const foveal_rocket_params& p) const {
    return static_cast<size_t>(weights_pitch) * static_cast<size_t>(group_of(p)) * 4;
  }

  /// Launches are of rows whose logits take no more than so much, which is a gigabyte of bounds.
  void score(const foveal_rocket_params& p, int32_t entries, int32_t processors) {
    constexpr int64_t kMostLogits = int64_t{128} << 20;
    logits_pitch = pitch_of(entries);
    const int64_t row_bytes = int64_t{logits_pitch} * group_of(p) * 4;
    rows = static_cast<int32_t>(
        std::clamp<int64_t>(kMostLogits / row_bytes, 1, std::min(rows, kMostRows)));
    logits_bytes = static_cast<size_t>(row_bytes * rows);
    constexpr int32_t kPart = 16 * kScoreUnit;  // a unit a warp
    parts =
        std::clamp<int32_t>(processors / rows, 1, static_cast<int32_t>(ceil_div(entries, kPart)));
    maxima_bytes = static_cast<size_t>(rows) * static_cast<size_t>(parts) *
                   static_cast<size_t>(group_of(p)) * 4;
  }

  /// Two CTAs a processor work side by side, as most of what they do is waiting.
  void select(const foveal_rocket_params& p, int32_t entries, int32_t processors) {
    constexpr int32_t kSlice = 2048;
    constexpr size_t kHalf = size_t{kMaxSharedBytes} / 2 - 2048;
    const auto lay_out = [&] {
      const auto slice = static_cast<int32_t>(
          round_up(ceil_div(ceil_div(entries, kScoreUnit), ctas) * kScoreUnit, 32));
      weights_pitch = pitch_of(slice);
      weights_end = kSelectStatic + weights_bytes(p);
      return slice;
    };
    int32_t slice = lay_out();
    while (ctas < kMostSelectCtas &&
           (weights_end > kHalf || (slice > kSlice && rows * ctas <= processors))) {
      ctas *= 2;
      slice = lay_out();
    }
    if (weights_end > size_t{kMaxSharedBytes}) {
      weights_pitch = 0;
      weights_end = kSelectStatic;
    }
    if (ctas == 1) return;
    constexpr size_t kMostGathered = size_t{48} << 10;
    gathered_bytes = static_cast<size_t>(ctas) * static_cast<size_t>(std::min(slice, p.topk)) * 8;
    if (gathered_bytes > kMostGathered || shared_bytes() > size_t{kMaxSharedBytes}) {
      gathered_bytes = 0;
    }
  }
  static constexpr int32_t kMostRows = 65535;  ///< of a grid
};

/// No list is longer than there are pages.
int32_t list_pages(const foveal_rocket_params& p) { return std::min(p.topk, max_entries(p)); }

foveal_attention_params over_lists(const foveal_rocket_params& p) {
  return listed_params(p.attention, list_pages(p), p.bounds.page_tokens);
}

Workspace workspace_of(const foveal_rocket_params& p) {
  const auto rows = static_cast<size_t>(rows_of(p));
  const auto align = [](size_t bytes) {
    return static_cast<size_t>(round_up(static_cast<int64_t>(bytes), 256));
  };
  Workspace out{};
  // Calls over all pages may use the same memory, of which they keep zero what they use.
  out.lengths =
      align(std::max(decode_workspace_bytes(p.attention), decode_workspace_bytes(over_lists(p))));
  out.row_lengths = out.lengths + align(static_cast<size_t>(p.attention.num_seqs) * 4);
  out.slots = out.row_lengths + align(rows * 4);
  out.maxima = out.slots + align(rows * static_cast<size_t>(list_pages(p)) * 4);
  const Choosing choosing(p, kMaxDecodeGrid);
  out.logits = out.maxima + align(choosing.maxima_bytes);
  out.bytes = out.logits + align(choosing.logits_bytes);
  return out;
}

RocketArgs make_args(const foveal_rocket_params& p, const Choosing& choosing, int32_t processors) {
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
  if (!choosing.together) {
    args.logits = reinterpret_cast<float*>(workspace + offsets.logits);
    args.maxima = reinterpret_cast<float*>(workspace + offsets.maxima);
  }
  args.logits_pitch = choosing.logits_pitch;
  args.parts = choosing.parts;
  args.weights_pitch = choosing.weights_pitch;
  args.gather_offset = choosing.gathered_bytes > 0 ? static_cast<int32_t>(choosing.weights_end) : 0;
  args.pages = p.pages;
  args.pages_stride = p.topk;
  args.count = p.count;
  args.ranks = p.ranks;
  args.ranks_stride = p.ranks_stride;
  return args;
}

void launch_choose(const foveal_rocket_params& p, const Choosing& choosing, RocketArgs& args,
                   void* stream) {
  const ScoreShape shape{p.attention.head_dim,
                         static_cast<int32_t>(ceil_div(args.decode.group, 8))};
  const ScoreKernels kernels = p.bounds.dtype == FOVEAL_BOUND_BF16
                                   ? rocket_score_kernels_bf16(shape)
                                   : rocket_score_kernels_e5m2(shape);
  FOVEAL_INVARIANT(kernels.choose != nullptr);
  void* arguments[] = {&args};
  const int32_t all = rows_of(p);
  if (choosing.together) {
    const Grid grid{.blocks = dim3(1, static_cast<unsigned>(all)),
                    .threads = dim3(kChooseThreads),
                    .shared_bytes = choosing.shared_bytes()};
    launch_erased("rocket_choose", kernels.choose, grid, stream, arguments);
    return;
  }
  for (; args.first_row < all; args.first_row += choosing.rows) {
    const auto rows = static_cast<unsigned>(std::min(choosing.rows, all - args.first_row));
    const Grid score{.blocks = dim3(static_cast<unsigned>(choosing.parts), rows),
                     .threads = dim3(kChooseThreads),
                     .shared_bytes = kChooseStatic};
    launch_erased("rocket_score", kernels.score, score, stream, arguments);
    const auto ctas = static_cast<unsigned>(choosing.ctas);
    const Grid select{.blocks = dim3(ctas, rows),
                      .threads = dim3(kChooseThreads),
                      .shared_bytes = choosing.shared_bytes(),
                      .cluster = ctas};
    launch_erased("rocket_select", rocket_select(ctas > 1), select, stream, arguments);
  }
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
  const Choosing choosing(params, processors);
  RocketArgs args = make_args(params, choosing, processors);
  launch_choose(params, choosing, args, stream);
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
