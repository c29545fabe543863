# CUDA in the build: finds nvcc 13, says how device code is compiled, and has the functions that folders
# with .cu files use. Without nvcc the same build gives a program for CPUs; FOVEAL_HAS_CUDA says which.

set(FOVEAL_CUDA AUTO CACHE STRING "CUDA backend: AUTO (where nvcc 13 is found), ON or OFF")
set_property(CACHE FOVEAL_CUDA PROPERTY STRINGS AUTO ON OFF)
set(FOVEAL_HAS_CUDA OFF)

# The compiler that scripts/setup.sh puts into .venv goes first: its version is pinned.
function(foveal_find_nvcc)
  file(GLOB venv ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13/bin)
  find_program(FOVEAL_NVCC nvcc
    HINTS ${venv} ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin
    PATHS /usr/local/cuda/bin
    DOC "The CUDA compiler of FOVEAL_CUDA")
  set(problem "")
  if(NOT FOVEAL_NVCC)
    set(problem "no nvcc in .venv, CUDA_HOME or PATH")
  else()
    execute_process(COMMAND ${FOVEAL_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
    if(NOT text MATCHES "release 13\\.")
      set(problem "${FOVEAL_NVCC}, which is not of CUDA 13")
    endif()
  endif()
  set(FOVEAL_CUDA_PROBLEM "${problem}" PARENT_SCOPE)
endfunction()

# PyPI's toolkit keeps its libraries in lib, which nvcc does not look into; a full one in lib64 or targets/.
macro(foveal_enable_cuda)
  file(REAL_PATH ${FOVEAL_NVCC} real_nvcc)
  cmake_path(GET real_nvcc PARENT_PATH cuda_bin)
  cmake_path(GET cuda_bin PARENT_PATH cuda_root)
  find_library(FOVEAL_CUDART cudart_static NO_DEFAULT_PATH
    PATHS ${cuda_root} ${cuda_root}/targets/x86_64-linux PATH_SUFFIXES lib lib64 REQUIRED)
  find_path(FOVEAL_CUDA_INCLUDE cuda_runtime_api.h NO_DEFAULT_PATH
    PATHS ${cuda_root} ${cuda_root}/targets/x86_64-linux PATH_SUFFIXES include REQUIRED)
  cmake_path(GET FOVEAL_CUDART PARENT_PATH cuda_lib)
  set(CMAKE_CUDA_COMPILER ${FOVEAL_NVCC})
  if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER)
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  # `a`: wgmma, TMA and setmaxnreg exist there only. `real`: no PTX, so nothing is compiled at start-up.
  set(CMAKE_CUDA_ARCHITECTURES 90a-real)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(saved_library_path "$ENV{LIBRARY_PATH}")
  set(ENV{LIBRARY_PATH} "${cuda_lib}:${saved_library_path}")
  enable_language(CUDA)
  set(ENV{LIBRARY_PATH} "${saved_library_path}")
  # Ours is linked by target foveal_cuda, by path; host programs that hold no kernel need it too.
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)
  # Response files hide the includes from ccache.
  set(CMAKE_CUDA_USE_RESPONSE_FILE_FOR_INCLUDES OFF)
  set(CMAKE_CUDA_USE_RESPONSE_FILE_FOR_OBJECTS OFF)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/cmake/nvcc_check.sh ${CMAKE_CXX_COMPILER_LAUNCHER})
  # In every build type: without NDEBUG a device assert is a call, for which ptxas serialises wgmma.
  foreach(type DEBUG RELEASE RELWITHDEBINFO MINSIZEREL)
    set(CMAKE_CUDA_FLAGS_${type} "-O3 -DNDEBUG")
  endforeach()
  find_package(Threads REQUIRED)
  add_library(foveal_cuda INTERFACE)
  target_include_directories(foveal_cuda SYSTEM INTERFACE ${FOVEAL_CUDA_INCLUDE})
  target_link_libraries(foveal_cuda INTERFACE ${FOVEAL_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
  set(FOVEAL_HAS_CUDA ON)
endmacro()

if(NOT FOVEAL_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "[setup] got FOVEAL_CUDA=${FOVEAL_CUDA}; need AUTO, ON or OFF")
elseif(NOT FOVEAL_CUDA STREQUAL OFF)
  foveal_find_nvcc()
  if(FOVEAL_CUDA_PROBLEM STREQUAL "")
    foveal_enable_cuda()
    message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}")
  elseif(FOVEAL_CUDA STREQUAL ON)
    message(FATAL_ERROR "[setup] got ${FOVEAL_CUDA_PROBLEM}; need nvcc 13 for FOVEAL_CUDA=ON (scripts/setup.sh --cuda on)")
  else()
    message(STATUS "CUDA: ${FOVEAL_CUDA_PROBLEM}; building for CPUs only")
  endif()
endif()

# foveal_cuda_library(kernels_norm_cuda SOURCES cuda/norm.cu [cuda/norm_host.cc] [STUB cuda_norm_stub.cc]
# DEPS ...): static library foveal_kernels_norm_cuda. In a build without CUDA it is made of STUB, or,
# where there is none, does not exist.
function(foveal_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;STUB;DEPS" ${ARGN})
  if(FOVEAL_HAS_CUDA)
    foveal_library(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} foveal_cuda)
  elseif(ARG_STUB)
    foveal_library(${name} SOURCES ${ARG_STUB} DEPS ${ARG_DEPS})
  endif()
endfunction()

# Programs that scripts/gpu_pack.sh takes to a machine with a GPU, a line each: kind, name, data.
add_custom_target(gpu_programs)
function(foveal_gpu_program kind name)
  add_dependencies(gpu_programs ${name})
  list(JOIN ARGN " " data)
  set_property(GLOBAL APPEND_STRING PROPERTY FOVEAL_GPU_PROGRAMS "${kind} ${name} ${data}\n")
endfunction()

# At the end of the top folder: their list.
function(foveal_write_gpu_programs)
  get_property(programs GLOBAL PROPERTY FOVEAL_GPU_PROGRAMS)
  file(WRITE ${CMAKE_BINARY_DIR}/gpu_programs.txt "${programs}")
endfunction()

# foveal_gpu_test(device_gpu_test SOURCES a_test.cc b_test.cu ... DEPS device ... [DATA tests/golden]): a
# GoogleTest program with label gpu, which skips all its tests, saying why, where no GPU of ours is. Only
# built with CUDA. It has no path of the source tree in it, for it may run elsewhere: it finds DATA, files and
# folders of the tree, under the working directory, and FOVEAL_SOURCE_DIR is ".".
function(foveal_gpu_test name)
  if(NOT FOVEAL_TESTS OR NOT FOVEAL_HAS_CUDA)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;DATA" ${ARGN})
  add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/gpu/main.cc)
  foveal_deps(${name} ${ARG_DEPS} device foveal_cuda GTest::gtest)
  target_link_libraries(${name} PRIVATE foveal_flags)
  target_compile_definitions(${name} PRIVATE FOVEAL_SOURCE_DIR=".")
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "gpu tests skipped:"
                       RUN_SERIAL ON)
  foveal_gpu_program(test ${name} ${ARG_DATA})
endfunction()

# foveal_gpu_bench(bench_decode SOURCES bench_decode.cu ... DEPS kernels_decode_cuda): a program that
# measures on a GPU. Only built with CUDA and FOVEAL_BENCH.
function(foveal_gpu_bench name)
  if(NOT FOVEAL_BENCH OR NOT FOVEAL_HAS_CUDA)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/bench)
  foveal_deps(${name} ${ARG_DEPS} device foveal_cuda)
  target_link_libraries(${name} PRIVATE foveal_flags)
  foveal_gpu_program(bench ${name})
endfunction()
