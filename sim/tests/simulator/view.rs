//! What is recorded of a run, and the page that shows it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use dunlin_core::service::Service;
use dunlin_sim::draw::draw;
use dunlin_sim::failover::{How, departure};
use dunlin_sim::recording::{self, Breach, Doing, Ending, Fate, Kind};
use dunlin_sim::run::run;
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{
    BuiltIn, Extent, NodeInfo, Outcome, Recording, Verdict, Workload, run_recorded, run_with, view,
};
use serde_json::Value;

fn recorded(seed: u64, fidelity: Fidelity, crypto: Crypto, extent: Extent) -> (Outcome, Recording) {
    let schedule = draw(seed, fidelity, crypto);
    run_recorded(&schedule, &BuiltIn::new(&schedule), extent)
}

/// The data inside of a page.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").expect("the page has data");
    let (data, _) = rest.split_once("</script>").expect("the data ends");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn a_run_takes_the_same_steps_when_it_is_recorded() {
    let kinds = [
        (Fidelity::Frames, Crypto::Null),
        (Fidelity::Packets, Crypto::Null),
        (Fidelity::Packets, Crypto::Tls),
    ];
    for (fidelity, crypto) in kinds {
        let extent = Extent { datagrams: true, ..Extent::default() };
        let (outcome, recording) = recorded(4, fidelity, crypto, extent);
        assert_eq!(outcome.hash, run(&draw(4, fidelity, crypto)).hash);
        assert_eq!(recording.datagrams.is_empty(), fidelity == Fidelity::Frames);
        assert_eq!(recording.secrets.is_empty(), crypto == Crypto::Null);
    }
}

#[test]
fn a_recording_agrees_with_what_the_run_came_to() {
    for seed in [1, 2, 7] {
        let (outcome, recording) =
            recorded(seed, Fidelity::Frames, Crypto::Null, Extent::default());
        let of = |doing| recording.operations.iter().filter(move |o| o.doing == doing);
        assert_eq!(of(Doing::Call).count() as u64, outcome.calls);
        let answered = of(Doing::Call).filter(|o| o.ending == Ending::Done).count();
        assert_eq!(answered as u64, outcome.answered);
        assert_eq!(of(Doing::Publish).count() as u64, outcome.published);
        let found: usize = of(Doing::Publish).map(|operation| operation.seen.len()).sum();
        assert_eq!(found as u64, outcome.delivered);
        assert_eq!(usize::from(recording.nodes), outcome.nodes);
        // Whoever ran once has a life; whoever answered ran.
        for node in 0..recording.nodes {
            assert!(recording.lives.iter().any(|life| life.node == node && life.from == 0));
        }
        assert!(of(Doing::Call).filter(|o| o.ending == Ending::Done).all(|o| !o.seen.is_empty()));
        let applied: u64 = outcome.faults.lines().iter().map(|line| line.applied).sum();
        assert_eq!(recording.faults.len() as u64, applied);
        // What a cut, or loss, swallowed is what the tally says.
        let kinds = ["loss", "partition", "one-way", "partial"];
        let lines = outcome.faults.lines();
        let swallowed = lines.iter().filter(|line| kinds.contains(&&*line.kind));
        let lost = recording.messages.iter().filter(|m| m.fate == Fate::Lost).count();
        assert_eq!(lost as u64, swallowed.map(|line| line.effective).sum::<u64>());
        assert!(!recording.messages.iter().any(|m| m.kind == Kind::Unreadable));
        let text = serde_json::to_string(&recording).expect("plain data");
        assert_eq!(serde_json::from_str::<Recording>(&text).expect("plain data"), recording);
    }
}

#[test]
fn frames_are_seen_inside_of_packets() {
    for crypto in [Crypto::Null, Crypto::Tls] {
        let (outcome, recording) = recorded(2, Fidelity::Packets, crypto, Extent::default());
        let of = |kind| recording.messages.iter().filter(move |m| m.kind == kind);
        assert!(of(Kind::QuicData).count() > 500 && of(Kind::QuicInitial).count() > 0);
        assert!(!recording.messages.iter().any(|m| m.kind == Kind::Unreadable));
        assert!(recording.messages.is_sorted_by_key(|message| message.at));
        // Whatever ran at another node was heard there before, and its answer at home.
        let calls = recording.operations.iter().filter(|o| o.doing == Doing::Call);
        let mut far = 0;
        for call in calls.filter(|call| call.ending == Ending::Done) {
            let Some((node, ran)) = call.seen.iter().find(|(node, _)| *node != call.node) else {
                continue;
            };
            far += 1;
            let heard = |m: &&recording::Message| m.fate != Fate::Lost && m.at + m.took <= *ran;
            let way = |m: &&recording::Message| (m.from, m.to) == (call.node, *node);
            assert!(of(Kind::Call).filter(way).any(|m| heard(&m)), "{call:?}");
            let way = |m: &&recording::Message| (m.to, m.from) == (call.node, *node);
            assert!(of(Kind::Reply).filter(way).any(|m| m.at >= *ran), "{call:?}");
        }
        assert!(far > 50, "{far} calls of {}", outcome.calls);
        // A frame is under way for as long as its packets, and a lost one has been somewhere.
        let quickest = of(Kind::QuicData).filter(|m| m.fate != Fate::Lost).map(|m| m.took).min();
        let frames = || of(Kind::Call).chain(of(Kind::Reply)).chain(of(Kind::Event));
        assert!(frames().all(|m| m.fate == Fate::Lost || Some(m.took) >= quickest));
        assert!(frames().filter(|m| m.fate == Fate::Lost).all(|m| m.what.contains("never heard")));
    }
}

