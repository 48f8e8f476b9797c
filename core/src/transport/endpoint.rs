//! Builds the QUIC endpoint of a node, with every default replaced that would draw on the operating
//! system or a clock.

use std::sync::{Arc, Mutex, PoisonError};

use quinn_proto::{
    ClientConfig, ConnectionId, Endpoint, EndpointConfig, NoneTokenStore, ServerConfig,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::cid::KeyedCids;
use super::clock::Wall;
use super::config::TransportConfig;
use super::crypto::Suite;

/// RFC 9000, section 7.2, asks for at least eight unpredictable bytes.
const FIRST_CID_BYTES: usize = 16;

/// The endpoint, and what its own dials are made with.
pub(super) fn build(
    config: &TransportConfig,
    suite: &Suite,
    wall: Arc<Wall>,
    seed: [u8; 32],
) -> (Endpoint, ClientConfig) {
    let mut draws = ChaCha8Rng::from_seed(seed);
    let mut draw = || {
        let mut bytes = [0; 32];
        draws.fill_bytes(&mut bytes);
        bytes
    };
    let (endpoint_seed, cid_seed, first_cid_seed) = (draw(), draw(), draw());

    let mut endpoint_config = EndpointConfig::new(suite.reset_key.clone());
    let cid_key = suite.cid_key.clone();
    endpoint_config
        .rng_seed(Some(endpoint_seed))
        // Version 1 (RFC 9000) and none of the drafts before it.
        .supported_versions(vec![1])
        .cid_generator(move || Box::new(KeyedCids::new(cid_seed, cid_key.clone())));
    // Below 1,200 it would refuse, and QUIC could not work.
    let accepted_bytes_max = config.udp_payload_accepted_bytes_max.max(1_200);
    endpoint_config.max_udp_payload_size(accepted_bytes_max).expect("at least 1,200 bytes");

    let quic = Arc::new(config.to_quic());
    let mut server = ServerConfig::new(suite.server.clone(), suite.token_key.clone());
    server.transport_config(quic.clone()).time_source(wall);

    let mut client = ClientConfig::new(suite.client.clone());
    let first_cids = Mutex::new(ChaCha8Rng::from_seed(first_cid_seed));
    client.transport_config(quic).token_store(Arc::new(NoneTokenStore)).initial_dst_cid_provider(
        Arc::new(move || {
            let mut id = [0; FIRST_CID_BYTES];
            first_cids.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut id);
            ConnectionId::new(&id)
        }),
    );

    let discover = config.udp_payload_discovered_bytes_max.is_some();
    let endpoint = Endpoint::new(Arc::new(endpoint_config), Some(Arc::new(server)), discover, None);
    (endpoint, client)
}
