//! `dunlin token`: issue, narrow, show, check and revoke access tokens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_tokio::auth::{Grant, LinkClaims, Permissions, Token, TokenId, TokenRefusal, validate};
use dunlin_tokio::{PeerId, key};
use serde_json::{Value, json};

use crate::files::{now, parse_validity, read_network, read_token, write};
use crate::network::{show as show_network, succeed};
use crate::output::{Fail, Output};

/// Subcommands of `dunlin token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token: say what somebody may do in a network
    #[command(after_help = "Examples:\n  \
        dunlin token issue --network shop/network --issuer-key shop/issuer.key --to ID \\\n    \
            --allow 'call:>' --out a.token\n  \
        dunlin token issue --network shop/network --issuer-key shop/issuer.key --to ID \\\n    \
            --allow 'serve:orders/*' --allow 'call:stock/{item}' --valid 12h --out b.token\n\n\
        ID is what `dunlin id show` prints on the machine that is to use the token.")]
    Issue {
        /// The network's file
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The key of an issuer whom the network trusts
        #[arg(long, value_name = "FILE")]
        issuer_key: PathBuf,
        #[command(flatten)]
        grant: GrantArgs,
        /// How often it may be handed on in part, from one to the next
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=3))]
        depth: u32,
    },
    /// Hand a part of a token on to somebody else, as its holder
    ///
    /// The new token can only do less: no permission, no time and no depth that the old one does not
    /// have, and only for topics for which that one has the permission `delegate`.
    #[command(after_help = "Example:\n  \
        dunlin token attenuate a.token --key a.key --to ID --allow 'call:orders/list' --out c.token")]
    Attenuate {
        /// The token's file
        file: PathBuf,
        /// The key to which it was issued
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        grant: GrantArgs,
    },
    /// Show what a token says. Nothing of it is verified
    #[command(after_help = "Examples:\n  dunlin token inspect a.token\n  \
        dunlin token inspect a.token --json")]
    Inspect {
        /// The token's file
        file: PathBuf,
    },
    /// Check whether a token counts now, as a node of the network would
    #[command(after_help = "Examples:\n  dunlin token verify a.token --network shop/network\n  \
        dunlin token verify a.token --network shop/network --peer ID")]
    Verify {
        /// The token's file
        file: PathBuf,
        /// The network's file
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// Who presents it [default: whom it was issued to]
        #[arg(long, value_name = "ID")]
        peer: Option<PeerId>,
    },
    /// Revoke tokens: sign a newer descriptor of the network that refuses them
    ///
    /// Give the new network file to every node; running ones notice that their file has changed. All
    /// tokens that were made from a revoked one are revoked with it.
    #[command(after_help = "Examples:\n  \
        dunlin token revoke --network shop/network --root-key shop/root.key --token a.token\n  \
        dunlin token revoke --network shop/network --root-key shop/root.key --id TOKEN-ID\n  \
        dunlin token revoke --network shop/network --root-key shop/root.key --issued-by ID\n  \
        dunlin token revoke --network shop/network --root-key shop/root.key --all")]
    Revoke {
        /// The network's file; it is replaced
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The key of the network's root
        #[arg(long, value_name = "FILE")]
        root_key: PathBuf,
        #[command(flatten)]
        what: RevokeArgs,
    },
}

/// What is given to whom.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// To whom: the id of the node that is to use the token
    #[arg(long, value_name = "ID")]
    to: PeerId,
    /// What it may do: KIND:PATTERN, with one of call, serve, publish, subscribe, dht-read, dht-write and
    /// delegate. May be given several times
    #[arg(long = "allow", value_name = "KIND:PATTERN", required = true)]
    allow: Vec<String>,
    /// How long the token counts
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_validity)]
    valid: Duration,
    /// Where to write it [default: print it]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is to be revoked.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct RevokeArgs {
    /// The token in this file, and all that were made from it. Of a token that was handed on, only its
    /// last part
    #[arg(long = "token", value_name = "FILE")]
    tokens: Vec<PathBuf>,
    /// The token with this id, as `dunlin token inspect` shows it
    #[arg(long = "id", value_name = "TOKEN-ID", value_parser = parse_token_id)]
    ids: Vec<TokenId>,
    /// Whatever this key has issued or handed on up to now
    #[arg(long = "issued-by", value_name = "ID")]
    issuers: Vec<PeerId>,
    /// Whatever anybody has issued up to now
    #[arg(long)]
    all: bool,
}

fn parse_token_id(text: &str) -> Result<TokenId, String> {
    text.parse()
}

fn refused(error: &TokenRefusal) -> Fail {
    Fail::new("TOKEN", error.to_string())
}

