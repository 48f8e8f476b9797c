//! Networks and tokens between two real nodes: who is let in, who is not, and what each side hears.

use std::time::Duration;

use dunlin_core::WallTime;
use dunlin_core::auth::descriptor::DescriptorClaims;
use dunlin_core::auth::{
    Access, DescriptorChain, Dissemination, Grant, NetworkMembership, Token, TokenId,
};
use dunlin_proto::v1;
use dunlin_tokio::clock::{Clock, SystemClock};
use dunlin_tokio::{
    CallError, ConnectError, Events, Executed, Failure, Identity, NetworkError, Node, NodeEvent,
    PeerAddress, PeerId, RefuseCode, StartError, key, service,
};
use prost::Message;

/// Everything here ends far sooner, or something is broken.
const BOUND: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3_600);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it ends in time")
}

fn wall() -> WallTime {
    SystemClock.now().wall
}

/// A network with the keys that it is run by.
struct Network {
    root: Identity,
    issuer: Identity,
    chain: DescriptorChain,
}

impl Network {
    fn found(name: &str) -> Network {
        let [root, next_root, issuer] = [0; 3].map(|_| key::generate());
        let claims = DescriptorClaims {
            name: name.into(),
            sequence: 0,
            root: root.id(),
            next_root: next_root.id(),
            expires: wall() + HOUR,
            issuers: vec![(issuer.id(), 1)],
            registry_members: Vec::new(),
            registry_epoch: 0,
            former_registries: Vec::new(),
            revoked_before: WallTime::default(),
            revoked_tokens: Vec::new(),
            revoked_issuers: Vec::new(),
            dissemination: Dissemination::Mesh,
            message_bytes_max: None,
        };
        let chain = DescriptorChain::found(&root, [1; 16], claims).unwrap();
        Network { root, issuer, chain }
    }

    fn issue(&self, grant: Grant) -> Token {
        Token::issue(&self.issuer, 1, self.chain.id(), grant).unwrap()
    }

    fn token(&self, subject: &Identity, permissions: &str) -> Token {
        self.issue(grant(subject.id(), permissions))
    }

    fn revoking(&self, id: TokenId) -> DescriptorChain {
        let mut claims = self.chain.current().claims().clone();
        claims.revoked_tokens.push(id);
        self.chain.succeed(&self.root, claims).unwrap()
    }

