//! Other acceptors take over in a network that runs, by a new descriptor file and without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dunlin_core::WallTime;
use dunlin_core::auth::descriptor::DescriptorClaims;
use dunlin_core::auth::{DescriptorChain, Dissemination, Grant, Token, TokenId};
use dunlin_tokio::clock::{Clock, SystemClock};
use dunlin_tokio::{
    CallError, HandlerError, Identity, NetworkFiles, Node, PeerAddress, PeerId, Store, key, service,
};

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

fn wall() -> WallTime {
    SystemClock.now().wall
}

/// Who answered, by which token.
type Answer = ((u64, u64), PeerId);

/// A node with its files.
struct Member {
    node: Node,
    files: NetworkFiles,
    descriptor: PathBuf,
}

fn token_for(chain: &DescriptorChain, issuer: &Identity, subject: PeerId) -> Token {
    let grant = Grant {
        subject,
        permissions: "serve:leader/* call:>".parse().unwrap(),
        not_before: wall() - HOUR,
        expires: wall() + HOUR,
        issued_at: wall() - HOUR,
        depth_left: 0,
        id: TokenId(key::random()[..16].try_into().unwrap()),
    };
    Token::issue(issuer, 1, chain.id(), grant).unwrap()
}

async fn ask(node: &Node) -> Result<Answer, CallError> {
    let request = node.request("leader/who").value(()).timeout(Duration::from_secs(1));
    let (token, peer): ((u64, u64), String) = request.send_as().await?;
    Ok((token, peer.parse().expect("an id")))
}

/// Asks until somebody answers in this epoch, and how long that took. Tokens never go back, and each is one node's.
async fn answer_in(client: &Node, epoch: u64, seen: &mut Vec<Answer>) -> Duration {
    let begun = Instant::now();
    let mut due = tokio::time::interval(Duration::from_millis(10));
    while begun.elapsed() < BOUND {
        due.tick().await;
        let Ok((token, peer)) = ask(client).await else { continue };
        if let Some((last, at)) = seen.last() {
            assert!(token >= *last, "{token:?} after {last:?}");
            assert!(token > *last || peer == *at, "{token:?} is of two");
        }
        seen.push((token, peer));
        if token.0 == epoch {
            return begun.elapsed();
        }
    }
    panic!("nobody answers in epoch {epoch}: {:?}", seen.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptor_is_replaced_while_its_network_runs() {
    let folder = tempfile::tempdir().unwrap();
    let [root, next_root, issuer] = [0; 3].map(|_| key::generate());
    let identities: Vec<Identity> = (0..4).map(|_| key::generate()).collect();
    let ids: Vec<PeerId> = identities.iter().map(Identity::id).collect();
    let claims = DescriptorClaims {
        name: "shop".into(),
        sequence: 0,
        root: root.id(),
        next_root: next_root.id(),
        expires: wall() + HOUR,
        issuers: vec![(issuer.id(), 1)],
        registry_members: ids[..3].to_vec(),
        registry_epoch: 0,
        former_registries: Vec::new(),
        revoked_before: WallTime::default(),
        revoked_tokens: Vec::new(),
        revoked_issuers: Vec::new(),
        dissemination: Dissemination::Mesh,
        message_bytes_max: None,
    };
    let chain = DescriptorChain::found(&root, [1; 16], claims).unwrap();

    // Four that would lead. The first three decide who does.
    let mut members = Vec::new();
    let ran: Arc<Mutex<Vec<Answer>>> = Arc::default();
    for (number, identity) in identities.into_iter().enumerate() {
        let home = folder.path().join(number.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let (descriptor, token) = (home.join("network"), home.join("token"));
        std::fs::write(&descriptor, chain.to_text()).unwrap();
        let id = identity.id();
        std::fs::write(&token, token_for(&chain, &issuer, id).to_text()).unwrap();
        let files = NetworkFiles::read(&[(descriptor.clone(), token)]).unwrap();
        let ran = Arc::clone(&ran);
        let leader = service("leader").single_active().action("who", move |cx, (): ()| {
            let ran = Arc::clone(&ran);
            async move {
                let token = cx.fence().ok_or_else(|| HandlerError::failed("no token"))?;
                let token = (token.epoch, token.round);
                ran.lock().unwrap().push((token, id));
                Ok((token, id.to_string()))
            }
        });
        let store = Store::open(home.join("store")).unwrap();
        let mut builder = Node::builder().identity(identity).store(store).service(leader);
        builder = builder.listen("127.0.0.1:0".parse().unwrap());
        let contents: Vec<_> = files.contents().map(|(d, t)| (d.to_vec(), t.to_vec())).collect();
        for (descriptor, token) in contents {
            builder = builder.network(descriptor, token);
        }
        let node = builder.start().await.unwrap();
        members.push(Member { node, files, descriptor });
    }
    let identity = key::generate();
    let token = token_for(&chain, &issuer, identity.id());
    let client = Node::builder().identity(identity).network(chain.to_text(), token.to_text());
    let client = client.start().await.unwrap();
    for (number, member) in members.iter().enumerate() {
        let address = PeerAddress::new(member.node.id(), member.node.local_addr());
        for other in members[..number].iter().map(|member| &member.node).chain([&client]) {
            other.connect(address.clone()).await.unwrap();
        }
    }
    let mut seen = Vec::new();
    answer_in(&client, 0, &mut seen).await;

    // The fourth in place of the first: its file is there first, then those of the others, one after the other.
    let claims = chain.current().claims().with_acceptors(ids[1..].to_vec(), false);
    let newer = chain.succeed(&root, claims).unwrap();
    for member in members.iter_mut().rev() {
        std::fs::write(&member.descriptor, newer.to_text()).unwrap();
        for (_, path, taken) in member.files.refresh(&member.node).await {
            taken.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    let took = answer_in(&client, 1, &mut seen).await;
    println!("from the last file to the first answer in the new epoch: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let infos = members[3].node.inspect(|core, _, _| core.mesh().acceptors()).await.unwrap();
    assert_eq!((infos[0].epoch, infos[0].is_ours, infos[0].later), (1, true, None));

    // The one that was replaced is needed no more, and another may fail.
    let replaced = members.remove(0);
    replaced.node.shutdown().await.unwrap();
    let waited = Instant::now();
    let mut due = tokio::time::interval(Duration::from_millis(20));
    while !members[2].node.inspect(|core, _, _| core.mesh().is_ready()).await.unwrap() {
        assert!(waited.elapsed() < BOUND, "the new acceptor takes part");
        due.tick().await;
    }
    members.remove(0).node.shutdown().await.unwrap();
    answer_in(&client, 1, &mut seen).await;
    // Each token was one node's.
    let mut ran = ran.lock().unwrap().clone();
    ran.sort();
    ran.dedup();
    assert!(ran.windows(2).all(|pair| pair[0].0 != pair[1].0), "{ran:?}");
    for member in members {
        member.node.shutdown().await.unwrap();
    }
    client.shutdown().await.unwrap();
}
