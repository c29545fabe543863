fn main() {
    // CMake compiles the generated C++ through this crate's own archive, so that every flag of the
    // bridge lives in one place.
    cxx_build::bridge("src/lib.rs")
        .std("c++20")
        .compile("foveal_text_bridge");
    println!("cargo:rerun-if-changed=src/lib.rs");
}
