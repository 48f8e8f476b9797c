//! `dunlin network`: make networks, renew their descriptors, show them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use dunlin_tokio::auth::descriptor::{DescriptorClaims, FORMER_REGISTRIES_MAX};
use dunlin_tokio::auth::{DescriptorChain, Dissemination};
use dunlin_tokio::{PeerId, key};
use serde_json::{Value, json};

use crate::files::{now, parse_validity, read_network, write};
use crate::output::{Fail, Output};
use crate::setup::given_up;

/// Subcommands of `dunlin network`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network: its descriptor and its keys, in a folder
    ///
    /// The folder gets four files. `network` is for everybody: each node needs it. `issuer.key` issues
    /// tokens. `root.key` signs changes of the network: revocations, issuers, a longer life.
    /// `next-root.key` takes over from the root when that is lost or stolen: put it where nobody finds
    /// it. The keys are readable by you alone.
    #[command(after_help = "Examples, from nothing to two nodes that trust each other:\n  \
        dunlin network new shop\n  \
        dunlin id new --out a.key\n  \
        dunlin token issue --network shop/network --issuer-key shop/issuer.key \\\n    \
            --to $(dunlin id show --key a.key) --allow 'serve:echo/*' --out a.token\n  \
        dunlin serve echo --key a.key --network shop/network --token a.token\n\
        The other one needs a key and a token of its own, with --allow 'call:echo/*'.")]
    New {
        /// What the network is called, in front of a topic path too: letters, digits, - _ and .
        name: String,
        /// The folder [default: the name]
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// How long the descriptor counts. Before that ends, renew it
        #[arg(long, value_name = "TIME", default_value = "365d", value_parser = parse_validity)]
        valid: Duration,
        /// The largest payload of one message, in bytes [default: what each node allows]
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
        message_bytes_max: Option<u32>,
        /// Who decides which instance of a single-active service is active: one, three or five nodes
        #[arg(long = "acceptor", value_name = "ID")]
        acceptors: Vec<PeerId>,
    },
    /// Sign a newer descriptor: a longer life, other issuers, other acceptors, or a new root
    ///
    /// Signed with the root's key, the network goes on as it is. Signed with the next root's key, that
    /// one takes over for good, and a key that comes after it must be named with --next-root.
    ///
    /// Other acceptors take over while the nodes run, without a restart, once the new descriptor's file is at a
    /// majority of the old acceptors: these seal themselves, and the new ones begin when what the old ones have
    /// accepted has ended. Give the file to the new acceptors first, and to every node. New acceptors need links to a
    /// majority of the old ones until they have begun (`dunlin leader show`).
    #[command(after_help = "Examples:\n  \
        dunlin network renew shop/network --root-key shop/root.key --valid 365d\n  \
        dunlin network renew shop/network --root-key shop/root.key --issuer ID=1 --issuer ID2=3\n  \
        dunlin network renew shop/network --root-key shop/root.key --acceptor A --acceptor B --acceptor D\n  \
        dunlin network renew shop/network --root-key shop/next-root.key --next-root ID")]
    Renew {
        /// The network's file; it is replaced
        file: PathBuf,
        /// The key of the root, or of the next root
        #[arg(long, value_name = "FILE")]
        root_key: PathBuf,
        /// How long the new descriptor counts
        #[arg(long, value_name = "TIME", default_value = "365d", value_parser = parse_validity)]
        valid: Duration,
        /// Who may issue tokens, in which epoch. Replaces the issuers that there are. Tokens of another
        /// epoch do not count any more
        #[arg(long = "issuer", value_name = "ID=EPOCH", value_parser = parse_issuer)]
        issuers: Vec<(PeerId, u64)>,
        /// Who decides which instance of a single-active service is active: one, three or five nodes, in place of
        /// those that there are
        #[arg(long = "acceptor", value_name = "ID")]
        acceptors: Vec<PeerId>,
        /// DANGER: do not wait until former acceptors are sealed, because a majority of them is lost for good
        ///
        /// Only with --acceptor. It voids the promise that one instance is active at a time: if any former
        /// acceptor still runs without the new descriptor, two may be. Stop them all first. The descriptor says so, and
        /// so does every node that reads it.
        #[arg(long, requires = "acceptors")]
        abandon_former: bool,
        /// Forget the acceptors before the present ones
        ///
        /// They are named in the descriptor until then, so that each of them is sealed. Say this only once the
        /// present ones have begun.
        #[arg(long)]
        settled: bool,
        /// Who takes over next, when the next root takes over now
        #[arg(long, value_name = "ID")]
        next_root: Option<PeerId>,
    },
    /// Show what a network's descriptor says
    #[command(after_help = "Examples:\n  dunlin network show shop/network\n  \
        dunlin network show shop/network --json")]
    Show {
        /// The network's file
        file: PathBuf,
    },
}

