//! What a guarded resource does with fencing tokens.
//!
//! A lease keeps two nodes from believing at one time that they hold it. It does not keep what a holder has sent from
//! arriving late: behind a pause, in a slow network, out of a queue. So whatever the holder alone may
//! change is guarded by the token of its grant, and rejects lower ones than it has seen.
//!
//! ```
//! use dunlin_core::lease::{FenceGuard, Token};
//!
//! let mut guard = FenceGuard::default();
//! // The new holder raises the fence before it serves (`Service::activate`).
//! guard.admit(Token { epoch: 1, round: 7 }).unwrap();
//! // Each read and write carries the token of whoever asks.
//! assert!(guard.admit(Token { epoch: 1, round: 7 }).is_ok());
//! // What an earlier holder has sent is too late.
//! assert!(guard.admit(Token { epoch: 1, round: 6 }).is_err());
//! ```

use super::Token;
use crate::planted::is_planted;

/// The fence of one guarded resource: the highest token that it has seen.
///
/// It is as durable as what it guards: store both together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FenceGuard {
    highest: Option<Token>,
}

/// A token is lower than one that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token {token} is too low: there was a later holder of the lease, with {highest}. Give up what you do as \
     the holder"
)]
pub struct Fenced {
    /// The token.
    pub token: Token,
    /// The highest that was seen.
    pub highest: Token,
}

impl FenceGuard {
    /// A fence as it was stored.
    pub fn raised_to(token: Token) -> FenceGuard {
        FenceGuard { highest: Some(token) }
    }

    /// Lets whoever shows this token pass, and nobody with a lower one from now on. A new holder asks this first, before
    /// it serves: that raises the fence.
    ///
    /// # Errors
    ///
    /// When the token is lower than one that was seen. Nothing changes then.
    pub fn admit(&mut self, token: Token) -> Result<(), Fenced> {
        match self.highest {
            Some(highest) if token < highest && !is_planted(102) => Err(Fenced { token, highest }),
            _ => {
                self.highest = Some(token);
                Ok(())
            }
        }
    }

    /// The highest token that was seen.
    pub fn highest(&self) -> Option<Token> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(epoch: u64, round: u64) -> Token {
        Token { epoch, round }
    }

    #[test]
    fn lower_tokens_are_rejected_and_change_nothing() {
        let mut guard = FenceGuard::default();
        guard.admit(token(1, 5)).unwrap();
        let fenced = guard.admit(token(1, 4)).unwrap_err();
        assert_eq!((fenced.token, fenced.highest), (token(1, 4), token(1, 5)));
        assert!(fenced.to_string().contains("1.4") && fenced.to_string().contains("1.5"));
        guard.admit(token(1, 5)).unwrap();
        guard.admit(token(2, 1)).unwrap();
        assert!(guard.admit(token(1, 900)).is_err(), "epochs come first");
        assert_eq!(guard.highest(), Some(token(2, 1)));
        assert!(FenceGuard::raised_to(token(2, 2)).admit(token(2, 1)).is_err());
    }
}
