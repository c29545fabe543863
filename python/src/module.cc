#include "base/log.h"
#include "bind.h"
#include "foveal/version.h"

NB_MODULE(_foveal, module) {
  using namespace foveal;
  module.doc() = "Foveal's engine. The package foveal is its interface; nothing here is promised.";
  module.attr("__version__") = kVersion;
  set_log_level(LogLevel::kWarn);  // a library is quiet
  nanobind::set_leak_warnings(false);
  module.def(
      "set_log_level", [](const char* level) { set_log_level(parse_log_level(level)); },
      nanobind::arg("level"));
  python::bind_errors(module);
  python::bind_config(module);
  python::bind_results(module);
  python::bind_signal(module);
  python::bind_request(module);
  python::bind_engine(module);
}
