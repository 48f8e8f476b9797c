//! The rules of the house, as tests: which way dependencies run, what the core must not touch, and how
//! files look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    let mut packages = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let metadata =
            cargo(&["metadata", "--no-deps", "--format-version=1", "--manifest-path", manifest]);
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        packages.extend(metadata["packages"].as_array().unwrap().iter().cloned());
    }
    packages
}

/// All Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let in_tests = path.components().any(|c| c.as_os_str() == "tests");
    in_tests || name == "tests" || name.ends_with("_tests") || name == "vectors"
}

/// The code of a file: without comments, without what only tests compile, without the insides of
/// strings. Good enough for code that rustfmt has seen.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut skipping_until: Option<String> = None;
    let mut test_next = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        if let Some(end) = &skipping_until {
            if line.trim_end() == *end {
                skipping_until = None;
            }
        } else if trimmed == "#[cfg(test)]" {
            test_next = true;
        } else if test_next && trimmed.ends_with('{') {
            skipping_until = Some(format!("{indent}}}"));
            test_next = false;
        } else if test_next && !trimmed.starts_with("#[") {
            test_next = false;
        } else if !trimmed.starts_with("//") {
            code += line.split(" // ").next().unwrap();
            code.push('\n');
        }
    }
    code
}

#[test]
fn dependencies_run_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("dunlin-proto", &[][..]),
        ("dunlin-core", &["dunlin-proto"]),
        ("dunlin-tokio", &["dunlin-core", "dunlin-proto"]),
        ("dunlin-sim", &["dunlin-core", "dunlin-proto"]),
        ("dunlin-fuzz", &["dunlin-core", "dunlin-proto"]),
    ]);
    let packages = packages();
    assert_eq!(packages.len(), 6, "a new package needs a place in this list");
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            assert_eq!(name, "dunlin-tests", "only the tests may name everybody");
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            if dependency.starts_with("dunlin-") {
                assert!(allowed.contains(&dependency), "{name} must not know {dependency}");
            }
        }
    }
}

#[test]
fn the_core_needs_no_runtime() {
    let tree =
        cargo(&["tree", "--package", "dunlin-core", "--edges", "normal", "--prefix", "none"]);
    let names: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("quinn-proto"), "the tree was read: {names:?}");
    for banned in
        ["tokio", "async-std", "smol", "mio", "polling", "socket2", "quinn", "quinn-udp", "rustix"]
    {
        assert!(!names.contains(banned), "dunlin-core depends on {banned}");
    }
}

#[test]
fn the_core_touches_no_clock_thread_file_socket_or_random_map() {
    const BANNED: [&str; 18] = [
        "Instant::now",
        "SystemTime::now",
        "std::thread",
        "std::env",
        "std::fs",
        "std::process",
        "HashMap",
        "HashSet",
        "RandomState",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "SystemRandom",
        "thread_rng",
        "from_os_rng",
        "getrandom",
        "println!",
        "static mut",
    ];
    // Each with the reason why it is no way out.
    let allowed = BTreeSet::from([
        // `Instant` has no other constructor. Only differences to this one reading are ever formed.
        ("core/src/transport/clock.rs", "Instant::now"),
    ]);
    let mut used = BTreeSet::new();
    let mut read = 0;
    for path in sources("core/src").iter().filter(|path| !is_test(path)) {
        read += 1;
        let code = code(&fs::read_to_string(path).unwrap());
        for banned in BANNED {
            let Some(line) = code.lines().find(|line| line.contains(banned)) else { continue };
            let file = shown(path);
            match allowed.iter().find(|entry| **entry == (file.as_str(), banned)) {
                Some(entry) => {
                    used.insert(*entry);
                }
                None => panic!("{file} names {banned}: {}", line.trim()),
            }
        }
    }
    assert!(read > 30, "the core was read");
    assert_eq!(used, allowed, "an exception that nobody needs goes");
}

#[test]
fn the_scan_sees_code_and_not_comments_and_tests() {
    let text =
        "//! HashMap\nfn a() {} // HashMap\n#[cfg(test)]\nmod tests {\n    HashMap\n}\nb();\n";
    assert_eq!(code(text), "fn a() {}\nb();\n");
    assert!(code("#[cfg(test)]\nmod tests;\nHashMap").contains("HashMap"));
    assert!(code("    let x = std::env::var(\"A\");").contains("std::env"));
}

#[test]
fn files_look_as_they_should() {
    let mut read = 0;
    for package in ["proto", "core", "io-tokio", "sim", "fuzz", "tests"] {
        for path in sources(&format!("{package}/src")) {
            let (file, text) = (shown(&path), fs::read_to_string(&path).unwrap());
            if file.contains("/gen/") {
                continue;
            }
            read += 1;
            assert!(text.starts_with("//!"), "{file} says at its top what it is for");
            assert!(is_test(&path) || text.lines().count() <= 900, "{file} has over 900 lines");
            assert!(!text.contains('\t'), "{file} has a tab");
            for unfinished in ["todo!(", "unimplemented!(", "FIXME", "XXX", "TODO", "dbg!("] {
                assert!(!text.contains(unfinished), "{file} has {unfinished}");
            }
            for line in text.lines() {
                assert_eq!(line, line.trim_end(), "{file} has a line that ends in spaces");
            }
        }
    }
    assert!(read > 60, "the sources were read");
}

#[test]
fn every_package_says_what_it_is_and_under_which_licence() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{name}");
        assert!(package["description"].as_str().is_some_and(|d| d.ends_with('.')), "{name}");
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(fs::read_to_string(root().join(licence)).unwrap().contains("Dunlin"), "{licence}");
    }
}

/// The commands that the README shows, without their prompts and comments.
fn readme_commands() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands = readme.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.map(|c| c.split(" #").next().unwrap().trim().to_string()).collect()
}

#[test]
fn what_the_readme_shows_exists() {
    let config = fs::read_to_string(root().join(".cargo/config.toml")).unwrap_or_default();
    let alias = |name: &str| {
        config.lines().any(|l| l.split('=').next().is_some_and(|key| key.trim() == name))
    };
    let packages = packages();
    let has_program = |name: &str| {
        let targets = packages.iter().flat_map(|p| p["targets"].as_array().unwrap());
        targets.into_iter().any(|t| t["name"] == name && t["kind"][0] == "bin")
    };
    let commands = readme_commands();
    assert!(commands.len() >= 5, "the README shows how to begin");
    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "cargo", "{command}");
        match words[1] {
            "run" => {
                let program = words.iter().position(|w| *w == "--bin").map(|at| words[at + 1]);
                let program = program.expect("the program is named");
                assert!(has_program(program), "{command}");
            }
            "test" | "build" | "doc" | "bench" => {}
            "+nightly" => assert_eq!(words[2], "fuzz", "{command}"),
            other => assert!(alias(other), "{command}: no alias {other} in .cargo/config.toml"),
        }
    }
    // Files that it links to.
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for link in readme.split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        if !target.contains("://") && !target.starts_with('#') {
            assert!(root().join(target).exists(), "the README links to {target}");
        }
    }
}
