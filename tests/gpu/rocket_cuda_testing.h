#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "attention/rocket/rocket_testing.h"
#include "base/half.h"
#include "foveal/kernels_rocket.h"
#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/reference/attention.h"

namespace foveal::attention::rocket::testing {

using kernels::cuda::testing::DeviceArray;
using kernels::cuda::testing::kGpu;

inline uint16_t to_bits(float value, int32_t dtype) {
  return dtype == FOVEAL_F16 ? float_to_f16(value) : float_to_bf16(value);
}
inline float from_bits(uint16_t bits, int32_t dtype) {
  return dtype == FOVEAL_F16 ? f16_to_float(bits) : bf16_to_float(bits);
}
/// A Case with its queries rounded to what the GPU takes, and the same cache, page table and lane
/// in the GPU's layouts. With `kv_dtype` e4m3 the Case's cache is rounded to e4m3 as well.
class CudaCase {
 public:
  CudaCase(const CaseShape& shape, uint64_t seed, ::foveal::Stream& host,
           const ::foveal::Stream& gpu, int32_t dtype)
      : data(shape, seed, host), gpu_(gpu), kv_dtype(dtype) {
    q_dtype = kv_dtype == FOVEAL_F16 ? FOVEAL_F16 : FOVEAL_BF16;
    std::vector<uint16_t> q(data.q.size());
    for (size_t i = 0; i < q.size(); ++i) {
      q[i] = to_bits(data.q[i], q_dtype);
      data.q[i] = from_bits(q[i], q_dtype);
    }
    q_ = std::make_unique<DeviceArray<uint16_t>>(gpu, q);
    if (kv_dtype == FOVEAL_E4M3) round_cache(host);
    upload_cache();
    upload_tables();
    out_ = std::make_unique<DeviceArray<uint16_t>>(gpu, q.size());
    lane_ = std::make_unique<DeviceArray<uint8_t>>(gpu, data.bound_bytes.size());
  }

  int64_t stored() const { return kernels::cpu::bound_bytes(data.shape.format); }

  foveal_page_bounds lane() const {
    return {
        .data = lane_->data(),
        .page_stride = data.bounds.bytes_per_page / stored(),
        .dtype = data.shape.format == BoundFormat::kBf16 ? FOVEAL_BOUND_BF16 : FOVEAL_BOUND_E5M2,
        .page_tokens = data.shape.page_size};
  }

  foveal_attention_params attention() const {
    const CaseShape& s = data.shape;
    foveal_attention_params p{};
    p.struct_size = sizeof(p);
    p.q_dtype = q_dtype;
    p.kv_dtype = kv_dtype;
    p.q = q_->data();
    p.out = out_->data();
    p.q_row_stride = p.out_row_stride = data.width();
    p.q_head_stride = p.out_head_stride = s.head_dim;
    p.k = k_->data();
    p.v = v_->data();
    p.k_token_stride = p.v_token_stride = s.head_dim;
    p.k_head_stride = p.v_head_stride = int64_t{s.head_dim} * s.cache_page;
    p.k_page_stride = p.v_page_stride = p.k_head_stride * s.num_kv_heads;
    p.num_seqs = p.num_rows = static_cast<int32_t>(s.lens.size());
    p.num_heads = s.num_kv_heads * s.group;
    p.num_kv_heads = s.num_kv_heads;
    p.head_dim = s.head_dim;
    p.page_size = s.cache_page;
    p.num_pages = data.kv.num_pages;
    p.max_q_len = 1;
    p.max_kv_len = *std::max_element(s.lens.begin(), s.lens.end()) + slack;
    p.kv_len = lens_->data();
    p.page_table = table_->data();
    p.page_table_stride = table_stride_;
    p.softmax_scale = data.scale();
    p.q_scale = p.k_scale = p.v_scale = 1;
    return p;
  }

  foveal_rocket_params rocket(int32_t topk, int32_t channels) {
    foveal_rocket_params p{};
    p.struct_size = sizeof(p);
    p.topk = topk;
    p.num_channels = channels;
    p.attention = attention();
    p.bounds = lane();
    const size_t rows = data.seqs.size() * static_cast<size_t>(data.shape.num_kv_heads);
    pages_ = std::make_unique<DeviceArray<int32_t>>(gpu_, rows * static_cast<size_t>(topk));
    count_ = std::make_unique<DeviceArray<int32_t>>(gpu_, rows);
    p.ranks_stride = p.attention.max_kv_len / data.shape.page_size + 1;
    ranks_ = std::make_unique<DeviceArray<float>>(gpu_, rows * static_cast<size_t>(p.ranks_stride));
    counters_ = std::make_unique<DeviceArray<uint64_t>>(
        gpu_, std::vector<uint64_t>(data.seqs.size() * 4, 0));
    p.pages = pages_->data();
    p.count = count_->data();
    p.ranks = ranks_->data();
    p.attention.counters = counters_->data();
    give_workspace(p.attention, foveal_rocket_decode_workspace(&p));
    return p;
  }

  void give_workspace(foveal_attention_params& p, size_t bytes) {
    workspaces_.push_back(
        std::make_unique<DeviceArray<uint8_t>>(gpu_, std::vector<uint8_t>(bytes, 0)));
    p.workspace = workspaces_.back()->data();
    p.workspace_bytes = bytes;
  }

