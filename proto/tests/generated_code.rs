//! The code in `src/gen` is what the schema generates.
//!
//! To renew it after a change of the schema: `DUNLIN_REGENERATE=1 cargo test -p dunlin-proto`.

use std::path::Path;

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = root.join("schema");
    let descriptors = protox::compile(["dunlin.proto", "auth.proto", "stream.proto"], [&schema])
        .expect("the schema compiles");
    let out = tempfile_dir();
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&out)
        .compile_fds(descriptors)
        .expect("code generates");
    let fresh = std::fs::read_to_string(out.join("dunlin.v1.rs")).unwrap();
    let committed = root.join("src/gen/dunlin.v1.rs");
    if std::env::var_os("DUNLIN_REGENERATE").is_some() {
        std::fs::write(&committed, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(
        committed == fresh,
        "src/gen/dunlin.v1.rs differs from the schema; renew it with DUNLIN_REGENERATE=1 cargo test -p dunlin-proto"
    );
}

fn tempfile_dir() -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proto-gen");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