    /// One that serves `math` and may do so.
    async fn server(&self) -> Node {
        let identity = key::generate();
        let token = self.token(&identity, "serve:math/* call:>");
        let math =
            service("math").action("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) });
        let builder = local(identity).network(self.chain.to_text(), token.to_text());
        builder.service(math).start().await.unwrap()
    }

    /// One that shows this token, whatever it is worth.
    async fn rogue(&self, identity: Identity, token: Token) -> Node {
        let networks = vec![NetworkMembership { descriptors: self.chain.clone(), token }];
        let access = Access::unverified_for_simulation(&identity.id(), networks);
        local(identity).access(access).start().await.unwrap()
    }
}

fn grant(subject: PeerId, permissions: &str) -> Grant {
    Grant {
        subject,
        permissions: permissions.parse().unwrap(),
        not_before: wall() - HOUR,
        expires: wall() + HOUR,
        issued_at: wall() - HOUR,
        depth_left: 2,
        id: TokenId(key::random()[..16].try_into().unwrap()),
    }
}

fn local(identity: Identity) -> dunlin_tokio::NodeBuilder {
    Node::builder().identity(identity).listen("127.0.0.1:0".parse().unwrap())
}

fn address(node: &Node) -> PeerAddress {
    PeerAddress::new(node.id(), node.local_addr())
}

async fn until(events: &mut Events, mut is_it: impl FnMut(&NodeEvent) -> bool) -> NodeEvent {
    loop {
        let event = within(events.next()).await.expect("the node runs");
        if is_it(&event) {
            return event;
        }
    }
}

/// Shows a server the token, and gives what the one who shows it hears and what the server's log says.
async fn shown(network: &Network, identity: Identity, token: Token) -> (RefuseCode, String) {
    let server = network.server().await;
    let mut log = server.events();
    let rogue = network.rogue(identity, token).await;
    let error = within(rogue.connect(address(&server))).await.unwrap_err();
    let ConnectError::Refused { why, .. } = error else { panic!("{error}") };
    let event = until(&mut log, |e| matches!(e, NodeEvent::PeerMisbehaved { .. })).await;
    let NodeEvent::PeerMisbehaved { what, .. } = event else { unreachable!() };
    let answer: Result<i64, CallError> = within(rogue.call("math/add", (1, 2))).await;
    assert_eq!(answer.unwrap_err().executed(), Executed::No);
    (why, what)
}

#[tokio::test]
async fn who_has_a_token_is_let_in_and_may_do_what_it_says() {
    let network = Network::found("shop");
    let server = network.server().await;
    let identity = key::generate();
    let token = network.token(&identity, "call:math/add");
    let builder = local(identity).network(network.chain.to_text(), token.to_text());
    let client = builder.start().await.unwrap();
    within(client.connect(address(&server))).await.unwrap();
    let sum: i64 = within(client.call("math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, 3);
    let sum: i64 = within(client.call("shop:math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, 3);
    let refused: Result<i64, CallError> = within(client.call("math/subtract", (1, 2))).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.failure(), Some(Failure::PermissionDenied));
    assert!(refused.to_string().contains("'call' is missing for 'math/subtract'"), "{refused}");
}

#[tokio::test]
async fn the_callee_does_not_take_the_callers_word() {
    let network = Network::found("shop");
    let server = network.server().await;
    let identity = key::generate();
    let token = network.token(&identity, "call:files/*");
    let rogue = network.rogue(identity, token).await;
    within(rogue.connect(address(&server))).await.unwrap();
    let refused: Result<i64, CallError> = within(rogue.call("math/add", (1, 2))).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.failure(), Some(Failure::PermissionDenied));
    assert_eq!(refused.executed(), Executed::No);
    assert!(refused.to_string().contains("'call' 'math/add'"), "{refused}");
}

#[tokio::test]
async fn a_token_of_somebody_else_is_refused() {
    let network = Network::found("shop");
    let stolen = network.token(&key::generate(), "call:>");
    let (code, log) = shown(&network, key::generate(), stolen).await;
    assert_eq!(code, RefuseCode::TokenRefused);
    assert!(log.contains("it belongs to"), "{log}");
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let network = Network::found("shop");
    let thief = key::generate();
    let expires = wall() - Duration::from_secs(61);
    let expired = network.issue(Grant { expires, ..grant(thief.id(), "call:>") });
    let (code, log) = shown(&network, thief, expired).await;
    assert_eq!(code, RefuseCode::TokenExpired);
    assert!(log.contains("expired at"), "{log}");
}

#[tokio::test]
async fn a_token_of_a_foreign_network_is_refused() {
    let (network, foreign) = (Network::found("shop"), Network::found("bank"));
    let stranger = key::generate();
    let token = foreign.token(&stranger, "call:>");
    let (code, log) = shown(&network, stranger, token).await;
    assert_eq!(code, RefuseCode::TokenRefused);
    assert!(log.contains("is for the network"), "{log}");
    // And so is who is honestly in another network alone, or in the development network.
    let server = network.server().await;
    let honest = key::generate();
    let token = foreign.token(&honest, "call:>");
    let builder = local(honest).network(foreign.chain.to_text(), token.to_text());
    let development = local(key::generate()).development_network();
    for builder in [builder, development] {
        let client = builder.start().await.unwrap();
        let error = within(client.connect(address(&server))).await.unwrap_err();
        let both = matches!(
            error,
            ConnectError::Refused { why: RefuseCode::NoCommonNetwork, .. }
                | ConnectError::RefusedHere { .. }
        );
        assert!(both, "{error}");
    }
}

#[tokio::test]
async fn a_widened_token_is_refused() {
    let network = Network::found("shop");
    let (holder, friend) = (key::generate(), key::generate());
    let narrow = network.token(&holder, "call:files/* delegate:>");
    // As long as its parent is valid, and not until an hour from a later now: only permissions are widened.
    let expires = narrow.claims().last().unwrap().expires;
    let give = Grant { depth_left: 1, expires, ..grant(friend.id(), "call:>") };
    let refused = narrow.attenuate(&holder, give.clone()).unwrap_err();
    assert!(
        refused.to_string().contains("call:> needs call:> there"),
        "the library makes none: {refused}"
    );
    // So it is made by hand: a rightly signed link that permits more than its parent.
    let honest = Grant { permissions: "call:files/*".parse().unwrap(), ..give };
    let honest = narrow.attenuate(&holder, honest).unwrap();
    let mut wire = v1::Token::decode(honest.as_bytes().clone()).unwrap();
    let mut body = v1::TokenBody::decode(wire.links[1].body.clone()).unwrap();
    body.permissions[0].patterns = vec![">".into()];
    let body = body.encode_to_vec();
    let parent = &wire.links[0];
    let parent = ring::digest::digest(
        &ring::digest::SHA256,
        &[&parent.body[..], &parent.signature[..]].concat(),
    );
    let id = network.chain.id();
    let message = [b"dunlin/token/v1", &id.as_bytes()[..], parent.as_ref(), &body[..]].concat();
    let signature = holder.sign(&message).to_vec().into();
    wire.links[1] = v1::Signed { body: body.into(), signature };
    let widened = Token::decode(wire.encode_to_vec().into()).unwrap();
    let (code, log) = shown(&network, friend, widened).await;
    assert_eq!(code, RefuseCode::TokenRefused);
    assert!(log.contains("call:> needs call:> there"), "{log}");
}

#[tokio::test]
async fn a_revoked_token_is_refused_in_mid_session_and_afterwards() {
    let network = Network::found("shop");
    let server = network.server().await;
    let mut log = server.events();
    let identity = key::generate();
    let token = network.token(&identity, "call:>");
    let id = token.claims().next().unwrap().id;
    let builder = local(identity).network(network.chain.to_text(), token.to_text());
    let client = builder.start().await.unwrap();
    let mut heard = client.events();
    within(client.connect(address(&server))).await.unwrap();
    let sum: i64 = within(client.call("math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, 3);

    let newer = network.revoking(id).to_text();
    server.take_descriptor(newer.as_bytes()).await.unwrap();
    let event = until(&mut log, |e| matches!(e, NodeEvent::NetworkLeft { .. })).await;
    let NodeEvent::NetworkLeft { why, network: name, .. } = event else { unreachable!() };
    assert!(why.contains("is revoked") && name == "shop", "{why}");
    until(&mut heard, |e| {
        matches!(e, NodeEvent::PeerRefused { why: RefuseCode::TokenRefused, .. })
    })
    .await;
    let error = server.take_descriptor(newer.as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("not newer"), "{error}");
    let refused = within(client.connect(address(&server))).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { why: RefuseCode::TokenRefused, .. }));
    // A new token opens the door again.
    let renewed = network.token(&Identity::from_secret([9; 32]), "call:>");
    let error = client.take_token(renewed.to_text().as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("it belongs to"), "{error}");
    let renewed = network.issue(grant(client.id(), "call:>"));
    client.take_token(renewed.to_text().as_bytes()).await.unwrap();
    within(client.connect(address(&server))).await.unwrap();
    let sum: i64 = within(client.call("math/add", (1, 2))).await.unwrap();
    assert_eq!(sum, 3);
}

#[tokio::test]
async fn a_node_starts_only_in_networks_that_it_may_be_in() {
    let network = Network::found("shop");
    let identity = key::generate();
    let error = local(identity.clone()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Network(NetworkError::None)), "{error}");
    assert!(error.to_string().contains("development_network"), "{error}");
    let stolen = network.token(&key::generate(), "call:>").to_text();
    let error = local(identity.clone()).network(network.chain.to_text(), stolen);
    let error = error.start().await.unwrap_err().to_string();
    assert!(error.contains("network 'shop'") && error.contains("it belongs to"), "{error}");
    let error = local(identity.clone()).network("nonsense", "nonsense").start().await.unwrap_err();
    assert!(error.to_string().contains("dunlin-network-v1:"), "{error}");
    let token = network.token(&identity, "call:>").to_text();
    let mixed = local(identity.clone()).network(network.chain.to_text(), token.clone());
    let error = mixed.development_network().start().await.unwrap_err();
    assert!(matches!(error, StartError::Network(NetworkError::Mixed)), "{error}");
    // It may not serve what its token does not say.
    let math = service("math").action("add", |_cx, (): ()| async { Ok(1) });
    let builder = local(identity).network(network.chain.to_text(), token).service(math);
    let error = builder.start().await.unwrap_err().to_string();
    assert!(error.contains("'serve' is missing for 'math/add'"), "{error}");
}

/// What a node knows that a peer serves, by path.
async fn known(node: &Node, peer: PeerId) -> Vec<String> {
    let peers = within(node.peers()).await;
    let services = peers.into_iter().find(|known| known.peer == peer).unwrap().services;
    let mut paths: Vec<_> = services.iter().map(|service| service.path.to_string()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn nothing_of_one_network_shows_in_another_on_a_node_that_is_in_both() {
    let (shop, bank) = (Network::found("shop"), Network::found("bank"));
    let everything = "call:> serve:>";
    let answering = |path: &str, answer: i64| {
        service(path).action("ask", move |_cx, (): ()| async move { Ok(answer) })
    };
    // In both; paths that name no network are in the shop.
    let identity = key::generate();
    let [in_shop, in_bank] =
        [&shop, &bank].map(|network| network.token(&identity, everything).to_text());
    let middle = local(identity)
        .network(shop.chain.to_text(), in_shop)
        .network(bank.chain.to_text(), in_bank)
        .service(answering("till", 1))
        .service(answering("bank:vault", 2))
        .service(answering("bank:till", 3))
        .start()
        .await
        .unwrap();
    let joins = |network: &Network| {
        let identity = key::generate();
        let token = network.token(&identity, everything).to_text();
        local(identity).network(network.chain.to_text(), token).start()
    };
    let (buyer, teller) = (joins(&shop).await.unwrap(), joins(&bank).await.unwrap());
    within(buyer.connect(address(&middle))).await.unwrap();
    within(teller.connect(address(&middle))).await.unwrap();

    assert_eq!(known(&buyer, middle.id()).await, ["till"]);
    assert_eq!(known(&teller, middle.id()).await, ["till", "vault"]);
    let ask = async |node: &Node, path: &str| within(node.call::<_, i64>(path, ())).await;
    assert_eq!(ask(&buyer, "till/ask").await.unwrap(), 1);
    assert_eq!(ask(&teller, "till/ask").await.unwrap(), 3);
    assert_eq!(ask(&teller, "vault/ask").await.unwrap(), 2);
    assert_eq!(ask(&teller, "bank:vault/ask").await.unwrap(), 2);
    assert_eq!(ask(&middle, "bank:till/ask").await.unwrap(), 3);
    let refused = ask(&buyer, "vault/ask").await.unwrap_err();
    assert_eq!(refused.failure(), Some(Failure::NoResponders));
    let [foreign, unknown] = ["bank:vault/ask", "none:vault/ask"].map(|path| ask(&buyer, path));
    let (foreign, unknown) = (foreign.await.unwrap_err(), unknown.await.unwrap_err());
    assert_eq!(foreign.failure(), Some(Failure::PermissionDenied));
    assert_eq!(foreign.executed(), Executed::No);
    assert_eq!(foreign.to_string(), unknown.to_string().replace("none", "bank"));
    // They do not meet, and do not learn of each other.
    let error = within(buyer.connect(address(&teller))).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Refused { why: RefuseCode::NoCommonNetwork, .. }
                | ConnectError::RefusedHere { .. }
        ),
        "{error}"
    );
    // What comes later in the one is not heard of in the other.
    let (mut heard, mut teller_heard) = (buyer.events(), teller.events());
    let told = |event: &NodeEvent| matches!(event, NodeEvent::PeerServices { .. });
    middle.add_service(answering("bank:safe", 4)).await.unwrap();
    until(&mut teller_heard, told).await;
    assert_eq!(ask(&teller, "safe/ask").await.unwrap(), 4);
    middle.add_service(answering("door", 5)).await.unwrap();
    until(&mut heard, told).await;
    assert_eq!(known(&buyer, middle.id()).await, ["door", "till"]);
}
