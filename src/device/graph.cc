#include "device/graph.h"

#include <utility>

#include "base/check.h"
#include "device/backend.h"

namespace foveal {

Graph::~Graph() {
  if (native_ != nullptr) cuda::destroy_graph(native_);
}

Graph::Graph(Graph&& other) noexcept : native_(std::exchange(other.native_, nullptr)) {}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(native_, other.native_);
  return *this;
}

void Graph::launch(const Stream& stream) const {
  FOVEAL_CHECK(native_ != nullptr, ErrorKind::kInternal, "graph",
               "got an empty graph to launch; need one that was captured");
  cuda::launch_graph(native_, stream.native());
}

Graph::Capture::Capture(const Stream& stream) : stream_(stream.native()) {
  FOVEAL_CHECK(stream_ != nullptr, ErrorKind::kUnsupported, "graph",
               "got a stream on {}; need a GPU", device_name(stream.device()));
  cuda::begin_capture(stream_);
}

Graph::Capture::~Capture() {
  if (stream_ != nullptr) cuda::abandon_capture(stream_);
}

Graph Graph::Capture::finish() {
  Graph graph;
  graph.native_ = cuda::end_capture(std::exchange(stream_, nullptr));
  return graph;
}

}  // namespace foveal
