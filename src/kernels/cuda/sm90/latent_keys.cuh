#pragma once

#include "kernels/cuda/sm90/latent_traits.cuh"

namespace foveal::cuda {

/// Where the keys of an item lie in the pool.
struct LatentKeys {
  const LatentArgs& args;
  int32_t count;
  const int32_t* list = nullptr;   ///< null: all keys
  const int32_t* table = nullptr;  ///< null: the list holds slots

  __device__ LatentKeys(const LatentArgs& given, const LatentItem& item)
      : args(given), count(item.count) {
    if (args.indices != nullptr) list = args.indices + item.row * args.indices_stride;
    if (args.page_table != nullptr) {
      const int32_t seq = args.row_seq == nullptr ? item.row : __ldg(args.row_seq + item.row);
      table = args.page_table + seq * args.page_table_stride;
    }
  }

  /// The slot or token at a place of the list; below 0 past its end.
  __device__ int32_t named(int32_t place) const {
    if (place >= count) return -1;
    return list == nullptr ? place : __ldg(list + place);
  }

  /// Bytes from the pool's start to the row; below 0 where there is none.
  template <int kRowBytes>
  __device__ int64_t offset(int32_t name) const {
    return offset(name, kRowBytes);
  }
  __device__ int64_t offset(int32_t name, int64_t row_bytes) const {
    if (name < 0 || name >= args.limit) return -1;
    if (table == nullptr && args.contiguous != 0) return name * row_bytes;
    const auto page_size = static_cast<uint32_t>(args.page_size);
    const uint32_t block = static_cast<uint32_t>(name) / page_size;
    const int32_t inside = name - static_cast<int32_t>(block * page_size);
    const int32_t page = table == nullptr ? static_cast<int32_t>(block) : __ldg(table + block);
    if (page < 0 || page >= args.num_pages) return -1;
    return page * args.page_bytes + inside * row_bytes;
  }
};

}  // namespace foveal::cuda
