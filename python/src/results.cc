// The plain structs that the engine hands out, read-only, with a repr and to_dict of their fields.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind.h"

namespace foveal::python {
namespace {

nb::object finish_text(FinishReason reason) {
  if (reason == FinishReason::kNone) return nb::none();
  const std::string_view name = finish_reason_name(reason);
  return nb::str(name.data(), name.size());
}

nb::dict to_dict(nb::handle self) {
  nb::dict out;
  for (const nb::handle name : self.type().attr("_fields")) {
    nb::object value = self.attr(name);
    if (nb::hasattr(value.type(), "_fields")) value = to_dict(value);
    if (nb::isinstance<nb::list>(value)) {
      nb::list items;
      for (const nb::handle item : nb::list(value)) {
        items.append(nb::hasattr(item.type(), "_fields") ? nb::object(to_dict(item))
                                                         : nb::borrow(item));
      }
      value = items;
    }
    out[name] = value;
  }
  return out;
}

nb::str repr_of(nb::handle self) {
  nb::list parts;
  for (const nb::handle name : self.type().attr("_fields")) {
    parts.append(nb::str("{}={!r}").format(name, self.attr(name)));
  }
  return nb::str("{}({})").format(self.type().attr("__name__"), nb::str(", ").attr("join")(parts));
}

// record<Timings>(module, "Timings").ro("ttft_ms", &Timings::ttft_ms)...
template <class T>
class Record {
 public:
  Record(nb::module_& module, const char* name) : bound_(module, name) {
    bound_.def("to_dict", &to_dict);
  }
  ~Record() {
    bound_.attr("_fields") = nb::tuple(names_);
    if (!has_repr_) bound_.def("__repr__", &repr_of);
  }
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  template <class Get>
  Record& get(const char* name, Get getter) {
    names_.append(nb::str(name));
    bound_.def_prop_ro(name, getter);
    return *this;
  }
  template <class Show>
  Record& repr(Show show) {
    bound_.def("__repr__", show);
    has_repr_ = true;
    return *this;
  }
  template <class Member>
  Record& ro(const char* name, Member T::* member) {
    return get(name, [member](const T& self) { return self.*member; });
  }

