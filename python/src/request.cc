#include "request.h"

#include <nanobind/stl/vector.h>

#include "base/check.h"
#include "bind.h"

namespace foveal::python {

Request::~Request() {
  if (!generation_) return;
  // The last one to go joins the engine's thread.
  without_gil([&] {
    generation_->cancel();
    generation_.reset();
    llm_.reset();
  });
}

Generation& Request::generation() {
  FOVEAL_CHECK(generation_, ErrorKind::kInvalidArgument, "request",
               "got a request whose result was taken; need one that runs");
  return *generation_;
}

void Request::attach(const std::shared_ptr<Signal>& signal, uint64_t number) {
  const std::lock_guard lock(mutex_);
  generation().on_ready([signal, number] { signal->raise(number); });
}

std::vector<OutputDelta> Request::poll() {
  const std::lock_guard lock(mutex_);
  std::vector<OutputDelta> out;
  if (!generation_) return out;
  while (std::optional<OutputDelta> delta = generation_->poll()) out.push_back(*std::move(delta));
  return out;
}

bool Request::ended() {
  const std::lock_guard lock(mutex_);
  return !generation_ || generation_->ended();
}

void Request::cancel() {
  const std::lock_guard lock(mutex_);
  if (generation_) generation_->cancel();
}

RequestOutput Request::result() {
  const std::lock_guard lock(mutex_);
  // Whatever comes of it, the request then holds the engine no longer. The generation goes first.
  const std::shared_ptr<LLM> engine = std::move(llm_);
  Generation taken = std::move(generation());
  generation_.reset();
  return taken.result();
}

void bind_request(nb::module_& module) {
  nb::class_<Request>(module, "Request", nb::is_weak_referenceable())
      .def(
          "attach",
          [](Request& request, const SignalHandle& handle, uint64_t number) {
            without_gil([&] { request.attach(handle.signal, number); });
          },
          nb::arg("signal"), nb::arg("number"))
      .def("poll", [](Request& request) { return without_gil([&] { return request.poll(); }); })
      .def("ended", [](Request& request) { return without_gil([&] { return request.ended(); }); })
      .def("cancel", [](Request& request) { without_gil([&] { request.cancel(); }); })
      .def("result",
           [](Request& request) { return without_gil([&] { return request.result(); }); });
}

}  // namespace foveal::python