  foveal_bounds_params bounds() const {
    const foveal_attention_params a = attention();
    foveal_bounds_params p{};
    p.struct_size = sizeof(p);
    p.kv_dtype = kv_dtype;
    p.k = a.k;
    p.k_page_stride = a.k_page_stride;
    p.k_head_stride = a.k_head_stride;
    p.k_token_stride = a.k_token_stride;
    p.num_seqs = a.num_seqs;
    p.num_kv_heads = a.num_kv_heads;
    p.head_dim = a.head_dim;
    p.page_size = a.page_size;
    p.max_q_len = a.max_kv_len;
    p.kv_len = a.kv_len;
    p.page_table = a.page_table;
    p.page_table_stride = a.page_table_stride;
    p.bounds = lane();
    return p;
  }

  /// The Case's lane in the GPU's layout.
  std::vector<uint8_t> want_lane() const {
    const CaseShape& s = data.shape;
    const int64_t per_page = s.cache_page / s.page_size;
    std::vector<uint8_t> out(data.bound_bytes.size());
    const int64_t heads = int64_t{data.kv.num_pages} * s.num_kv_heads;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t row = 0; row < 2 * s.head_dim; ++row) {
        for (int64_t page = 0; page < per_page; ++page) {
          const int64_t from = ((head * 2 * s.head_dim + row) * per_page + page) * stored();
          const int64_t to = ((head * per_page + page) * 2 * s.head_dim + row) * stored();
          std::memcpy(&out[to], &data.bound_bytes[from], stored());
        }
      }
    }
    return out;
  }

  std::vector<uint8_t> got_lane() const { return lane_->download(); }
  void put_lane(const std::vector<uint8_t>& bytes) const {
    gpu_.copy(lane_->data(), bytes.data(), bytes.size());
    gpu_.synchronize();
  }
  std::vector<uint16_t> out() const { return out_->download(); }
  std::vector<int32_t> pages() const { return pages_->download(); }
  std::vector<int32_t> count() const { return count_->download(); }
  std::vector<float> ranks() const { return ranks_->download(); }
  std::vector<uint64_t> counters() const { return counters_->download(); }
  void* native() const { return gpu_.native(); }
  void sync() const { gpu_.synchronize(); }

  Case data;
  int32_t slack = 0;  ///< max_kv_len above the longest

 private:
  const ::foveal::Stream& gpu_;

 public:
  int32_t kv_dtype;
  int32_t q_dtype = FOVEAL_BF16;

 private:
  double value(bool key, int32_t page, int32_t head, int32_t slot, int32_t channel) const {
    return kernels::reference::cache_value(data.kv, key, page, head, slot, channel);
  }

  /// To the values of e4m3, in the Case's bf16; bounds follow.
  void round_cache(::foveal::Stream& host) {
    for (std::byte* lane : {data.kv.k, data.kv.v}) {
      auto* bits = reinterpret_cast<uint16_t*>(lane);
      const int64_t count = data.kv.page_bytes * data.kv.num_pages / 2;
      for (int64_t i = 0; i < count; ++i) {
        // No negative zero, which as a bound would differ from zero in its bits only.
        bits[i] = float_to_bf16(e4m3_to_float(float_to_e4m3(bf16_to_float(bits[i]))) + 0.0F);
      }
    }
    std::vector<kernels::AttentionSeq> whole = data.seqs;
    for (kernels::AttentionSeq& seq : whole) seq.q_len = seq.kv_len;
    update_bounds(data.kv, whole, data.bounds, host);
  }

  void upload_cache() {
    const CaseShape& s = data.shape;
    const size_t bytes = kv_dtype == FOVEAL_E4M3 ? 1 : 2;
    const auto elements =
        static_cast<size_t>(data.kv.page_bytes) / 2 * static_cast<size_t>(data.kv.num_pages);
    for (const bool key : {true, false}) {
      std::vector<uint8_t> cells(elements * bytes, 0xff);
      size_t at = 0;
      for (int32_t page = 0; page < data.kv.num_pages; ++page) {
        for (int32_t head = 0; head < s.num_kv_heads; ++head) {
          for (int32_t slot = 0; slot < s.cache_page; ++slot) {
            for (int32_t channel = 0; channel < s.head_dim; ++channel, ++at) {
              const auto own = static_cast<float>(value(key, page, head, slot, channel));
              if (bytes == 1) {
                cells[at] = float_to_e4m3(own);
              } else {
                const uint16_t bits = to_bits(own, kv_dtype);
                std::memcpy(&cells[at * 2], &bits, 2);
              }
            }
          }
        }
      }
      (key ? k_ : v_) = std::make_unique<DeviceArray<uint8_t>>(gpu_, cells);
    }
  }

  void upload_tables() {
    const auto& lens = data.shape.lens;
    const int32_t longest = *std::max_element(lens.begin(), lens.end());
    table_stride_ = longest / data.shape.cache_page + 4096;  // room for `slack`
    std::vector<int32_t> table(lens.size() * static_cast<size_t>(table_stride_), 0x7fffffff);
    for (size_t seq = 0; seq < lens.size(); ++seq) {
      const int32_t pages = (lens[seq] + data.shape.cache_page - 1) / data.shape.cache_page;
      std::copy_n(data.seqs[seq].pages, pages,
                  table.begin() + static_cast<int64_t>(seq) * table_stride_);
    }
    table_ = std::make_unique<DeviceArray<int32_t>>(gpu_, table);
    lens_ = std::make_unique<DeviceArray<int32_t>>(gpu_, lens);
  }

  int64_t table_stride_ = 0;
  std::unique_ptr<DeviceArray<uint16_t>> q_, out_;
  std::unique_ptr<DeviceArray<uint8_t>> k_, v_, lane_;
  std::unique_ptr<DeviceArray<int32_t>> table_, lens_, pages_, count_;
  std::unique_ptr<DeviceArray<float>> ranks_;
  std::unique_ptr<DeviceArray<uint64_t>> counters_;
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> workspaces_;
};

}  // namespace foveal::attention::rocket::testing