 private:
  nb::class_<T> bound_;
  nb::list names_;
  bool has_repr_ = false;
};

void bind_sparsity(nb::module_& module) {
  Record<PhaseSparsity>(module, "PhaseSparsity")
      .ro("pairs", &PhaseSparsity::pairs)
      .ro("pairs_used", &PhaseSparsity::pairs_used)
      .ro("blocks", &PhaseSparsity::blocks)
      .ro("blocks_read", &PhaseSparsity::blocks_read)
      .get("skipped", &PhaseSparsity::skipped)
      .get("share_read", &PhaseSparsity::share_read);
  Record<LayerSparsity>(module, "LayerSparsity")
      .ro("prefill", &LayerSparsity::prefill)
      .ro("decode", &LayerSparsity::decode);
  // Layers are many: the repr says what was skipped in all.
  const auto shares = [](const SparsityReport& report) {
    const LayerSparsity total = report.total();
    return nb::str(
               "Sparsity(method={!r}, prefill={:.4f} skipped, decode={:.4f} skipped, kept {} of {} "
               "prompt tokens, decode read {} of {} blocks)")
        .format(report.method, total.prefill.skipped(), total.decode.skipped(), report.kept_tokens,
                report.prompt_tokens, total.decode.blocks_read, total.decode.blocks);
  };
  Record<SparsityReport>(module, "Sparsity")
      .repr(shares)
      .ro("method", &SparsityReport::method)
      .get("prefill", [](const SparsityReport& report) { return report.total().prefill; })
      .get("decode", [](const SparsityReport& report) { return report.total().decode; })
      .ro("prompt_tokens", &SparsityReport::prompt_tokens)
      .ro("kept_tokens", &SparsityReport::kept_tokens)
      .ro("layers", &SparsityReport::layers);
}

void bind_measures(nb::module_& module) {
  Record<Timings>(module, "Timings")
      .ro("ttft_ms", &Timings::ttft_ms)
      .ro("prefill_ms", &Timings::prefill_ms)
      .ro("decode_ms", &Timings::decode_ms)
      .ro("prefill_tokens", &Timings::prefill_tokens)
      .ro("decode_tokens", &Timings::decode_tokens)
      .get("prefill_tok_s", &Timings::prefill_tok_s)
      .get("decode_tok_s", &Timings::decode_tok_s);
  Record<RequestMemory>(module, "RequestMemory")
      .ro("kv_bytes", &RequestMemory::kv_bytes)
      .ro("kv_peak_bytes", &RequestMemory::kv_peak_bytes);
  Record<EngineStats>(module, "EngineStats")
      .ro("running", &EngineStats::running)
      .ro("waiting", &EngineStats::waiting)
      .ro("kv_pages_total", &EngineStats::kv_pages_total)
      .ro("kv_pages_used", &EngineStats::kv_pages_used)
      .ro("kv_pages_cached", &EngineStats::kv_pages_cached)
      .ro("page_size", &EngineStats::page_size)
      .ro("steps", &EngineStats::steps)
      .ro("preemptions", &EngineStats::preemptions)
      .ro("prompt_tokens", &EngineStats::prompt_tokens)
      .ro("cached_tokens", &EngineStats::cached_tokens)
      .ro("generated_tokens", &EngineStats::generated_tokens)
      .ro("sparsity", &EngineStats::sparsity);
}

void bind_info(nb::module_& module) {
  Record<ModelInfo>(module, "ModelInfo")
      .ro("name", &ModelInfo::name)
      .ro("architecture", &ModelInfo::architecture)
      .ro("device", &ModelInfo::device)
      .ro("isa", &ModelInfo::isa)
      .ro("method", &ModelInfo::method)
      .ro("attention", &ModelInfo::attention)
      .ro("kv_dtype", &ModelInfo::kv_dtype)
      .ro("threads", &ModelInfo::threads)
      .ro("vocab_size", &ModelInfo::vocab_size)
      .ro("max_seq_len", &ModelInfo::max_seq_len)
      .ro("kv_tokens", &ModelInfo::kv_tokens)
      .ro("kv_bytes", &ModelInfo::kv_bytes)
      .ro("kv_bytes_per_token", &ModelInfo::kv_bytes_per_token)
      .ro("weights_bytes", &ModelInfo::weights_bytes)
      .ro("load_ms", &ModelInfo::load_ms);
}

void bind_outputs(nb::module_& module) {
  Record<TokenLogprob>(module, "TokenLogprob")
      .ro("token", &TokenLogprob::token)
      .ro("logprob", &TokenLogprob::logprob)
      .ro("rank", &TokenLogprob::rank);
  Record<OutputDelta>(module, "Delta")
      .ro("index", &OutputDelta::index)
      .ro("text", &OutputDelta::text)
      .ro("token_ids", &OutputDelta::token_ids)
      .ro("logprobs", &OutputDelta::logprobs)
      .ro("top_logprobs", &OutputDelta::top_logprobs)
      .get("finish_reason",
           [](const OutputDelta& delta) { return finish_text(delta.finish_reason); });
  Record<CompletionOutput>(module, "Completion")
      .ro("stop_text", &CompletionOutput::stop_text)
      .get("finish_reason",
           [](const CompletionOutput& output) { return finish_text(output.finish_reason); });
  Record<RequestOutput>(module, "Result")
      .ro("outputs", &RequestOutput::outputs)
      .ro("prompt_logprobs", &RequestOutput::prompt_logprobs)
      .ro("prompt_top_logprobs", &RequestOutput::prompt_top_logprobs)
      .ro("cached_tokens", &RequestOutput::cached_tokens)
      .ro("timings", &RequestOutput::timings)
      .ro("sparsity", &RequestOutput::sparsity)
      .ro("memory", &RequestOutput::memory);
}

}  // namespace

void bind_results(nb::module_& module) {
  bind_sparsity(module);
  bind_measures(module);
  bind_info(module);
  bind_outputs(module);
}

}  // namespace foveal::python
