# cmake --install: headers, one shared library with all of ours and of our dependencies in it, and the
# files that make find_package(foveal) work (component library), and the program (component program).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(FOVEAL_EXPORTS ${CMAKE_SOURCE_DIR}/cmake/libfoveal.map)
add_library(foveal_shared SHARED cmake/boost_json.cc)
add_library(foveal::foveal ALIAS foveal_shared)
# No source of ours: the API lies in the engine, and what that needs follows.
target_link_libraries(foveal_shared PRIVATE "$<LINK_LIBRARY:WHOLE_ARCHIVE,foveal_engine>")
target_link_libraries(foveal_shared PRIVATE Boost::headers)
target_include_directories(foveal_shared INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(foveal_shared INTERFACE cxx_std_20)
set_target_properties(foveal_shared PROPERTIES
  OUTPUT_NAME foveal
  EXPORT_NAME foveal
  LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
  LINK_DEPENDS ${FOVEAL_EXPORTS}
  # Exceptions and std types cross this border: library and program share one libstdc++, so the
  # static one that programs get is left out here.
  LINK_OPTIONS "-Wl,--version-script=${FOVEAL_EXPORTS}")

install(TARGETS foveal_shared EXPORT foveal-targets COMPONENT library)
install(DIRECTORY include/foveal DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library)
set(FOVEAL_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/foveal)
install(EXPORT foveal-targets NAMESPACE foveal:: DESTINATION ${FOVEAL_CONFIG_DIR} COMPONENT library)
file(CONFIGURE OUTPUT foveal-config.cmake
  CONTENT "include(\${CMAKE_CURRENT_LIST_DIR}/foveal-targets.cmake)\n" @ONLY)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/foveal-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/foveal-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/foveal-config-version.cmake
  DESTINATION ${FOVEAL_CONFIG_DIR} COMPONENT library)
if(TARGET foveal_kernels_shared)
  add_dependencies(foveal_shared foveal_kernels_shared)  # the same component (cmake/FovealKernels.cmake)
endif()
if(FOVEAL_PROGRAM)
  install(TARGETS foveal COMPONENT program)
endif()
