//! The program's commands on schedules, as a user types them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The exit code of a command after the readers of its output are gone.
fn code_without_readers(arguments: &[&str]) -> i32 {
    let gone = || std::io::pipe().expect("a pipe").1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin-sim"));
    command.args(arguments).stdout(gone()).stderr(gone());
    command.status().expect("the program runs").code().expect("an exit code")
}

/// What a command prints, what it complains of, and its exit code.
fn sim(arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-sim"))
        .args(arguments)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().expect("an exit code"))
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("a file for the test");
    path
}

fn hash(shown: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(shown.trim()).expect("a JSON line");
    json["hash"].as_str().expect("a hash").to_string()
}

#[test]
fn a_printed_schedule_replays_to_the_same_hash_and_an_edited_one_does_not() {
    let (text, _, code) = sim(&["schedule", "--seed", "3", "--fidelity", "frames"]);
    assert_eq!(code, 0);
    let path = file("three.json", &text);
    let path = path.to_str().expect("plain");
    let (replayed, errors, _) = sim(&["replay", path, "--json"]);
    assert_eq!(errors, "");
    let (run, ..) = sim(&["run", "--seed", "3", "--fidelity", "frames", "--json"]);
    assert_eq!(hash(&replayed), hash(&run));
    // Without its faults, by cutting lines; made by another version, which is said.
    let head = text.split("\"faults\"").next().expect("it has faults");
    let edited = head.trim_end().trim_end_matches(',').replace("dunlin-sim 0.", "dunlin-sim 99.");
    let path = file("edited.json", &(edited + "\n}"));
    let (edited, errors, code) = sim(&["replay", path.to_str().expect("plain"), "--json"]);
    assert!(errors.contains("was made by dunlin-sim 99."), "{errors}");
    assert_eq!(code, 5, "no fault changed anything");
    assert_ne!(hash(&edited), hash(&run));
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    let wrong = "{\n  \"version\": 2,\n  \"seeds\": 1\n}";
    let path = file("wrong.json", wrong);
    let path = path.to_str().expect("plain");
    for command in [&["replay", path][..], &["shrink", path], &["locate", path]] {
        let (shown, errors, code) = sim(command);
        assert_eq!((&*shown, code), ("", 2), "{errors}");
        assert!(errors.contains("wrong.json: line 3: unknown field `seeds`"), "{errors}");
    }
    let (_, errors, code) = sim(&["replay", "/no/such.json"]);
    assert!(code == 2 && errors.contains("/no/such.json"), "{errors}");
}

#[test]
fn what_is_clean_is_neither_shrunk_nor_explained() {
    let seed = ["--seed", "1", "--fidelity", "frames"];
    let (_, errors, code) = sim(&[&["shrink"][..], &seed].concat());
    assert!(code == 2 && errors.contains("the run is clean"), "{errors}");
    let (_, errors, code) = sim(&[&["locate"][..], &seed].concat());
    assert!(code == 2 && errors.contains("the run is clean"), "{errors}");
    let (_, _, code) = sim(&["shrink", "--seed", "1", "some.json"]);
    assert_eq!(code, 2, "a seed or a file");
}

#[test]
fn hashes_of_another_build_are_compared_by_bisection() {
    let seed = ["locate", "--seed", "2", "--fidelity", "frames"];
    let (list, _, code) = sim(&[&seed[..], &["--hashes", "--every", "500"]].concat());
    assert_eq!(code, 0);
    let path = file("hashes.txt", &list);
    let against =
        |path: &Path| sim(&[&seed[..], &["--against", path.to_str().expect("plain")]].concat());
    let (shown, _, code) = against(&path);
    assert!(code == 0 && shown.contains("hashes agree"), "{shown}");
    // Another build that differs from its step 4,501 on: every hash from the one before step 5,000 differs.
    let differs = |line: &str| {
        let step = line.split(' ').next().and_then(|step| step.parse::<u64>().ok());
        match step {
            Some(step) if step >= 5_000 => line.replace(['a', 'b', 'c', '1', '2'], "0"),
            _ => line.to_string(),
        }
    };
    let other: Vec<_> = list.lines().map(differs).collect();
    assert!(other.len() > 12);
    let (shown, _, code) = against(&file("others.txt", &other.join("\n")));
    assert!(code == 1 && shown.contains("part between step 4500 and step 5000"), "{shown}");
    // Step by step, the other build's list names the step itself.
    let fine = ["--hashes", "--every", "1", "--from", "4500", "--to", "5000"];
    let (list, ..) = sim(&[&seed[..], &fine].concat());
    let other: Vec<_> = list.lines().map(differs).collect();
    let (shown, _, code) = against(&file("fine.txt", &other.join("\n")));
    assert!(code == 1 && shown.contains("the builds part at step 4999"), "{shown}");
    let (_, errors, code) = against(&file("none.txt", "1 2\n"));
    assert!(code == 2 && errors.contains("line 1: expected a step"), "{errors}");
}

