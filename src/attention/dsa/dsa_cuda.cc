// DeepSeek Sparse Attention on CUDA: from AttendArgs to the kernels of index keys, scores, top-k
// and latent attention. Every size follows from a step's shape, so that recorded steps replay.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "attention/dsa/device_places.h"
#include "attention/dsa/dsa_device.h"
#include "attention/dsa/set_hook.h"
#include "attention/latent.h"
#include "attention/paged_cuda.h"
#include "base/check.h"
#include "base/math.h"
#include "kernels/cuda/indexer.h"
#include "kernels/cuda/row_pairs.h"
#include "kernels/cuda/top_k.h"

namespace foveal::attention::dsa {
namespace {

namespace cuda = kernels::cuda;

template <class T, size_t kCount>
bool holds(const T (&list)[kCount], T value) {
  return std::find(std::begin(list), std::end(list), value) != std::end(list);
}

class DsaCuda final : public DsaDevice {
 public:
  explicit DsaCuda(const Settings& settings) : settings_(settings) {}

  int64_t workspace_bytes(const StepLimits& limits) const override {
    return device_workspace_bytes(settings_, limits);
  }

  void append(const AttendArgs& args, Stream& stream) override {
    const DevicePlaces places = places_of(args);
    std::byte* const workspace = take(places, args, stream);
    const kernels::DeviceSeqs& seqs = *args.device_seqs;
    FOVEAL_INVARIANT(args.index != nullptr && args.activation == DType::kBF16);
    cuda::indexer_prepare(
        {.struct_size = sizeof(foveal_indexer_prepare_params),
         .num_seqs = seqs.num_seqs,
         .num_rows = seqs.num_rows,
         .num_heads = settings_.num_heads,
         .head_dim = settings_.head_dim,
         .q = places.all ? nullptr : args.index->q,
         .q_row_stride = args.index->q_stride,
         .weights = args.index->weights,
         .weights_row_stride = args.index->weights_stride,
         .k = args.index->k,
         .k_row_stride = args.index->k_stride,
         .cu_q = seqs.cu_q,
         .kv_len = seqs.kv_len,
         .page_table = seqs.page_table,
         .page_table_stride = seqs.page_table_stride,
         .keys = keys_of(args.kv),
         .q_out = places.all ? nullptr : workspace,
         .weights_out = places.all ? nullptr : at<float>(workspace, places.weights)},
        stream.native());
  }

  void attend(int32_t layer, const AttendArgs& args, Stream& stream) override {
    const DevicePlaces places = places_of(args);
    std::byte* const workspace = take(places, args, stream);
    const bool owner = settings_.full.at(static_cast<size_t>(layer)) != 0;
    if (owner && !places.all) {
      select(places, workspace, args, stream);
      if (SetHook* hook = set_hook()) show(*hook, layer, places, workspace, args, stream);
    }
    if (args.trace != nullptr) trace_sets(layer, places, workspace, args, stream);
    if (args.heads != nullptr) {
      args.heads->attend(args, stream);
    } else {
      attend_latent_cuda(args, lists(places, workspace), workspace + places.attention, stream);
    }
    if (args.counters == nullptr) return;
    const kernels::DeviceSeqs& seqs = *args.device_seqs;
    cuda::add_row_pairs({.row_keys = seqs.row_keys,
                         .cu_q = seqs.cu_q,
                         .num_seqs = seqs.num_seqs,
                         .num_heads = args.num_heads,
                         .most = places.most,
                         .counters = args.counters},
                        stream.native());
  }

 private:
  template <class T>
  static T* at(std::byte* workspace, size_t offset) {
    return reinterpret_cast<T*>(workspace + offset);
  }

  DevicePlaces places_of(const AttendArgs& args) const {
    return device_places(settings_, args.device_seqs->num_rows, args.device_seqs->max_kv_len);
  }

  static LatentLists lists(const DevicePlaces& places, std::byte* workspace) {
    if (places.all) return {};
    return {.tokens = at<int32_t>(workspace, places.tokens),
            .stride = places.stride,
            .counts = at<int32_t>(workspace, places.counts),
            .most = places.most};
  }

  /// The same bytes in every layer of a step, so that a layer finds the sets of one before it.
  static std::byte* take(const DevicePlaces& places, const AttendArgs& args, const Stream& stream) {
    const size_t bytes = latent_workspace_bytes(args, lists(places, nullptr));
    return take_workspace(places.attention + bytes, args, stream);
  }

  foveal_index_keys keys_of(const KvLayerView& kv) const {
    FOVEAL_INVARIANT(kv.lanes != nullptr && kv.lanes[0] != nullptr);
    return {.data = kv.lanes[0],
            .page_bytes = int64_t{kv.page_size} * (settings_.head_dim + 4),
            .page_size = kv.page_size,
            .num_pages = kv.num_pages};
  }

