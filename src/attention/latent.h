#pragma once

#include "attention/method.h"
#include "kernels/latent_attention.h"

namespace foveal::attention {

/// Multi-head latent attention over a latent cache on a CPU, in either phase: over the rows' sets
/// or, without any, over every key up to a row's own. A set of all keys gives the same bits.
void attend_latent(const AttendArgs& args, const kernels::TokenSets* sets, Stream& stream);

/// Which keys each row of a call attends to, on CUDA.
struct LatentLists {
  const int32_t* tokens = nullptr;  ///< [rows, stride] request-local, -1: none; null: all keys
  int64_t stride = 0;
  const int32_t* counts = nullptr;  ///< [rows]: how many of a row's; null: most
  int32_t most = 0;                 ///< no row has more
};

/// The same on CUDA; kUnsupported in builds without. `workspace`: latent_workspace_bytes of it.
void attend_latent_cuda(const AttendArgs& args, const LatentLists& lists, std::byte* workspace,
                        Stream& stream);
size_t latent_workspace_bytes(const AttendArgs& args, const LatentLists& lists);

/// Over all keys, with the call's own workspace.
void attend_latent_cuda(const AttendArgs& args, Stream& stream);

}  // namespace foveal::attention