#[test]
fn two_schedules_part_where_a_node_first_does_otherwise() {
    let (text, ..) = sim(&["schedule", "--seed", "4", "--fidelity", "frames"]);
    let path = file("four.json", &text);
    let path = path.to_str().expect("plain");
    let (shown, _, code) = sim(&["locate", path, "--with", path]);
    assert!(code == 0 && shown.contains("same steps in both"), "{shown}");
    let (shown, errors, code) = sim(&["locate", path, "--without-fault", "1"]);
    assert!(code == 0 && shown.contains("steps of the nodes are the same; then"), "{shown}");
    assert!(errors.starts_with("without "), "{errors}");
    let (_, errors, code) = sim(&["locate", path, "--without-fault", "99"]);
    assert!(code == 2 && errors.contains("there is no fault 99"), "{errors}");
}

#[test]
fn a_shard_that_is_none_and_a_merge_of_nothing_are_refused() {
    let (_, errors, code) = sim(&["run", "--seeds", "4", "--shard", "4/4"]);
    assert!(code == 2 && errors.contains("the first index is 0"), "{errors}");
    let path = file("empty.jsonl", "");
    let (_, errors, code) = sim(&["merge", path.to_str().expect("plain")]);
    assert!(code == 2 && errors.contains("has not come to its end"), "{errors}");
}

#[test]
fn what_would_run_or_show_nothing_is_refused() {
    let last = u64::MAX.to_string();
    for (arguments, why) in [
        (&["run", "--seeds", "0"][..], "'0' for '--seeds <SEEDS>'"),
        (
            &["run", "--seeds", "2", "--from", &last],
            "there are no 2 seeds from 18446744073709551615 on",
        ),
        (&["load", "--seeds", "2", "--from", &last], "there are no 2 seeds"),
        (&["failover", "--seeds", "2", "--from", &last], "there are no 2 seeds"),
        (&["view", "--seed", "1", "--from", "9", "--until", "3"], "from 9 s on and before 3 s"),
        (
            &["export", "--seed", "1", "--from", "3", "--until", "3", "--format", "json"],
            "from 3 s on",
        ),
    ] {
        let (shown, errors, code) = sim(arguments);
        assert!(errors.contains(why), "{arguments:?}: {errors}");
        assert_eq!((shown.as_str(), code), ("", 2), "{arguments:?}");
    }
    // The last seed that there is. Of one run, hardly every fault can have done something.
    let (shown, errors, code) = sim(&["run", "--seeds", "1", "--from", &last]);
    assert!(code != 2 && shown.contains("scenarios"), "{shown}{errors}");
}

#[test]
fn a_large_world_is_asked_for_by_its_nodes_and_comes_again_by_the_line_that_says_so() {
    let (first, errors, code) = sim(&["run", "--seed", "4", "--nodes", "40", "--json"]);
    assert_eq!((errors.as_str(), code), ("", 0));
    let json: serde_json::Value = serde_json::from_str(first.trim()).expect("a JSON line");
    assert_eq!((&json["nodes"], &json["fidelity"]), (&40.into(), &"frames".into()));
    let (text, ..) = sim(&["schedule", "--seed", "4", "--nodes", "40"]);
    let path = file("large.json", &text);
    let (replayed, ..) = sim(&["replay", path.to_str().expect("plain"), "--json"]);
    assert_eq!(hash(&replayed), hash(&first));
    // As few as a seed draws by itself would not be told apart from that.
    let (_, errors, code) = sim(&["run", "--seed", "4", "--nodes", "12"]);
    assert!(code == 2 && errors.contains("13..=60000"), "{errors}");
}

#[test]
fn readers_that_are_gone_change_no_exit_code() {
    let (text, _, _) = sim(&["schedule", "--seed", "3", "--fidelity", "frames"]);
    let head = text.split("\"faults\"").next().expect("it has faults");
    let path = file("faultless.json", &(head.trim_end().trim_end_matches(',').to_string() + "\n}"));
    let faultless = path.to_str().expect("plain");
    let commands = [
        (&["replay", faultless][..], 5),
        (&["replay", faultless, "--log"], 5),
        (&["replay", "/no/such.json"], 2),
        (&["run", "--seeds", "2", "--from", "18446744073709551615"], 2),
        (&["run", "--seeds", "2", "--fidelity", "frames", "--json"], 0),
    ];
    for (command, code) in commands {
        assert_eq!(code_without_readers(command), code, "{command:?}");
    }
}

/// Seed 0 has four changes of the path's MTU, none of which changes anything.
#[test]
fn a_small_campaign_says_what_it_did_not_show_and_passes() {
    let (shown, errors, code) = sim(&["run", "--seeds", "1", "--fidelity", "packets"]);
    assert_eq!(code, 0, "{shown}{errors}");
    let said = "not shown, for too few applications: that these faults change anything: mtu";
    assert!(shown.contains(said), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-sim"))
        .args(["schedule", "--seed", "3"])
        .stdout(full)
        .output()
        .expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.starts_with("standard output cannot be written: "), "{errors}");
}
