//! Recordings in the formats of other programs.

use std::collections::BTreeMap;
use std::process::Command;

use dunlin_sim::draw::draw;
use dunlin_sim::export::{pcapng, shiviz};
use dunlin_sim::recording::{Fate, Kind};
use dunlin_sim::schedule::{Crypto, Fidelity};
use dunlin_sim::{BuiltIn, Extent, Recording, run_recorded};

fn recorded(seed: u64, fidelity: Fidelity, crypto: Crypto) -> Recording {
    let schedule = draw(seed, fidelity, crypto);
    let extent = Extent { datagrams: true, ..Extent::default() };
    run_recorded(&schedule, &BuiltIn::new(&schedule), extent).1
}

/// The blocks of a capture: kind and body.
fn blocks(file: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let (mut at, mut blocks) = (0, Vec::new());
    while at < file.len() {
        let (kind, length) = (word(at), word(at + 4) as usize);
        assert!(length >= 12 && length.is_multiple_of(4), "a block of {length} bytes at {at}");
        assert_eq!(word(at + length - 4) as usize, length, "the length stands at both ends");
        blocks.push((kind, &file[at + 8..at + length - 4]));
        at += length;
    }
    blocks
}

#[test]
fn a_capture_has_every_datagram_at_its_time_and_the_secrets() {
    let recording = recorded(2, Fidelity::Packets, Crypto::Tls);
    let file = pcapng::capture(&recording);
    let blocks = blocks(&file);
    let of = |kind| blocks.iter().filter(move |block| block.0 == kind).map(|block| block.1);
    assert_eq!(blocks[0].0, 0x0A0D_0D0A);
    assert_eq!(of(1).count(), usize::from(recording.nodes));
    let keys = pcapng::keys(&recording);
    let secrets = of(10).next().expect("the secrets are inside");
    assert_eq!(&secrets[8..8 + keys.len()], keys.as_bytes());
    let packets: Vec<_> = of(6).collect();
    assert_eq!(packets.len(), recording.datagrams.len());
    assert!(packets.len() > 500);
    for (packet, datagram) in packets.iter().zip(&recording.datagrams) {
        let word =
            |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(u64::from(word(4)) << 32 | u64::from(word(8)), datagram.at);
        assert_eq!(packet[20 + 28..20 + word(12) as usize], datagram.data[..]);
    }
    // Five secrets a session, of which both ends tell the same.
    let mut sessions = BTreeMap::<&str, u32>::new();
    for line in keys.lines() {
        let parts: Vec<_> = line.split(' ').collect();
        assert!(parts.len() == 3 && parts[1].len() == 64, "{line}");
        *sessions.entry(parts[1]).or_default() += 1;
    }
    // A handshake that came to no end has told but some.
    let whole = sessions.values().filter(|count| **count == 5).count();
    assert!(whole >= 10 && sessions.values().all(|count| *count <= 5), "{sessions:?}");
}

/// Where there is a tshark; elsewhere it says that it is skipped.
#[test]
fn tshark_reads_and_decrypts_a_capture() {
    let recording = recorded(5, Fidelity::Packets, Crypto::Tls);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.pcapng");
    std::fs::write(&file, pcapng::capture(&recording)).expect("a file");
    let count = |filter: &str| {
        let output = Command::new("tshark").arg("-r").arg(&file).args(["-Y", filter]).output();
        output.ok().map(|output| String::from_utf8_lossy(&output.stdout).lines().count())
    };
    let Some(all) = count("quic") else {
        eprintln!("skipped: no tshark in PATH");
        return;
    };
    assert_eq!(all, recording.datagrams.len());
    // CRYPTO frames up to the end of handshakes, and STREAM frames. Resets without a state stay dark.
    assert!(count("tls.handshake.type == 20") > Some(20));
    // How many streams there are is up to the seed; that what there is can be read is not.
    assert!(count("quic.stream.stream_id") > Some(all / 4));
    assert!(count("quic and not quic.frame_type") < Some(all / 20));
}

#[test]
fn whoever_gets_a_message_knows_what_its_sender_knew() {
    clocks_agree(&recorded(4, Fidelity::Frames, Crypto::Null), 1_000);
    clocks_agree(&recorded(2, Fidelity::Packets, Crypto::Tls), 200);
}

/// By the log of a recording, in which more than so many messages come.
fn clocks_agree(recording: &Recording, least: usize) {
    let text = shiviz::log(recording, false);
    let mut lines = text.lines();
    assert!(lines.next().is_some_and(|line| line.contains("?<clock>")));
    assert_eq!(lines.next(), Some(""));
    type Clock = BTreeMap<String, u64>;
    let mut last = BTreeMap::<String, Clock>::new();
    // What was sent from one node to another and has not come, by its words.
    let mut under_way = BTreeMap::<(String, String, String), Vec<Clock>>::new();
    let (mut sent, mut got) = (0, 0);
    while let (Some(what), Some(place)) = (lines.next(), lines.next()) {
        let (host, clock) = place.split_once(' ').expect("a host and its clock");
        let clock: Clock = serde_json::from_str(clock).expect("a clock is JSON");
        let before = last.insert(host.into(), clock.clone()).unwrap_or_default();
        assert_eq!(clock[host], before.get(host).unwrap_or(&0) + 1, "{what}: its own place counts");
        let covers = |other: &Clock| other.iter().all(|(node, n)| clock.get(node) >= Some(n));
        assert!(covers(&before), "{what}: a clock never goes back");
        let (_, words) = what.split_once(' ').expect("a time and words");
        if let Some((kind, rest)) =
            words.strip_prefix("sends ").and_then(|rest| rest.split_once(" to "))
        {
            let (to, says) = rest.split_once(": ").unwrap_or((rest.trim_end_matches(':'), ""));
            let key = (host.into(), to.into(), format!("{kind} {says}"));
            under_way.entry(key).or_default().push(clock);
            sent += 1;
        } else if let Some((kind, rest)) =
            words.strip_prefix("gets ").and_then(|rest| rest.split_once(" from "))
        {
            let (from, says) = rest.split_once(": ").unwrap_or((rest.trim_end_matches(':'), ""));
            let key = (from.into(), host.into(), format!("{kind} {says}"));
            let candidates = under_way.get_mut(&key).expect("what comes was sent");
            let place = candidates.iter().position(covers).expect("it knows what its sender knew");
            candidates.remove(place);
            got += 1;
        }
    }
    let wanted = |kind: Kind| !matches!(kind, Kind::KeepAlive | Kind::Heartbeat | Kind::QuicData);
    let messages = || recording.messages.iter().filter(|message| wanted(message.kind));
    assert_eq!(sent, messages().count());
    let arrived = messages().filter(|m| !matches!(m.fate, Fate::Lost | Fate::Unheard)).count();
    assert!(got == arrived && got > least, "{got} of {arrived}");
}
