#pragma once

#include <string>
#include <string_view>

namespace foveal::model {

/// The Hugging Face name of a GGUF tensor (`blk.3.attn_q.weight` ->
/// `model.layers.3.self_attn.q_proj.weight`), for our architecture `architecture`. Stacked experts
/// get the name with "{}" in place of the expert's number. Names without a counterpart stay as
/// they are.
std::string hf_tensor_name(std::string_view gguf_name, std::string_view architecture);

}  // namespace foveal::model
