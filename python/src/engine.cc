#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/yaml_options.h"
#include "bind.h"
#include "request.h"

namespace foveal::python {
namespace {

// A file under keywords: a keyword replaces the file's whole value of that name; None says nothing.
LlmConfig config_from(const nb::dict& keywords, const std::optional<std::string>& yaml_path) {
  ConfigNode root = yaml_path ? load_yaml(*yaml_path) : ConfigNode::map();
  if (root.kind == ConfigNode::Kind::kNull) root = ConfigNode::map();
  ConfigNode given = to_node(keywords);
  for (auto& [name, value] : given.entries) {
    if (root.kind != ConfigNode::Kind::kMap) break;  // bind_options says what is wrong with it
    if (ConfigNode* found = root.find(name)) {
      if (value.kind != ConfigNode::Kind::kNull) *found = std::move(value);
    } else {
      root.entries.push_back({name, std::move(value)});
    }
  }
  LlmConfig config;
  bind_options(describe(config), root, yaml_path ? "" : "LLM");
  return config;
}

// A pointer, because requests keep the model while they run; none after shutdown.
class Engine {
 public:
  Engine(const nb::dict& keywords, const std::optional<std::string>& yaml_path) {
    const LlmConfig config = config_from(keywords, yaml_path);
    // Between stages, so that Ctrl-C ends a long load.
    const auto look_for_signals = [](const std::string&, double) {
      const nb::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
    };
    llm_ = without_gil([&] { return std::make_shared<LLM>(config, look_for_signals); });
  }
  ~Engine() { shutdown(); }

  void shutdown() {
    std::shared_ptr<LLM> last = std::move(llm_);
    llm_ = nullptr;
    without_gil([&] { last.reset(); });
  }

  std::shared_ptr<LLM> llm() const {
    FOVEAL_CHECK(llm_, ErrorKind::kInvalidArgument, "LLM",
                 "got a call after shutdown; need a new LLM");
    return llm_;
  }

  Request* submit(std::vector<int32_t> ids, nb::handle sampling, nb::handle guided,
                  nb::handle sparse_attention, std::string cache_salt) {
    const std::shared_ptr<LLM> engine = llm();
    Prompt prompt;
    prompt.token_ids = std::move(ids);
    const SamplingParams params = sampling_from(sampling, guided);
    const RequestOptions options = options_from(sparse_attention, std::move(cache_salt));
    return without_gil(
        [&] { return new Request(engine, engine->submit(prompt, params, options)); });
  }

 private:
  std::shared_ptr<LLM> llm_;
};

// Calls a const member of LLM without the GIL.
template <auto kMember, class... Args>
auto call(const Engine& engine, const Args&... args) {
  const std::shared_ptr<LLM> llm = engine.llm();
  return without_gil([&] { return ((*llm).*kMember)(args...); });
}

}  // namespace

void bind_engine(nb::module_& module) {
  using Ids = std::vector<int32_t>;
  nb::class_<Engine>(module, "Engine")
      .def(nb::init<const nb::dict&, const std::optional<std::string>&>(), nb::arg("keywords"),
           nb::arg("yaml_path").none() = nb::none())
      .def("submit", &Engine::submit, nb::arg("ids"), nb::arg("sampling"), nb::arg("guided").none(),
           nb::arg("sparse_attention").none(), nb::arg("cache_salt"), nb::rv_policy::take_ownership)
      .def("shutdown", &Engine::shutdown)
      .def("info", &call<&LLM::info>)
      .def("stats", &call<&LLM::stats>)
      .def("has_tokenizer", &call<&LLM::has_tokenizer>)
      .def("chat_template", &call<&LLM::chat_template>)
      .def("encode", &call<&LLM::encode, std::string, bool>, nb::arg("text"),
           nb::arg("parse_special"))
      .def("prompt_token_ids", &call<&LLM::prompt_token_ids, std::string>, nb::arg("text"))
      .def("decode", &call<&LLM::decode, Ids, bool>, nb::arg("ids"), nb::arg("skip_special"))
      .def(
          "token_bytes",
          [](const Engine& engine, int32_t id) {
            const std::string bytes = call<&LLM::token_bytes>(engine, id);
            return nb::bytes(bytes.data(), bytes.size());
          },
          nb::arg("id"))
      .def("chat_token_ids", &call<&LLM::chat_token_ids, std::string, std::string, bool>,
           nb::arg("messages_json"), nb::arg("extra_json"), nb::arg("add_generation_prompt"));
}

}  // namespace foveal::python
