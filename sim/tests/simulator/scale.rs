//! A campaign in shards comes to the same as in one piece: as library calls, and by the lines of the manifests.

use std::path::{Path, PathBuf};
use std::process::Command;

use dunlin_sim::campaign::{Campaign, Shard, Summary, merge, run_campaign};

const SEEDS: u64 = 14;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_dunlin-sim"))
}

/// All that a summary says, without what depends on the machine.
fn without_times(mut summary: Summary) -> serde_json::Value {
    for share in summary.shares.values_mut() {
        share.cpu_seconds = 0.0;
        share.events_per_cpu_second = 0.0;
        share.scenarios_per_cpu_second = 0.0;
    }
    serde_json::to_value(summary).expect("plain data")
}

fn whole() -> Summary {
    run_campaign(&Campaign { from: 100, seeds: SEEDS, jobs: 2, ..Campaign::default() }, |_| {})
}

fn shard(index: u64, of: u64) -> (String, Summary) {
    let shard = Shard { index, of };
    let campaign = Campaign { from: 100, seeds: SEEDS, shard, jobs: 2, ..Campaign::default() };
    (format!("shard {index}"), run_campaign(&campaign, |_| {}))
}

#[test]
fn shards_add_up_to_one_run_and_nothing_else_is_added() {
    let [zero, one, two] = [0, 1, 2].map(|index| shard(index, 3));
    let all = [two.clone(), zero.clone(), one.clone()];
    let sum = merge(&all).expect("all are there");
    assert_eq!(without_times(sum), without_times(whole()));

    let error = |parts: &[&(String, Summary)]| {
        let parts: Vec<_> = parts.iter().map(|part| (*part).clone()).collect();
        merge(&parts).map(without_times).unwrap_err()
    };
    assert_eq!(error(&[&zero, &two]), "missing: shard 1/3");
    assert!(error(&[&zero, &one, &two, &one]).starts_with("shard 1/3 is there twice"));
    assert!(error(&[&zero, &shard(1, 2)]).contains("different campaigns"));
    let mut elsewhere = one.clone();
    elsewhere.1.plan.program = "dunlin-sim 99.0.0".into();
    assert!(error(&[&zero, &elsewhere, &two]).contains("different campaigns"));
    let mut cut = one;
    cut.1.shares.pop_first();
    assert!(error(&[&zero, &cut, &two]).contains("it should have 5"));
    assert_eq!(error(&[]), "there is nothing to add up");
}

/// The line of a manifest that runs a shard.
fn line_of(manifest: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text =
        std::fs::read_to_string(root.join("docs/scale").join(manifest)).expect("it is there");
    let mut lines = text.lines().filter(|line| line.contains("dunlin-sim run"));
    let line = lines.next().expect("it runs a shard").trim_start_matches([' ', '-']);
    assert_eq!(lines.next(), None, "one line runs a shard");
    line.to_string()
}

fn merged(files: &[PathBuf], junit: &Path) -> (serde_json::Value, String) {
    let output = Command::new(program())
        .arg("merge")
        .args(files)
        .arg("--json")
        .arg("--junit")
        .arg(junit)
        .output()
        .expect("the program runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    value.as_object_mut().expect("a summary").remove("type");
    let summary = serde_json::from_value(value).expect("a summary");
    (without_times(summary), std::fs::read_to_string(junit).expect("it was written"))
}

#[test]
fn every_manifest_adds_up_to_one_run() {
    let manifests = [
        ("kubernetes.yaml", "JOB_COMPLETION_INDEX"),
        ("slurm.sh", "SLURM_ARRAY_TASK_ID"),
        ("github-actions.yml", "SHARD"),
    ];
    let one = run_campaign(&Campaign { seeds: SEEDS, jobs: 2, ..Campaign::default() }, |_| {});
    let expected = without_times(one);
    let path = program().parent().expect("a folder").display().to_string();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
    for (manifest, index_name) in manifests {
        let line = line_of(manifest);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(manifest);
        std::fs::create_dir_all(&folder).expect("a folder for results");
        let shards = 3;
        let files: Vec<_> =
            (0..shards).map(|index| folder.join(format!("{index}.jsonl"))).collect();
        for index in 0..shards {
            let status = Command::new("sh")
                .args(["-c", &line])
                .env("PATH", &path)
                .env("SEEDS", SEEDS.to_string())
                .env("SHARDS", shards.to_string())
                .env("RESULTS", &folder)
                .env(index_name, index.to_string())
                .stderr(std::process::Stdio::null())
                .status()
                .expect("a shell");
            // So few seeds may leave one without an effective fault; nothing else goes wrong.
            assert!(matches!(status.code(), Some(0 | 5)), "{manifest}: {status}");
        }
        let (sum, junit) = merged(&files, &folder.join("campaign.xml"));
        assert_eq!(sum, expected, "{manifest}");
        assert_eq!(junit.matches("<testcase ").count() as u64, SEEDS, "{manifest}");
        assert!(junit.contains(&format!("tests=\"{SEEDS}\" failures=\"0\"")), "{manifest}");
    }
}