fn parse_issuer(text: &str) -> Result<(PeerId, u64), String> {
    let (id, epoch) = text.split_once('=').unwrap_or((text, "0"));
    let id = id.parse().map_err(|error: dunlin_core::base::ParsePeerIdError| error.to_string())?;
    let epoch = epoch.parse().map_err(|_| format!("the epoch '{epoch}' is not a number"))?;
    Ok((id, epoch))
}

/// Runs `dunlin network`.
pub(crate) fn run(command: NetworkCommand, output: Output) -> Result<(), Fail> {
    match command {
        NetworkCommand::New { name, out, valid, message_bytes_max, acceptors } => {
            let folder = out.unwrap_or_else(|| PathBuf::from(&name));
            new(&name, &folder, valid, (message_bytes_max, acceptors), output)
        }
        NetworkCommand::Renew {
            file,
            root_key,
            valid,
            issuers,
            acceptors,
            abandon_former,
            settled,
            next_root,
        } => {
            let chain = read_network(&file)?;
            let signer = key::load(&root_key)?;
            let current = chain.current().claims();
            let takes_over = signer.id() == current.next_root;
            if takes_over != next_root.is_some() {
                return Err(Fail::usage(if takes_over {
                    "this is the next root's key: with it the next root takes over. Say with \
                     --next-root ID who comes after it"
                } else {
                    "--next-root: who comes next is settled until the next root takes over"
                }));
            }
            let claims = other_acceptors(current, acceptors, abandon_former, settled)?;
            let claims = DescriptorClaims {
                expires: now() + valid,
                issuers: if issuers.is_empty() { current.issuers.clone() } else { issuers },
                next_root: next_root.unwrap_or(current.next_root),
                ..claims
            };
            let newer = succeed(&chain, &signer, claims)?;
            write(&file, &newer.to_text(), true)?;
            show(&newer, output);
            if abandon_former {
                let formers = &newer.current().claims().former_registries;
                let epochs: Vec<u64> = formers.iter().map(|former| former.epoch).collect();
                output.note("WARNING", given_up(&epochs));
            }
            Ok(())
        }
        NetworkCommand::Show { file } => {
            show(&read_network(&file)?, output);
            Ok(())
        }
    }
}

/// What a descriptor says, with other acceptors.
fn other_acceptors(
    current: &DescriptorClaims,
    mut acceptors: Vec<PeerId>,
    abandon_former: bool,
    settled: bool,
) -> Result<DescriptorClaims, Fail> {
    let mut claims = current.clone();
    if settled {
        claims.former_registries.clear();
    }
    if acceptors.is_empty() {
        return Ok(claims);
    }
    acceptors.sort();
    if acceptors == current.registry_members && !abandon_former {
        return Err(Fail::usage("--acceptor: these are the acceptors already"));
    }
    if claims.former_registries.len() >= FORMER_REGISTRIES_MAX {
        return Err(Fail::usage(format!(
            "the descriptor names {FORMER_REGISTRIES_MAX} former sets of acceptors, which is as many as there may be. \
             Once the present ones have begun, say --settled"
        )));
    }
    Ok(claims.with_acceptors(acceptors, abandon_former))
}

/// Signs a newer descriptor.
pub(crate) fn succeed(
    chain: &DescriptorChain,
    signer: &dunlin_tokio::Identity,
    claims: DescriptorClaims,
) -> Result<DescriptorChain, Fail> {
    chain.succeed(signer, claims).map_err(|error| Fail::new("NETWORK", error.to_string()))
}

