//! What is stored of this node, and what waits until it is.

use crate::base::Now;
use crate::link::LinkCommand;
use crate::planted::is_planted;
use crate::store::{StoreInput, StoreMisuse, stored};

use super::{Event, Mesh, Phase};

impl Mesh {
    /// The embedder says what became of what [`Mesh::poll_store`] gave.
    ///
    /// # Errors
    ///
    /// When something is said to be durable that was never given out. Nothing changes then.
    pub fn handle_store(&mut self, now: Now, input: StoreInput) -> Result<(), StoreMisuse> {
        self.tick(now);
        match input {
            StoreInput::Durable { seq } => {
                let was_silent = self.is_silent();
                if self.journal.durable(seq)? && was_silent && !self.is_silent() {
                    let waiting = self.links.iter().filter(|(_, entry)| entry.out.len() > 0);
                    let ready = waiting.map(|(link, _)| LinkCommand::FramesReady { link: *link });
                    self.link_commands.extend(ready);
                }
                self.leases_durable();
            }
            StoreInput::Failed { why } => {
                if self.journal.failed() && self.phase != Phase::Stopped {
                    self.events.push_back(Event::StoreFailed { why });
                    if self.phase == Phase::Running && !is_planted(92) {
                        self.begin_shutdown();
                    }
                }
            }
        }
        self.run();
        Ok(())
    }

    /// Has the counter of the present life stored.
    pub(super) fn store_life(&mut self) {
        let life = stored::life(self.local.incarnation.counter);
        self.life_request = self.journal.ask(vec![life]);
    }

    /// Whether nothing may leave this node: should it die now, its next life would have the counter of this one.
    pub(super) fn is_silent(&self) -> bool {
        !self.journal.is_durable(self.life_request) && !is_planted(90)
    }
}