  void select(const DevicePlaces& places, std::byte* workspace, const AttendArgs& args,
              Stream& stream) {
    const kernels::DeviceSeqs& seqs = *args.device_seqs;
    foveal_indexer_scores_params scores{};
    scores.struct_size = sizeof(scores);
    scores.num_seqs = seqs.num_seqs;
    scores.num_rows = seqs.num_rows;
    scores.num_heads = settings_.num_heads;
    scores.head_dim = settings_.head_dim;
    scores.q = workspace;
    scores.weights = at<float>(workspace, places.weights);
    scores.cu_q = seqs.cu_q;
    scores.kv_len = seqs.kv_len;
    scores.page_table = seqs.page_table;
    scores.page_table_stride = seqs.page_table_stride;
    scores.max_kv_len = seqs.max_kv_len;
    scores.keys = keys_of(args.kv);
    scores.first_position = places.most;  // before it a row's set is all it sees
    scores.scores = at<float>(workspace, places.scores);
    scores.row_stride = places.scores_stride;
    for (int32_t first = 0; first < seqs.num_rows; first += places.chunk) {
      scores.row_begin = first;
      scores.row_count = std::min(places.chunk, seqs.num_rows - first);
      cuda::indexer_scores(scores, stream.native());
      choose(scores, places, workspace, seqs, stream);
    }
  }

  static void choose(const foveal_indexer_scores_params& scores, const DevicePlaces& places,
                     std::byte* workspace, const kernels::DeviceSeqs& seqs, const Stream& stream) {
    foveal_top_k_params top{};
    top.struct_size = sizeof(top);
    top.num_rows = scores.row_count;
    top.values = scores.scores;
    top.row_stride = scores.row_stride;
    top.lengths = seqs.row_keys + scores.row_begin;
    top.rows_a_length = 1;
    top.max_length = seqs.max_kv_len;
    top.k = places.most;
    top.indices = at<int32_t>(workspace, places.tokens) + scores.row_begin * places.stride;
    top.indices_stride = places.stride;
    top.counts = at<int32_t>(workspace, places.counts) + scores.row_begin;
    cuda::top_k(top, stream.native());
  }

  /// As on a CPU: each row's set, ascending, filled up with -1.
  void trace_sets(int32_t layer, const DevicePlaces& places, std::byte* workspace,
                  const AttendArgs& args, const Stream& stream) const {
    const std::string name = fmt::format("dsa.topk.{}", layer);
    if (!args.trace->wants(name)) return;
    const auto rows = static_cast<size_t>(args.device_seqs->num_rows);
    std::vector<int32_t> host(places.all ? 0 : rows * static_cast<size_t>(places.stride));
    if (!places.all) {
      stream.copy(host.data(), at<int32_t>(workspace, places.tokens), host.size() * 4);
      stream.synchronize();
    }
    std::vector<float> values(rows * static_cast<size_t>(settings_.topk), -1.0F);
    auto set = host.begin();
    auto to = values.begin();
    for (const kernels::AttentionSeq& seq : args.seqs) {
      for (int32_t row = 0; row < seq.q_len; ++row, to += settings_.topk) {
        const int32_t seen = seq.kv_len - seq.q_len + row + 1;
        if (places.all || seen <= places.most) {
          std::iota(to, to + seen, 0.0F);
        } else {
          std::sort(set, set + places.most);
          std::copy(set, set + places.most, to);
        }
        if (!places.all) set += places.stride;
      }
    }
    args.trace->add(name, values.data(), static_cast<int64_t>(rows), settings_.topk,
                    settings_.topk);
  }

  /// By way of the host, and back.
  static void show(SetHook& hook, int32_t layer, const DevicePlaces& places, std::byte* workspace,
                   const AttendArgs& args, const Stream& stream) {
    FOVEAL_INVARIANT(!stream.is_capturing());
    auto* const tokens = at<int32_t>(workspace, places.tokens);
    const auto rows = static_cast<size_t>(args.device_seqs->num_rows);
    std::vector<int32_t> host(rows * static_cast<size_t>(places.stride));
    stream.copy(host.data(), tokens, host.size() * sizeof(int32_t));
    stream.synchronize();
    show_sets(hook, layer, args.seqs, places.most, host.data(),
              [&](int64_t row) { return row * places.stride; });
    stream.copy(tokens, host.data(), host.size() * sizeof(int32_t));
  }

  const Settings& settings_;
};

}  // namespace

std::unique_ptr<DsaDevice> make_dsa_device(const Settings& settings) {
  constexpr int32_t kHeads[] = {8, 16, 32, 64};
  constexpr int32_t kDims[] = {32, 64, 128};
  FOVEAL_CHECK(!settings.reference, ErrorKind::kUnsupported, "dsa.indexer_reference",
               "got true on cuda; need false (index keys in FP8), or cpu");
  FOVEAL_CHECK(holds(kHeads, settings.num_heads) && holds(kDims, settings.head_dim),
               ErrorKind::kUnsupported, "dsa",
               "got {} indexer heads of {} on cuda; need 8, 16, 32 or 64 heads of 32, 64 or 128",
               settings.num_heads, settings.head_dim);
  return std::make_unique<DsaCuda>(settings);
}

}  // namespace foveal::attention::dsa
