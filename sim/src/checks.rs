//! The rules that the history of every call is judged by, and what must hold of links.

use std::time::Duration;

use dunlin_core::link::{CloseCode, DownReason, LinkId};
use dunlin_core::rpc::{Executed, Failure};
use dunlin_core::{Event, Mesh};

use crate::history::{CallRecord, End, Expect, Life};

/// A broken rule: which, and what happened.
pub(crate) type Verdict = Result<(), (&'static str, String)>;

/// How late a call may end. Timers are exact in simulated time.
const SLACK: Duration = Duration::from_millis(1);

/// A call that may run once runs once.
pub(crate) const AT_MOST_ONCE: &str = "a call runs at most once";
/// A call that may run several times runs once for each attempt at most.
pub(crate) const AS_OFTEN_AS_ASKED: &str = "a call runs at most as often as it is attempted";
/// What is said to be unrun never runs.
pub(crate) const UNRUN_IS_UNRUN: &str = "what was said not to have run has not run";
/// What is said to have run did run.
pub(crate) const RUN_IS_RUN: &str = "what was said to have run has run";
/// An answer is to the question that was put.
pub(crate) const RIGHT_ANSWER: &str = "every answer belongs to its call";
/// A call ends by its deadline.
pub(crate) const IN_TIME: &str = "every call ends by its deadline";
/// A call ends in a way that it can end in.
pub(crate) const POSSIBLE_END: &str = "a call ends only in what it may end in";

/// Judges that the handler of a call runs.
pub(crate) fn run(token: u64, call: &CallRecord, at: Life) -> Verdict {
    if let (false, Some(before)) = (call.idempotent, call.runs.first()) {
        return Err((AT_MOST_ONCE, format!("call {token} runs at {at}, and ran at {before}")));
    }
    if call.runs.count() >= call.runs_max {
        let what = format!("call {token} runs at {at}, and may run {} times", call.runs_max);
        return Err((AS_OFTEN_AS_ASKED, what));
    }
    if let Some((when, End::Failed { failure, executed: Executed::No })) = &call.end {
        let what = format!(
            "call {token} runs at {at}; its caller was told {} (not executed) at {}",
            failure.code(),
            seconds(*when)
        );
        return Err((UNRUN_IS_UNRUN, what));
    }
    Ok(())
}

/// Judges that a call ends now. `pause` is the last pause of the caller's node, and `late` by how much that may come
/// too late to what is due.
pub(crate) fn end(
    token: u64,
    call: &CallRecord,
    end: &End,
    now: u64,
    (pause, late): ((u64, u64), u64),
) -> Verdict {
    if call.end.is_some() {
        return Err((IN_TIME, format!("call {token} ended twice")));
    }
    // A node that is paused over the deadline notices when it goes on, and one that is slow comes to it later.
    let is_paused = pause.0 <= call.deadline + late && call.deadline <= pause.1;
    let due = if is_paused { pause.1 } else { call.deadline };
    if now > due + SLACK.as_nanos() as u64 + late {
        let what = format!(
            "call {token} ended at {}, its deadline was {}",
            seconds(now),
            seconds(call.deadline)
        );
        return Err((IN_TIME, what));
    }
    match end {
        End::Answered { by, token: answered } => {
            if *answered != token {
                let what = format!("call {token} got the answer of call {answered}");
                return Err((RIGHT_ANSWER, what));
            }
            if !call.runs.contains(*by) {
                let what = format!("call {token} was answered by {by}, which never ran it");
                return Err((RIGHT_ANSWER, what));
            }
            if matches!(call.expect, Expect::Refusal | Expect::NoAnswer | Expect::Misuse) {
                let what = format!("call {token} was answered, which it cannot be");
                return Err((POSSIBLE_END, what));
            }
        }
        End::Refused { code } => {
            if call.runs.first().is_none() {
                let what = format!("call {token} got error {code}, and no handler ran");
                return Err((RUN_IS_RUN, what));
            }
            if !matches!(call.expect, Expect::Refusal | Expect::AnswerOrRefusal) {
                let what = format!("call {token} got error {code}, which its handler never gives");
                return Err((POSSIBLE_END, what));
            }
        }
        End::Failed { failure, executed } => {
            let code = failure.code();
            if *executed == Executed::No && call.runs.first().is_some() {
                let what = format!("call {token} ended in {code} (not executed), and ran");
                return Err((UNRUN_IS_UNRUN, what));
            }
            if *executed == Executed::Yes && call.runs.first().is_none() {
                let what = format!("call {token} ended in {code} (executed), and never ran");
                return Err((RUN_IS_RUN, what));
            }
            if *failure == Failure::DeadlineExceeded && now + 1_000_000 < call.earliest {
                let what = format!(
                    "call {token} ended in {code} at {}, before its deadline {}",
                    seconds(now),
                    seconds(call.deadline)
                );
                return Err((IN_TIME, what));
            }
            let impossible = matches!(
                failure,
                Failure::Cancelled
                    | Failure::Unencodable
                    | Failure::InvalidPath
                    | Failure::UnreadableAnswer
            );
            let is_misuse = call.expect == Expect::Misuse;
            let impossible = impossible
                || *failure == Failure::BadRequest && !is_misuse
                || is_misuse && *executed != Executed::No;
            if impossible || call.expect == Expect::OnlyAnswer {
                let what = format!("call {token} ended in {code} ({executed})");
                return Err((POSSIBLE_END, what));
            }
        }
    }
    Ok(())
}

/// Simulated time, for people.
pub(crate) fn seconds(nanos: u64) -> String {
    format!("{}.{:06}s", nanos / 1_000_000_000, nanos / 1_000 % 1_000_000)
}

/// What no event of a node may say of its peers. Where frames were replayed or made by hand,
/// peers break rules.
pub(crate) fn of_peers(event: &Event, made_by_hand: bool) -> Option<(&'static str, String)> {
    let superseded = [CloseCode::SUPERSEDED, CloseCode::DRAIN_FAILED].map(DownReason::ClosedByPeer);
    match event {
        Event::PeerDown { reason, .. } if !made_by_hand && superseded.contains(reason) => {
            let what = format!("a peer is said to be down: {reason}");
            Some(("a superseded link is no peer's death", what))
        }
        Event::PeerMisbehaved { what, .. }
            if !made_by_hand && (what.contains("ranks above") || what.contains("link stays")) =>
        {
            Some(("both ends rank links alike", what.clone()))
        }
        Event::NewerSelf { .. } => {
            Some(("every key has one node", "a node stops for a newer self".to_string()))
        }
        _ => None,
    }
}

/// Once all is healed: one link between a pair, called the same at both ends. What is wrong, if something is.
pub(crate) fn one_link(here: &Mesh, there: &Mesh) -> Option<String> {
    let (ours, theirs) = (here.links_up(there.id()), there.links_up(here.id()));
    let ([(our, _)], [(their, _)]) = (&ours[..], &theirs[..]) else {
        return Some(format!("{} links at one end, {} at the other", ours.len(), theirs.len()));
    };
    let same = |a: LinkId, b: LinkId| {
        (a.counter, a.number) == (b.counter, b.number) && a.dialler != b.dialler
    };
    match (here.link_id(*our), there.link_id(*their)) {
        (Some(a), Some(b)) if same(a, b) => None,
        (a, b) => Some(format!("one end keeps {a:?}, the other {b:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Ledger;

    const A: Life = Life { node: 0, life: 1 };
    const B: Life = Life { node: 1, life: 1 };
    const B2: Life = Life { node: 1, life: 2 };
    const SECOND: Duration = Duration::from_secs(1);

    fn broken(ledger: &Ledger) -> Vec<&'static str> {
        ledger.take_violations().into_iter().map(|violation| violation.rule).collect()
    }

    fn answered(by: Life, token: u64) -> End {
        End::Answered { by, token }
    }

    fn failed(failure: Failure, executed: Executed) -> End {
        End::Failed { failure, executed }
    }

    #[test]
    fn a_good_history_breaks_nothing() {
        let ledger = Ledger::default();
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        ledger.run(call.token(), B);
        let token = call.token();
        call.end(answered(B, token));
        let call = ledger.begin(A, SECOND, true, Expect::Answer);
        ledger.run(call.token(), B);
        ledger.run(call.token(), B2);
        ledger.set_now(1_000_000_000);
        call.end(failed(Failure::DeadlineExceeded, Executed::Maybe));
        drop(ledger.begin(A, SECOND, false, Expect::Answer));
        assert_eq!(broken(&ledger), [""; 0]);
        assert!(ledger.open_calls(None).is_empty());
    }

    #[test]
    fn a_second_run_is_seen() {
        let ledger = Ledger::default();
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        ledger.run(call.token(), B);
        ledger.run(call.token(), B2);
        assert_eq!(broken(&ledger), [AT_MOST_ONCE]);
    }

    #[test]
    fn a_run_that_was_denied_is_seen_before_and_after() {
        let ledger = Ledger::default();
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        let token = call.token();
        ledger.run(token, B);
        call.end(failed(Failure::Unavailable, Executed::No));
        assert_eq!(broken(&ledger), [UNRUN_IS_UNRUN]);
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        let token = call.token();
        call.end(failed(Failure::Unavailable, Executed::No));
        ledger.run(token, B);
        assert_eq!(broken(&ledger), [UNRUN_IS_UNRUN]);
    }

    #[test]
    fn a_claimed_run_that_never_was_is_seen() {
        let ledger = Ledger::default();
        ledger
            .begin(A, SECOND, false, Expect::Answer)
            .end(failed(Failure::TooLarge, Executed::Yes));
        ledger.begin(A, SECOND, false, Expect::Refusal).end(End::Refused { code: "NO".into() });
        assert_eq!(broken(&ledger), [RUN_IS_RUN, RUN_IS_RUN]);
    }

    #[test]
    fn another_calls_answer_and_a_strangers_answer_are_seen() {
        let ledger = Ledger::default();
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        ledger.run(call.token(), B);
        call.end(answered(B, 77));
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        let token = call.token();
        ledger.run(token, B);
        call.end(answered(B2, token));
        assert_eq!(broken(&ledger), [RIGHT_ANSWER, RIGHT_ANSWER]);
    }

    #[test]
    fn ends_that_come_late_or_early_are_seen_and_a_pause_excuses() {
        let ledger = Ledger::default();
        let late = ledger.begin(A, SECOND, false, Expect::Answer);
        let paused = ledger.begin(B, SECOND, false, Expect::Answer);
        ledger.set_now(3_000_000_000);
        late.end(failed(Failure::DeadlineExceeded, Executed::Maybe));
        ledger.paused(1, 500_000_000, 3_000_000_000);
        paused.end(failed(Failure::DeadlineExceeded, Executed::Maybe));
        let early = ledger.begin(A, SECOND, false, Expect::Answer);
        early.end(failed(Failure::DeadlineExceeded, Executed::Maybe));
        assert_eq!(broken(&ledger), [IN_TIME, IN_TIME]);
    }

    #[test]
    fn impossible_ends_are_seen() {
        let ledger = Ledger::default();
        let ghost = ledger.begin(A, SECOND, false, Expect::NoAnswer);
        let token = ghost.token();
        ledger.run(token, B);
        ghost.end(answered(B, token));
        let call = ledger.begin(A, SECOND, false, Expect::Answer);
        call.end(failed(Failure::BadRequest, Executed::No));
        let call = ledger.begin(A, SECOND, false, Expect::OnlyAnswer);
        call.end(failed(Failure::NoResponders, Executed::No));
        assert_eq!(broken(&ledger), [POSSIBLE_END; 3]);
    }

    #[test]
    fn runs_beyond_what_was_attempted_and_what_makes_no_sense_are_seen() {
        let ledger = Ledger::default();
        let call = ledger.begin(A, SECOND, true, Expect::Answer);
        ledger.runs_at_most(&call, 2);
        (0..2).for_each(|_| ledger.run(call.token(), B));
        assert_eq!(broken(&ledger), [] as [&str; 0]);
        ledger.run(call.token(), B2);
        let token = call.token();
        call.end(answered(B, token));
        let hedged = || ledger.begin(A, SECOND, false, Expect::Misuse);
        hedged().end(failed(Failure::BadRequest, Executed::No));
        let call = hedged();
        let token = call.token();
        ledger.run(token, B);
        call.end(answered(B, token));
        assert_eq!(broken(&ledger), [AS_OFTEN_AS_ASKED, POSSIBLE_END]);
    }

    #[test]
    fn a_run_without_a_call_is_seen() {
        let ledger = Ledger::default();
        ledger.run(5, B);
        assert_eq!(broken(&ledger), ["runs belong to calls"]);
    }
}
