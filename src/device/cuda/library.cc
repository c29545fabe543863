#include "device/cuda/library.h"

#include <dlfcn.h>

#include <algorithm>

#include "base/check.h"

namespace foveal::cuda {
namespace {

namespace fs = std::filesystem;

const fs::path kPyPi = "nvidia/cu13/lib";

void add(std::vector<fs::path>& folders, fs::path folder) {
  folder = folder.lexically_normal();
  std::error_code ignored;
  if (std::ranges::find(folders, folder) == folders.end() && fs::is_directory(folder, ignored)) {
    folders.push_back(std::move(folder));
  }
}

/// site-packages of a virtual environment, whatever its Python's version.
void add_environment(std::vector<fs::path>& folders, const fs::path& environment) {
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(environment / "lib", failed)) {
    if (entry.path().filename().string().starts_with("python3")) {
      add(folders, entry.path() / "site-packages" / kPyPi);
    }
  }
}

/// The file this code was loaded from.
fs::path own_object() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&own_object), &info) == 0 || info.dli_fname == nullptr)
    return {};
  std::error_code failed;
  return fs::canonical(info.dli_fname, failed);
}

fs::path own_program() {
  std::error_code failed;
  return fs::read_symlink("/proc/self/exe", failed);
}

}  // namespace

std::vector<fs::path> library_folders(const fs::path& object, const fs::path& program) {
  std::vector<fs::path> folders;
  const fs::path object_folder = object.parent_path();
  const fs::path program_folder = program.parent_path();
  if (!object.empty()) {
    add(folders, object_folder);
    add(folders, object_folder / ".." / kPyPi);  // site-packages/foveal
  }
  if (!program.empty()) {
    add(folders, program_folder);
    // build/release/bin/foveal of a source tree is three below its .venv.
    fs::path above = program_folder;
    for (int level = 0; level < 4 && above.has_relative_path(); ++level) {
      add_environment(folders, above / ".venv");
      above = above.parent_path();
    }
    add_environment(folders, program_folder / "..");  // the Python of an environment, or its bin/
  }
  return folders;
}

void* open_library(const std::string& name) {
  std::string tried;
  const auto open = [&](const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) tried += fmt::format("{}{}", tried.empty() ? "" : "; ", dlerror());
    return library;
  };
  std::vector<fs::path> folders = library_folders(own_object(), own_program());
  add(folders, "/usr/local/cuda/lib64");  // where NVIDIA's installer puts a toolkit
  for (const fs::path& folder : folders) {
    std::error_code ignored;
    if (!fs::exists(folder / name, ignored)) {
      tried += fmt::format("{}not in {}", tried.empty() ? "" : "; ", folder.string());
    } else if (void* library = open((folder / name).string())) {
      return library;
    }
  }
  if (void* library = open(name)) return library;
  fail(ErrorKind::kUnsupported, "cuda",
       "got no {} ({}); need it there, on LD_LIBRARY_PATH, or pip install 'nvidia-cublas<14'", name,
       tried);
}

void* library_symbol(void* library, const char* name) {
  void* address = dlsym(library, name);
  FOVEAL_CHECK(address != nullptr, ErrorKind::kUnsupported, "cuda",
               "got a library without {}; need that of CUDA 13", name);
  return address;
}

}  // namespace foveal::cuda
