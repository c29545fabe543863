#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace foveal::cuda {

/// Where a CUDA library is looked for before the library path: beside the file that this code is in
/// (program, libfoveal.so or Python extension) and the program, in the `nvidia/cu13/lib` that
/// NVIDIA's PyPI packages fill, beside our Python package or in a `.venv` above the program. Not in
/// the working directory: it may be a stranger's.
std::vector<std::filesystem::path> library_folders(const std::filesystem::path& object,
                                                   const std::filesystem::path& program);

/// dlopen of `name` from the first of those folders, and then of an installed toolkit, that has it,
/// else from the library path. Never closed. Throws kUnsupported, with every place and what was
/// wrong there.
void* open_library(const std::string& name);

/// dlsym; throws kUnsupported when the library has no such function.
void* library_symbol(void* library, const char* name);

}  // namespace foveal::cuda