#[test]
fn a_recording_has_a_bound_and_a_window() {
    let small = Extent { entries_max: 100, ..Extent::default() };
    let (_, recording) = recorded(5, Fidelity::Frames, Crypto::Null, small);
    assert_eq!((recording.messages.len(), recording.marks.len()), (100, 100));
    assert!(recording.left_out.messages > 100 && recording.left_out.before > 60_000_000_000);
    let (from, until) = (5_000_000_000, 6_000_000_000);
    let window = Extent { from, until, ..Extent::default() };
    let (_, recording) = recorded(5, Fidelity::Frames, Crypto::Null, window);
    assert!(recording.messages.len() > 10 && recording.left_out.messages == 0);
    assert!(recording.messages.iter().all(|m| (from..until).contains(&m.at)));
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_has_all_that_was_recorded() {
    let (outcome, recording) = recorded(2, Fidelity::Frames, Crypto::Null, Extent::default());
    let page = view::page(&recording);
    let (frame, rest) = page.split_once("id=\"data\">").expect("the page has data");
    let (_, script) = rest.split_once("</script>").expect("the data ends");
    for part in [frame, script] {
        for elsewhere in
            ["http:", "https:", "//cdn", " src=", "@import", "url(", "fetch(", "import("]
        {
            assert!(!part.contains(elsewhere), "the page has {elsewhere}");
        }
    }
    let data = data(&page);
    assert_eq!(data["messages"]["at"].as_array().map(Vec::len), Some(recording.messages.len()));
    let steps = data["messages"]["at"].as_array().expect("a column");
    let last: u64 = steps.iter().filter_map(Value::as_u64).sum();
    assert_eq!(Some(last), recording.messages.last().map(|message| message.at / 1_000));
    let operations = data["operations"].as_array().expect("a list").len() as u64;
    assert_eq!(operations, outcome.calls + outcome.published);
    assert_eq!(data["summary"]["hash"].as_str(), outcome.hash.as_deref());
}

#[test]
fn no_word_of_a_recording_ends_its_element() {
    let what = "</script><script>alert(1)</script> {{script}}".to_string();
    let breach = Breach { at: 5, node: None, rule: "a rule".into(), what: what.clone() };
    let recording = Recording { breaches: vec![breach], ..Recording::default() };
    let page = view::page(&recording);
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(data(&page)["breaches"][0]["what"], what);
}

/// Services of which the rule does not hold for long.
#[derive(Default)]
struct Doomed {
    checked: AtomicU32,
}

impl Workload for Doomed {
    fn services(&self, _: &NodeInfo) -> Vec<Arc<dyn Service>> {
        Vec::new()
    }

    fn check(&self) -> Result<(), String> {
        match self.checked.fetch_add(1, Ordering::Relaxed) {
            500.. => Err("it was to be so".into()),
            _ => Ok(()),
        }
    }
}

/// A browser, if there is one.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}

/// What a user does, and what is to be seen of it, written where the test finds it.
const USER: &str = r#"
{
const note = (name, value) => (document.documentElement.dataset[name] = value);
const click = (name) => document.getElementById(name).click();
const wheel = new WheelEvent("wheel", { deltaY: -60, bubbles: true, cancelable: true });
const before = view.perPixel;
diagram.dispatchEvent(wheel);
note("zoomed", view.perPixel < before);
click("all");
note("whole", view.perPixel * (view.height - HEAD) >= END);
click("failure");
note("failure", Math.abs(view.cursor - breaches[0].at) < 1 && yOf(breaches[0].at) > HEAD && yOf(breaches[0].at) < view.height);
const box = document.getElementById("search");
box.value = "dial-answer";
box.oninput();
click("next");
note("found", `${hits.length} ${view.selected.type}`);
const first = kinds.findIndex((kind) => kind.name === "dial-answer");
note("counted", M.kind.filter((kind) => kind === first).length);
const message = view.selected.index;
draw();
const [x1, y1, x2, y2] = ends(message);
showRange(M.at[message] - 1000, M.at[message] + M.took[message] + 1000);
const picked = pick((ends(message)[0] + ends(message)[2]) / 2, (ends(message)[1] + ends(message)[3]) / 2);
note("picked", `${picked.type} ${text(M.what[picked.index])}`.trim());
click("play");
note("plays", view.playing);
click("play");
const upkeep = document.querySelector('[data-name="upkeep"]');
note("upkeep", upkeep ? upkeep.checked : "none");
draw();
}
"#;

/// Opens a page in a browser, does what a user does, and gives what is to be seen, by its name.
fn drive(chromium: &Path, page: &str, user: &str) -> impl Fn(&str) -> String + use<> {
    let page = page.replace("</body>", &format!("<script>{user}</script></body>"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.html");
    std::fs::write(&file, page).expect("a file");
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--window-size=1400,900", "--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("the browser runs");
    let dom = String::from_utf8_lossy(&output.stdout);
    let root =
        dom.split_once("<html").and_then(|(_, rest)| rest.split_once('>')).expect("a page").0;
    let root = root.to_string();
    move |name: &str| {
        let (_, rest) = root.split_once(&format!("data-{name}=\"")).unwrap_or_else(|| {
            panic!("the page does not say {name}: {root}");
        });
        rest.split_once('"').expect("it ends").0.to_string()
    }
}

/// What a user does with leases.
const USER_OF_LEASES: &str = r#"
{
const note = (name, value) => (document.documentElement.dataset[name] = value);
const box = document.getElementById("search");
box.value = "lease 1.";
box.oninput();
document.getElementById("next").click();
note("found", `${hits.length} ${view.selected.type}`);
const lease = leases[view.selected.index];
note("detail", document.querySelector("aside h2").textContent);
const middle = (lease.from + Math.min(untilEnd(lease.until), lease.from + 1000)) / 2;
showRange(lease.from - 1000, lease.from + 2000);
view.hidden.add("marks");
note("picked", pick(xOf(lease.node) + 3, yOf(middle))?.type);
const filter = document.querySelector('[data-name="lease-bars"]');
filter.click();
note("hidden", view.hidden.has("lease-bars") && pick(xOf(lease.node) + 3, yOf(middle))?.type !== "lease");
filter.click();
draw();
}
"#;

/// Where a leader was stopped and another took over.
#[test]
fn a_recording_and_a_log_say_who_held_the_lease_from_when_to_when() {
    let seed = (0..).find(|seed| {
        departure(*seed).departure.is_some_and(|departure| departure.how == How::StepDown)
    });
    let scenario = departure(seed.expect("one in ten is like that"));
    let schedule = &scenario.schedule;
    let (outcome, recording) = run_recorded(schedule, &BuiltIn::new(schedule), Extent::default());
    assert_eq!(outcome.verdict, Verdict::Clean);
    let left_at = scenario.departure.expect("looked for").at_us * 1_000;
    let [first, second] = &recording.leases[..] else { panic!("{:?}", recording.leases) };
    let until = first.until.expect("it was given up");
    assert!(first.node == scenario.leader && until >= left_at && until < left_at + 50_000_000);
    assert!(second.node != first.node && second.from >= until && second.until.is_none());
    assert!(second.from < left_at + 50_000_000 && second.token != first.token);

    let lines = Lines::default();
    run_with(schedule, &BuiltIn::new(schedule), Some(Box::new(lines.clone())));
    let text = String::from_utf8(lines.0.lock().expect("nobody panics").clone()).expect("text");
    for what in ["holds the lease, by token", "holds the lease no more"] {
        assert!(text.lines().any(|line| line.contains(what)), "no line says: {what}");
    }
    assert!(text.contains(&format!("by token {}", second.token)));

    let Some(chromium) = chromium() else {
        eprintln!("skipped: no chromium in PATH");
        return;
    };
    let says = drive(&chromium, &view::page(&recording), USER_OF_LEASES);
    assert_eq!((says("leases"), says("found")), ("2".into(), "2 lease".into()));
    assert_eq!(says("detail"), format!("lease of n{}", first.node));
    assert_eq!((says("picked"), says("hidden")), ("lease".into(), "true".into()));
}

/// Where a log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where there is a Chromium; elsewhere it says that it is skipped.
#[test]
fn a_browser_shows_the_failure_and_obeys() {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: no chromium in PATH");
        return;
    };
    let mut schedule = draw(2, Fidelity::Frames, Crypto::Null);
    schedule.operations.clear();
    let (outcome, recording) = run_recorded(&schedule, &Doomed::default(), Extent::default());
    assert!(matches!(outcome.verdict, Verdict::Safety { .. }), "{:?}", outcome.verdict);
    let page = view::page(&recording);
    let says = drive(&chromium, &page, USER);
    assert_eq!(says("ready"), "yes");
    assert_eq!(says("messages"), recording.messages.len().to_string());
    for what in ["zoomed", "whole", "failure", "plays"] {
        assert_eq!(says(what), "true", "{what}");
    }
    let answers = recording.messages.iter().filter(|m| m.kind == Kind::DialAnswer).count();
    assert_eq!(says("counted"), answers.to_string());
    assert_eq!(says("found"), format!("{answers} message"));
    assert!(says("picked").starts_with("message"));
    assert_ne!(says("upkeep"), "true", "keep-alives are not shown unless asked for");
    assert_ne!(says("drawn"), "0");
}
