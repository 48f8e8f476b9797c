//! What is kept of one caller's calls: runs, and answers that it may ask for again.
//!
//! Answers have bounds, and beyond them those go that have been there longest: by when they were *given*, and not by
//! their numbers. The answer of a call that outlasts thousands of later ones is new, however old its number is.

use std::collections::VecDeque;

use super::answer::Answer;
use crate::base::slab::make_first_room;
use crate::base::{InvocationKey, SequenceMap};
use crate::planted::is_planted;
use crate::rpc::outcome::Status;

#[derive(Clone, Debug)]
pub(super) enum Entry {
    Running(InvocationKey),
    Answered(Answer),
}

/// Numbers of answers that are gone, beside as many as there are entries, before they are looked for.
const GONE_MAX: usize = 16;

/// The calls of one caller that run, or whose answers are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    entries: SequenceMap<Entry>,
    /// Numbers in the order of their answers. Some may be gone.
    answered: VecDeque<u64>,
    /// So many of them, from the front on, have lost their bodies.
    bodiless: usize,
    running: usize,
    /// Of all answers.
    bytes: usize,
}

impl Kept {
    /// The call with this number.
    pub(super) fn get(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(sequence)
    }

    /// All, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter()
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// A call runs that was not known.
    pub(super) fn run(&mut self, sequence: u64, invocation: InvocationKey) {
        self.entries.insert(sequence, Entry::Running(invocation));
        self.running += 1;
    }

    /// A call that was not known, or does not run any more, has this answer. So many bytes of answers are kept, and so
    /// many answers: what is beyond that goes, the oldest first, and this one never before another.
    pub(super) fn answer(
        &mut self,
        sequence: u64,
        answer: Answer,
        bytes_max: usize,
        answers_max: usize,
    ) {
        let bytes = answer.bytes();
        self.bytes += bytes;
        make_first_room(&mut self.answered);
        self.answered.push_back(sequence);
        if let Some(Entry::Running(_)) = self.entries.insert(sequence, Entry::Answered(answer)) {
            self.running -= 1;
        }
        self.trim(bytes_max, answers_max);
        self.tidy();
        let kept = match self.entries.get(sequence) {
            Some(Entry::Answered(answer)) => answer.bytes() == bytes || bytes > bytes_max,
            _ => answers_max == 0,
        };
        assert!(kept, "an answer that has just been given is kept");
    }

    /// A run has ended, and nobody waits for it.
    pub(super) fn drop_run(&mut self, sequence: u64) {
        if let Some(Entry::Running(_)) = self.entries.remove(sequence) {
            self.running -= 1;
        }
        self.tidy();
    }

    /// Nobody asks any more for what is below this number. What runs goes when it has ended.
    pub(super) fn raise_floor(&mut self, floor: u64) {
        while let Some((sequence, Entry::Answered(answer))) = self.entries.first()
            && sequence < floor
        {
            self.bytes -= answer.bytes();
            self.entries.pop_first();
        }
        while self.answered.front().is_some_and(|sequence| !self.is_answered(*sequence)) {
            self.forget_first();
        }
        self.tidy();
    }

    /// Bounds the numbers of answers that are gone.
    fn tidy(&mut self) {
        if self.answered.len() > 2 * self.entries.len() + GONE_MAX {
            let entries = &self.entries;
            let is_answered =
                |sequence: &u64| matches!(entries.get(*sequence), Some(Entry::Answered(_)));
            self.answered.retain(is_answered);
            self.bodiless = 0;
        }
    }

    /// Holds answers within these bounds: bodies go first, then whole answers, the oldest first.
    fn trim(&mut self, bytes_max: usize, answers_max: usize) {
        while self.bytes > bytes_max
            && let Some(sequence) = self.answered.get(self.bodiless)
        {
            if let Some(Entry::Answered(answer)) = self.entries.get_mut(*sequence)
                && answer.bytes() > 0
            {
                self.bytes -= answer.bytes();
                // Of what has not run, or failed, the text goes and the word stays.
                *answer = Answer::bare(match answer.status {
                    Status::Ok | Status::Application => Status::AnswerDropped,
                    status => status,
                });
            }
            self.bodiless += 1;
        }
        while self.entries.len() > answers_max + self.running
            && let Some(mut sequence) = self.forget_first()
        {
            if is_planted(9) {
                let lowest = self.entries.iter().find(|(_, e)| matches!(e, Entry::Answered(_)));
                sequence = lowest.map_or(sequence, |(lowest, _)| lowest);
            }
            if self.is_answered(sequence)
                && let Some(Entry::Answered(answer)) = self.entries.remove(sequence)
            {
                self.bytes -= answer.bytes();
            }
        }
    }

    fn is_answered(&self, sequence: u64) -> bool {
        matches!(self.entries.get(sequence), Some(Entry::Answered(_)))
    }

    fn forget_first(&mut self) -> Option<u64> {
        self.bodiless = self.bodiless.saturating_sub(1);
        self.answered.pop_front()
    }

    /// Asserts what must hold between inputs.
    pub(super) fn check_invariants(&self, bytes_max: usize, answers_max: usize) {
        let (mut running, mut bytes) = (0, 0);
        for (_, entry) in self.entries.iter() {
            match entry {
                Entry::Running(_) => running += 1,
                Entry::Answered(answer) => bytes += answer.bytes(),
            }
        }
        assert_eq!(running, self.running, "runs are counted");
        assert_eq!(bytes, self.bytes, "the account of kept bytes is right");
        assert!(bytes <= bytes_max, "what answers hold is bounded");
        assert!(self.entries.len() <= answers_max + running, "answers are bounded");
        let listed = self.answered.iter().filter(|sequence| self.is_answered(**sequence)).count();
        assert_eq!(listed, self.entries.len() - running, "every answer has its turn to go");
        let gone_max = 2 * self.entries.len() + GONE_MAX;
        assert!(self.answered.len() <= gone_max, "what is gone is forgotten");
        for sequence in self.answered.iter().take(self.bodiless) {
            let entry = self.entries.get(*sequence);
            let is_bare =
                |entry: &Entry| matches!(entry, Entry::Answered(answer) if answer.bytes() == 0);
            assert!(entry.is_none_or(is_bare), "what has lost its body has none");
        }
    }
}