fn new(
    name: &str,
    folder: &Path,
    valid: Duration,
    (message_bytes_max, mut acceptors): (Option<u32>, Vec<PeerId>),
    output: Output,
) -> Result<(), Fail> {
    acceptors.sort();
    let file = folder.join("network");
    let places = ["root.key", "next-root.key", "issuer.key"].map(|name| folder.join(name));
    // All or nothing: what is there already is somebody's network.
    for place in places.iter().chain([&file]) {
        if place.symlink_metadata().is_ok() {
            return Err(Fail::new(
                "FILE",
                format!("{} exists already; choose another folder with --out", place.display()),
            ));
        }
    }
    let [root, next_root, issuer] = [0; 3].map(|_| key::generate());
    let claims = DescriptorClaims {
        name: name.to_string(),
        sequence: 0,
        root: root.id(),
        next_root: next_root.id(),
        expires: now() + valid,
        issuers: vec![(issuer.id(), 0)],
        registry_members: acceptors,
        registry_epoch: 0,
        former_registries: Vec::new(),
        revoked_before: Default::default(),
        revoked_tokens: Vec::new(),
        revoked_issuers: Vec::new(),
        dissemination: Dissemination::Mesh,
        message_bytes_max,
    };
    if name == dunlin_tokio::auth::membership::DEVELOPMENT_NAME {
        return Err(Fail::usage(format!("'{name}' is the network without tokens; choose another")));
    }
    let nonce = key::random()[..16].try_into().expect("16 of 32 bytes");
    let chain = DescriptorChain::found(&root, nonce, claims)
        .map_err(|error| Fail::usage(error.to_string()))?;
    for (identity, place) in [&root, &next_root, &issuer].into_iter().zip(&places) {
        key::save(place, identity, false)?;
    }
    write(&file, &chain.to_text(), false)?;
    let [root, next_root, issuer] = places;
    output.say(chain.id().to_string(), || {
        json!({ "id": chain.id().to_string(), "name": name, "network": file, "root_key": root,
            "next_root_key": next_root, "issuer_key": issuer })
    });
    if !output.is_json() {
        output.note("note", format!("{} is for every node", file.display()));
        output.note("note", format!("{} issues tokens: `dunlin token issue`", issuer.display()));
        output.note(
            "note",
            format!(
                "{} signs revocations; {} replaces it: keep it elsewhere",
                root.display(),
                next_root.display()
            ),
        );
    }
    Ok(())
}

/// Prints what a network's descriptor says.
pub(crate) fn show(chain: &DescriptorChain, output: Output) {
    let claims = chain.current().claims();
    let expired = chain.check_time(now()).is_err();
    let issuers = || claims.issuers.iter();
    let mut words = format!(
        "network   {}\nid        {}\nsequence  {}\nexpires   {}{}\nroot      {}\nnext root {}",
        claims.name,
        chain.id(),
        claims.sequence,
        claims.expires,
        if expired { "   EXPIRED" } else { "" },
        claims.root,
        claims.next_root,
    );
    for (issuer, epoch) in issuers() {
        words += &format!("\nissuer    {issuer} in epoch {epoch}");
    }
    for acceptor in &claims.registry_members {
        words += &format!("\nacceptor  {acceptor} in epoch {}", claims.registry_epoch);
    }
    for former in &claims.former_registries {
        let given_up = if former.abandoned { ", GIVEN UP: nobody waits for its seal" } else { "" };
        for member in &former.members {
            words += &format!("\nformerly  {member} in epoch {}{given_up}", former.epoch);
        }
    }
    if claims.revoked_before.as_unix_nanos() > 0 {
        words += &format!("\nrevoked   every token issued before {}", claims.revoked_before);
    }
    for (issuer, before) in &claims.revoked_issuers {
        words += &format!("\nrevoked   tokens of {issuer} issued before {before}");
    }
    for id in &claims.revoked_tokens {
        words += &format!("\nrevoked   token {id}");
    }
    output.say(words, || {
        let issuer =
            |(key, epoch): &(PeerId, u64)| json!({ "id": key.to_string(), "epoch": epoch });
        json!({
            "name": claims.name,
            "id": chain.id().to_string(),
            "sequence": claims.sequence,
            "expires": claims.expires.to_string(),
            "expired": expired,
            "root": claims.root.to_string(),
            "next_root": claims.next_root.to_string(),
            "issuers": issuers().map(issuer).collect::<Vec<Value>>(),
            "acceptors": claims.registry_members.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "acceptors_epoch": claims.registry_epoch,
            "former_acceptors": claims.former_registries.iter().map(|former| {
                json!({ "epoch": former.epoch, "abandoned": former.abandoned,
                    "acceptors": former.members.iter().map(ToString::to_string).collect::<Vec<_>>() })
            }).collect::<Vec<Value>>(),
            "revoked_before": claims.revoked_before.to_string(),
            "revoked_issuers": claims.revoked_issuers.iter().map(|(key, before)| {
                json!({ "id": key.to_string(), "before": before.to_string() })
            }).collect::<Vec<Value>>(),
            "revoked_tokens":
                claims.revoked_tokens.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
}