/// Runs `dunlin token`.
pub(crate) fn run(command: TokenCommand, output: Output) -> Result<(), Fail> {
    match command {
        TokenCommand::Issue { network, issuer_key, grant, depth } => {
            let chain = read_network(&network)?;
            let issuer = key::load(&issuer_key)?;
            let Some(epoch) = chain.current().issuer_epoch(&issuer.id()) else {
                return Err(Fail::new(
                    "TOKEN",
                    format!(
                        "the network '{}' does not trust {} to issue tokens; `dunlin network show` \
                         lists whom it trusts, `dunlin network renew --issuer` changes that",
                        chain.current().claims().name,
                        issuer.id()
                    ),
                ));
            };
            let out = grant.out.clone();
            let grant = grant.grant(depth)?;
            let token = Token::issue(&issuer, epoch, chain.id(), grant);
            keep(&token.map_err(|error| refused(&error))?, out.as_deref(), output)
        }
        TokenCommand::Attenuate { file, key: holder, grant } => {
            let token = read_token(&file)?;
            let holder = key::load(&holder)?;
            let last = token.claims().next_back().expect("tokens have links").clone();
            let out = grant.out.clone();
            let Some(depth) = last.depth_left.checked_sub(1) else {
                return Err(Fail::new(
                    "TOKEN",
                    "this token may not be handed on; its issuer can allow it with --depth",
                ));
            };
            let mut grant = grant.grant(depth)?;
            // It cannot begin before the parent does, nor last longer.
            grant.not_before = grant.not_before.max(last.not_before);
            grant.expires = grant.expires.min(last.expires);
            let narrower = token.attenuate(&holder, grant);
            keep(&narrower.map_err(|error| refused(&error))?, out.as_deref(), output)
        }
        TokenCommand::Inspect { file } => {
            inspect(&read_token(&file)?, output);
            Ok(())
        }
        TokenCommand::Verify { file, network, peer } => {
            let (token, chain) = (read_token(&file)?, read_network(&network)?);
            chain
                .check_time(now())
                .map_err(|error| Fail::new("NETWORK", format!("{}: {error}", network.display())))?;
            let last = token.claims().next_back().expect("tokens have links");
            let peer = peer.unwrap_or(last.subject);
            let verified = validate(&token, chain.current(), &peer, now());
            let verified = verified.map_err(|error| refused(&error))?;
            let permissions = verified.grants.permissions();
            output.say(
                format!("it counts, for {peer}, until {}: {permissions}", last.expires),
                || {
                    json!({ "counts": true, "subject": peer.to_string(),
                        "expires": last.expires.to_string(), "allow": allowed(permissions) })
                },
            );
            Ok(())
        }
        TokenCommand::Revoke { network, root_key, what } => {
            let chain = read_network(&network)?;
            let root = key::load(&root_key)?;
            if root.id() == chain.current().claims().next_root {
                return Err(Fail::usage(
                    "this is the next root's key, which takes over for good: `dunlin network renew`",
                ));
            }
            let mut claims = chain.current().claims().clone();
            let mut ids = what.ids;
            for file in &what.tokens {
                let token = read_token(file)?;
                ids.push(token.claims().next_back().expect("tokens have links").id);
            }
            claims.revoked_tokens.extend(ids);
            // Whatever is dated up to now: the epoch is the first moment that still counts.
            let epoch = now() + Duration::from_millis(1);
            for issuer in what.issuers {
                claims.revoked_issuers.retain(|(key, _)| *key != issuer);
                claims.revoked_issuers.push((issuer, epoch));
            }
            if what.all {
                claims.revoked_before = epoch;
            }
            let newer = succeed(&chain, &root, claims)?;
            write(&network, &newer.to_text(), true)?;
            if !output.is_json() {
                output.note("note", format!("give {} to every node", network.display()));
            }
            show_network(&newer, output);
            Ok(())
        }
    }
}

impl GrantArgs {
    fn grant(self, depth_left: u32) -> Result<Grant, Fail> {
        let permissions = self.allow.iter().try_fold(Permissions::none(), |all, text| {
            all.with(text).map_err(|error| Fail::usage(format!("--allow: {error}")))
        })?;
        let now = now();
        Ok(Grant {
            subject: self.to,
            permissions,
            not_before: now,
            expires: now + self.valid,
            issued_at: now,
            depth_left,
            id: TokenId(key::random()[..16].try_into().expect("16 of 32 bytes")),
        })
    }
}

fn keep(token: &Token, out: Option<&Path>, output: Output) -> Result<(), Fail> {
    let id = token.claims().next_back().expect("tokens have links").id;
    let Some(path) = out else {
        output.say(token.to_text(), || json!({ "id": id.to_string(), "token": token.to_text() }));
        return Ok(());
    };
    write(path, &token.to_text(), false)?;
    output.say(id.to_string(), || json!({ "id": id.to_string(), "file": path }));
    if !output.is_json() {
        output.note("note", format!("the token is in {}", path.display()));
    }
    Ok(())
}

fn allowed(permissions: &Permissions) -> Vec<String> {
    permissions.iter().map(|(permission, pattern)| format!("{permission}:{pattern}")).collect()
}

fn inspect(token: &Token, output: Output) {
    let words = |(index, link): (usize, &LinkClaims)| {
        let mut words = format!(
            "link {}, id {}\n  network {}\n  from    {}{}\n  to      {}\n  valid   {} to {}\n  issued  {}",
            index + 1,
            link.id,
            link.network,
            link.issuer,
            if index == 0 { format!(" in epoch {}", link.issuer_epoch) } else { String::new() },
            link.subject,
            link.not_before,
            link.expires,
            link.issued_at,
        );
        for (permission, pattern) in link.permissions.iter() {
            words += &format!("\n  allows  {permission}:{pattern}");
        }
        words + &format!("\n  may be handed on {} times", link.depth_left)
    };
    let object = |link: &LinkClaims| -> Value {
        json!({
            "id": link.id.to_string(),
            "network": link.network.to_string(),
            "issuer": link.issuer.to_string(),
            "issuer_epoch": link.issuer_epoch,
            "subject": link.subject.to_string(),
            "allow": allowed(&link.permissions),
            "not_before": link.not_before.to_string(),
            "expires": link.expires.to_string(),
            "issued_at": link.issued_at.to_string(),
            "depth_left": link.depth_left,
        })
    };
    let lines: Vec<String> = token.claims().enumerate().map(words).collect();
    output.say(lines.join("\n"), || {
        json!({ "bytes": token.as_bytes().len(),
            "links": token.claims().map(object).collect::<Vec<Value>>() })
    });
}
