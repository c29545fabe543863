# The few functions every folder's CMakeLists.txt uses, and the flags that hold for all of our code.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# There are no modules to look for, which with clang would be a run of its own a file.
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
# The binary must run on machines with an older libstdc++ than the one that built it.
add_link_options($<$<CXX_COMPILER_ID:GNU>:-static-libstdc++> $<$<CXX_COMPILER_ID:GNU>:-static-libgcc>)

add_library(foveal_flags INTERFACE)
target_include_directories(foveal_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
# No -ffast-math anywhere and no contraction behind our back: results are a contract, and a fused
# multiply-add is written where it is meant.
set(FOVEAL_WARNINGS -Wall -Wextra -Wshadow -Werror -Wno-missing-field-initializers -ffp-contract=off
    -fvisibility-inlines-hidden)
target_compile_options(foveal_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${FOVEAL_WARNINGS}>"
  # {fmt} takes nvcc for a compiler that cannot do constexpr, by halves, which does not compile.
  # Compressed, kernels take a tenth of the space, and some milliseconds more when first used.
  "$<$<COMPILE_LANGUAGE:CUDA>:-DFMT_USE_CONSTEXPR=1;--compress-mode=size;-Werror=all-warnings;--expt-relaxed-constexpr;-Xcompiler=-Wall,-Werror,-ffp-contract=off,-fvisibility-inlines-hidden>")
if(FOVEAL_SANITIZE)
  target_compile_options(foveal_flags INTERFACE
                         $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${FOVEAL_SANITIZE}>
                         $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>
                         $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=all>
                         # GCC 12 sees phantoms in <regex> once it is instrumented.
                         $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>
                         # Asio has fences, which the thread sanitizer does not model.
                         $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-tsan>)
  target_link_options(foveal_flags INTERFACE -fsanitize=${FOVEAL_SANITIZE})
endif()
if(FOVEAL_FUZZ)
  target_compile_options(foveal_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=fuzzer-no-link>)
endif()

# Ends configuring with one sentence, in the form of all our errors.
function(foveal_missing what package)
  message(FATAL_ERROR "[setup] got no ${what}; need scripts/setup.sh, which installs it (package ${package})")
endfunction()

# find_package, answered with that sentence when there is nothing. A macro: what it finds is the caller's.
macro(foveal_package name package)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    foveal_missing(${name} ${package})
  endif()
endmacro()

# A distribution's static library as foveal::<name>: the program must run where only libc is there, and
# the packages' own CMake files offer the shared ones.
function(foveal_static_library name file header package)
  find_library(FOVEAL_${name}_LIBRARY ${file})
  find_path(FOVEAL_${name}_INCLUDE ${header})
  if(NOT FOVEAL_${name}_LIBRARY OR NOT FOVEAL_${name}_INCLUDE)
    foveal_missing("${file}" ${package})
  endif()
  add_library(foveal::${name} STATIC IMPORTED GLOBAL)
  set_target_properties(foveal::${name} PROPERTIES
    IMPORTED_LOCATION ${FOVEAL_${name}_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${FOVEAL_${name}_INCLUDE})
endfunction()

function(foveal_deps target)
  foreach(dep IN LISTS ARGN)
    if(TARGET ${dep})
      target_link_libraries(${target} PUBLIC ${dep})
    else()
      target_link_libraries(${target} PUBLIC foveal_${dep})
    endif()
  endforeach()
endfunction()

# foveal_library(base SOURCES error.cc ... DEPS foveal::fmt ...): target foveal_base.
# DEPS are other folders' short names or imported targets.
function(foveal_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(foveal_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(foveal_${name} PUBLIC foveal_flags)
  foveal_deps(foveal_${name} ${ARG_DEPS})
endfunction()

if(FOVEAL_SANITIZE MATCHES thread)
  set(FOVEAL_TEST_ENVIRONMENT TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp)
endif()

# foveal_test(base_test SOURCES error_test.cc ... DEPS base [LABEL slow] [ARGS ...])
function(foveal_test name)
  if(NOT FOVEAL_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "LABEL" "SOURCES;DEPS;ARGS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  foveal_deps(${name} ${ARG_DEPS} GTest::gtest_main)
  target_link_libraries(${name} PRIVATE foveal_flags)
  target_compile_definitions(${name} PRIVATE FOVEAL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} ENVIRONMENT "${FOVEAL_TEST_ENVIRONMENT}")
endfunction()

# One source, one object per instruction-set level, each in its own namespace (FOVEAL_ISA_NS), with a
# numeric FOVEAL_ISA_LEVEL 0..3. See src/kernels/cpu/isa.h for what the levels mean.
# Such sources must instantiate nothing that another translation unit may share (no standard
# containers, no fmt): the linker keeps one copy of an inline function, and it could be the one with
# AVX-512 in it. scripts/check_isa_symbols.py holds that.
set(FOVEAL_ISA_NAMES portable)
set(FOVEAL_ISA_FLAGS_portable "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND FOVEAL_ISA_NAMES avx2 avx512 avx512bf16)
  set(FOVEAL_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
  set(FOVEAL_ISA_FLAGS_avx512 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mavx512f -mavx512bw -mavx512cd
      -mavx512dq -mavx512vl -mprefer-vector-width=512)
  # g++ 12 has no -march=znver4
  set(FOVEAL_ISA_FLAGS_avx512bf16 ${FOVEAL_ISA_FLAGS_avx512} -mavx512vnni -mavx512vbmi -mavx512bf16)
endif()

function(foveal_isa_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(foveal_${name} STATIC)
  target_link_libraries(foveal_${name} PUBLIC foveal_flags)
  foveal_deps(foveal_${name} ${ARG_DEPS})
  set(level 0)
  foreach(isa IN LISTS FOVEAL_ISA_NAMES)
    add_library(foveal_${name}_${isa} OBJECT ${ARG_SOURCES})
    target_link_libraries(foveal_${name}_${isa} PRIVATE foveal_flags)
    foveal_deps(foveal_${name}_${isa} ${ARG_DEPS})
    target_compile_options(foveal_${name}_${isa} PRIVATE ${FOVEAL_ISA_FLAGS_${isa}} -fno-math-errno
                           -fno-trapping-math)
    target_compile_definitions(foveal_${name}_${isa} PRIVATE FOVEAL_ISA_NS=${isa}
                               FOVEAL_ISA_LEVEL=${level})
    target_sources(foveal_${name} PRIVATE $<TARGET_OBJECTS:foveal_${name}_${isa}>)
    math(EXPR level "${level} + 1")
  endforeach()
endfunction()

# foveal_fuzzer(fuzz_gguf SOURCES fuzz_gguf.cc DEPS model): a libFuzzer program, or, without
# FOVEAL_FUZZ, a program that replays the files of its corpus folder once (a unit test).
function(foveal_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(FOVEAL_FUZZ)
    add_executable(${name} ${ARG_SOURCES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    add_test(NAME ${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(${name} PROPERTIES LABELS unit)
  endif()
  target_link_libraries(${name} PRIVATE foveal_flags)
  foveal_deps(${name} ${ARG_DEPS})
endfunction()
