//! A node keeps what must survive it, in a file of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dunlin_tokio::store::{FILE, StorageBackend};
use dunlin_tokio::{Identity, Node, NodeError, NodeEvent, StartError, Store, StoreError, key};
use redb::backends::InMemoryBackend;

fn node(identity: &Identity, store: &Store) -> dunlin_tokio::NodeBuilder {
    Node::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .identity(identity.clone())
        .development_network()
        // As a clock would say that is set back at every start.
        .incarnation_counter(5)
        .store(store.clone())
}

async fn life(node: &Node) -> u64 {
    node.inspect(|core, _, _| core.mesh().incarnation().counter).await.expect("it runs")
}

/// Waits until peers may hear of the node: its life is stored.
async fn speaks_to(node: &Node, other: &Node) {
    let address = dunlin_tokio::PeerAddress::new(other.id(), other.local_addr());
    node.connect(address).await.expect("both are there");
}

#[tokio::test]
async fn every_start_is_later_than_the_last_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let identity = key::generate();
    let other = Node::builder().listen("127.0.0.1:0".parse().unwrap()).development_network();
    let other = other.start().await.unwrap();
    for start in 0..3 {
        let store = Store::open(folder.path()).unwrap();
        let node = node(&identity, &store).start().await.unwrap();
        assert_eq!(life(&node).await, 5 + start);
        speaks_to(&node, &other).await;
        node.shutdown().await.unwrap();
    }
    other.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_node_at_a_time_uses_a_store_and_it_is_always_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let again = Store::open(folder.path()).unwrap_err();
    assert!(matches!(again, StoreError::InUse(_)), "{again}");
    let identity = key::generate();
    let first = node(&identity, &store).start().await.unwrap();
    let second = node(&identity, &store).start().await.unwrap_err();
    assert!(matches!(second, StartError::Store(StoreError::InUse(_))), "{second}");
    first.shutdown().await.unwrap();
    let stranger = node(&key::generate(), &store).start().await.unwrap_err();
    assert!(matches!(stranger, StartError::Store(StoreError::Owner { .. })), "{stranger}");
    assert!(stranger.to_string().contains(&identity.id().to_string()), "{stranger}");
    // Nothing of that has harmed it.
    node(&identity, &store).start().await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_damaged_is_found_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let identity = key::generate();
    let store = Store::open(folder.path()).unwrap();
    let first =
        node(&identity, &store).incarnation_counter(0x0011_2233_4455_6677).start().await.unwrap();
    first.shutdown().await.unwrap();
    drop(store);
    let path = folder.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let value = 0x0011_2233_4455_6677u64.to_be_bytes();
    let places: Vec<usize> =
        (0..bytes.len() - 8).filter(|at| bytes[*at..at + 8] == value).collect();
    assert!(!places.is_empty(), "the counter is in the file");
    for at in places {
        bytes[at + 7] ^= 1;
    }
    std::fs::write(&path, &bytes).unwrap();
    let refused = match Store::open(folder.path()) {
        Ok(store) => node(&identity, &store).start().await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("damaged") && refused.contains("copy"), "{refused}");
    // Half a file is no store either.
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let refused = Store::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("store.redb"), "{refused}");
    std::fs::write(&path, b"something else").unwrap();
    let refused = Store::open(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("store.redb"), "{refused}");
}

#[tokio::test]
async fn damage_anywhere_is_an_error_or_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let identity = key::generate();
    let store = Store::open(folder.path()).unwrap();
    node(&identity, &store).start().await.unwrap().shutdown().await.unwrap();
    drop(store);
    let path = folder.path().join(FILE);
    let sound = std::fs::read(&path).unwrap();
    let damage = 8 << 10;
    for at in (0..sound.len().min(2 << 20)).step_by(damage / 2) {
        let mut bytes = sound.clone();
        let end = bytes.len().min(at + damage);
        bytes[at..end].fill(0x5a);
        std::fs::write(&path, &bytes).unwrap();
        // It may lie where nothing was stored.
        let refused = match Store::open(folder.path()) {
            Ok(store) => node(&identity, &store).start().await.map(drop).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(refused) = refused {
            assert!(refused.contains("store.redb"), "{at}: {refused}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_folder_into_which_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    drop(Store::open(&folder).unwrap());
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600), "as it is made");
    for open in [0o777, 0o720, 0o702] {
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(open)).unwrap();
        let refused = Store::open(&folder).unwrap_err();
        assert!(matches!(refused, StoreError::NotPrivate(_)), "{refused}");
        let refused = refused.to_string();
        assert!(refused.contains("chmod 700") && refused.contains("data"), "{refused}");
    }
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    drop(Store::open(&folder).expect("others may look, as its owner wants"));
}

#[test]
fn a_store_of_a_later_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let about = redb::TableDefinition::<&str, &[u8]>::new("about");
    let database = redb::Database::create(folder.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(about).unwrap().insert("format", &9u64.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = Store::open(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Format { found: 9, .. }), "{refused}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let refused = Store::open(file.join("below")).unwrap_err();
    assert!(matches!(refused, StoreError::Open { .. }), "{refused}");
    assert!(refused.to_string().contains("below"), "{refused}");
}

/// Storage that syncs until it is told not to.
#[derive(Debug)]
struct Worn {
    memory: InMemoryBackend,
    fails: Arc<AtomicBool>,
}

impl StorageBackend for Worn {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the device is worn out")),
            false => self.memory.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

#[tokio::test]
async fn a_node_whose_store_fails_stops_and_nobody_has_heard_of_that_life() {
    let other = Node::builder().listen("127.0.0.1:0".parse().unwrap()).development_network();
    let other = other.start().await.unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let worn = Worn { memory: InMemoryBackend::new(), fails: Arc::clone(&fails) };
    let identity = key::generate();
    let store = Store::on(worn).unwrap();
    node(&identity, &store).start().await.unwrap().shutdown().await.unwrap();
    fails.store(true, Ordering::Relaxed);
    let mut node =
        node(&identity, &store).peer(other.id(), [other.local_addr()]).start().await.unwrap();
    let mut events = node.events();
    let ended = tokio::time::timeout(Duration::from_secs(20), node.ended()).await;
    let why = ended.expect("it does not go on").unwrap_err();
    assert!(matches!(&why, NodeError::Store(why) if why.contains("worn out")), "{why}");
    let mut said = false;
    while let Some(event) = events.next().await {
        said |= matches!(event, NodeEvent::StoreFailed { .. });
    }
    assert!(said, "whoever listens is told");
    assert!(other.peers().await.is_empty());
    other.shutdown().await.unwrap();
}
