// Runs a fuzz target once over every file given (folders are walked), where libFuzzer is not
// linked.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

int replayed = 0;

void replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  ++replayed;
}

}  // namespace

int main(int argc, char** argv) {
  for (int arg = 1; arg < argc; ++arg) {
    if (!std::filesystem::is_directory(argv[arg])) {
      replay(argv[arg]);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[arg])) {
      if (entry.is_regular_file()) replay(entry.path());
    }
  }
  std::printf("replayed %d inputs\n", replayed);
  return replayed == 0 ? 1 : 0;  // an empty corpus is a mistake, not a pass
}
